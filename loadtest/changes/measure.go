package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"rauta.io/rauta/loadtest/stats"
)

const (
	awaitTimeMax  = 2 * time.Minute      // until RAUTA serves everything
	changeTimeMax = 10 * time.Second     // until it serves one change; what takes longer is an error
	pollPause     = time.Millisecond     // polling faster takes the cores that RAUTA needs for the change
	trafficPause  = 2 * time.Millisecond // between requests to any route
)

var requests = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: writers}, Timeout: changeTimeMax}

// get asks RAUTA for a host, and returns a field of the response; an error unless it is 200.
func (l *lab) get(ctx context.Context, host, field string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.gateway+"/", nil)
	if err != nil {
		return "", err
	}
	req.Host = host
	resp, err := requests.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", host, resp.Status)
	}
	return resp.Header.Get(field), nil
}

// await waits until the last route is served, which was written last.
func (l *lab) await(ctx context.Context) error {
	start := time.Now()
	for {
		missing := 0
		var last error
		for _, i := range []int{0, l.routes / 2, l.routes - 1} {
			if _, err := l.get(ctx, host(i), ""); err != nil {
				missing, last = missing+1, err
			}
		}
		if missing == 0 {
			fmt.Printf("served %s after the last write\n", time.Since(start).Round(time.Millisecond))
			return nil
		}
		if time.Since(start) > awaitTimeMax {
			return fmt.Errorf("RAUTA does not serve the routes: %w", last)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// phase is what one phase has measured.
type phase struct {
	name              string
	routes, endpoints stats.Histogram
	heard             stats.Histogram // by a watcher, of the routes
	traffic           traffic
	changes           []change // of routes, in order
}

func (l *lab) measure(ctx context.Context) error {
	var err error
	if l.watcher, err = l.watch(ctx); err != nil {
		return err
	}
	if l.load, err = startLoad(ctx); err != nil {
		return err
	}
	l.numbers("before")
	quiet := &phase{name: orderQuiet}
	if err := l.run(ctx, quiet, 0); err != nil {
		return err
	}
	l.numbers("after the quiet phase")
	busy := &phase{name: orderChurn}
	err = l.run(ctx, busy, l.duration)
	l.numbers("after the churn")
	return errors.Join(err, l.load.stop(), l.print(quiet, quiet.name), l.print(busy, fmt.Sprintf("churn of %d slices/s, %d routes/s", l.churn, l.routeRate)))
}

func (l *lab) print(p *phase, name string) error {
	fmt.Printf("%s: %d requests, %d errors", name, p.traffic.Requests, p.traffic.Errors)
	if p.traffic.FirstError != "" {
		fmt.Printf(", such as: %s", p.traffic.FirstError)
	}
	fmt.Println()
	for _, of := range []struct {
		what string
		h    *stats.Histogram
		to   string
	}{
		{"route", &p.routes, "the first request that sees it"}, {"", &p.heard, "a watcher that does nothing else"},
		{"endpoints", &p.endpoints, "the first request that sees it"},
	} {
		fmt.Printf("  %-9s %d changes, from the write's return to %s, in ms:", of.what, of.h.Count(), of.to)
		for _, q := range []float64{0.5, 0.9, 0.99, 1} {
			fmt.Printf("  p%g %.1f", q*100, float64(of.h.Quantile(q))/1e6)
		}
		fmt.Println()
	}
	if l.log == "" {
		return nil
	}
	list, err := publications(l.log)
	if err != nil {
		return err
	}
	return printParts(p.changes, list)
}

// run measures changes, one after the other, while requests to any route go on.
func (l *lab) run(ctx context.Context, p *phase, atLeast time.Duration) error {
	if err := l.load.phase(p.name); err != nil {
		return err
	}
	start := time.Now()
	for n := 0; n < l.changes || time.Since(start) < atLeast; n++ {
		if err := l.changeRoute(ctx, p, n); err != nil {
			return err
		}
		if err := l.changeEndpoints(ctx, p, n); err != nil {
			return err
		}
		time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond) // not in step with anything
	}
	for i, c := range p.changes {
		if at := l.watcher.at(c.version); !at.IsZero() { // it may be later than the request
			p.changes[i].heard = at
			p.heard.Record(int64(max(at.Sub(c.written), 0)))
		}
	}
	var err error
	p.traffic, err = l.load.end()
	return err
}

// changeRoute changes what a route answers, and waits for it.
func (l *lab) changeRoute(ctx context.Context, p *phase, n int) error {
	i := rand.IntN((l.routes + 1) / 2) // churn takes the others
	version := fmt.Sprintf("%s-%d", p.name, n)
	if err := l.api.patch(ctx, routePath+"/"+host(i), route(i, l.services, version)); err != nil {
		return err
	}
	written := time.Now()
	asked, err := l.until(ctx, &p.routes, host(i), "X-Version", version)
	if err != nil {
		return err
	}
	p.changes = append(p.changes, change{version: version, written: written, asked: asked, seen: time.Now()})
	return nil
}

// changeEndpoints moves the first Service to another pod, and waits for it. Churn leaves that Service alone.
func (l *lab) changeEndpoints(ctx context.Context, p *phase, n int) error {
	pod := l.pod(n)
	if err := l.api.patch(ctx, slicePath+"/"+service(0), l.slice(0, pod)); err != nil {
		return err
	}
	_, err := l.until(ctx, &p.endpoints, host(0), "X-Pod", pod)
	return err
}

// until asks until the answer is as wanted, and returns when the request began to which it was.
func (l *lab) until(ctx context.Context, h *stats.Histogram, host, field, want string) (asked time.Time, err error) {
	start := time.Now()
	for {
		asked = time.Now()
		got, err := l.get(ctx, host, field)
		if err != nil {
			return asked, fmt.Errorf("a request during a change: %w", err)
		}
		took := time.Since(start)
		if got == want {
			h.Record(int64(took))
			return asked, nil
		}
		if took > changeTimeMax {
			return asked, fmt.Errorf("%s: a change is not served after %s: %s is %q, want %q", host, took, field, got, want)
		}
		time.Sleep(pollPause)
	}
}

// numbers prints what RAUTA says about itself, and stores its profile.
func (l *lab) numbers(when string) {
	if l.profiles != "" {
		if err := l.profile(when); err != nil {
			fmt.Println("profile:", err)
		}
	}
	if l.metrics == "" {
		return
	}
	resp, err := requests.Get(l.metrics)
	if err != nil {
		fmt.Println("metrics:", err)
		return
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	var out []string
	for line := range strings.SplitSeq(string(text), "\n") {
		for _, name := range []string{"go_goroutines ", "process_resident_memory_bytes ", "go_heap_objects_bytes ", "go_gc_heap_goal_bytes ",
			"go_memory_total_bytes ", "go_memory_released_bytes ", "go_heap_allocs_bytes_total ", "process_cpu_seconds_total ", "rauta_change_"} {
			if strings.HasPrefix(line, name) && !strings.Contains(line, "_bucket") {
				out = append(out, line)
			}
		}
	}
	fmt.Printf("%s: %s\n", when, strings.Join(out, ", "))
}

// cpuSeconds is how long the profile of CPU time of a phase is.
const cpuSeconds = 10

// profile stores what RAUTA has allocated since its start, and what of it is live; and in the phase that follows, what takes
// its CPU time.
func (l *lab) profile(when string) error {
	name := strings.ReplaceAll(when, " ", "-") + ".pb.gz"
	go func() {
		if err := l.fetch(fmt.Sprintf("profile?seconds=%d", cpuSeconds), "cpu-"+name); err != nil {
			fmt.Println("profile:", err)
		}
	}()
	if l.traceTime > 0 {
		go func() {
			if err := l.fetch(fmt.Sprintf("trace?seconds=%g", l.traceTime.Seconds()), "trace-"+strings.ReplaceAll(when, " ", "-")); err != nil {
				fmt.Println("trace:", err)
			}
		}()
	}
	return l.fetch("allocs", "allocs-"+name)
}

func (l *lab) fetch(page, file string) error {
	resp, err := http.Get(l.profiles + page)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s%s: %s", l.profiles, page, resp.Status)
	}
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(l.folder, file), data, 0o644)
}
