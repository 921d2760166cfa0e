//go:build linux && (amd64 || arm64)

package bpf

import (
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rauta.io/rauta/proxy/observe"
)

// value is that of a series, 0 if there is none.
func (r *rig) value(series string) float64 {
	r.t.Helper()
	_, rest, ok := strings.Cut("\n"+r.metrics(), "\n"+series+" ")
	if !ok {
		return 0
	}
	text, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

// needsSweep skips a test of what the kernel says about all of our sockets where it does not.
func (r *rig) needsSweep() {
	r.t.Helper()
	if r.loaded.sweep == nil {
		r.t.Skipf("needs a kernel that goes over sockets, 5.9 or newer; tier %q here: %s", r.tier.Name, r.tier.Reason)
	}
}

// sweepNow looks at the sockets, without the wait of the product for the next time.
func (r *rig) sweepNow() {
	r.t.Helper()
	r.needsSweep()
	if _, err := r.look(); err != nil {
		r.t.Fatal(err)
	}
}

// fill writes until the socket takes no more.
func fill(t *testing.T, c *net.TCPConn) {
	t.Helper()
	fd := fdOf(t, c)
	block := make([]byte, 64<<10)
	for {
		switch _, err := unix.Write(fd, block); err {
		case nil, unix.EINTR:
		case unix.EAGAIN:
			return
		default:
			t.Fatal(err)
		}
	}
}

const windowOfClients = `rauta_client_tcp_send_seconds_total{limit="receive_window"}`

func windowOf(endpoint string) string {
	return `rauta_backend_tcp_send_seconds_total{cluster="c",endpoint="` + endpoint + `",limit="receive_window"}`
}

// slow returns a connection to an endpoint that does not read what fills the connection.
func (r *rig) slow(e *observe.Endpoint) *net.TCPConn {
	r.t.Helper()
	l := r.listen(false)
	c := r.mustDial(l.Addr().String(), e)
	r.accept(l)
	fill(r.t, c)
	return c
}

// abort ends a connection without a FIN.
func abort(conns ...*net.TCPConn) {
	for _, c := range conns {
		_ = c.SetLinger(0)
		c.Close()
	}
}

func TestTheTimeThatAPeerDoesNotReadIsThatOfItsReceiveWindow(t *testing.T) {
	r := newRig(t)
	front := r.listen(true)
	r.mustDial(front.Addr().String(), nil)
	toClient := r.accept(front)
	fill(t, toClient)
	r.slow(r.endpoint("slow"))
	for _, series := range []string{windowOfClients, windowOf("slow")} {
		until(t, func() bool { r.sweepNow(); return r.value(series) > 0 })
		first := r.value(series)
		until(t, func() bool { r.sweepNow(); return r.value(series) > first })
	}
}

func TestTheEndOfAConnectionAddsWhatNoSweepHasSeen(t *testing.T) {
	r := newRig(t)
	c := r.slow(r.endpoint("slow"))
	time.Sleep(100 * time.Millisecond) // ten ticks at least
	if seconds := r.value(windowOf("slow")); seconds != 0 {
		t.Fatalf("%v s without a sweep", seconds)
	}
	abort(c)
	until(t, func() bool { return r.value(windowOf("slow")) > 0 })
}

func TestBytesAreCountedOnceBySweepsAndEnds(t *testing.T) {
	r := newRig(t)
	front := r.listen(true)
	client := r.mustDial(front.Addr().String(), nil)
	ours := r.accept(front)
	send := func(from, to *net.TCPConn, n int) {
		t.Helper()
		if _, err := from.Write(make([]byte, n)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(to, make([]byte, n)); err != nil {
			t.Fatal(err)
		}
	}
	const in, out = `rauta_client_tcp_bytes_total{direction="received"}`, `rauta_client_tcp_bytes_total{direction="sent"}`
	send(client, ours, 1000)
	send(ours, client, 5000)
	until(t, func() bool { r.sweepNow(); return r.value(in) == 1000 && r.value(out) == 5000 })
	r.sweepNow()
	send(client, ours, 500)
	send(ours, client, 50)
	until(t, func() bool { n, err := unix.IoctlGetInt(fdOf(t, ours), unix.SIOCOUTQ); return err == nil && n == 0 }) // all is acknowledged
	if n := r.value(in); n != 1000 {
		t.Fatalf("%v bytes after two sweeps", n)
	}
	abort(client, ours)
	until(t, func() bool { return r.value(in) == 1500 && r.value(out) == 5050 })
}

func TestTheSeriesOfTheKernelSayWhatTheEndpointIs(t *testing.T) {
	r := newRig(t)
	gone := r.listen(false)
	address := gone.Addr().String()
	e := r.endpoint(address)
	e.Describe(observe.Target{Pod: "p", Namespace: "n", Node: "m", Zone: "z"})
	c := r.mustDial(address, e)
	abort(r.accept(gone))
	gone.Close()
	_, _ = c.Read(make([]byte, 1))
	if _, err := r.dial(address, e); err == nil {
		t.Fatal("connected to a closed listener")
	}
	labels := fmt.Sprintf(`cluster="c",endpoint="%s",pod="p",namespace="n",node="m",zone="z"`, address)
	r.await(`rauta_backend_tcp_connect_seconds_count{` + labels + `} 1`)
	r.await(`rauta_backend_tcp_connect_failures_total{` + labels + `,errno="ECONNREFUSED"} 1`)
	r.await(`rauta_backend_tcp_resets_total{` + labels + `,direction="received"} 1`)
}

func TestAnEndpointWithoutSeriesOfItsOwnHasNoneFromTheKernel(t *testing.T) {
	r := newRigOn(t, load, observe.Options{SeriesEndpointsMax: 1})
	l := r.listen(false)
	for _, name := range []string{"first", "second"} {
		r.mustDial(l.Addr().String(), r.endpoint(name))
	}
	r.await(`rauta_backend_tcp_connect_seconds_count{cluster="c",endpoint="first"} 1`)
	r.await(`rauta_backend_tcp_connect_seconds_count{cluster="other",endpoint="other"} 1`)
}
