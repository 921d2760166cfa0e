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
	barMin     = 10
	barMax     = 48
	numbersLen = len("  123456.7  100.0%  123.4ms  123.4ms  123456")
	meanLen    = len("  123.4ms")
)

// stageMarks are what a bar is made of: each stage has a letter, so that the split can be read without colours, too.
var stageMarks = [observe.StageCount]struct {
	letter string
	colour string // of the 256
}{
	observe.StageAcceptQueue:    {"a", "208"},
	observe.StageSocketWait:     {"s", "214"},
	observe.StageProxy:          {"p", "196"},
	observe.StageBackendConnect: {"c", "99"},
	observe.StageRequestBody:    {"r", "37"},
	observe.StageBackendTTFB:    {"t", "33"},
	observe.StageBackendBody:    {"b", "39"},
	observe.StageClientWrite:    {"w", "70"},
}

// columns says how a width is shared out between the name and the bar; a bar of 0 is left out.
func columns(width int, view View) (name, bar int) {
	if view == Routes && width >= nameMin+numbersLen+meanLen+2+barMin {
		bar = min(max(barMin, (width-numbersLen-meanLen-2)/2), barMax)
	}
	name = width - numbersLen
	if bar > 0 {
		name -= bar + 2 + meanLen
	}
	return max(name, nameMin), bar
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
	name, bar := columns(width, view)
	line := fmt.Sprintf("%-*s  %8s  %6s  %7s  %7s  %6s", name, fit(strings.ToUpper(mark(ByName, viewNames[view])), name),
		mark(ByRate, "REQ/S"), mark(ByFailed, "FAIL"), mark(ByP50, "P50"), mark(ByP99, "P99"), mark(ByInFlight, "OPEN"))
	if bar > 0 {
		line += fmt.Sprintf("  %-*s  %7s", bar, "STAGES", "MEAN")
	}
	return line
}

// line is one row. Back ends have no durations.
func line(width int, view View, r Row) string {
	name, bar := columns(width, view)
	out := fmt.Sprintf("%-*s  %8s  %6s  %7s  %7s  %6.0f", name, fit(r.Name, name), number(r.Rate), percent(r.Failed),
		duration(r.P50), duration(r.P99), r.InFlight)
	if bar > 0 {
		total := 0.0
		for _, s := range r.stages {
			total += s
		}
		out += "  " + split(r.stages, bar) + "  " + fmt.Sprintf("%7s", duration(total))
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

// legend names the letters of the bars.
func legend() string {
	var out []string
	for i := range stageMarks {
		out = append(out, paint(i, stageMarks[i].letter)+" "+observe.Stage(i).String())
	}
	return strings.Join(out, "  ")
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
