//go:build linux

package loop

import (
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var loopback = netip.MustParseAddrPort("127.0.0.1:0")

// giveUp bounds what would otherwise hang; nothing is measured with it.
const giveUp = 20 * time.Second

// startWorker runs a worker until the test ends. A panic on it fails the test, unless it is on purpose.
func startWorker(t testing.TB, opt WorkerOptions) *Worker {
	t.Helper()
	if opt.OnPanic == nil {
		opt.OnPanic = func(v any, stack []byte) {
			if v != onPurpose {
				t.Errorf("panic: %v\n%s", v, stack)
			}
		}
	}
	w := newWorker(t, len(workersOf(opt)), opt)
	run(t, w)
	return w
}

func workersOf(opt WorkerOptions) []*Worker {
	if opt.Group == nil {
		return nil
	}
	return opt.Group.Workers()
}

func newWorker(t testing.TB, id int, opt WorkerOptions) *Worker {
	t.Helper()
	w, err := NewWorker(id, opt)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func run(t testing.TB, w *Worker) {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- w.Run() }()
	on(t, w, func() {})
	t.Cleanup(func() {
		w.Stop()
		if err := receive(t, ended); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// on runs fn on the worker's thread and waits for it.
func on(t testing.TB, w *Worker, fn func()) {
	t.Helper()
	done := make(chan struct{}, 1)
	if !w.Post(func() { defer func() { done <- struct{}{} }(); fn() }) {
		t.Fatal("the worker has ended")
	}
	receive(t, done)
}

func receive[T any](t testing.TB, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(giveUp):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

func listen(t testing.TB, w *Worker, opt ListenerOptions, onAccept func(*Worker, *Conn)) *Listener {
	t.Helper()
	var l *Listener
	var err error
	on(t, w, func() { l, err = w.Listen(opt, onAccept) })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func dial(t testing.TB, addr netip.AddrPort) *net.TCPConn {
	t.Helper()
	return dialBy(t, net.Dialer{}, addr)
}

// dialNarrow dials for a client that reads nothing: its socket takes 4 KiB. The window is narrow from the start and the
// receive buffer is as it was. A buffer of a given size may be too full to keep what the window permits; then Linux closes
// the window at once and drops acknowledgements as outside of it, and both sides wait for timers of TCP. One that is given
// no size may grow to 6 MiB and more.
func dialNarrow(t testing.TB, addr netip.AddrPort) *net.TCPConn {
	t.Helper()
	return dialBy(t, net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) {
			if err := unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_WINDOW_CLAMP, 4<<10); err != nil {
				t.Error(err)
			}
		})
	}}, addr)
}

func dialBy(t testing.TB, d net.Dialer, addr netip.AddrPort) *net.TCPConn {
	t.Helper()
	d.Timeout = giveUp
	c, err := d.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(giveUp))
	return c.(*net.TCPConn)
}

// exchange writes one byte and reads it back.
func exchange(c net.Conn) error {
	b := []byte{'x'}
	if _, err := c.Write(b); err != nil {
		return err
	}
	_, err := c.Read(b)
	return err
}

// handlerFunc is a Handler of one connection.
type handlerFunc func(ev Events)

func (f handlerFunc) OnEvent(ev Events) { f(ev) }

// echo sends back what it reads.
type echo struct {
	w    *Worker
	conn *Conn
	out  []byte
}

func serveEcho(w *Worker, c *Conn) { c.SetHandler(&echo{w: w, conn: c}) }

func (e *echo) OnEvent(Events) {
	for {
		for len(e.out) > 0 {
			n, status := e.conn.Write(e.out)
			e.out = e.out[:copy(e.out, e.out[n:])]
			if status == Again {
				return
			}
			if status == Failed {
				e.conn.Close()
				return
			}
		}
		n, status := e.conn.Read(e.w.ReadBuffer())
		switch status {
		case OK:
			e.out = append(e.out, e.w.ReadBuffer()[:n]...)
		case Again:
			return
		default:
			e.conn.Close()
			return
		}
	}
}

func addrOf(l net.Listener) netip.AddrPort { return l.Addr().(*net.TCPAddr).AddrPort() }
