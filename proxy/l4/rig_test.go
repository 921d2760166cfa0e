//go:build linux

package l4

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"rauta.io/rauta/internal/testrig"
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/loop"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/snapshot"
	"rauta.io/rauta/proxy/upstream"
)

// patience bounds waits; nothing is measured with it.
const patience = 20 * time.Second

// rig is one worker with an engine, and a UDP listener whose datagrams go to echo.
type rig struct {
	t      testing.TB
	w      *loop.Worker
	engine *Engine
	addr   netip.AddrPort
	udp    *UDPListener
}

// newRig forwards datagrams to endpoints; edit changes the options of the engine and the route.
func newRig(t testing.TB, endpoints []string, edit func(*Options, *config.L4Route)) *rig {
	t.Helper()
	w, err := loop.NewWorker(0, loop.WorkerOptions{OnPanic: func(v any, stack []byte) { t.Errorf("panic: %v\n%s", v, stack) }})
	if err != nil {
		t.Fatal(err)
	}
	reg := observe.NewRegistry(observe.Options{})
	live := snapshot.NewLive(snapshot.Options{Workers: 1, Registry: reg, DefaultAddress: "127.0.0.1"})
	r := &rig{t: t, w: w, addr: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), testrig.FreePort(t))}
	o := Options{
		Loop: w, Upstream: upstream.NewWorker(0, w.Wheel(), nil, 1), Shard: reg.Shard(0), Live: live,
		Unix: func() int64 { sec, ns := w.Unix(); return sec*1e9 + ns },
	}
	route := config.L4Route{Name: "udproute/d/r", Backends: []config.Backend{{Cluster: "c", Weight: 1}}}
	if edit != nil {
		edit(&o, &route)
	}
	cfg := &config.Config{
		Listeners: []config.Listener{{
			Name: "udp", Port: r.addr.Port(), Protocol: config.ProtocolUDP,
			Attached: []config.Attachment{{Route: route.Name, Hostnames: []string{""}}},
		}},
		L4Routes: []config.L4Route{route}, Clusters: []config.Cluster{{Name: "c"}},
	}
	eps := config.Endpoints{}
	for _, e := range endpoints {
		eps["c"] = append(eps["c"], config.Endpoint{Address: e})
	}
	if _, _, _, err := live.Publish(cfg, eps); err != nil {
		t.Fatal(err)
	}
	r.engine = NewEngine(o)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := w.Run(); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() { w.Stop(); <-ended })
	r.on(func() {
		if r.udp, err = r.engine.ListenUDP(r.addr); err != nil {
			t.Error(err)
		}
	})
	return r
}

// on runs f on the worker.
func (r *rig) on(f func()) {
	done := make(chan struct{})
	r.w.Post(func() { defer close(done); f() })
	<-done
}

// echo is a UDP server that sends everything back, but what begins with a minus.
func echo(t testing.TB) string {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 64<<10)
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			if n == 0 || buf[0] != '-' {
				c.WriteToUDPAddrPort(buf[:n], from)
			}
		}
	}()
	return c.LocalAddr().String()
}

func (r *rig) client() net.Conn {
	r.t.Helper()
	c, err := net.Dial("udp", r.addr.String())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c
}

// ask sends a datagram that is answered, and waits for that.
func (r *rig) ask(c net.Conn) {
	r.t.Helper()
	fmt.Fprint(c, "x")
	if _, err := c.Read(make([]byte, 10)); err != nil {
		r.t.Fatal(err)
	}
}

// tell sends a datagram that is not answered, and waits until there are so many flows.
func (r *rig) tell(c net.Conn, flows int) {
	r.t.Helper()
	fmt.Fprint(c, "-")
	r.until(func() bool { return r.engine.Flows() == flows })
}

func (r *rig) until(f func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		holds := false
		r.on(func() { holds = f() })
		if holds {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatal("waited in vain")
		}
	}
}
