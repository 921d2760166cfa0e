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
	"sync"
	"sync/atomic"
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
	requests, errors  atomic.Int64
	firstError        atomic.Pointer[string]
	changes           []change // of routes, in order
}

func (l *lab) measure(ctx context.Context) error {
	l.numbers("before")
	quiet := &phase{name: "quiet"}
	if err := l.run(ctx, quiet, 0); err != nil {
		return err
	}
	l.numbers("after the quiet phase")
	busy := &phase{name: fmt.Sprintf("churn of %d slices/s, %d routes/s", l.churn, l.routeRate)}
	work, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Add(2)
	go func() {
		defer wg.Done()
		l.churnEvery(work, l.churn, l.churnSlice)
	}()
	go func() {
		defer wg.Done()
		l.churnEvery(work, l.routeRate, l.churnRoute)
	}()
	err := l.run(ctx, busy, l.duration)
	stop()
	wg.Wait()
	l.numbers("after the churn")
	return errors.Join(err, l.print(quiet), l.print(busy))
}

func (l *lab) print(p *phase) error {
	fmt.Printf("%s: %d requests, %d errors", p.name, p.requests.Load(), p.errors.Load())
	if text := p.firstError.Load(); text != nil {
		fmt.Printf(", such as: %s", *text)
	}
	fmt.Println()
	for what, h := range map[string]*stats.Histogram{"route": &p.routes, "endpoints": &p.endpoints} {
		fmt.Printf("  %-9s %d changes, from the write's return to the first request that sees it, in ms:", what, h.Count())
		for _, q := range []float64{0.5, 0.9, 0.99, 1} {
			fmt.Printf("  p%g %.1f", q*100, float64(h.Quantile(q))/1e6)
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
	traffic, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for traffic.Err() == nil {
			_, err := l.get(traffic, host(rand.IntN(l.routes)), "")
			if traffic.Err() != nil {
				return
			}
			p.requests.Add(1)
			if err != nil {
				text := err.Error()
				p.errors.Add(1)
				p.firstError.CompareAndSwap(nil, &text)
			}
			time.Sleep(trafficPause)
		}
	}()
	defer wg.Wait()
	defer stop()
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
	return nil
}

// changeRoute changes what a route answers, and waits for it.
func (l *lab) changeRoute(ctx context.Context, p *phase, n int) error {
	i := rand.IntN((l.routes + 1) / 2) // churn takes the others
	version := fmt.Sprintf("%s-%d", strings.Fields(p.name)[0], n)
	if err := l.api.patch(ctx, routePath+"/"+host(i), route(i, l.services, version)); err != nil {
		return err
	}
	written := time.Now()
	if err := l.until(ctx, &p.routes, host(i), "X-Version", version); err != nil {
		return err
	}
	p.changes = append(p.changes, change{written, time.Now()})
	return nil
}

// changeEndpoints moves the first Service to another pod, and waits for it. Churn leaves that Service alone.
func (l *lab) changeEndpoints(ctx context.Context, p *phase, n int) error {
	pod := l.pod(n)
	if err := l.api.patch(ctx, slicePath+"/"+service(0), l.slice(0, pod)); err != nil {
		return err
	}
	return l.until(ctx, &p.endpoints, host(0), "X-Pod", pod)
}

func (l *lab) until(ctx context.Context, h *stats.Histogram, host, field, want string) error {
	start := time.Now()
	for {
		got, err := l.get(ctx, host, field)
		if err != nil {
			return fmt.Errorf("a request during a change: %w", err)
		}
		took := time.Since(start)
		if got == want {
			h.Record(int64(took))
			return nil
		}
		if took > changeTimeMax {
			return fmt.Errorf("%s: a change is not served after %s: %s is %q, want %q", host, took, field, got, want)
		}
		time.Sleep(pollPause)
	}
}

// churnEvery calls f so many times per second.
func (l *lab) churnEvery(ctx context.Context, perSecond int, f func(context.Context)) {
	if perSecond == 0 {
		return
	}
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	room := make(chan struct{}, writers)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		select {
		case room <- struct{}{}:
			go func() {
				defer func() { <-room }()
				f(ctx)
			}()
		default: // the API server is slower than that
		}
	}
}

func (l *lab) churnSlice(ctx context.Context) {
	if l.services < 2 {
		return
	}
	i := 1 + rand.IntN(l.services-1)
	var pods []string
	first := rand.IntN(1 << 20)
	for j := range l.endpoints {
		pods = append(pods, l.pod(first+j))
	}
	if err := l.api.patch(ctx, slicePath+"/"+service(i), l.slice(i, pods...)); err != nil && ctx.Err() == nil {
		fmt.Println("churn:", err)
	}
}

func (l *lab) churnRoute(ctx context.Context) {
	i := l.routes - 1 - rand.IntN((l.routes+1)/2)
	name := host(i)
	change := object{"metadata": object{"annotations": object{"changes.test/at": fmt.Sprint(time.Now().UnixNano())}}, "spec": object{
		"rules": []object{{
			"matches":     []object{{"path": object{"type": "PathPrefix", "value": "/"}}, {"path": object{"type": "Exact", "value": fmt.Sprintf("/%d", rand.IntN(1000))}}},
			"backendRefs": []object{{"name": service(i % l.services), "port": 80}},
		}}}}
	if err := l.api.patch(ctx, routePath+"/"+name, change); err != nil && ctx.Err() == nil {
		fmt.Println("churn:", err)
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
