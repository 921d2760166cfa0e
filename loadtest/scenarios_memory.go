package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"rauta.io/rauta/loadtest/generator"
	"rauta.io/rauta/loadtest/peers"
	"rauta.io/rauta/loadtest/procfs"
	"rauta.io/rauta/loadtest/stats"
)

const (
	idleConnectionsMax = 10_000
	// idleDescriptorsReserved are left for everything but idle connections, on either side.
	idleDescriptorsReserved = 1000
	// idleWarmUp connections are opened and closed first, so that what a proxy allocates once is not charged to idle ones.
	idleWarmUp = 64
	// idleSettle lets a proxy put away what the last requests needed.
	idleSettle = 500 * time.Millisecond
)

func runIdle(ctx context.Context, l *lab) ([]Row, error) {
	return l.idle(ctx, "idle", l.everyone(), l.pairedCommand())
}

// runIdleTLS has every connection shake hands before its one request.
func runIdleTLS(ctx context.Context, l *lab) ([]Row, error) {
	command := l.pairedCommand()
	command.Secure = true
	return l.idle(ctx, "idle-tls", l.among(peers.Speech{Secure: true}), command)
}

// idle starts every contender anew for each repetition: memory once taken is seldom given back.
func (l *lab) idle(ctx context.Context, name string, entrants []entrant, command generator.Command) ([]Row, error) {
	connections := min(idleConnectionsMax, int(l.descriptors)-idleDescriptorsReserved)
	if connections < idleWarmUp {
		fmt.Fprintf(l.output, name+": a process may open %d files only, raise the limit (ulimit -n)\n", l.descriptors)
		return nil, nil
	}
	lines := make([]Row, len(entrants))
	perConn := make([][]float64, len(entrants))
	resident := make([][]float64, len(entrants))
	for i, e := range entrants {
		lines[i] = Row{Scenario: name, Contender: e.label, Failures: map[string]uint64{}}
	}
	for range l.options.restarts {
		for _, i := range rand.Perm(len(entrants)) {
			if lines[i].Error != "" {
				continue
			}
			each, whole, err := l.idleOnce(ctx, entrants[i], command, connections, &lines[i])
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err != nil {
				lines[i].Error = err.Error()
				continue
			}
			perConn[i], resident[i] = append(perConn[i], each), append(resident[i], whole)
		}
	}
	for i := range lines {
		lines[i].PerConn, lines[i].RSSBytes = stats.Median(perConn[i]), stats.Median(resident[i])
		if len(perConn[i]) == 0 {
			lines[i].PerConn, lines[i].RSSBytes = 0, 0 // NaN has no JSON
		}
		lines[i].Remark = fmt.Sprintf("%d idle connections", connections)
	}
	return lines, nil
}

// idleOnce compares the memory before and after, with the first connections' one-time costs paid before.
func (l *lab) idleOnce(ctx context.Context, who entrant, command generator.Command, connections int, line *Row) (perConn, resident float64, err error) {
	e, err := l.start(ctx, who)
	if err != nil {
		return 0, 0, err
	}
	defer l.stop(e)
	command.Kind, command.Targets, command.Connections = generator.Idle, []generator.Target{e.target()}, idleWarmUp
	before, err := l.idleMemory(ctx, e, &command, line)
	if err != nil {
		return 0, 0, err
	}
	command.Connections = connections
	after, err := l.idleMemory(ctx, e, &command, line)
	if err != nil {
		return 0, 0, err
	}
	_, err = l.generator.do(ctx, &generator.Command{Kind: generator.Release})
	return (after - before) / float64(connections), after, err
}

func (l *lab) idleMemory(ctx context.Context, e *entered, command *generator.Command, line *Row) (float64, error) {
	results, err := l.generator.do(ctx, command)
	if err != nil {
		return 0, err
	}
	line.Requests += results[0].Requests
	line.Failed += results[0].Failed()
	for reason, count := range results[0].Failures {
		line.Failures[reason] += count
	}
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(idleSettle):
	}
	rss, err := procfs.RSSBytes(e.pids)
	return float64(rss), err
}

// routeCounts are the sizes of the routing table.
var routeCounts = []int{1_000, 10_000, 100_000}

// runRoutes is about RAUTA alone; the bare loop takes part as the base. The sizes run side by side, and the requests
// of a slice go to routes spread over the whole table.
func runRoutes(ctx context.Context, l *lab) ([]Row, error) {
	var lines []Row
	for _, c := range l.contenders {
		if !c.Routes {
			continue
		}
		for _, routes := range routeCounts {
			line, err := l.routesOnce(ctx, c, routes)
			if err != nil {
				return nil, err
			}
			lines = append(lines, line...)
		}
	}
	if len(lines) == 0 {
		fmt.Fprintln(l.output, "routes: no contender with a routing table is installed")
	}
	return lines, nil
}

// settleTime is how long a contender may rest before its memory is read: RAUTA gives back what compiling a configuration
// took a few seconds after the last change.
const settleTime = 5 * time.Second

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *lab) routesOnce(ctx context.Context, c *peers.Contender, routes int) ([]Row, error) {
	line := Row{Scenario: "routes", Contender: c.Name, Remark: fmt.Sprintf("%d routes", routes)}
	routed, err := l.start(ctx, entrant{label: c.Name, contender: c, routes: routes})
	if err != nil {
		line.Error = err.Error()
		return []Row{line}, ctx.Err()
	}
	defer l.stop(routed)
	base, err := l.start(ctx, l.everyone()[0])
	if err != nil {
		return nil, err
	}
	defer l.stop(base)
	if err := sleep(ctx, settleTime); err != nil {
		return nil, err
	}
	loaded, err := procfs.RSSBytes(routed.pids)
	if err != nil {
		return nil, err
	}
	command := l.pairedCommand()
	command.Requests = requestHeads(routes, 0, l.options.browser)
	command.Rounds *= max(1, l.options.restarts/2) // one start only, because reading 100,000 routes takes its time
	command.Targets = []generator.Target{base.target(), routed.target()}
	results, err := l.generator.do(ctx, &command)
	if err != nil {
		return nil, err
	}
	pair := []*measurement{newMeasurement(base.entrant), newMeasurement(routed.entrant)}
	for i, m := range pair {
		m.add(results[i], 0)
	}
	filled := rows("routes", pair)[1]
	filled.RSSBytes, filled.Remark = float64(loaded), line.Remark
	filled.ReadyMilli = float64(routed.readyAfter) / float64(time.Millisecond)
	return []Row{filled}, nil
}
