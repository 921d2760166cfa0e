//go:build linux && (amd64 || arm64)

package bpf

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"rauta.io/rauta/proxy/observe"
)

// watch is a rig whose requests are watched, as one worker would have it.
type watch struct {
	*rig
	*sampler
	l *net.TCPListener
}

func newWatch(t *testing.T, every Sampling) *watch {
	t.Helper()
	return newWatchWith(t, every, observe.Options{})
}

func newWatchWith(t *testing.T, every Sampling, opt observe.Options) *watch {
	t.Helper()
	r := newRigOn(t, load, opt)
	tier := r.WatchRequests(1, every, Tier{Name: TierFull})
	if tier.Name != TierFull {
		t.Skipf("the kernel does not watch requests here: %s", tier.Reason)
	}
	return &watch{rig: r, sampler: r.Requests(0).(*sampler), l: r.listen(false)}
}

// watched is a connection with both ends; a test plays the part of a worker.
type watched struct {
	w              *watch
	client, server *net.TCPConn
	tap            observe.RequestTap
	fd             int
	buffer         []byte
}

// connect makes a connection that is watched from before its first request.
func (w *watch) connect() *watched {
	w.t.Helper()
	c := &watched{w: w, client: w.mustDial(w.l.Addr().String(), nil), server: w.rig.accept(w.l), buffer: make([]byte, 1<<16)}
	c.fd = fdOf(w.t, c.server)
	w.Open(&c.tap, c.fd, monotonic(w.t))
	return c
}

// exchange sends a request and its answer of so many bytes; it returns how long the request has waited.
func (c *watched) exchange(rt *observe.Route, request, response int) int64 {
	c.w.t.Helper()
	c.transfer(c.client, c.server, request)
	wait := int64(0)
	if c.tap.State == observe.TapAwaiting {
		wait = c.w.Read(&c.tap, monotonic(c.w.t))
	}
	c.tap.Route = rt
	c.w.Leaves(&c.tap, c.fd, monotonic(c.w.t))
	if _, err := c.server.Write(c.buffer[:response]); err != nil {
		c.w.t.Fatal(err)
	}
	c.w.Left(&c.tap, c.fd, monotonic(c.w.t), true, false)
	if _, err := io.ReadFull(c.client, c.buffer[:response]); err != nil {
		c.w.t.Fatal(err)
	}
	return wait
}

func (c *watched) transfer(from, to *net.TCPConn, n int) {
	c.w.t.Helper()
	if _, err := from.Write(c.buffer[:n]); err != nil {
		c.w.t.Fatal(err)
	}
	if _, err := io.ReadFull(to, c.buffer[:n]); err != nil {
		c.w.t.Fatal(err)
	}
}

// close ends the connection as a worker does.
func (c *watched) close() {
	c.server.Close()
	c.w.Release(&c.tap)
	c.client.Close()
}

func (w *watch) awaitCounts(route string, requests, in, out int) {
	w.t.Helper()
	w.await(fmt.Sprintf(`rauta_kernel_request_seconds_count{route="%s"} %d`, route, requests))
	w.await(fmt.Sprintf(`rauta_kernel_request_bytes_total{route="%s",direction="received"} %d`, route, in))
	w.await(fmt.Sprintf(`rauta_kernel_request_bytes_total{route="%s",direction="sent"} %d`, route, out))
}

func TestEveryRequestIsCountedWithItsBytes(t *testing.T) {
	w := newWatch(t, 1)
	a, b := w.registry.Route("a"), w.registry.Route("b")
	const conns, each = 20, 500
	for range conns {
		c := w.connect()
		for i := range each {
			rt := a
			if i%2 == 1 {
				rt = b
			}
			if wait := c.exchange(rt, 100+i%7, 1000+i%11); wait <= 0 {
				t.Fatalf("request %d has no wait", i)
			}
		}
		c.close()
	}
	in, out := [2]int{}, [2]int{}
	for i := range each {
		in[i%2] += conns * (100 + i%7)
		out[i%2] += conns * (1000 + i%11)
	}
	w.awaitCounts("a", conns*each/2, in[0], out[0])
	w.awaitCounts("b", conns*each/2, in[1], out[1])
	if n := w.rig.failures.Load(); n > 0 {
		t.Errorf("%d calls failed", n)
	}
}

func TestSocketsThatAreNotWatchedLeaveTheTalliesAlone(t *testing.T) {
	w := newWatch(t, 1)
	for range 20 {
		c := &watched{w: w, client: w.mustDial(w.l.Addr().String(), nil), server: w.rig.accept(w.l), buffer: make([]byte, 1<<16)}
		c.transfer(c.client, c.server, 10)
		c.transfer(c.server, c.client, 10)
		c.client.Close()
		c.server.Close()
	}
	if text := w.metrics(); strings.Contains(text, "\nrauta_kernel_request_seconds_count") {
		t.Fatalf("something was counted:\n%s", text)
	}
	for i := range w.r.slots {
		if s := &w.r.slots[i]; s.Arrived != 0 || s.Generation != 0 {
			t.Fatalf("slot %d: %+v", i, s)
		}
	}
}
