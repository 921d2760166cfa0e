//go:build linux

package loop

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"

	"rauta.io/rauta/proxy/clock"
)

func TestTwoThousandStalledHandshakesDoNotHoldUpAFreshOne(t *testing.T) {
	eachWay(t, twoThousandStalledHandshakesDoNotHoldUpAFreshOne)
}

func twoThousandStalledHandshakesDoNotHoldUpAFreshOne(t *testing.T, quick func() bool) {
	const stalled = 2000
	r := serveTLSBy(t, quick, tlsServerConfig(t), 0, serveEcho)
	hello := r.recordedHello()
	parts := [][]byte{nil, hello[:1], hello[:len(hello)/2], hello}
	var conns []net.Conn
	for i := range stalled {
		c := dial(t, r.addr)
		conns = append(conns, c)
		if _, err := c.Write(parts[i%len(parts)]); err != nil {
			t.Fatal(err)
		}
	}
	for i, c := range conns {
		if len(parts[i%len(parts)]) < len(hello) {
			continue
		}
		if _, err := c.Read(make([]byte, 1)); err != nil { // the answer: the handshake now waits for the client
			t.Fatal(err)
		}
	}
	r.untilStats("all handshakes to stall", func(s *WorkerStats) bool { return s.Handshakes.Open.Load() == stalled })
	for range 3 {
		roundTrip(t, r.dial(), []byte("fresh"))
	}
	on(t, r.w, func() {
		open, done, failed := r.w.Handshakes(), r.w.handshakes.succeeded, r.w.handshakes.failed
		if open != stalled || done != 3 || failed != 0 {
			t.Errorf("%d handshakes are stalled, %d succeeded, %d failed", open, done, failed)
		}
	})
	if n := len(r.w.group.computing); n != 0 {
		t.Errorf("%d tokens are held although nothing computes", n)
	}
}

func TestAHandshakeThatStallsAnywhereIsCutAtItsDeadline(t *testing.T) {
	eachWay(t, aHandshakeThatStallsAnywhereIsCutAtItsDeadline)
}

func aHandshakeThatStallsAnywhereIsCutAtItsDeadline(t *testing.T, quick func() bool) {
	r := serveTLSBy(t, quick, tlsServerConfig(t), 50e6, serveEcho)
	hello := r.recordedHello()
	for _, part := range [][]byte{nil, hello[:1], hello[:len(hello)/2], hello} {
		c := dial(t, r.addr)
		if _, err := c.Write(part); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(c); err != nil {
			t.Errorf("after %d bytes the client sees %v", len(part), err)
		}
		if err := receive(t, r.failed); !errors.Is(err, ErrHandshakeTimeout) {
			t.Errorf("after %d bytes: %v", len(part), err)
		}
	}
}

func TestBeyondTheLimitTheOldestHandshakeIsGivenUp(t *testing.T) {
	r := serveTLS(t, tlsServerConfig(t), 0, serveEcho)
	on(t, r.w, func() { r.w.handshakes.max = 2 })
	var conns []net.Conn
	for n := range 3 {
		conns = append(conns, dial(t, r.addr))
		r.untilStats("the connection to be accepted", func(s *WorkerStats) bool { return s.Accepts.Load() == uint64(n+1) })
	}
	if err := receive(t, r.failed); !errors.Is(err, ErrHandshakeEvicted) {
		t.Errorf("the reason is %v", err)
	}
	if _, err := conns[0].Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the oldest client sees %v", err)
	}
	roundTrip(t, r.over(conns[2], r.client()), []byte("x"))
}

func TestHandshakesMakeRoomUnderPressureTheOldestFirst(t *testing.T) {
	eachWay(t, handshakesMakeRoomUnderPressureTheOldestFirst)
}

func handshakesMakeRoomUnderPressureTheOldestFirst(t *testing.T, quick func() bool) {
	r := serveTLSBy(t, quick, tlsServerConfig(t), 0, serveEcho)
	var conns []net.Conn
	for n := range 3 {
		conns = append(conns, dial(t, r.addr))
		r.untilStats("the handshake to begin", func(s *WorkerStats) bool { return s.Handshakes.Open.Load() == int64(n+1) })
	}
	on(t, r.w, func() {
		if n := r.w.CloseHandshakes(2); n != 2 || r.w.Handshakes() != 1 {
			t.Errorf("%d were given up, %d are left", n, r.w.Handshakes())
		}
	})
	for _, c := range conns[:2] {
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("an old client sees %v", err)
		}
	}
	roundTrip(t, r.over(conns[2], r.client()), []byte("x"))
}

func TestAConnectionThatIsClosedDuringItsHandshakeIsNotHeardOfAgain(t *testing.T) {
	computing, goOn := make(chan bool), make(chan bool)
	config := tlsServerConfig(t)
	inner := config.Clone()
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		computing <- true
		<-goOn
		return inner, nil
	}
	w := startWorker(t, WorkerOptions{})
	accepted := make(chan *Conn, 1)
	l := listen(t, w, ListenerOptions{Addr: loopback}, func(_ *Worker, c *Conn) {
		c.StartTLS(TLSOptions{Config: config, Done: func(*Conn, error) { t.Error("Done was called") }})
		accepted <- c
	})
	raw := dial(t, l.Addr())
	go func() { _ = tls.Client(raw, &tls.Config{InsecureSkipVerify: true}).Handshake() }()
	receive(t, computing)
	c := receive(t, accepted)
	on(t, w, func() { c.Close() })
	close(goOn)
	r := &tlsRig{t: t, w: w}
	r.untilStats("the connection to end", func(s *WorkerStats) bool { return s.ConnectionsOpen.Load() == 0 })
	for len(w.group.computing) > 0 {
		on(t, w, func() {})
	}
	on(t, w, func() {}) // the message of the goroutine has been delivered
}

func TestAPanicInACallbackFailsOneHandshake(t *testing.T) {
	eachWay(t, aPanicInACallbackFailsOneHandshake)
}

func aPanicInACallbackFailsOneHandshake(t *testing.T, quick func() bool) {
	config := tlsServerConfig(t)
	inner := config.Clone()
	config.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		if h.ServerName == "panic.test" {
			panic("callback")
		}
		return inner, nil
	}
	r := serveTLSBy(t, quick, config, 0, serveEcho)
	bad := r.client()
	bad.ServerName = "panic.test"
	if err := tls.Client(dial(t, r.addr), bad).Handshake(); err == nil {
		t.Error("the handshake succeeded")
	}
	if err := receive(t, r.failed); err == nil {
		t.Error("no reason")
	}
	roundTrip(t, r.dial(), []byte("x"))
}

func TestWhatIsNoTLSIsAnsweredByCryptoTLS(t *testing.T) { eachWay(t, whatIsNoTLSIsAnsweredByCryptoTLS) }

func whatIsNoTLSIsAnsweredByCryptoTLS(t *testing.T, quick func() bool) {
	r := serveTLSBy(t, quick, tlsServerConfig(t), 0, serveEcho)
	c := dial(t, r.addr)
	if _, err := c.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(c); err != nil {
		t.Logf("the client sees %v", err)
	}
	var header tls.RecordHeaderError
	if err := receive(t, r.failed); !errors.As(err, &header) {
		t.Errorf("the reason is %v", err)
	}
}

func TestBytesReadBeforeTheHandshakeAreUsed(t *testing.T) {
	w := startWorker(t, WorkerOptions{})
	l := listen(t, w, ListenerOptions{Addr: loopback}, func(w *Worker, c *Conn) {
		c.SetHandler(handlerFunc(func(Events) {
			n, st := c.Read(w.ReadBuffer()[:100])
			if st == OK {
				c.StartTLS(TLSOptions{
					Config: tlsServerConfig(t), Received: w.ReadBuffer()[:n], Deadline: w.Now() + clock.Time(giveUp),
					Done: func(c *Conn, err error) {
						if err == nil {
							serveEcho(w, c)
						}
					},
				})
			}
		}))
	})
	r := &tlsRig{t: t, w: w, addr: l.Addr()}
	config := &tls.Config{InsecureSkipVerify: true}
	roundTrip(t, r.over(dial(t, r.addr), config), []byte("hello"))
}

// TestHandshakesWithBackEndsAreBoundedForThemselves: neither clients nor back ends that stall can have those of the other
// side given up.
func TestHandshakesWithBackEndsAreBoundedForThemselves(t *testing.T) {
	r := serveTLS(t, tlsServerConfig(t), 0, serveEcho)
	stuck, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer stuck.Close()
	client := dial(t, r.addr)
	r.untilStats("the client's handshake to begin", func(s *WorkerStats) bool { return s.Handshakes.Open.Load() == 1 })
	failed := make(chan error, 4)
	on(t, r.w, func() { r.w.handshakes.max, r.w.dialled.max = 1, 2 })
	for n := range 3 {
		on(t, r.w, func() {
			var c *Conn
			c, err = r.w.Connect(addrOf(stuck), handlerFunc(func(Events) {
				if c.ConnectResult() == nil {
					c.StartTLS(TLSOptions{Client: true, Config: r.client(), Done: func(_ *Conn, err error) { failed <- err }})
				}
			}))
		})
		if err != nil {
			t.Fatal(err)
		}
		r.untilStats("the handshake to begin", func(s *WorkerStats) bool {
			return s.Connects.Load() == uint64(n+1) && s.Dialled.Open.Load() == int64(min(n+1, 2))
		})
	}
	if err := receive(t, failed); !errors.Is(err, ErrHandshakeEvicted) {
		t.Errorf("the reason is %v", err)
	}
	on(t, r.w, func() {
		if n := r.w.CloseHandshakes(0); n != 0 || r.w.Handshakes() != 1 || r.w.dialled.Len() != 2 || r.w.dialled.failed != 1 {
			t.Errorf("%d handshakes with clients, %d with back ends", r.w.Handshakes(), r.w.dialled.Len())
		}
		if n := r.w.CloseHandshakes(5); n != 1 || r.w.dialled.Len() != 2 {
			t.Errorf("under pressure of clients %d were given up, %d with back ends are left", n, r.w.dialled.Len())
		}
	})
	if _, err := client.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the client sees %v", err)
	}
}

// TestClientsInMassesHoldUpNoHandshakeWithABackEnd: requests of others may wait for it.
func TestClientsInMassesHoldUpNoHandshakeWithABackEnd(t *testing.T) {
	r := serveTLS(t, tlsServerConfig(t), 0, serveEcho)
	back := serveTLS(t, tlsServerConfig(t), 0, serveEcho)
	for range cap(r.w.group.computing) {
		r.w.group.computing <- struct{}{} // as if clients computed without end
	}
	done := make(chan error, 1)
	on(t, r.w, func() {
		var c *Conn
		c, _ = r.w.Connect(back.addr, handlerFunc(func(Events) {
			if c.ConnectResult() == nil {
				c.StartTLS(TLSOptions{Client: true, Config: r.client(), Done: func(_ *Conn, err error) { done <- err }})
			}
		}))
	})
	if err := receive(t, done); err != nil {
		t.Error(err)
	}
	for len(r.w.group.computing) > 0 {
		<-r.w.group.computing
	}
}

// TestAPanicDuringAHandshakeIsToldOnce: whoever asked for the handshake has something to give back.
func TestAPanicDuringAHandshakeIsToldOnce(t *testing.T) {
	w := startWorker(t, WorkerOptions{OnPanic: func(any, []byte) {}})
	told := make(chan error, 4)
	l := listen(t, w, ListenerOptions{Addr: loopback}, func(_ *Worker, c *Conn) {
		c.StartTLS(TLSOptions{Config: tlsServerConfig(t), Done: func(_ *Conn, err error) { told <- err }})
		w.Blame(c)
		panic("on the worker's thread")
	})
	dial(t, l.Addr())
	if err := receive(t, told); err == nil {
		t.Error("no reason")
	}
	on(t, w, func() {})
	if len(told) > 0 {
		t.Error("Done was called twice")
	}
}

func TestHandshakesBeyondTheTurnsShareComputeOnGoroutines(t *testing.T) {
	r := serveTLSBy(t, func() bool { return true }, tlsServerConfig(t), 0, serveEcho)
	hello := r.recordedHello()
	var conns []net.Conn
	for range quickPerTurn + 3 {
		conns = append(conns, dial(t, r.addr))
	}
	r.untilStats("all to be accepted", func(s *WorkerStats) bool { return s.Handshakes.Open.Load() == int64(len(conns)) })
	on(t, r.w, func() { // their ClientHellos are there when the turn begins that sees them
		for _, c := range conns {
			if _, err := c.Write(hello); err != nil {
				t.Error(err)
			}
		}
	})
	for _, c := range conns {
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	on(t, r.w, func() {
		quick := 0
		for n := r.w.handshakes.Front(); n != nil; n = n.Next() {
			if n.Item.quick != nil {
				quick++
			}
		}
		if quick != quickPerTurn {
			t.Errorf("%d of %d wait on the thread, want %d", quick, len(conns), quickPerTurn)
		}
	})
	roundTrip(t, r.dial(), []byte("x"))
}

func TestCoroutinesAreUsedAgain(t *testing.T) {
	r := serveTLSBy(t, func() bool { return true }, tlsServerConfig(t), 0, serveEcho)
	for range 5 {
		roundTrip(t, r.dial(), []byte("x"))
	}
	on(t, r.w, func() {
		if n := len(r.w.coroutines); n != 1 || r.w.coroutines[0].h != nil {
			t.Errorf("%d coroutines are idle after five handshakes, one after the other", n)
		}
	})
}
