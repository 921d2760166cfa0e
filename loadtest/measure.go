package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"rauta.io/rauta/loadtest/generator"
	"rauta.io/rauta/loadtest/stats"
)

// plan says how a set of entrants is measured against each other.
type plan struct {
	entrants []entrant
	restarts int
	command  generator.Command // without targets and seed
}

// measurement collects what an entrant did over all restarts.
type measurement struct {
	entrant
	cost    map[repetition]float64 // CPU nanoseconds per request
	rates   []float64
	busy    []float64 // share of the time that the proxy ran
	waited  []float64 // share of the time that it could have run, but others had its core
	latency stats.Histogram
	user    uint64
	system  uint64
	sent    uint64
	counts  map[string]uint64
	ready   []float64 // milliseconds
	turns   loopCounts
	err     error
}

func newMeasurement(e entrant) *measurement {
	return &measurement{entrant: e, cost: map[repetition]float64{}, counts: map[string]uint64{}}
}

// repetition identifies the slices that are compared with each other.
type repetition struct {
	restart int
	round   int
}

// measure runs a plan: fresh processes for every restart, all of them loaded in turn.
func (l *lab) measure(ctx context.Context, p *plan) ([]*measurement, error) {
	var all []*measurement
	for _, e := range p.entrants {
		all = append(all, newMeasurement(e))
	}
	for restart := range p.restarts {
		if err := l.measureOnce(ctx, p, all, restart); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (l *lab) measureOnce(ctx context.Context, p *plan, all []*measurement, restart int) error {
	command := p.command
	command.Seed = uint64(restart)
	var taking []*measurement
	var running []*entered
	defer func() {
		for _, e := range running {
			l.stop(e)
		}
	}()
	for _, i := range rand.Perm(len(all)) {
		m := all[i]
		if m.err != nil {
			continue // it failed to start before, and would take the time to fail again
		}
		e, err := l.start(ctx, m.entrant)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			m.err = err
			fmt.Fprintln(l.output, err)
			continue
		}
		m.ready = append(m.ready, float64(e.readyAfter)/float64(time.Millisecond))
		taking, running = append(taking, m), append(running, e)
		command.Targets = append(command.Targets, e.target())
	}
	if len(taking) == 0 {
		return nil
	}
	before, err := countTurns(ctx, running)
	if err != nil {
		return err
	}
	results, err := l.generator.do(ctx, &command)
	if err != nil {
		return err
	}
	for i, e := range running {
		l.keepFailed(ctx, e, results[i])
	}
	after, err := countTurns(ctx, running)
	if err != nil {
		return err
	}
	for i, m := range taking {
		m.add(results[i], restart)
		m.turns.add(before[i], after[i])
	}
	return nil
}

func (m *measurement) add(result *generator.Result, restart int) {
	for _, sample := range result.Samples {
		if sample.Requests == 0 || sample.WallNanos == 0 {
			continue
		}
		m.cost[repetition{restart, sample.Round}] = float64(sample.CPUNanos) / float64(sample.Requests)
		m.rates = append(m.rates, float64(sample.Requests)*1e9/float64(sample.WallNanos))
		m.busy = append(m.busy, float64(sample.CPUNanos)/float64(sample.WallNanos))
		m.waited = append(m.waited, float64(sample.WaitNanos)/float64(sample.WallNanos))
	}
	m.latency.Add(&result.Latency)
	m.user += result.UserTicks
	m.system += result.SystemTicks
	m.sent += result.Requests
	for reason, count := range result.Failures {
		m.counts[reason] += count
	}
}

func (m *measurement) failed() uint64 {
	result := generator.Result{Failures: m.counts}
	return result.Failed()
}

// medianCost is the median CPU time per request in nanoseconds.
func (m *measurement) medianCost() float64 {
	var costs []float64
	for _, cost := range m.cost {
		costs = append(costs, cost)
	}
	return stats.Median(costs)
}

// repetitions are in order, so that the same samples give the same figures.
func (m *measurement) repetitions() []repetition {
	return slices.SortedFunc(maps.Keys(m.cost), func(a, b repetition) int {
		return cmp.Or(cmp.Compare(a.restart, b.restart), cmp.Compare(a.round, b.round))
	})
}

// ratio pairs the two by repetition, so that what disturbed a round disturbs neither more than the other.
func (m *measurement) ratio(base *measurement) (stats.Interval, bool) {
	byRestart := map[int][]float64{}
	for _, at := range m.repetitions() {
		if other := base.cost[at]; other > 0 {
			byRestart[at.restart] = append(byRestart[at.restart], m.cost[at]/other)
		}
	}
	var groups [][]float64
	for _, restart := range slices.Sorted(maps.Keys(byRestart)) {
		groups = append(groups, byRestart[restart])
	}
	return stats.MedianInterval(groups, bootstrapSeed), len(groups) > 0
}

// bootstrapSeed makes the same samples give the same intervals.
const bootstrapSeed = 1

// rows turns measurements into lines of the table.
func rows(scenario string, all []*measurement) []Row {
	var lines []Row
	for _, m := range all {
		line := Row{Scenario: scenario, Contender: m.label, Requests: m.sent, Failed: m.failed(), Failures: m.counts}
		if m.err != nil {
			line.Error = m.err.Error()
		}
		if len(m.cost) > 0 {
			m.fill(&line, all)
		}
		lines = append(lines, line)
	}
	return lines
}

func (m *measurement) fill(line *Row, all []*measurement) {
	line.CPUNanos = m.medianCost()
	if ticks := m.user + m.system; ticks > 0 {
		line.UserNanos = line.CPUNanos * float64(m.user) / float64(ticks)
		line.SysNanos = line.CPUNanos * float64(m.system) / float64(ticks)
	}
	line.PerSecond = stats.Median(m.rates)
	line.Saturation = min(stats.Median(m.busy), 1)
	line.Waiting = min(stats.Median(m.waited), 1)
	const perMicro = 1000
	line.P50 = float64(m.latency.Quantile(0.5)) / perMicro
	line.P99 = float64(m.latency.Quantile(0.99)) / perMicro
	line.P999 = float64(m.latency.Quantile(0.999)) / perMicro
	line.PerTurn = m.turns.perTurn()
	line.Ratios = map[string]stats.Interval{}
	for _, base := range all {
		for _, name := range bases {
			if base.label == name {
				if ratio, ok := m.ratio(base); ok {
					line.Ratios[name] = ratio
				}
			}
		}
	}
}
