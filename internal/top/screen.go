package top

import (
	"context"
	"fmt"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
)

// help fits into 80 columns, and begins with the way out for where it does not.
func help(view View) string {
	return "q quit  b " + viewNames[(view+1)%viewCount] + "s  s,S sort  r reverse  / filter  p pause  ↑↓ PgUp PgDn"
}

// linesAround the rows: title, message, head, legend, help.
const linesAround = 5

// Source reads the metrics of a node once.
type Source func(context.Context) (*Reading, error)

// screen is the state of the terminal: the last two readings and how they are looked at. It implements tea.Model.
type screen struct {
	source   Source
	name     string // of the node, for the title
	interval time.Duration

	width, height int
	before, after *Reading
	shown         *Reading // what the title tells of; while paused an older one than after
	rows          [viewCount][]Row
	failure       error // of the last reading

	view     View
	by       Sort
	reverse  bool
	filter   string
	typing   bool // the filter is being typed
	paused   bool
	scrolled int
}

// Messages to the screen.
type (
	readMsg struct {
		reading *Reading
		err     error
	}
	tickMsg struct{}
)

// Init reads at once.
func (s *screen) Init() tea.Cmd { return s.read }

func (s *screen) read() tea.Msg {
	reading, err := readOnce(context.Background(), s.source, s.interval)
	return readMsg{reading, err}
}

// Update takes a key, a size, or a reading.
func (s *screen) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		s.width, s.height = msg.Width, msg.Height
	case readMsg:
		s.take(msg.reading, msg.err)
		return s, tea.Tick(s.interval, func(time.Time) tea.Msg { return tickMsg{} })
	case tickMsg:
		return s, s.read
	case tea.KeyPressMsg:
		if s.typing && msg.String() != "ctrl+c" {
			s.typed(msg)
			return s, nil
		}
		return s, s.pressed(msg.String())
	}
	return s, nil
}

// take makes a reading the later one of the two. A node that does not answer leaves the last figures on the screen.
func (s *screen) take(r *Reading, err error) {
	s.failure = err
	if err != nil {
		return
	}
	s.before, s.after = s.after, r
	if s.paused {
		return
	}
	s.shown = r
	if s.before == nil {
		return
	}
	for view := range viewCount {
		s.rows[view] = Between(s.before, s.after, view)
	}
}

func (s *screen) pressed(key string) tea.Cmd {
	page := max(s.height-linesAround, 1)
	switch key {
	case "q", "ctrl+c":
		return tea.Quit
	case "esc":
		s.filter, s.scrolled = "", 0
	case "b", "tab":
		s.view, s.scrolled = (s.view+1)%viewCount, 0
	case "s":
		s.by, s.scrolled = (s.by+1)%sortCount, 0
	case "S":
		s.by, s.scrolled = (s.by+sortCount-1)%sortCount, 0
	case "r":
		s.reverse, s.scrolled = !s.reverse, 0
	case "p", "space":
		s.paused = !s.paused
	case "/":
		s.typing = true
	case "up", "k":
		s.scrolled--
	case "down", "j":
		s.scrolled++
	case "pgup":
		s.scrolled -= page
	case "pgdown":
		s.scrolled += page
	case "home", "g":
		s.scrolled = 0
	case "end", "G":
		s.scrolled = len(s.rows[s.view]) // text keeps it in bounds
	}
	return nil
}

func (s *screen) typed(msg tea.KeyPressMsg) {
	s.scrolled = 0
	switch key := msg.String(); {
	case key == "enter":
		s.typing = false
	case key == "esc":
		s.typing, s.filter = false, ""
	case key == "backspace":
		if runes := []rune(s.filter); len(runes) > 0 {
			s.filter = string(runes[:len(runes)-1])
		}
	case key == "ctrl+u":
		s.filter = ""
	default:
		s.filter += msg.Text
	}
}

// View lays out the screen.
func (s *screen) View() tea.View {
	v := tea.NewView(s.text())
	v.AltScreen = true
	v.WindowTitle = "rauta top"
	return v
}

func (s *screen) text() string {
	if s.width == 0 {
		return ""
	}
	rows := arrange(s.rows[s.view], s.filter, s.by, s.reverse)
	room := max(s.height-linesAround, 1)
	s.scrolled = max(min(s.scrolled, len(rows)-room), 0)
	lines := []string{s.title(len(rows)), s.message(), lipgloss.NewStyle().Reverse(true).Render(head(s.width, s.view, s.by, s.reverse))}
	for _, r := range rows[s.scrolled:min(s.scrolled+room, len(rows))] {
		lines = append(lines, line(s.width, s.view, r))
	}
	if len(rows) == 0 {
		lines = append(lines, s.nothing())
	}
	for len(lines) < room+linesAround-2 {
		lines = append(lines, "")
	}
	lines = append(lines, legend(s.width, s.view), help(s.view))
	for i, l := range lines {
		lines[i] = lipgloss.NewStyle().MaxWidth(s.width).Render(l)
	}
	return strings.Join(lines, "\n")
}

func (s *screen) title(shown int) string {
	out := "rauta top  " + s.name
	if s.shown != nil {
		total := 0.0
		for _, r := range s.rows[Routes] {
			total += r.Rate
		}
		out += fmt.Sprintf("  %s req/s  %.0f connections  config %.0f  %d %s", number(total), s.shown.Connections,
			s.shown.Generation, shown, plural(viewNames[s.view], shown))
	}
	return out
}

func plural(what string, n int) string {
	if n == 1 {
		return what
	}
	return what + "s"
}

// nothing says why there are no rows.
func (s *screen) nothing() string {
	switch {
	case s.before == nil || s.failure != nil: // the message says why
		return ""
	case len(s.rows[s.view]) == 0:
		return idle(s.interval)
	default:
		return fmt.Sprintf("no %s of %d has %q in its name", viewNames[s.view], len(s.rows[s.view]), s.filter)
	}
}

func idle(interval time.Duration) string {
	return fmt.Sprintf("no requests within %s, and none under way", interval)
}

func (s *screen) message() string {
	switch {
	case s.failure != nil:
		since := "no answer yet: "
		if s.after != nil {
			since = fmt.Sprintf("no answer since %s: ", s.after.At.Format(time.TimeOnly))
		}
		return since + fit(s.failure.Error(), max(s.width-len(since), 1))
	case s.typing:
		return "filter: " + fit(s.filter, s.width) + "_"
	case s.paused:
		return strings.TrimSuffix("paused (p to go on)  "+s.filtered(), "  ")
	case s.before == nil:
		return fmt.Sprintf("first figures in %s", s.interval)
	}
	return s.filtered()
}

func (s *screen) filtered() string {
	if s.filter == "" {
		return ""
	}
	return "filter: " + fit(s.filter, s.width) + " (esc removes it)"
}
