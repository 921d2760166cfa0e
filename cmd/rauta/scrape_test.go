package main

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rauta.io/rauta/internal/top"
)

// TestTenThousandActiveRoutesAreReadFromARunningProcess checks that all of them have their series, those of stages and of the
// kernel included, and that requests go on meanwhile. What a scrape takes is in its log (-v) and in PERF.md.
func TestTenThousandActiveRoutesAreReadFromARunningProcess(t *testing.T) {
	const routes, clients = 10_000, 8
	backend := echoBackend(t)
	i := start(t, backend, "--metrics-routes", "20000", "--ebpf-sample", "1", "--log-level", "warn")
	var text strings.Builder
	text.WriteString(configuration(i.port, backend, "many"))
	for n := range routes {
		fmt.Fprintf(&text, "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r-%d}\nspec:\n  parentRefs: [{name: gw}]\n"+
			"  rules: [{matches: [{path: {type: Exact, value: /r/%d}}], backendRefs: [{name: app, port: 80}]}]\n", n, n)
	}
	i.write(text.String())
	i.until("the routes", func() bool { return i.state() == "many" })
	var wait sync.WaitGroup
	for c := range clients {
		wait.Go(func() {
			client := &http.Client{Transport: &http.Transport{}, Timeout: waitMax}
			defer client.CloseIdleConnections()
			for n := c; n < routes; n += clients {
				if err := fetchAll(client, i.url(fmt.Sprint("/r/", n))); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wait.Wait()
	if t.Failed() {
		return
	}
	var page string
	i.until("the counts of all", func() bool { // the last ones may be counted after their answers
		page = i.get(i.metrics, "/metrics")
		return strings.Count(page, "\nrauta_requests_total{route=\"httproute/default/r-") == routes
	})
	stages := 1 // at least the answer
	if i.metric("rauta_ebpf_tier", `tier="full"`) == 1 {
		stages++ // the wait in the socket
	}
	for name, want := range map[string]int{
		"rauta_request_duration_seconds_count{route=\"httproute/default/r-": routes,
		"rauta_request_stage_seconds_sum{route=\"httproute/default/r-":      stages * routes,
	} {
		if got := strings.Count(page, "\n"+name); got < want {
			t.Errorf("%d series begin with %s, want %d", got, name, want)
		}
	}
	if strings.Contains(page, `rauta_requests_total{route="other"`) {
		t.Error("some are counted together, though there is room")
	}
	if i.metric("rauta_ebpf_tier", `tier="full"`) == 1 {
		if got := strings.Count(page, "\nrauta_kernel_request_seconds_count{route=\"httproute/default/r-"); got < routes/2 {
			t.Errorf("the kernel tells of %d routes", got)
		}
	}
	series := 0
	for line := range strings.Lines(page) {
		if !strings.HasPrefix(line, "#") {
			series++
		}
	}
	const times = 5
	var served atomic.Int64
	stop, over := make(chan struct{}), make(chan error, 1)
	go func() { over <- serveUntil(stop, i.url("/"), &served) }()
	took := map[string][]time.Duration{}
	for range times {
		for _, encoding := range []string{"identity", "gzip"} { // Prometheus asks for gzip
			begun, seen := time.Now(), served.Load()
			if err := fetchAs(i.metrics, encoding); err != nil {
				t.Fatal(err)
			}
			took[encoding] = append(took[encoding], time.Since(begun).Round(time.Millisecond))
			i.until("a request after a scrape", func() bool { return served.Load() > seen })
		}
	}
	readAsTop(t, i, times)
	close(stop)
	if err := <-over; err != nil {
		t.Error(err)
	}
	t.Logf("%d series, %.1f MB, read in %v; %d requests meanwhile; turns of 10 ms and more since the start: %g", series, float64(len(page))/1e6, took,
		served.Load(), i.metric("rauta_loop_stall_seconds_count"))
}

// readAsTop reads what rauta top shows, and logs what that takes of this process, which parses it, and of the one that serves.
func readAsTop(t *testing.T, i *instance, times int) {
	address, err := url.Parse("http://" + i.metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	source := top.FromURL(&http.Client{Transport: &http.Transport{DisableCompression: true}}, address)
	var took []time.Duration
	var usage, before unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &before)
	served := i.metric("process_cpu_seconds_total", "")
	for range times {
		begun := time.Now()
		if _, err := source(t.Context()); err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(begun).Round(time.Millisecond))
	}
	unix.Getrusage(unix.RUSAGE_SELF, &usage)
	spent := time.Duration(usage.Utime.Nano()+usage.Stime.Nano()-before.Utime.Nano()-before.Stime.Nano()) / time.Duration(times)
	t.Logf("readings of rauta top took %v, and %v of CPU time each; the process that serves %.0f ms with its requests", took,
		spent.Round(time.Millisecond), (i.metric("process_cpu_seconds_total", "")-served)/float64(times)*1e3)
}

// fetchAs reads the metrics with an encoding, and leaves it as it is.
func fetchAs(address, encoding string) error {
	req, err := http.NewRequest(http.MethodGet, "http://"+address+"/metrics", nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept-Encoding", encoding)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if got := resp.Header.Get("Content-Encoding"); resp.StatusCode != http.StatusOK || encoding == "gzip" && got != encoding {
		return fmt.Errorf("answered %s with the encoding %q", resp.Status, got)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// serveUntil makes one request after the other, and counts them.
func serveUntil(stop chan struct{}, url string, served *atomic.Int64) error {
	client := &http.Client{Transport: &http.Transport{}, Timeout: waitMax}
	defer client.CloseIdleConnections()
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		if err := fetchAll(client, url); err != nil {
			return err
		}
		served.Add(1)
		time.Sleep(time.Millisecond)
	}
}

// fetchAll gets a page that must be answered with 200.
func fetchAll(client *http.Client, url string) error {
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	return nil
}
