//go:build linux && (amd64 || arm64)

package bpf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rauta.io/rauta/proxy/observe"
)

// rig is a Kernel with a registry.
type rig struct {
	*Kernel
	t        *testing.T
	registry *observe.Registry
	tier     Tier
}

// waitMax is how long to wait for what the kernel does on its own.
const waitMax = 20 * time.Second

func newRig(t *testing.T) *rig {
	t.Helper()
	return newRigOn(t, load, observe.Options{})
}

// newRigOn is newRig on a kernel that may be older than this one.
func newRigOn(t *testing.T, kernel attempt, opt observe.Options) *rig {
	t.Helper()
	registry := observe.NewRegistry(opt)
	k, tier := open(registry, kernel)
	if k == nil {
		t.Skipf("the kernel takes no programs here: %s", tier.Reason)
	}
	t.Cleanup(k.Close)
	if tier.Name != TierFull {
		t.Logf("tier %s: %s", tier.Name, tier.Reason)
	}
	return &rig{Kernel: k, t: t, registry: registry, tier: tier}
}

func control(f func(fd int)) func(string, string, syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error { return c.Control(func(fd uintptr) { f(int(fd)) }) }
}

// listen listens on a loopback address, with a tag if it is to have one.
func (r *rig) listen(tagged bool) *net.TCPListener {
	r.t.Helper()
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	l, err := config.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { l.Close() })
	if tagged {
		r.Listening(fdOf(r.t, l.(*net.TCPListener)))
	}
	return l.(*net.TCPListener)
}

// dial connects to an endpoint, or without a tag for nil.
func (r *rig) dial(address string, e *observe.Endpoint) (*net.TCPConn, error) {
	d := net.Dialer{Timeout: waitMax}
	if e != nil {
		d.Control = control(func(fd int) { r.Connecting(fd, e) })
	}
	c, err := d.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	r.t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn), nil
}

func (r *rig) mustDial(address string, e *observe.Endpoint) *net.TCPConn {
	r.t.Helper()
	c, err := r.dial(address, e)
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

func (r *rig) accept(l *net.TCPListener) *net.TCPConn {
	r.t.Helper()
	c, err := l.AcceptTCP()
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return c
}

func (r *rig) endpoint(address string) *observe.Endpoint {
	return r.registry.Endpoint("c", address)
}

func (r *rig) metrics() string {
	var b bytes.Buffer
	r.registry.WritePrometheus(&b)
	return b.String()
}

// await waits for a line among the metrics.
func (r *rig) await(line string) {
	r.t.Helper()
	for end := time.Now().Add(waitMax); ; time.Sleep(5 * time.Millisecond) {
		text := r.metrics()
		if strings.Contains(text, line+"\n") {
			return
		}
		if time.Now().After(end) {
			r.t.Fatalf("no line %q in\n%s", line, tcpLines(text))
		}
	}
}

func tcpLines(text string) string {
	var kept []string
	for _, line := range strings.Split(text, "\n") {
		if (strings.Contains(line, "_tcp_") || strings.Contains(line, "_kernel_")) && !strings.HasPrefix(line, "#") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n")
}

func fdOf(t *testing.T, c syscall.Conn) (fd int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err == nil {
		err = raw.Control(func(f uintptr) { fd = int(f) })
	}
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func monotonic(t *testing.T) int64 {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		t.Fatal(err)
	}
	return ts.Nano()
}

func TestTheWaitOfAConnectionBeforeItsAcceptIsKnown(t *testing.T) {
	r := newRig(t)
	l := r.listen(true)
	before := monotonic(t)
	r.mustDial(l.Addr().String(), nil)
	connected := monotonic(t)
	const wait = 60 * time.Millisecond
	time.Sleep(wait)
	c := r.accept(l)
	if since := r.Accepted(fdOf(t, c)); since < before || since > connected {
		t.Fatalf("the handshake was over at %d, not between %d and %d", since, before, connected)
	}
}

func TestConnectsAreCountedForTheirEndpoint(t *testing.T) {
	r := newRig(t)
	l := r.listen(false)
	const conns = 50
	address := l.Addr().String()
	for range conns {
		r.mustDial(address, r.endpoint(address))
		r.accept(l)
	}
	r.await(fmt.Sprintf(`rauta_backend_tcp_connect_seconds_count{cluster="c",endpoint="%s"} %d`, address, conns))
}

func TestARefusedConnectIsCountedForItsEndpointOnly(t *testing.T) {
	r := newRig(t)
	l := r.listen(false)
	r.mustDial(l.Addr().String(), r.endpoint("good"))
	gone := r.listen(false)
	address := gone.Addr().String()
	gone.Close()
	if _, err := r.dial(address, r.endpoint("bad")); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("connect: %v", err)
	}
	r.await(`rauta_backend_tcp_connect_failures_total{cluster="c",endpoint="bad",errno="ECONNREFUSED"} 1`)
	text := r.metrics()
	for _, never := range []string{`errno="ECONNREFUSED",endpoint="good"`, `resets_total{cluster="c",endpoint="bad"`} {
		if strings.Contains(text, never) {
			t.Fatalf("%s in\n%s", never, tcpLines(text))
		}
	}
}

func TestResetsAreCountedByDirectionAndEndpoint(t *testing.T) {
	r := newRig(t)
	l := r.listen(false)
	r.mustDial(l.Addr().String(), r.endpoint("resets"))
	abort(r.accept(l))
	r.await(`rauta_backend_tcp_resets_total{cluster="c",endpoint="resets",direction="received"} 1`)
	ours := r.mustDial(l.Addr().String(), r.endpoint("reset"))
	r.accept(l)
	abort(ours)
	r.await(`rauta_backend_tcp_resets_total{cluster="c",endpoint="reset",direction="sent"} 1`)

	front := r.listen(true)
	client := r.mustDial(front.Addr().String(), nil)
	r.accept(front)
	abort(client)
	r.await(`rauta_client_tcp_resets_total{direction="received"} 1`)
	r.await(`rauta_client_tcp_resets_total{direction="sent"} 0`)
}

// deafen has the kernel drop whatever comes for a socket, as if the peer of its peer were gone.
func deafen(t *testing.T, c *net.TCPConn) {
	t.Helper()
	drop := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K} // keeps 0 bytes
	if err := unix.SetsockoptSockFprog(fdOf(t, c), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop}); err != nil {
		t.Fatal(err)
	}
}

// speak sends something on a connection that gives up when it has no answer for a while.
func speak(t *testing.T, c *net.TCPConn) {
	t.Helper()
	const patience = 300 // ms, longer than to the first retransmit
	if err := unix.SetsockoptInt(fdOf(t, c), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, patience); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
}

func TestAPeerThatAnswersNoMoreIsATimeoutOfItsEndpointOrOfAClient(t *testing.T) {
	r := newRig(t)
	l := r.listen(true)
	ours := r.mustDial(l.Addr().String(), r.endpoint("silent"))
	deafen(t, r.accept(l))
	speak(t, ours)
	r.await(`rauta_backend_tcp_timeouts_total{cluster="c",endpoint="silent"} 1`)
	if text := r.metrics(); !strings.Contains(text, `rauta_backend_tcp_retransmits_total{cluster="c",endpoint="silent"} `) ||
		!strings.Contains(text, "\nrauta_client_tcp_timeouts_total 0\n") {
		t.Errorf("the metrics are\n%s", tcpLines(text))
	}
	client := r.mustDial(l.Addr().String(), nil)
	accepted := r.accept(l)
	deafen(t, client)
	speak(t, accepted)
	r.await("rauta_client_tcp_timeouts_total 1")
	if text := r.metrics(); strings.Contains(text, "\nrauta_client_tcp_retransmits_total 0\n") {
		t.Errorf("the metrics are\n%s", tcpLines(text))
	}
}

func TestSocketsWithoutATagChangeNothing(t *testing.T) {
	r := newRig(t)
	l := r.listen(false)
	before := tcpLines(r.metrics())
	for range 20 {
		c := r.mustDial(l.Addr().String(), nil)
		a := r.accept(l)
		_ = c.SetLinger(0)
		c.Close()
		a.Close()
	}
	l.Close()
	if _, err := r.dial(l.Addr().String(), nil); err == nil {
		t.Fatal("connected to a closed listener")
	}
	s, err := r.look()
	if err != nil {
		t.Fatal(err)
	}
	if len(s.byCell) > 0 {
		t.Errorf("a sweep saw %v", s.byCell)
	}
	if after := tcpLines(r.metrics()); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func TestASweepSeesOpenSocketsOnlyWithTheirQueues(t *testing.T) {
	r := newRig(t)
	r.needsSweep()
	front, back := r.listen(true), r.listen(false)
	client := r.mustDial(front.Addr().String(), nil)
	accepted := r.accept(front)
	ours := r.mustDial(back.Addr().String(), r.endpoint("b"))
	if _, err := client.Write(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	look := func() *sights {
		s, err := r.look()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	until(t, func() bool { return look().byCell[cellClients].unread == 1000 })
	s := look()
	if s.clients[unix.BPF_TCP_ESTABLISHED] != 1 || s.backends[unix.BPF_TCP_ESTABLISHED] != 1 || s.byCell[cellFirst].measured != 1 {
		t.Fatalf("seen: %+v", s)
	}
	client.Close()
	accepted.Close()
	ours.Close()
	until(t, func() bool { s := look(); return s.clients == [statesMax]int{} })
}

func until(t *testing.T, what func() bool) {
	t.Helper()
	for end := time.Now().Add(waitMax); !what(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not come to that")
		}
	}
}

func TestConnectionsThatComeAndGoLeaveNothingBehind(t *testing.T) {
	r := newRig(t)
	front := r.listen(true)
	e := r.endpoint("churned")
	rounds := 100_000
	if testing.Short() {
		rounds = 500
	}
	for range rounds {
		d := net.Dialer{Timeout: waitMax, Control: control(func(fd int) { r.Connecting(fd, e) })}
		c, err := d.Dial("tcp", front.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		a, err := front.AcceptTCP()
		if err != nil {
			t.Fatal(err)
		}
		_ = c.(*net.TCPConn).SetLinger(0) // no TIME_WAIT, so that ports do not run out
		c.Close()
		a.Close()
	}
	r.await(fmt.Sprintf(`rauta_backend_tcp_connect_seconds_count{cluster="c",endpoint="churned"} %d`, rounds))
	r.await(fmt.Sprintf(`rauta_client_tcp_resets_total{direction="received"} %d`, rounds))
	until(t, func() bool { s, err := r.look(); return err == nil && len(s.byCell) == 0 })
	if n := r.failures.Load(); n > 0 {
		t.Errorf("%d tags failed", n)
	}
}

func TestADescriptorOfAConnectThatFailedIsThatOfTheNextEndpoint(t *testing.T) {
	r := newRig(t)
	open, closed := r.listen(false), r.listen(false)
	closed.Close()
	refused := -1
	d := net.Dialer{Timeout: waitMax, Control: control(func(fd int) {
		refused = fd
		r.Connecting(fd, r.endpoint("gone"))
	})}
	if _, err := d.Dial("tcp", closed.Addr().String()); err == nil {
		t.Fatal("connected to a closed listener")
	}
	next := r.mustDial(open.Addr().String(), r.endpoint("there"))
	for range 100 {
		if fdOf(t, next) == refused {
			break
		}
		r.mustDial(open.Addr().String(), nil) // takes whatever is free below
		next.Close()
		next = r.mustDial(open.Addr().String(), r.endpoint("there"))
	}
	if fdOf(t, next) != refused {
		t.Fatalf("no connection got descriptor %d", refused)
	}
	abort(next)
	r.await(`rauta_backend_tcp_resets_total{cluster="c",endpoint="there",direction="sent"} 1`)
	r.await(`rauta_backend_tcp_connect_failures_total{cluster="c",endpoint="gone",errno="ECONNREFUSED"} 1`)
	for _, never := range []string{`connect_seconds_count{cluster="c",endpoint="gone"`, `resets_total{cluster="c",endpoint="gone"`, `failures_total{cluster="c",endpoint="there"`} {
		if text := r.metrics(); strings.Contains(text, never) {
			t.Errorf("%s in\n%s", never, tcpLines(text))
		}
	}
}

func TestTheCellOfAForgottenEndpointGoesToAnotherWithoutItsSockets(t *testing.T) {
	r := newRig(t)
	l := r.listen(false)
	old := r.endpoint("old")
	stays := r.mustDial(l.Addr().String(), old)
	a := r.accept(l)
	r.await(`rauta_backend_tcp_connect_seconds_count{cluster="c",endpoint="old"} 1`)
	r.table.reclaim(func(e *observe.Endpoint) bool { return e == old })

	r.mustDial(l.Addr().String(), r.endpoint("new"))
	if cell, generation := r.cellOf(r.endpoint("new")); cell != cellFirst || generation != 1 {
		t.Fatalf("the new endpoint has cell %d, generation %d", cell, generation)
	}
	r.await(`rauta_backend_tcp_connect_seconds_count{cluster="c",endpoint="new"} 1`)
	_ = a.SetLinger(0)
	a.Close()
	_, _ = stays.Read(make([]byte, 1))
	r.await(`rauta_backend_tcp_resets_total{cluster="other",endpoint="other",direction="received"} 1`)
	if strings.Contains(r.metrics(), `resets_total{cluster="c",endpoint="new"`) {
		t.Fatal("the reset of a socket to the old endpoint counts for the new one")
	}
}

func TestEndpointsBeyondTheCellsAreCountedTogether(t *testing.T) {
	r := newRigOn(t, load, observe.Options{SeriesEndpointsMax: 100_000}) // so that cells run out first
	for i := range len(r.table.cells) - cellFirst {
		if cell, _ := r.cellOf(r.endpoint(fmt.Sprint(i))); cell == cellOther {
			t.Fatalf("endpoint %d has no cell of its own", i)
		}
	}
	if cell, _ := r.cellOf(r.endpoint("one too many")); cell != cellOther {
		t.Fatalf("it has cell %d", cell)
	}
}
