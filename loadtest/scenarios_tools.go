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
	toolSeconds = 1
	wrkMark     = "loadtest-result"
	// toolSettle lets a proxy fall asleep before its CPU clock is read.
	toolSettle = 20 * time.Millisecond
)

// tool is a load generator of somebody else's. It shares its core with the back end and may need more of it than a fast
// proxy needs of its own: the column core busy says how far each was from saturation.
type tool struct {
	path    string
	command func(*entered) []string
	parse   func(output string) (toolResult, error)
}

// toolResult is what a tool says. Latencies are in microseconds; 0 where it has none.
type toolResult struct {
	requests, micros, socketErrors, statusErrors uint64
	p50, p99, p999                               float64
}

// findTool says what is missing, and where it comes from.
func (l *lab) findTool(name string) (string, bool) {
	path, err := exec.LookPath(name)
	if err != nil {
		fmt.Fprintf(l.output, "%s: not found, make loadtest-deps\n", name)
	}
	return path, err == nil
}

func runWrk(ctx context.Context, l *lab) ([]Row, error) {
	wrk, found := l.findTool("wrk")
	if !found {
		return nil, nil
	}
	script := filepath.Join(l.folder, "wrk.lua")
	if err := os.WriteFile(script, []byte(wrkScript(l.options.browser)), 0o644); err != nil {
		return nil, fmt.Errorf("writing wrk's script: %w", err)
	}
	return l.runTool(ctx, "wrk", l.everyone(), generator.Command{BodyBytes: l.options.bodyBytes}, tool{wrk, func(e *entered) []string {
		return []string{"-t1", fmt.Sprintf("-c%d", l.options.connections), fmt.Sprintf("-d%ds", toolSeconds), "-s", script,
			fmt.Sprintf("http://127.0.0.1:%d%s/items", e.environment.Port, peers.RoutePath(keepaliveRoutes/2))}
	}, parseWrk})
}

// runTool drives the entrants in turn. The command says what the back end answers.
func (l *lab) runTool(ctx context.Context, name string, entrants []entrant, serve generator.Command, with tool) ([]Row, error) {
	serve.Kind = generator.Serve
	if _, err := l.generator.do(ctx, &serve); err != nil {
		return nil, err
	}
	runs := make([]toolRuns, 0, len(entrants))
	for _, e := range entrants {
		runs = append(runs, toolRuns{measurement: newMeasurement(e)})
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
	for repetition := range l.options.restarts {
		for _, i := range rand.Perm(len(runs)) {
			if runs[i].running == nil {
				continue
			}
			if err := l.toolOnce(ctx, with, &runs[i], repetition); err != nil {
				return nil, err
			}
		}
	}
	return toolRows(name, runs), nil
}

// toolRuns is a contender with the percentiles of each run, which tools do not let one merge.
type toolRuns struct {
	*measurement
	running *entered
	p50     []float64
	p99     []float64
	p999    []float64
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

func parseWrk(output string) (toolResult, error) {
	var r toolResult
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

func (l *lab) toolOnce(ctx context.Context, with tool, w *toolRuns, round int) error {
	command := exec.Command(with.path, with.command(w.running)...)
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
	time.Sleep(toolSettle)
	result, err := with.parse(output.String())
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

func (w *toolRuns) addRun(r toolResult, cpu procfs.CPU, round int) {
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

func toolRows(name string, runs []toolRuns) []Row {
	var all []*measurement
	for i := range runs {
		all = append(all, runs[i].measurement)
	}
	lines := rows(name, all)
	for i := range lines {
		if len(runs[i].p50) > 0 {
			lines[i].P50, lines[i].P99, lines[i].P999 = stats.Median(runs[i].p50), stats.Median(runs[i].p99), stats.Median(runs[i].p999)
		}
	}
	return lines
}
