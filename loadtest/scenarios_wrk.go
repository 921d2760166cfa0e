package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"rauta.io/rauta/loadtest/generator"
	"rauta.io/rauta/loadtest/peers"
	"rauta.io/rauta/loadtest/procfs"
	"rauta.io/rauta/loadtest/stats"
)

const (
	wrkSeconds = 2
	wrkMark    = "loadtest-result"
	// wrkSettle lets a proxy fall asleep before its CPU clock is read.
	wrkSettle = 20 * time.Millisecond
)

// runWrk drives the contenders in turn. wrk and the back end share a core and may need more of it than a fast proxy
// needs of its own: the column core busy says how far each was from saturation.
func runWrk(ctx context.Context, l *lab) ([]Row, error) {
	wrk, err := exec.LookPath("wrk")
	if err != nil {
		fmt.Fprintln(l.output, "wrk: not found, apt-get install wrk or make loadtest-deps")
		return nil, nil
	}
	script := filepath.Join(l.folder, "wrk.lua")
	if err := os.WriteFile(script, []byte(wrkScript(l.options.browser)), 0o644); err != nil {
		return nil, fmt.Errorf("writing wrk's script: %w", err)
	}
	if _, err := l.generator.do(ctx, &generator.Command{Kind: generator.Serve, BodyBytes: l.options.bodyBytes}); err != nil {
		return nil, err
	}
	runs := make([]wrkRuns, 0, len(l.everyone()))
	for _, e := range l.everyone() {
		runs = append(runs, wrkRuns{measurement: newMeasurement(e)})
	}
	defer func() {
		for i := range runs {
			if runs[i].running != nil {
				l.stop(runs[i].running)
			}
		}
	}()
	for i := range runs {
		if runs[i].running, runs[i].err = l.start(ctx, runs[i].entrant); ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	for repetition := range max(repetitionsMin, l.options.restarts) {
		for _, i := range rand.Perm(len(runs)) {
			if runs[i].running == nil {
				continue
			}
			if err := l.wrkOnce(ctx, wrk, script, &runs[i], repetition); err != nil {
				return nil, err
			}
		}
	}
	return wrkRows(runs), nil
}

// wrkRuns is a contender with the percentiles of each run, which wrk does not let one merge.
type wrkRuns struct {
	*measurement
	running *entered
	p50     []float64
	p99     []float64
	p999    []float64
}

// wrkResult is what the script prints. Latencies are in microseconds.
type wrkResult struct {
	requests, micros, socketErrors, statusErrors uint64
	p50, p99, p999                               float64
}

// wrkScript sets the request once, so that wrk builds none while it measures.
func wrkScript(browser bool) string {
	var b strings.Builder
	for _, field := range append([]string{"Host: " + peers.RouteHost(keepaliveRoutes/2)}, requestFields(browser)...) {
		name, value, _ := strings.Cut(field, ": ")
		fmt.Fprintf(&b, "wrk.headers[%q] = %q\n", name, value)
	}
	fmt.Fprintf(&b, `done = function(summary, latency)
  local e = summary.errors
  io.write(string.format("%s %%d %%d %%d %%d %%f %%f %%f\n", summary.requests, summary.duration,
    e.connect + e.read + e.write + e.timeout, e.status, latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
`, wrkMark)
	return b.String()
}

func parseWrk(output string) (wrkResult, error) {
	var r wrkResult
	_, line, found := strings.Cut(output, wrkMark)
	if !found {
		return r, fmt.Errorf("wrk printed no result but %q", output)
	}
	_, err := fmt.Sscan(line, &r.requests, &r.micros, &r.socketErrors, &r.statusErrors, &r.p50, &r.p99, &r.p999)
	if err != nil {
		return r, fmt.Errorf("reading wrk's result: %w", err)
	}
	return r, nil
}

func (l *lab) wrkOnce(ctx context.Context, wrk, script string, w *wrkRuns, round int) error {
	url := fmt.Sprintf("http://127.0.0.1:%d%s/items", w.running.environment.Port, peers.RoutePath(keepaliveRoutes/2))
	command := exec.Command(wrk, "-t1", fmt.Sprintf("-c%d", l.options.connections), fmt.Sprintf("-d%ds", wrkSeconds), "-s", script, url)
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	cpuBefore, err := procfs.ReadCPU(w.running.pids)
	if err != nil {
		return fmt.Errorf("%s: %w", w.label, err)
	}
	userBefore, systemBefore, err := procfs.Ticks(w.running.pids)
	if err != nil {
		return fmt.Errorf("%s: %w", w.label, err)
	}
	p, err := l.launcher.Start(ctx, command, l.cpus.generator, syscall.SIGKILL)
	if err != nil {
		return err
	}
	<-p.Done()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	l.launcher.Stop(p)
	time.Sleep(wrkSettle)
	result, err := parseWrk(output.String())
	if err != nil {
		return err
	}
	cpuAfter, err := procfs.ReadCPU(w.running.pids)
	if err != nil {
		return fmt.Errorf("%s: %w", w.label, err)
	}
	userAfter, systemAfter, err := procfs.Ticks(w.running.pids)
	if err != nil {
		return fmt.Errorf("%s: %w", w.label, err)
	}
	w.user += userAfter - userBefore
	w.system += systemAfter - systemBefore
	w.addRun(result, cpuAfter.Sub(cpuBefore), round)
	return nil
}

func (w *wrkRuns) addRun(r wrkResult, cpu procfs.CPU, round int) {
	w.sent += r.requests - min(r.requests, r.statusErrors)
	if r.socketErrors > 0 {
		w.counts["socket errors"] += r.socketErrors
	}
	if r.statusErrors > 0 {
		w.counts["status is not 2xx or 3xx"] += r.statusErrors
	}
	if r.requests == 0 || r.micros == 0 {
		return
	}
	w.cost[repetition{0, round}] = float64(cpu.Used) / float64(r.requests)
	w.rates = append(w.rates, float64(r.requests)*1e6/float64(r.micros))
	w.busy = append(w.busy, float64(cpu.Used)/1000/float64(r.micros))
	w.waited = append(w.waited, float64(cpu.Waiting)/1000/float64(r.micros))
	w.p50, w.p99, w.p999 = append(w.p50, r.p50), append(w.p99, r.p99), append(w.p999, r.p999)
}

func wrkRows(runs []wrkRuns) []Row {
	var all []*measurement
	for i := range runs {
		all = append(all, runs[i].measurement)
	}
	lines := rows("wrk", all)
	for i := range lines {
		if len(runs[i].p50) > 0 {
			lines[i].P50, lines[i].P99, lines[i].P999 = stats.Median(runs[i].p50), stats.Median(runs[i].p99), stats.Median(runs[i].p999)
		}
	}
	return lines
}
