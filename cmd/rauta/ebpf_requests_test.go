package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"rauta.io/rauta/bpf"
)

// watchedRoute is the route of the configuration that tests begin with.
const watchedRoute = "httproute/default/all"

// startLoaded starts RAUTA with the programs there before the first connection, or skips the test where there are none.
func startLoaded(t *testing.T, flags ...string) *instance {
	t.Helper()
	if tier, why := start(t, echoBackend(t), flags...).tier(); tier == bpf.TierNone {
		t.Skipf("the kernel tells nothing here: %s", why)
	}
	return start(t, echoBackend(t), append(flags, "--ebpf", "require")...)
}

// startWatched starts RAUTA with all requests watched in the kernel, if it can.
func startWatched(t *testing.T) *instance {
	t.Helper()
	i := startLoaded(t, "--ebpf-sample", "1")
	tier, why := i.tier()
	if tier != bpf.TierFull && !strings.Contains(i.get(i.metrics, "/metrics"), "\nrauta_kernel_request_interval{") {
		t.Skipf("the kernel does not watch requests here: %s", why)
	}
	return i
}

// ofRoute is the metric of the route, with more labels.
func (i *instance) ofRoute(name string, more ...string) float64 {
	i.t.Helper()
	return i.metric(name, append(more, fmt.Sprintf("route=%q", watchedRoute))...)
}

func (i *instance) kernelCount() float64 {
	return i.ofRoute("rauta_kernel_request_seconds_count")
}

func (i *instance) kernelBytes(direction string) float64 {
	return i.ofRoute("rauta_kernel_request_bytes_total", fmt.Sprintf("direction=%q", direction))
}

// settled waits until the kernel has counted every request that RAUTA has, which it does of the last one of a connection when
// that ends.
func (i *instance) settled() {
	i.t.Helper()
	i.until("the kernel to have counted every request", func() bool {
		return i.kernelCount() == i.ofRoute("rauta_request_duration_seconds_count")
	})
}

// countedConn counts what goes over a connection.
type countedConn struct {
	net.Conn
	in, out int
}

func (w *countedConn) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	w.in += n
	return n, err
}

func (w *countedConn) Write(p []byte) (int, error) {
	n, err := w.Conn.Write(p)
	w.out += n
	return n, err
}

// keepAlive makes n requests on one connection, with before called ahead of each.
func (i *instance) keepAlive(n int, before func(request int)) *countedConn {
	i.t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", i.port))
	if err != nil {
		i.t.Fatal(err)
	}
	defer conn.Close()
	w := &countedConn{Conn: conn}
	r := bufio.NewReader(w)
	for request := range n {
		if before != nil {
			before(request)
		}
		if _, err := fmt.Fprintf(w, "GET /%d HTTP/1.1\r\nHost: h\r\n\r\n", request); err != nil {
			i.t.Fatal(err)
		}
		resp, err := http.ReadResponse(r, nil)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
		}
		if err != nil || resp.StatusCode != http.StatusOK {
			i.t.Fatalf("request %d: %v %v", request, resp, err)
		}
	}
	return w
}

func TestTheKernelCountsEveryRequestWithItsBytes(t *testing.T) {
	i := startWatched(t)
	i.settled()
	requests, in, out := i.kernelCount(), i.kernelBytes("received"), i.kernelBytes("sent")
	const n = 10_000
	w := i.keepAlive(n, nil)
	i.settled()
	requests, in, out = i.kernelCount()-requests, i.kernelBytes("received")-in, i.kernelBytes("sent")-out
	if requests != n || in != float64(w.out) || out != float64(w.in) {
		t.Fatalf("counted %v requests with %v bytes and responses with %v, not %d with %d and %d", requests, in, out, n, w.out, w.in)
	}
}

func TestTheTimeThatARequestLiesInTheSocketIsItsOwnStage(t *testing.T) {
	i := startWatched(t)
	i.settled()
	stage := func(name string) float64 {
		return i.ofRoute("rauta_request_stage_seconds_sum", fmt.Sprintf("stage=%q", name))
	}
	before, proxy := stage("socket_wait"), stage("proxy")
	const held = 400 * time.Millisecond
	signal := func(s syscall.Signal) {
		if err := i.cmd.Process.Signal(s); err != nil {
			t.Error(err)
		}
	}
	i.keepAlive(2, func(request int) {
		if request == 1 {
			signal(syscall.SIGSTOP)
			i.until("every thread to have stopped", i.stopped)
			go func() {
				time.Sleep(held + 100*time.Millisecond)
				signal(syscall.SIGCONT)
			}()
		}
	})
	i.settled()
	waited := stage("socket_wait") - before
	if waited < held.Seconds() {
		t.Errorf("the stage socket_wait has %.3f s, although nobody could read for %s", waited, held)
	}
	if rest := stage("proxy") - proxy; rest > waited/2 {
		t.Errorf("the stage proxy has %.3f s of the time that the request lay in the socket", rest)
	}
	sum := i.ofRoute("rauta_kernel_request_seconds_sum")
	if sum < held.Seconds() {
		t.Errorf("the kernel has counted %.3f s for all requests", sum)
	}
}

func TestCountsOfTheKernelOutliveAReload(t *testing.T) {
	i := startWatched(t)
	i.settled()
	before := i.kernelCount()
	backend := echoBackend(t)
	states := []string{"second", "third", "fourth"}
	i.keepAlive(400, func(request int) {
		if request%100 == 0 && request > 0 {
			state := states[request/100-1]
			i.write(configuration(i.port, backend, state))
			i.until("the new configuration", func() bool { return i.state() == state })
		}
	})
	i.settled()
	if n := i.kernelCount() - before; n < 400 {
		t.Errorf("counted %v requests of 400 and those that looked at the state", n)
	}
}

// keptConn is a connection that stays while configurations change.
type keptConn struct {
	net.Conn
	r *bufio.Reader
}

func (i *instance) keptConn() *keptConn {
	i.t.Helper()
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", i.port))
	if err != nil {
		i.t.Fatal(err)
	}
	i.t.Cleanup(func() { c.Close() })
	return &keptConn{c, bufio.NewReader(c)}
}

func (c *keptConn) get(t *testing.T, path string) {
	t.Helper()
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", path)
	resp, err := http.ReadResponse(c.r, nil)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
	}
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v %v", path, resp, err)
	}
}

func TestRoutesThatAReloadPutsElsewhereKeepTheirCountsAndNames(t *testing.T) {
	i := startWatched(t)
	backend := echoBackend(t)
	kept := []*keptConn{i.keptConn(), i.keptConn(), i.keptConn()}
	want := map[string]int{}
	// Places in the compiled configuration follow the order of names: each step gives those behind its change other ones.
	for step, routes := range [][]string{{"m"}, {"a", "m", "z"}, {"m", "z"}, {"b", "c", "d", "m", "z"}, {"z"}, {"a", "b", "z", "zz"}} {
		text, state := configuration(i.port, backend, fmt.Sprint("step", step)), fmt.Sprint("step", step)
		for _, name := range routes {
			text += fmt.Sprintf(`---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: %[1]s}
spec:
  parentRefs: [{name: gw}]
  rules: [{matches: [{path: {value: /of-%[1]s}}], backendRefs: [{name: app, port: 80}]}]
`, name)
		}
		i.write(text)
		i.until("the routes of "+state, func() bool { return i.state() == state })
		for at, name := range routes {
			n := 10*step + at + 3
			want[name] += n * len(kept)
			for _, c := range kept {
				for range n {
					c.get(t, "/of-"+name)
				}
			}
		}
	}
	for _, c := range kept {
		c.get(t, "/") // so that the kernel counts the one before
	}
	for name, n := range want {
		route := fmt.Sprintf(`route="httproute/default/%s"`, name)
		i.until("the counts of "+name, func() bool { return i.metric("rauta_kernel_request_seconds_count", route) == float64(n) })
		if all := i.metric("rauta_requests_total", route); all != float64(n) {
			t.Errorf("route %s has %v requests, not %d", name, all, n)
		}
	}
	for line := range strings.Lines(i.get(i.metrics, "/metrics")) {
		if strings.HasPrefix(line, `rauta_kernel_request_seconds_count{route="other"`) {
			t.Errorf("requests are counted for no route of their own: %s", line)
		}
	}
}

func TestWithoutWatchingNothingOfItIsThere(t *testing.T) {
	for _, flags := range [][]string{{"--ebpf", "off"}, {"--ebpf-sample", "off"}} {
		i := start(t, echoBackend(t), flags...)
		i.keepAlive(10, nil)
		text := i.get(i.metrics, "/metrics")
		if strings.Contains(text, "rauta_kernel_request") || strings.Contains(text, `stage="socket_wait"`) {
			t.Errorf("with %v there is still:\n%s", flags, text)
		}
	}
}
