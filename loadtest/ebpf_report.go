package main

import (
	"fmt"
	"slices"
	"strings"

	"rauta.io/rauta/loadtest/stats"
)

// comparison is two variants of the same rounds.
type comparison struct{ of, to string }

// watchComparisons are the tables of the report. The last says what a watched request costs above one that is looked at.
var watchComparisons = []comparison{
	{variantOff + againSuffix, variantOff}, {variantDefault, variantOff}, {variantAll, variantOff}, {variantLooks, variantOff}, {variantAll, variantLooks},
}

// watchReport has one table for the cost of watching, and one for what sampling leaves of accuracy.
func watchReport(records []watchRecord) string {
	rounds := map[string]map[string]*watchRecord{}
	var failed uint64
	for i := range records {
		r := &records[i]
		if rounds[r.Round] == nil {
			rounds[r.Round] = map[string]*watchRecord{}
		}
		rounds[r.Round][r.Variant] = r
		failed += r.Failed
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d starts in %d rounds, %d requests failed; %s\n\n", len(records), len(rounds), failed, strings.Join(describeRecords(records), "; "))
	b.WriteString(costTable(rounds))
	b.WriteString("\n" + accuracyTable(rounds))
	return b.String()
}

// describeRecords says with what programs and where the records were made, each once.
func describeRecords(records []watchRecord) (lines []string) {
	for _, r := range records {
		if line := r.Version + ", " + r.CPU + ", " + r.Kernel; !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return lines
}

// clocks are what CPU time is read from.
var clocks = []struct {
	name string
	of   func(*watchRecord) float64
}{
	{"proxy", func(r *watchRecord) float64 { return float64(r.Process) / float64(r.Requests) }},
	{"machine", func(r *watchRecord) float64 {
		return float64(r.Machine) / float64(r.Requests)
	}},
}

func costTable(rounds map[string]map[string]*watchRecord) string {
	var b strings.Builder
	b.WriteString("| CPU time of | variant | to | ns/request | pairs | min | 25% | median [95% CI] | 75% | max | difference in ns [95% CI] |\n" + strings.Repeat("| --- ", 11) + "|\n")
	for _, clock := range clocks {
		for _, c := range watchComparisons {
			var ratios, differences, base []float64
			for _, name := range sortedRounds(rounds) {
				if of, to := rounds[name][c.of], rounds[name][c.to]; of != nil && to != nil && to.PerSecond == 0 {
					ratios = append(ratios, clock.of(of)/clock.of(to))
					differences = append(differences, clock.of(of)-clock.of(to))
					base = append(base, clock.of(to))
				}
			}
			if len(ratios) == 0 {
				continue
			}
			q := stats.Quartiles(ratios)
			ratio, difference := stats.MedianInterval(eachAlone(ratios), bootstrapSeed), stats.MedianInterval(eachAlone(differences), bootstrapSeed)
			fmt.Fprintf(&b, "| %s | %s | %s | %.0f | %d | %.3f | %.3f | %.4f [%.4f, %.4f] | %.3f | %.3f | %.0f [%.0f, %.0f] |\n", clock.name, c.of, c.to, stats.Median(base), len(ratios),
				q[0], q[1], ratio.Median, ratio.Low, ratio.High, q[3], q[4], difference.Median, difference.Low, difference.High)
		}
	}
	return b.String()
}

// eachAlone says that no two values come from the same start of a program.
func eachAlone(values []float64) (groups [][]float64) {
	for _, v := range values {
		groups = append(groups, []float64{v})
	}
	return groups
}

// accuracyTable compares what the kernel says about samples with what it says about all requests of the same round, and,
// to show how far two loads lie apart, about all of the round before.
func accuracyTable(rounds map[string]map[string]*watchRecord) string {
	var b strings.Builder
	b.WriteString("| load | requests watched | share of all | p50 to that of all | p99 to that of all | p50, all to all | p99, all to all |\n" + strings.Repeat("| --- ", 7) + "|\n")
	for _, rate := range offeredRates(rounds) {
		var watched, share, p50, p99, control50, control99 []float64
		var before *watchRecord
		for _, name := range sortedRounds(rounds) {
			sample, all := rounds[name][variantDefault], rounds[name][variantAll]
			if sample == nil || all == nil || sample.PerSecond != rate || sample.Watched.count() == 0 || all.Watched.count() == 0 {
				continue
			}
			watched = append(watched, sample.Watched.count())
			share = append(share, sample.Watched.count()/float64(sample.Requests))
			p50 = append(p50, sample.Watched.quantile(0.5)/all.Watched.quantile(0.5))
			p99 = append(p99, sample.Watched.quantile(0.99)/all.Watched.quantile(0.99))
			if before != nil {
				control50 = append(control50, all.Watched.quantile(0.5)/before.Watched.quantile(0.5))
				control99 = append(control99, all.Watched.quantile(0.99)/before.Watched.quantile(0.99))
			}
			before = all
		}
		if len(watched) == 0 {
			continue
		}
		load := "as many as possible"
		if rate > 0 {
			load = fmt.Sprintf("%.0f requests/s", rate)
		}
		fmt.Fprintf(&b, "| %s | %.0f | %s | %s | %s | %s | %s |\n", load, stats.Median(watched), between(share, 4),
			between(p50, 3), between(p99, 3), between(control50, 3), between(control99, 3))
	}
	return b.String()
}

// between is a median with the quartiles.
func between(values []float64, decimals int) string {
	if len(values) == 0 {
		return ""
	}
	q := stats.Quartiles(values)
	return fmt.Sprintf("%.*f (%.*f to %.*f)", decimals, q[2], decimals, q[1], decimals, q[3])
}

func sortedRounds(rounds map[string]map[string]*watchRecord) (names []string) {
	for name := range rounds {
		names = append(names, name)
	}
	slices.Sort(names) // by time
	return names
}

func offeredRates(rounds map[string]map[string]*watchRecord) (rates []float64) {
	for _, variants := range rounds {
		for _, r := range variants {
			if !slices.Contains(rates, r.PerSecond) {
				rates = append(rates, r.PerSecond)
			}
		}
	}
	slices.Sort(rates)
	return rates
}
