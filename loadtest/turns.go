package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// loopCounts say how well a loop gathers: what is done once for each turn is shared by the requests of the turn.
type loopCounts struct {
	requests, turns   float64
	exported, dropped float64 // spans
}

func (c *loopCounts) add(before, after loopCounts) {
	c.requests += after.requests - before.requests
	c.turns += after.turns - before.turns
	c.exported += after.exported - before.exported
	c.dropped += after.dropped - before.dropped
}

// perTurnMin: where the loop hardly sees requests, as with WebSockets, there is nothing to report.
const perTurnMin = 0.05

// perTurn is zero when nothing was counted.
func (c *loopCounts) perTurn() float64 {
	if c.requests < c.turns*perTurnMin || c.turns == 0 {
		return 0
	}
	return c.requests / c.turns
}

// countTurns asks each contender that counts, outside of everything measured.
func countTurns(ctx context.Context, running []*entered) ([]loopCounts, error) {
	all := make([]loopCounts, len(running))
	for i, e := range running {
		if !e.contender.Counts {
			continue
		}
		counts, err := e.scrape(ctx)
		if err != nil {
			return nil, fmt.Errorf("reading the metrics of %s: %w", e.label, err)
		}
		all[i] = counts
	}
	return all, nil
}

// scrapeTimeMax is far more than a page of metrics takes.
const scrapeTimeMax = 5 * time.Second

func (e *entered) scrape(ctx context.Context) (counts loopCounts, err error) {
	err = e.scrapePage(ctx, func(lines *bufio.Scanner) (err error) {
		counts, err = parseCounts(lines)
		return err
	})
	return counts, err
}

// scrapePage has a function read the page of metrics.
func (e *entered) scrapePage(ctx context.Context, parse func(*bufio.Scanner) error) error {
	url := fmt.Sprintf("http://127.0.0.1:%d/metrics", e.environment.MetricsPort)
	return readPage(ctx, url, func(page io.Reader) error { return parse(bufio.NewScanner(page)) })
}

// readPage has a function read a page, whatever its status is, over a connection of its own.
func readPage(ctx context.Context, url string, read func(io.Reader) error) error {
	ctx, cancel := context.WithTimeout(ctx, scrapeTimeMax)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	return read(response.Body)
}

// parseCounts sums over the label sets.
func parseCounts(lines *bufio.Scanner) (counts loopCounts, err error) {
	for lines.Scan() {
		rest := lines.Text()
		name := rest[:max(0, strings.IndexAny(rest, "{ "))] // with labels or without
		sum := map[string]*float64{"rauta_requests_total": &counts.requests, "rauta_loop_turns_total": &counts.turns,
			"rauta_trace_exported_total": &counts.exported, "rauta_trace_dropped_total": &counts.dropped}[name]
		if sum == nil {
			continue
		}
		value, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if err != nil {
			return counts, err
		}
		*sum += value
	}
	return counts, lines.Err()
}
