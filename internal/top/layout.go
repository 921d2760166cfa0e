package top

import (
	"fmt"
	"strings"
	"unicode"

	"charm.land/lipgloss/v2"

	"rauta.io/rauta/proxy/observe"
)

// Widths of the screen, in cells.
const (
	nameMin    = 16
	nameGood   = 24 // rather than the mean
	barMin     = 10
	barMax     = 48
	numbersLen = len("  123456.7  100.0%  123.4ms  123.4ms  123456")
	meanLen    = len("  123.4ms")
)

// stageMarks are what a bar is made of: each stage has a letter, so that the split can be read without colours, too.
var stageMarks = [observe.StageCount]struct {
	letter string
	colour string // of the 256
	short  string // name for where the stage's own is too long
}{
	observe.StageAcceptQueue:    {"a", "208", "accept"},
	observe.StageSocketWait:     {"s", "214", "socket"},
	observe.StageProxy:          {"p", "196", "proxy"},
	observe.StageBackendConnect: {"c", "99", "connect"},
	observe.StageRequestBody:    {"r", "37", "request"},
	observe.StageBackendTTFB:    {"t", "33", "ttfb"},
	observe.StageBackendBody:    {"b", "39", "body"},
	observe.StageClientWrite:    {"w", "70", "write"},
}

// columns says how a width is shared out between the name, the bar and the mean; a bar of 0 is left out, and the mean
// goes before it: what a terminal of 80 columns must show is where the time went.
func columns(width int, view View) (name, bar int, mean bool) {
	rest := width - numbersLen
	if view != Routes || rest < nameMin+2+barMin {
		return max(rest, nameMin), 0, false
	}
	rest -= 2
	if mean = rest >= nameGood+barMin+meanLen; mean {
		rest -= meanLen
	}
	bar = min(max(barMin, rest*2/5), barMax)
	return rest - bar, bar, mean
}

// head is the line above the rows. The column that orders them is marked.
func head(width int, view View, by Sort, reverse bool) string {
	mark := func(s Sort, title string) string {
		switch {
		case s != by:
			return title
		case reverse:
			return title + "^"
		default:
			return title + "v"
		}
	}
	name, bar, mean := columns(width, view)
	line := fmt.Sprintf("%-*s  %8s  %6s  %7s  %7s  %6s", name, fit(mark(ByName, strings.ToUpper(viewNames[view])), name),
		mark(ByRate, "REQ/S"), mark(ByFailed, "FAIL"), mark(ByP50, "P50"), mark(ByP99, "P99"), mark(ByInFlight, "OPEN"))
	if bar > 0 {
		line += fmt.Sprintf("  %-*s", bar, "STAGES")
	}
	if mean {
		line += fmt.Sprintf("  %7s", "MEAN")
	}
	return line
}

// line is one row. Back ends have no stages.
func line(width int, view View, r Row) string {
	name, bar, mean := columns(width, view)
	out := fmt.Sprintf("%-*s  %8s  %6s  %7s  %7s  %6.0f", name, fit(r.Name, name), number(r.Rate), percent(r.Failed),
		duration(r.P50), duration(r.P99), r.InFlight)
	if bar > 0 {
		out += "  " + split(r.stages, bar)
	}
	if mean {
		total := 0.0
		for _, s := range r.stages {
			total += s
		}
		out += fmt.Sprintf("  %7s", duration(total))
	}
	return out
}

// split is a bar of a width in which each stage has its share of the time. What is left after rounding down goes to the
// stages that lost most by it, so that the bar is always full.
func split(stages [observe.StageCount]float64, width int) string {
	total := 0.0
	for _, s := range stages {
		total += s
	}
	if total <= 0 {
		return strings.Repeat(" ", width)
	}
	var cells [observe.StageCount]int
	var rest [observe.StageCount]float64
	used := 0
	for i, s := range stages {
		exact := s / total * float64(width)
		cells[i] = int(exact)
		rest[i] = exact - float64(cells[i])
		used += cells[i]
	}
	for ; used < width; used++ {
		most := 0
		for i := range rest {
			if rest[i] > rest[most] {
				most = i
			}
		}
		cells[most]++
		rest[most]--
	}
	var bar strings.Builder
	for i, n := range cells {
		if n > 0 {
			bar.WriteString(paint(i, strings.Repeat(stageMarks[i].letter, n)))
		}
	}
	return bar.String()
}

func paint(stage int, text string) string {
	return lipgloss.NewStyle().Background(lipgloss.Color(stageMarks[stage].colour)).Foreground(lipgloss.Color("16")).Render(text)
}

// legend names the letters of the bars, in short where a width has no room for the stages' own names. Back ends have no
// bars, but durations that are not those of requests.
func legend(width int, view View) string {
	if view == Backends {
		return "P50 and P99 are of the time until the head of the response"
	}
	long, short := make([]string, observe.StageCount), make([]string, observe.StageCount)
	for i := range stageMarks {
		letter := paint(i, stageMarks[i].letter) + " "
		long[i], short[i] = letter+observe.Stage(i).String(), letter+stageMarks[i].short
	}
	if out := strings.Join(long, "  "); lipgloss.Width(out) <= width {
		return out
	}
	return strings.Join(short, "  ")
}

// fit makes a name printable and as long as its column at most; its end tells more than its beginning, so that is kept.
func fit(name string, width int) string {
	name = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, name)
	if runes := []rune(name); len(runes) > width {
		return "…" + string(runes[len(runes)-width+1:])
	}
	return name
}

func number(v float64) string {
	if v >= 1e6 {
		return fmt.Sprintf("%.2fM", v/1e6)
	}
	return fmt.Sprintf("%.1f", v)
}

func percent(v float64) string {
	if v > 0 && v < 0.0005 {
		return "<0.1%"
	}
	return fmt.Sprintf("%.1f%%", v*100)
}

func duration(seconds float64) string {
	switch {
	case seconds <= 0:
		return "-"
	case seconds < 1e-3:
		return fmt.Sprintf("%.0fµs", seconds*1e6)
	case seconds < 1:
		return fmt.Sprintf("%.1fms", seconds*1e3)
	default:
		return fmt.Sprintf("%.1fs", seconds)
	}
}
