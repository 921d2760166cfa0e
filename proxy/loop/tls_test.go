//go:build linux

package loop

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

func randomBytes(n int) []byte {
	b := make([]byte, n)
	source := rand.NewChaCha8([32]byte{1})
	_, _ = source.Read(b)
	return b
}

// roundTrip sends p to an echo and compares what comes back.
func roundTrip(t *testing.T, c io.ReadWriter, p []byte) {
	t.Helper()
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(p)
		sent <- err
	}()
	got := make([]byte, len(p))
	if n, err := io.ReadFull(c, got); err != nil {
		t.Fatalf("%d of %d bytes came back: %v", n, len(p), err)
	}
	if err := receive(t, sent); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, p) {
		t.Fatal("other bytes came back")
	}
}

func TestBytesOfAllSizesGoBothWaysOverEveryVersion(t *testing.T) {
	r := serveTLS(t, tlsServerConfig(t), 0, serveEcho)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := r.client()
		config.MinVersion, config.MaxVersion = version, version
		c := r.over(dial(t, r.addr), config)
		for _, n := range []int{1, 100, 16 << 10, 16<<10 + 1, 300 << 10, 5 << 20} {
			roundTrip(t, c, randomBytes(n))
		}
	}
}

func TestAnExchangeOverTLSCostsOneReceiveAndOneSend(t *testing.T) {
	const rounds = 500
	r := serveTLS(t, tlsServerConfig(t), 0, serveEcho)
	c := r.dial()
	roundTrip(t, c, []byte("x"))
	var before, after uint64
	on(t, r.w, func() { before = r.w.counts.transfers })
	for range rounds {
		roundTrip(t, c, []byte("0123456789"))
	}
	on(t, r.w, func() { after = r.w.counts.transfers })
	if n := after - before; n < 2*rounds || n > 2*rounds+rounds/50 {
		t.Errorf("%d receives and sends for %d exchanges", n, rounds)
	}
}

func TestAFullSocketPausesTheWriterAndLosesNothing(t *testing.T) {
	r := serveTLS(t, tlsServerConfig(t), 0, func(w *Worker, c *Conn) {
		if err := unix.SetsockoptInt(c.FD(), unix.SOL_SOCKET, unix.SO_SNDBUF, 4096); err != nil {
			t.Error(err)
		}
		serveEcho(w, c)
	})
	roundTrip(t, r.dial(), randomBytes(3<<20))
}

// chopped writes one byte per segment.
type chopped struct{ net.Conn }

func (c chopped) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := c.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

func TestAClientHelloInSegmentsOfOneByteIsUnderstood(t *testing.T) {
	r := serveTLS(t, tlsServerConfig(t), 0, serveEcho)
	roundTrip(t, r.over(chopped{dial(t, r.addr)}, r.client()), []byte("hello"))
}

// refragmented puts every byte of the ClientHello into a record of its own (RFC 8446 section 5.1).
type refragmented struct {
	net.Conn
	done bool
}

func (c *refragmented) Write(p []byte) (int, error) {
	if c.done {
		return c.Conn.Write(p)
	}
	c.done = true
	var out []byte
	for _, b := range p[recordHeaderBytes:] {
		out = append(out, p[0], p[1], p[2], 0, 1, b)
	}
	_, err := c.Conn.Write(out)
	return len(p), err
}

func TestAClientHelloInRecordsOfOneByteIsUnderstood(t *testing.T) {
	r := serveTLS(t, tlsServerConfig(t), 0, serveEcho)
	roundTrip(t, r.over(&refragmented{Conn: dial(t, r.addr)}, r.client()), []byte("hello"))
}

func TestWhatComesRightBehindTheHandshakeIsRead(t *testing.T) {
	r := serveTLS(t, tlsServerConfig(t), 0, serveEcho)
	c := &gathering{Conn: dial(t, r.addr)}
	tc := r.over(c, r.client())
	if _, err := tc.Write([]byte("early")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Conn.Write(c.pending); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(tc, got); err != nil || string(got) != "early" {
		t.Errorf("%q, %v", got, err)
	}
}

// gathering keeps everything that follows the ClientHello.
type gathering struct {
	net.Conn
	hello   bool
	pending []byte
}

func (c *gathering) Write(p []byte) (int, error) {
	if c.hello {
		c.pending = append(c.pending, p...)
		return len(p), nil
	}
	c.hello = true
	return c.Conn.Write(p)
}

func TestTheStateOfTheHandshakeIsKnown(t *testing.T) {
	config := tlsServerConfig(t)
	config.NextProtos = []string{"http/1.1"}
	states := make(chan TLSState, 2)
	r := serveTLS(t, config, 0, func(w *Worker, c *Conn) {
		state, ok := c.TLS()
		if !ok || !c.Secured() {
			t.Error("the connection does not know that it is secured")
		}
		states <- state
		serveEcho(w, c)
	})
	client := r.client()
	client.NextProtos = []string{"h2", "http/1.1"}
	client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	for _, resumed := range []bool{false, true} {
		roundTrip(t, r.over(dial(t, r.addr), client), []byte("x")) // reading takes the session ticket
		got := receive(t, states)
		want := TLSState{
			ServerName: "rauta.test", Protocol: "http/1.1", Version: tls.VersionTLS13, CipherSuite: got.CipherSuite, Resumed: resumed,
		}
		if got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

// ending reports how reading ended.
type ending struct {
	w     *Worker
	c     *Conn
	ended chan error
}

func (e *ending) OnEvent(Events) {
	for {
		switch _, st := e.c.Read(e.w.ReadBuffer()); st {
		case Again:
			return
		case EOF:
			e.ended <- io.EOF
			e.c.Close()
			return
		case Failed:
			e.ended <- e.c.Err()
			e.c.Close()
			return
		}
	}
}

func TestAnEndWithoutCloseNotifyIsATruncation(t *testing.T) {
	ended := make(chan error, 1)
	r := serveTLS(t, tlsServerConfig(t), 0, func(w *Worker, c *Conn) { c.SetHandler(&ending{w, c, ended}) })
	for _, polite := range []bool{true, false} {
		raw := dial(t, r.addr)
		c := r.over(raw, r.client())
		if _, err := c.Write([]byte("some")); err != nil {
			t.Fatal(err)
		}
		want := ErrTruncated
		if polite {
			want = io.EOF
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
		} else if err := raw.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if got := receive(t, ended); !errors.Is(got, want) {
			t.Errorf("polite=%v: reading ended with %v, want %v", polite, got, want)
		}
	}
}

func TestCloseSaysGoodbyeAndResetDoesNot(t *testing.T) {
	reset := false
	r := serveTLS(t, tlsServerConfig(t), 0, func(_ *Worker, c *Conn) {
		c.SetHandler(handlerFunc(func(Events) {
			if reset {
				c.Reset()
			} else {
				c.Close()
			}
		}))
		c.Ready(Readable)
	})
	if _, err := r.dial().Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after Close the client sees %v", err)
	}
	on(t, r.w, func() { reset = true })
	if _, err := r.dial().Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("after Reset the client sees %v", err)
	}
}

func TestHalfOfAConnectionCanBeClosed(t *testing.T) {
	r := serveTLS(t, tlsServerConfig(t), 0, func(w *Worker, c *Conn) {
		c.CloseWrite()
		ended := make(chan error, 1)
		c.SetHandler(&ending{w, c, ended})
	})
	c := r.dial()
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("the client sees %v", err)
	}
	if _, err := c.Write(randomBytes(1 << 20)); err != nil {
		t.Errorf("the other half: %v", err)
	}
}

func TestCloseNotifyWaitsForAFullSocket(t *testing.T) {
	type outcome struct{ taken, given int }
	closed := make(chan outcome, 1)
	r := serveTLS(t, tlsServerConfig(t), 0, func(_ *Worker, c *Conn) {
		var o outcome
		part := make([]byte, 10<<10)
		for {
			n, st := c.Write(part)
			o.taken += n
			o.given += len(part)
			if st == OK {
				continue
			}
			c.CloseWrite()
			c.Close()
			closed <- o
			return
		}
	})
	c := r.dial()
	o := receive(t, closed)
	if o.taken >= o.given {
		t.Fatalf("%d of %d bytes were taken: the socket did not become full", o.taken, o.given)
	}
	got, err := io.ReadAll(c)
	if err != nil || len(got) != o.given {
		t.Errorf("%d bytes of %d, then %v", len(got), o.given, err)
	}
	r.untilStats("the connection to end", func(s *WorkerStats) bool { return s.ConnectionsOpen.Load() == 0 })
}

func TestAConnectionThatBreaksOffDoesNotLookComplete(t *testing.T) {
	closed := make(chan bool, 1)
	r := serveTLS(t, tlsServerConfig(t), 0, func(_ *Worker, c *Conn) {
		part := make([]byte, 10<<10)
		for {
			if _, st := c.Write(part); st != OK {
				c.Close()
				closed <- true
				return
			}
		}
	})
	c := r.dial()
	receive(t, closed)
	if _, err := io.ReadAll(c); err == nil {
		t.Error("the client takes what it got for everything")
	}
}

func TestTheLoopIsATLSClientToo(t *testing.T) {
	backend, err := tls.Listen("tcp", "127.0.0.1:0", tlsServerConfig(t))
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Close()
	go func() {
		for {
			c, err := backend.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); c.Close() }()
		}
	}()
	r := &tlsRig{t: t}
	front := serveTLS(t, tlsServerConfig(t), 0, serveEcho)
	r.roots = front.roots
	for _, name := range []string{"rauta.test", "other.test"} {
		config := r.client()
		config.ServerName = name
		result := make(chan error, 1)
		got := make(chan string, 1)
		on(t, front.w, func() {
			var c *Conn
			c, err = front.w.Connect(addrOf(backend), handlerFunc(func(Events) {
				if c.ConnectResult() != nil {
					return
				}
				c.StartTLS(TLSOptions{Client: true, Config: config, Done: func(c *Conn, err error) {
					result <- err
					if err != nil {
						return
					}
					c.Write([]byte("ping"))
					c.SetHandler(handlerFunc(func(Events) {
						if n, st := c.Read(front.w.ReadBuffer()); st == OK {
							got <- string(front.w.ReadBuffer()[:n])
							c.Close()
						}
					}))
				}})
			}))
			if err != nil {
				t.Error(err)
			}
		})
		err := receive(t, result)
		if name != "rauta.test" {
			if err == nil {
				t.Error("a certificate for another name was accepted")
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if s := receive(t, got); s != "ping" {
			t.Errorf("%q came back", s)
		}
	}
}

func TestAClientThatGivesUpTheHandshakeCostsNothing(t *testing.T) {
	r := serveTLS(t, tlsServerConfig(t), 0, serveEcho)
	config := r.client()
	config.ServerName = "other.test" // the client refuses the certificate
	ctx, cancel := context.WithTimeout(context.Background(), giveUp)
	defer cancel()
	if err := tls.Client(dial(t, r.addr), config).HandshakeContext(ctx); err == nil {
		t.Fatal("the client accepts a certificate for another name")
	}
	if err := receive(t, r.failed); err == nil {
		t.Error("no reason")
	}
	r.untilStats("the connection to end", func(s *WorkerStats) bool {
		return s.ConnectionsOpen.Load() == 0 && s.Handshakes.Open.Load() == 0 && s.Handshakes.Failed.Load() == 1
	})
}
