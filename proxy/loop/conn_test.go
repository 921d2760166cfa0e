//go:build linux

package loop

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"rauta.io/rauta/internal/testrig"
)

func TestBytesOfAllSizesComeBackFromAnEcho(t *testing.T) {
	w := startWorker(t, WorkerOptions{})
	l := listen(t, w, ListenerOptions{Addr: loopback}, serveEcho)
	for _, size := range []int{1, 1000, ReadBufferBytes - 1, ReadBufferBytes, ReadBufferBytes + 1, 8 << 20} {
		c := dial(t, l.Addr())
		sent := bytes.Repeat([]byte("rauta"), size/5+1)[:size]
		go func() {
			_, _ = c.Write(sent)
			_ = c.CloseWrite()
		}()
		got := make([]byte, size)
		if _, err := io.ReadFull(c, got); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if !bytes.Equal(got, sent) {
			t.Fatalf("%d bytes came back changed", size)
		}
	}
}

// accepted returns a listener's next connection; nobody handles its events until the test does.
func accepted(t testing.TB, w *Worker) (*Listener, <-chan *Conn) {
	conns := make(chan *Conn, 100)
	return listen(t, w, ListenerOptions{Addr: loopback}, func(_ *Worker, c *Conn) { conns <- c }), conns
}

// connected returns both ends of a connection; nobody handles the events of ours until the test does.
func connected(t testing.TB, w *Worker) (*net.TCPConn, *Conn) {
	t.Helper()
	l, conns := accepted(t, w)
	return dial(t, l.Addr()), receive(t, conns)
}

func TestAcceptedAndConnectedSocketsHaveNoDelayAndKnowTheirAddresses(t *testing.T) {
	w := startWorker(t, WorkerOptions{})
	l, conns := accepted(t, w)
	for name, addr := range map[string]netip.AddrPort{
		"bound to an address": l.Addr(),
		"bound to any address": netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"),
			listen(t, w, ListenerOptions{Addr: netip.MustParseAddrPort("0.0.0.0:0")}, l.onAccept).Addr().Port()),
		"dual stack": netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"),
			listen(t, w, ListenerOptions{Addr: netip.MustParseAddrPort("[::]:0")}, l.onAccept).Addr().Port()),
	} {
		client := dial(t, addr)
		c := receive(t, conns)
		on(t, w, func() {
			if got := c.RemoteAddr().String(); got != client.LocalAddr().String() {
				t.Errorf("%s: remote address %s, want %s", name, got, client.LocalAddr())
			}
			if got := c.LocalAddr(); got != addr {
				t.Errorf("%s: local address %s, want %s", name, got, addr)
			}
			if v, err := unix.GetsockoptInt(c.FD(), unix.IPPROTO_TCP, unix.TCP_NODELAY); err != nil || v == 0 {
				t.Errorf("%s: TCP_NODELAY is %d, %v", name, v, err)
			}
		})
	}
}

func TestAConnectThatSucceedsReportsItAndCarriesBytes(t *testing.T) {
	w := startWorker(t, WorkerOptions{})
	l := listen(t, w, ListenerOptions{Addr: loopback}, serveEcho)
	result := make(chan error, 1)
	got := make(chan byte, 1)
	on(t, w, func() {
		var c *Conn
		connected := false
		c, err := w.Connect(l.Addr(), handlerFunc(func(ev Events) {
			if !connected {
				err := c.ConnectResult()
				if errors.Is(err, ErrConnecting) {
					return
				}
				connected = true
				result <- err
				_, _ = c.Write([]byte{'y'})
			}
			if n, status := c.Read(w.ReadBuffer()); status == OK && n == 1 {
				got <- w.ReadBuffer()[0]
			}
		}))
		if err != nil {
			t.Error(err)
			return
		}
		if v, err := unix.GetsockoptInt(c.FD(), unix.IPPROTO_TCP, unix.TCP_NODELAY); err != nil || v == 0 {
			t.Errorf("TCP_NODELAY is %d, %v", v, err)
		}
	})
	if err := receive(t, result); err != nil {
		t.Fatal(err)
	}
	if b := receive(t, got); b != 'y' {
		t.Errorf("got %q", b)
	}
}

func TestAConnectThatIsRefusedSaysSo(t *testing.T) {
	addr := netip.MustParseAddrPort(testrig.DeadAddress(t))
	w := startWorker(t, WorkerOptions{})
	result := make(chan error, 1)
	on(t, w, func() {
		var c *Conn
		c, err := w.Connect(addr, handlerFunc(func(Events) {
			result <- c.ConnectResult()
			c.Close()
		}))
		if err != nil {
			result <- err
		}
	})
	if err := receive(t, result); !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, ErrSelfConnect) {
		t.Errorf("got %v", err)
	}
}

func TestAResetReachesThePeerAsReset(t *testing.T) {
	w := startWorker(t, WorkerOptions{})
	client, c := connected(t, w)
	on(t, w, c.Reset)
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the peer saw %v", err)
	}
}

func TestAPeersResetFailsTheReadWithItsErrno(t *testing.T) {
	w := startWorker(t, WorkerOptions{})
	failed := make(chan error, 10)
	l := listen(t, w, ListenerOptions{Addr: loopback}, func(w *Worker, c *Conn) {
		c.SetHandler(handlerFunc(func(Events) {
			if _, status := c.Read(w.ReadBuffer()); status == Failed {
				failed <- c.Err()
				c.Close()
			}
		}))
	})
	client := dial(t, l.Addr())
	_ = client.SetLinger(0)
	client.Close()
	if err := receive(t, failed); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("got %v", err)
	}
}

func TestHalfCloseEndsOneDirectionOnly(t *testing.T) {
	w := startWorker(t, WorkerOptions{})
	client, c := connected(t, w)
	on(t, w, c.CloseWrite)
	if _, err := client.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("the peer saw %v", err)
	}
	read := make(chan Status, 10)
	on(t, w, func() {
		c.SetHandler(handlerFunc(func(ev Events) {
			if ev&Readable == 0 {
				return
			}
			for {
				_, status := c.Read(w.ReadBuffer())
				if status == Again {
					return
				}
				read <- status
				if status != OK {
					c.Close()
					return
				}
			}
		}))
	})
	if _, err := client.Write([]byte{'z'}); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, read); got != OK {
		t.Errorf("the other direction gave %d", got)
	}
	client.Close()
	if got := receive(t, read); got != EOF {
		t.Errorf("its end gave %d", got)
	}
}

func TestAFullSocketTakesAPartAndWritableFollows(t *testing.T) {
	w := startWorker(t, WorkerOptions{})
	client, c := connected(t, w)
	const total = 32 << 20
	written := make(chan int, 1)
	on(t, w, func() {
		data := make([]byte, total)
		sent, again := 0, 0
		c.SetHandler(handlerFunc(func(Events) {
			for sent < total {
				n, status := c.Write(data[sent:])
				sent += n
				if status == Again {
					again++
					return
				}
				if status != OK {
					t.Errorf("write: %v", c.Err())
					return
				}
			}
			written <- again
			c.Close()
		}))
		c.Ready(Writable)
	})
	n, err := io.Copy(io.Discard, client)
	if n != total || err != nil {
		t.Errorf("%d bytes arrived, %v", n, err)
	}
	if again := receive(t, written); again == 0 {
		t.Error("32 MiB went in one piece: back pressure was not seen")
	}
}

func TestAClosedConnectionRefusesEverythingAndSaysWhy(t *testing.T) {
	w := startWorker(t, WorkerOptions{})
	_, c := connected(t, w)
	on(t, w, func() {
		c.Close()
		c.Close()
		c.Reset()
		c.CloseWrite()
		if _, status := c.Read(make([]byte, 1)); status != Failed {
			t.Errorf("read: %d", status)
		}
		if _, status := c.Write([]byte{1}); status != Failed {
			t.Errorf("write: %d", status)
		}
		if !errors.Is(c.Err(), net.ErrClosed) {
			t.Errorf("error: %v", c.Err())
		}
	})
}

func TestEventsBeforeTheHandlerIsSetAreNotLost(t *testing.T) {
	w := startWorker(t, WorkerOptions{})
	client, c := connected(t, w)
	if _, err := client.Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	// The byte's event has come once the connection's missed events say so.
	for seen := false; !seen; {
		on(t, w, func() { seen = c.missed&Readable != 0 })
	}
	got := make(chan Events, 10)
	on(t, w, func() { c.SetHandler(handlerFunc(func(ev Events) { got <- ev })) })
	if ev := receive(t, got); ev&Readable == 0 {
		t.Errorf("got %b", ev)
	}
}
