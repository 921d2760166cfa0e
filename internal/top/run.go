package top

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
)

const (
	// IntervalDefault is the time between readings.
	IntervalDefault = 2 * time.Second
	// IntervalMin keeps top from becoming load: a reading of 10,000 active routes is 20 MB and more.
	IntervalMin = 200 * time.Millisecond
	// readTimeoutMin is what a reading may take at least.
	readTimeoutMin = 5 * time.Second
	// bodyBytesMax bounds what is read from a node: all metrics of 10,000 routes are 71 MB.
	bodyBytesMax = 256 << 20
)

// FromURL returns a source that reads the metrics at a URL, those that are shown. A node that does not know how to leave out
// the others sends all.
func FromURL(client *http.Client, base *url.URL) Source {
	page := *base
	page.RawQuery = url.Values{"name[]": asked()}.Encode()
	return func(ctx context.Context) (*Reading, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, page.String(), nil)
		if err != nil {
			return nil, err
		}
		at := time.Now()
		resp, err := client.Do(req)
		if err != nil {
			return nil, withoutURL(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("GET %s: %s", base, resp.Status)
		}
		return Read(io.LimitReader(resp.Body, bodyBytesMax), at)
	}
}

// withoutURL leaves out of an error of a request where it went: the user knows, and the names that were asked for say nothing.
func withoutURL(err error) error {
	if of := new(url.Error); errors.As(err, &of) {
		return of.Err
	}
	return err
}

// Live shows the screen until the user leaves it or ctx ends.
func Live(ctx context.Context, source Source, name string, interval time.Duration, in io.Reader, out io.Writer) error {
	s := &screen{source: source, name: name, interval: interval}
	if _, err := tea.NewProgram(s, tea.WithContext(ctx), tea.WithInput(in), tea.WithOutput(out)).Run(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("show the terminal screen: %w", err)
	}
	return nil
}

// Format is how Once prints.
type Format string

// Formats.
const (
	Text Format = "text"
	JSON Format = "json"
)

// textWidth is the width of the table that Once prints.
const textWidth = 140

// Once takes two readings an interval apart and prints what came between them, by route and by back end, the busiest first.
func Once(ctx context.Context, source Source, interval time.Duration, format Format, out io.Writer) error {
	before, err := readOnce(ctx, source, interval)
	if err != nil {
		return err
	}
	select {
	case <-time.After(interval):
	case <-ctx.Done():
		return ctx.Err()
	}
	after, err := readOnce(ctx, source, interval)
	if err != nil {
		return err
	}
	routes := arrange(Between(before, after, Routes), "", ByRate, false)
	backends := arrange(Between(before, after, Backends), "", ByRate, false)
	if format == JSON {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(map[string]any{"at": after.At.UTC(), "seconds": after.At.Sub(before.At).Seconds(),
			"connections": after.Connections, "generation": after.Generation, "routes": routes, "backends": backends})
	}
	return table(out, interval, routes, backends)
}

// readOnce does not wait for ever for a node that takes connections and says nothing.
func readOnce(ctx context.Context, source Source, interval time.Duration) (*Reading, error) {
	timeout := max(interval, readTimeoutMin)
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	reading, err := source(limited)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return nil, fmt.Errorf("the answer has not come within %s", timeout)
	}
	return reading, err
}

func table(out io.Writer, interval time.Duration, routes, backends []Row) error {
	var text strings.Builder
	for view, rows := range [viewCount][]Row{Routes: routes, Backends: backends} {
		text.WriteString(head(textWidth, View(view), ByRate, false) + "\n")
		if len(rows) == 0 {
			text.WriteString(idle(interval) + "\n")
		}
		for _, r := range rows {
			text.WriteString(line(textWidth, View(view), r) + "\n")
		}
		text.WriteString("\n")
	}
	text.WriteString(legend(textWidth, Routes) + "\n")
	_, err := lipgloss.Fprint(out, text.String()) // without colours where out takes none
	return err
}
