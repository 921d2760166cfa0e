package top

import (
	"context"
	"fmt"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
)

const help = "b routes/back ends  s,S sort  r reverse  / filter  p pause  ↑↓ PgUp PgDn scroll  q quit"

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
	ctx, cancel := context.WithTimeout(context.Background(), max(s.interval, readTimeoutMin))
	defer cancel()
	reading, err := s.source(ctx)
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
		if s.typing {
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
	if s.before == nil || s.paused {
		return
	}
	for view := range viewCount {
		s.rows[view] = Between(s.before, s.after, view)
	}
}

func (s *screen) pressed(key string) tea.Cmd {
	page := max(s.height-linesAround, 1)
	switch key {
	case "q", "ctrl+c", "esc":
		return tea.Quit
	case "b", "tab":
		s.view, s.scrolled = (s.view+1)%viewCount, 0
	case "s":
		s.by = (s.by + 1) % sortCount
	case "S":
		s.by = (s.by + sortCount - 1) % sortCount
	case "r":
		s.reverse = !s.reverse
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
	for len(lines) < room+linesAround-2 {
		lines = append(lines, "")
	}
	lines = append(lines, legend(), help)
	for i, l := range lines {
		lines[i] = lipgloss.NewStyle().MaxWidth(s.width).Render(l)
	}
	return strings.Join(lines, "\n")
}

func (s *screen) title(shown int) string {
	out := "rauta top  " + s.name
	if s.after != nil {
		total := 0.0
		for _, r := range s.rows[Routes] {
			total += r.Rate
		}
		out += fmt.Sprintf("  %s req/s  %.0f connections  generation %.0f  %d %ss", number(total), s.after.Connections,
			s.after.Generation, shown, viewNames[s.view])
	}
	return out
}

func (s *screen) message() string {
	switch {
	case s.failure != nil && s.after == nil:
		return fit("no answer yet: "+s.failure.Error(), s.width)
	case s.failure != nil:
		return fit(fmt.Sprintf("no answer since %s: %v", s.after.At.Format(time.TimeOnly), s.failure), s.width)
	case s.typing:
		return "filter: " + fit(s.filter, s.width) + "_"
	case s.paused:
		return "paused"
	case s.before == nil:
		return fmt.Sprintf("first figures in %s", s.interval)
	case s.filter != "":
		return "filter: " + fit(s.filter, s.width) + " (/ and esc to remove)"
	}
	return ""
}
