package main

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"rauta.io/rauta/loadtest/stats"
)

// Where the time of a change went, by the lines that RAUTA logs at level debug for each publication. Both processes read one
// clock. What is before RAUTA has seen the change is the API server's, and the time until RAUTA's thread that reads runs; what
// is after it serves the change is the next request's, which this process has to begin and to finish.

// change is one that was measured.
type change struct {
	version       string
	written, seen time.Time
	heard         time.Time // by a watcher, which may be after it was seen; zero if not at all
	asked         time.Time // when the request began that saw it
}

// publication is one line of the log.
type publication struct {
	since, translated, published, served time.Time
	whole                                bool // everything was translated, not what has changed alone
}

// The parts of the way of a change, and, beside them, what says how late others are: the watcher, whose part is the API server's
// and the machine's, and the last request, which takes as long without a change.
var partNames = []string{"until RAUTA has seen it", "until it is translated", "translation", "publication", "until a request has seen it",
	"beside: a watcher hears of it", "beside: the last request"}

// parts are how long each of partNames took. The first can be below zero: the event may come before the answer to the write.
func (c change) parts(p publication) []time.Duration {
	var heard time.Duration
	if !c.heard.IsZero() {
		heard = c.heard.Sub(c.written)
	}
	return []time.Duration{
		p.since.Sub(c.written), p.translated.Sub(p.since), p.published.Sub(p.translated), p.served.Sub(p.published), c.seen.Sub(p.served),
		heard, c.seen.Sub(c.asked),
	}
}

// servedMessage and the fields of its line are those of control.Cluster.
const servedMessage = `msg="change served"`

// publications reads those that were logged.
func publications(path string) (out []publication, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open -log: %w", err)
	}
	defer f.Close() // it was only read
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if !strings.Contains(lines.Text(), servedMessage) {
			continue
		}
		var p publication
		at := map[string]*time.Time{"since": &p.since, "translated": &p.translated, "published": &p.published, "served": &p.served}
		for field := range strings.FieldsSeq(lines.Text()) {
			name, value, _ := strings.Cut(field, "=")
			if name == "revised" {
				p.whole = value == "false"
			}
			if into := at[name]; into != nil {
				if *into, err = time.Parse(time.RFC3339Nano, value); err != nil {
					return nil, fmt.Errorf("read -log: field %s of a line %s: %w", name, servedMessage, err)
				}
			}
		}
		out = append(out, p)
	}
	return out, lines.Err()
}

// publicationOf returns the one that brought a change: the last that had begun to be published before a request saw it:
// one of RAUTA's threads may serve it before all do. list is in order.
func publicationOf(c change, list []publication) (publication, bool) {
	after, _ := slices.BinarySearchFunc(list, c.seen, func(p publication, t time.Time) int { return p.published.Compare(t) })
	if after == 0 || list[after-1].served.Before(c.written.Add(-changeTimeMax)) {
		return publication{}, false
	}
	return list[after-1], true
}

// slowMax is how many of the slowest changes are listed one by one.
const slowMax = 12

// printParts says where the time of the changes of a phase went: quantiles of each part over all changes, the mean of each over
// the slowest tenth and over the slowest hundredth, and the slowest changes themselves.
func printParts(changes []change, list []publication) error {
	type one struct {
		change
		parts []time.Duration
	}
	var all []one
	whole := 0
	for _, c := range changes {
		if p, ok := publicationOf(c, list); ok {
			all = append(all, one{c, c.parts(p)})
			if p.whole {
				whole++
			}
		}
	}
	if 2*len(all) < len(changes) {
		return errors.New("-log has no publications of most changes: RAUTA must log at level debug, in text")
	}
	slices.SortFunc(all, func(a, b one) int { return cmp.Compare(b.seen.Sub(b.written), a.seen.Sub(a.written)) })
	milliseconds := func(d time.Duration) float64 { return float64(d) / 1e6 }
	fmt.Printf("  parts of the way of %d changes of routes, for %d of which everything was translated, in ms:\n", len(all), whole)
	for i, name := range partNames {
		var h stats.Histogram
		for _, c := range all {
			h.Record(int64(max(c.parts[i], 0)))
		}
		mean := func(of []one) (sum float64) {
			for _, c := range of {
				sum += milliseconds(c.parts[i])
			}
			return sum / float64(len(of))
		}
		fmt.Printf("    %-30s p50 %6.1f  p90 %6.1f  p99 %6.1f   mean %6.1f  of the slowest tenth %6.1f  of the slowest hundredth %6.1f\n", name,
			milliseconds(time.Duration(h.Quantile(0.5))), milliseconds(time.Duration(h.Quantile(0.9))), milliseconds(time.Duration(h.Quantile(0.99))),
			mean(all), mean(all[:max(1, len(all)/10)]), mean(all[:max(1, len(all)/100)]))
	}
	fmt.Println("    the slowest, and their parts in the same order:")
	for _, c := range all[:min(slowMax, len(all))] {
		fmt.Printf("    %6.1f:", milliseconds(c.seen.Sub(c.written)))
		for _, part := range c.parts {
			fmt.Printf(" %6.1f", milliseconds(part))
		}
		fmt.Println()
	}
	return nil
}
