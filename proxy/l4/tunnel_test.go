//go:build linux

package l4

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"rauta.io/rauta/internal/testrig"
	"rauta.io/rauta/proxy/loop"
)

// echoTCP is a server that sends everything back.
func echoTCP(t testing.TB) string {
	t.Helper()
	return testrig.Listen(t, func(c net.Conn) {
		buf := make([]byte, 64<<10)
		for {
			n, err := c.Read(buf)
			if err != nil {
				return
			}
			c.Write(buf[:n])
		}
	})
}

// dial opens a tunnel to the endpoints of the rig.
func (r *rig) dial() net.Conn {
	r.t.Helper()
	var addr netip.AddrPort
	r.on(func() {
		l, err := r.w.Listen(loop.ListenerOptions{Addr: netip.MustParseAddrPort("127.0.0.1:0")}, func(_ *loop.Worker, c *loop.Conn) {
			r.engine.Serve(Accepted{
				Conn: c, Client: c.RemoteAddr().Addr(), Protocol: ProtocolTCP, Route: r.engine.live.Current().L4Routes[0],
			})
		})
		if err != nil {
			r.t.Error(err)
			return
		}
		addr = l.Addr()
	})
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return c
}

func TestForwardingAllocatesNothing(t *testing.T) {
	r := newRig(t, []string{echoTCP(t)}, nil)
	for _, size := range []int{100, 100_000} {
		c := r.dial()
		buf := make([]byte, size)
		echo := func() {
			c.Write(buf)
			io.ReadFull(c, buf)
		}
		for range 20 {
			echo()
		}
		if n := testing.AllocsPerRun(100, echo); n >= 1 {
			t.Errorf("%v allocations for %d bytes there and back, those of client and back end included", n, size)
		}
	}
}

// TestAMessageCostsOneReceiveAndOneSend, and so does its answer.
func TestAMessageCostsOneReceiveAndOneSend(t *testing.T) {
	const rounds = 200
	r := newRig(t, []string{echoTCP(t)}, nil)
	c := r.dial()
	buf := make([]byte, 100)
	echo := func() {
		c.Write(buf)
		io.ReadFull(c, buf)
	}
	for range 5 {
		echo()
	}
	before := r.w.Stats().Transfers.Load()
	for range rounds {
		echo()
	}
	r.on(func() {})
	if n := r.w.Stats().Transfers.Load() - before; n > 4*rounds+2 {
		t.Errorf("%d receives and sends for %d messages there and back", n, rounds)
	}
}

func TestWhatIsCutOffInTheMiddleDoesNotLookComplete(t *testing.T) {
	r := newRig(t, []string{echoTCP(t)}, nil)
	quiet, busy := r.dial(), r.dial()
	for _, c := range []net.Conn{quiet, busy} {
		c.SetDeadline(time.Now().Add(patience))
		c.Write([]byte("x"))
		io.ReadFull(c, make([]byte, 1))
	}
	r.on(func() {
		for n := r.engine.tunnels.Front(); n != nil; n = n.Next() {
			n.Item.last = r.w.Now()
			if n.Item.down.conn.RemoteAddr().Port() == quiet.LocalAddr().(*net.TCPAddr).AddrPort().Port() {
				n.Item.last -= quietAfter
			}
		}
		r.engine.Cut()
	})
	if n, err := quiet.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("a silent tunnel ends with %v", err)
	}
	if _, err := busy.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("one in use ends with %v", err)
	}
}

// TestAnIdleTimeoutThatLosesBytesDoesNotLookComplete: a client that takes nothing for so long gets no orderly end.
func TestAnIdleTimeoutThatLosesBytesDoesNotLookComplete(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		for err == nil {
			_, err = c.Write(make([]byte, 1<<20))
		}
	}()
	r := newRig(t, []string{l.Addr().String()}, nil)
	c := r.dial()
	r.until(func() bool { return r.engine.tunnels.Front() != nil && r.engine.tunnels.Front().Item.down.blocked() })
	r.on(func() {
		tunnel := r.engine.tunnels.Front().Item
		tunnel.last -= tunnel.idle
		tunnel.onTimer(r.w.Now())
		if r.engine.Tunnels() != 0 {
			t.Error("the tunnel is still there")
		}
	})
	c.SetDeadline(time.Now().Add(patience))
	if _, err := io.Copy(io.Discard, c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client sees %v", err)
	}
}

// TestAllCountsReturnToNothing: whatever a tunnel held is given back when it ends.
func TestAllCountsReturnToNothing(t *testing.T) {
	r := newRig(t, []string{echoTCP(t)}, nil)
	clients := []net.Conn{r.dial(), r.dial(), r.dial()}
	for _, c := range clients {
		c.Write([]byte("x"))
		io.ReadFull(c, make([]byte, 1))
	}
	endpoint := r.engine.live.Current().Clusters["c"].Set().Endpoints()[0]
	if n := endpoint.Connections(); n != 3 {
		t.Errorf("%d connections at the endpoint", n)
	}
	clients[0].Close()
	clients[1].(*net.TCPConn).SetLinger(0)
	clients[1].Close()
	r.on(func() {})
	r.until(func() bool { return r.engine.Tunnels() == 1 })
	r.on(r.engine.Cut)
	r.until(func() bool { return r.engine.Tunnels() == 0 && endpoint.Connections() == 0 && r.w.BuffersOut() == 0 })
}
