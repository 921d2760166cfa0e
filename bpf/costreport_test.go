//go:build linux && (amd64 || arm64)

package bpf_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"rauta.io/rauta/loadtest/stats"
)

// blocks are slices that are compared, by block and arm.
type blocks []map[string]costRecord

// costReport has the distribution of what arms take over blocks, to others in the same block.
func costReport(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	byLoad := map[string]map[int64]map[string]costRecord{}
	for line := range strings.Lines(string(text)) {
		var r costRecord
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		if byLoad[r.Load] == nil {
			byLoad[r.Load] = map[int64]map[string]costRecord{}
		}
		if byLoad[r.Load][r.Block] == nil {
			byLoad[r.Load][r.Block] = map[string]costRecord{}
		}
		byLoad[r.Load][r.Block][r.Arm] = r
	}
	var b strings.Builder
	b.WriteString("| load | CPU time of | what | ns/request | to | blocks | min | 25% | median [95% CI] | 75% | max |\n" + strings.Repeat("| --- ", 11) + "|\n")
	for _, load := range slices.Sorted(maps.Keys(byLoad)) {
		var all blocks
		for _, block := range slices.Sorted(maps.Keys(byLoad[load])) {
			all = append(all, byLoad[load][block])
		}
		off, open, long, auto := []string{armOff, armOffAgain}, []string{armOpen, armOpenAgain}, []string{armLongOff, armLongOffAgain}, []string{armAuto, armAutoAgain}
		for _, clock := range []struct {
			name  string
			block int
			of    func(costRecord) float64
		}{
			{"proxy", 1, func(r costRecord) float64 { return float64(r.Proxy) }},
			{"proxy, clients and back end", 1, func(r costRecord) float64 { return float64(r.Proxy + r.Others) }},
			{"machine", costBlock, func(r costRecord) float64 { return float64(r.Machine) }},
		} {
			compareBy := func(block int, what, to []string) stats.Interval {
				line, interval := all.compare(what, to, block, clock.of)
				if line != "" {
					fmt.Fprintf(&b, "| %s | %s |%s\n", load, clock.name, line)
				}
				return interval
			}
			compare := func(what, to []string) stats.Interval { return compareBy(clock.block, what, to) }
			compare(off[1:], off[:1])
			compare(open[1:], open[:1])
			window := compare(open, off)
			compareBy(1, long[1:], long[:1]) // which are long enough for the steps of the idle time
			compareBy(1, auto, long)
			compareBy(1, []string{armAll}, long)
			if share := all.share(); share > 0 {
				fmt.Fprintf(&b, "| %s | %s | %.3f of the time open | | closed | | | | %.4f [%.4f, %.4f] | | |\n", load, clock.name, share,
					1+share*(window.Median-1), 1+share*(window.Low-1), 1+share*(window.High-1))
			}
			if clock.block == 1 && clock.name == "proxy" {
				compare([]string{armNothingAgain}, []string{armNothing})
				compare([]string{armClosed}, []string{armNothing, armNothingAgain})
			}
		}
	}
	return b.String()
}

// perRequest is what arms together took for a request in some blocks.
func (all blocks) perRequest(arms []string, of func(costRecord) float64) (ns float64, complete bool) {
	requests := 0.0
	for _, block := range all {
		for _, arm := range arms {
			r, there := block[arm]
			if !there || r.Requests == 0 {
				return 0, false
			}
			ns, requests = ns+of(r), requests+float64(r.Requests)
		}
	}
	return ns / requests, true
}

// compare has the distribution of ratios over blocks of so many blocks. The line is empty where there is nothing to compare.
func (all blocks) compare(what, to []string, size int, of func(costRecord) float64) (line string, median stats.Interval) {
	var those blocks
	for _, block := range all {
		_, there := (blocks{block}).perRequest(append(slices.Clone(what), to...), of)
		if there {
			those = append(those, block)
		}
	}
	var ratios, base []float64
	var groups [][]float64
	for some := range slices.Chunk(those, size) {
		a, _ := some.perRequest(what, of)
		b, _ := some.perRequest(to, of)
		ratios, base, groups = append(ratios, a/b), append(base, b), append(groups, []float64{a / b})
	}
	if len(ratios) == 0 {
		return "", median
	}
	q, median := stats.Quartiles(ratios), stats.MedianInterval(groups, 1)
	name := what[0]
	if len(what) > 1 {
		name += ", both"
	}
	return fmt.Sprintf(" %s | %.0f | %s | %d | %.3f | %.3f | %.4f [%.4f, %.4f] | %.3f | %.3f |", name, stats.Median(base),
		to[0], len(ratios), q[0], q[1], median.Median, median.Low, median.High, q[3], q[4]), median
}

// share is for how much of the time windows were open by default.
func (all blocks) share() float64 {
	sum, n := 0.0, 0
	for _, block := range all {
		for _, r := range block {
			if r.Share > 0 {
				sum, n = sum+r.Share, n+1
			}
		}
	}
	return sum / float64(max(n, 1))
}
