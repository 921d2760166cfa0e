//go:build linux

package loop

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"rauta.io/rauta/proxy/clock"
)

// clientHello returns what a client sends first.
func clientHello(t testing.TB, config *tls.Config) []byte {
	t.Helper()
	near, far := net.Pipe()
	defer far.Close()
	go func() {
		_ = tls.Client(near, config).Handshake()
		near.Close()
	}()
	far.SetDeadline(time.Now().Add(10 * time.Second))
	head := make([]byte, recordHeaderBytes)
	if _, err := io.ReadFull(far, head); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, binary.BigEndian.Uint16(head[3:]))
	if _, err := io.ReadFull(far, body); err != nil {
		t.Fatal(err)
	}
	return append(head, body...)
}

// asCryptoTLS returns the server name that crypto/tls reads; known is false if it refuses the hello.
func asCryptoTLS(hello []byte) (name string, known bool) {
	stop := errors.New("stop")
	server := tls.Server(&oneWay{r: bytes.NewReader(hello)}, &tls.Config{
		GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			name, known = h.ServerName, true
			return nil, stop
		},
	})
	_ = server.Handshake()
	return name, known
}

// oneWay is a connection from which bytes come and to which nothing goes.
type oneWay struct {
	net.Conn
	r io.Reader
}

func (o *oneWay) Read(p []byte) (int, error)       { return o.r.Read(p) }
func (o *oneWay) Write(p []byte) (int, error)      { return len(p), nil }
func (o *oneWay) Close() error                     { return nil }
func (o *oneWay) SetDeadline(time.Time) error      { return nil }
func (o *oneWay) SetReadDeadline(time.Time) error  { return nil }
func (o *oneWay) SetWriteDeadline(time.Time) error { return nil }

func hellos(t testing.TB) map[string][]byte {
	return map[string][]byte{
		"A.rauta.test": clientHello(t, &tls.Config{ServerName: "A.rauta.test", NextProtos: []string{"h2", "http/1.1"}}),
		"b.test":       clientHello(t, &tls.Config{ServerName: "b.test", MaxVersion: tls.VersionTLS12}),
		"":             clientHello(t, &tls.Config{InsecureSkipVerify: true}),
	}
}

// fragmented spreads the message of one record over records of at most size bytes.
func fragmented(record []byte, size int) []byte {
	var out []byte
	for m := record[recordHeaderBytes:]; len(m) > 0; {
		n := min(size, len(m))
		out = append(out, recordTypeHandshake, 3, 1, byte(n>>8), byte(n))
		out = append(out, m[:n]...)
		m = m[n:]
	}
	return out
}

func TestTheServerNameIsReadHoweverTheHelloIsCutIntoRecords(t *testing.T) {
	for want, hello := range hellos(t) {
		for _, size := range []int{1, 2, 3, 4, 5, 40, 16384} {
			if name, ok := serverName(fragmented(hello, size)); name != want || !ok {
				t.Errorf("records of %d: %q, %v, want %q", size, name, ok, want)
			}
		}
		for n := range len(hello) {
			if _, ok := serverName(hello[:n]); ok {
				t.Errorf("%d of %d bytes are taken for a whole hello", n, len(hello))
			}
		}
	}
	for _, b := range [][]byte{nil, []byte("GET / HTTP/1.1\r\n"), {22, 3, 1, 0, 4, 2, 0, 0, 0}, {22, 3, 1, 0, 4, 1, 0, 0, 0}} {
		if _, ok := serverName(b); ok {
			t.Errorf("%q is taken for a hello", b)
		}
	}
}

// TestTheServerNameIsTheOneThatCryptoTLSReads: a connection that is forwarded by its name must not have another one for
// whoever would terminate it.
func TestTheServerNameIsTheOneThatCryptoTLSReads(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var seeds [][]byte
	for _, hello := range hellos(t) {
		seeds = append(seeds, hello, fragmented(hello, 100))
	}
	agreed := 0
	for range 30_000 {
		hello := bytes.Clone(seeds[random.IntN(len(seeds))])
		for range 1 + random.IntN(4) {
			hello[random.IntN(min(len(hello), 600))] = byte(random.Uint32())
		}
		var s helloScan
		if !s.complete(hello) {
			continue
		}
		name, ok := serverName(hello)
		theirs, known := asCryptoTLS(hello)
		if ok && known && name != theirs {
			t.Fatalf("%q, crypto/tls reads %q in %x", name, theirs, hello)
		}
		if !ok && known {
			t.Fatalf("crypto/tls reads %q, and we nothing, in %x", theirs, hello)
		}
		if ok && known {
			agreed++
		}
	}
	if agreed < 1000 {
		t.Errorf("only %d hellos were read by both: the mutations destroy too much", agreed)
	}
}

func TestAConnectionIsGivenAwayByItsServerName(t *testing.T) {
	w := startWorker(t, WorkerOptions{})
	config := tlsServerConfig(t)
	got := make(chan []byte, 1)
	l := listen(t, w, ListenerOptions{Addr: loopback}, func(w *Worker, c *Conn) {
		c.StartTLS(TLSOptions{
			Config: config, Deadline: c.AcceptedAt() + clock.Time(giveUp),
			Hello: func(name string, known bool) func(*Conn, []byte) {
				if name != "give.test" || !known {
					return nil
				}
				return func(c *Conn, received []byte) { gather(w, c, bytes.Clone(received), got) }
			},
			Done: func(c *Conn, err error) { c.Close() },
		})
	})
	hello := clientHello(t, &tls.Config{ServerName: "give.test"})
	for _, step := range []int{1, 7, len(hello)} {
		c := dial(t, l.Addr())
		sent := append(bytes.Clone(hello), "and what comes behind it"...)
		for b := sent; len(b) > 0; b = b[min(step, len(b)):] {
			if _, err := c.Write(b[:min(step, len(b))]); err != nil {
				t.Fatal(err)
			}
		}
		c.CloseWrite()
		if b := <-got; !bytes.Equal(b, sent) {
			t.Errorf("steps of %d: %d of %d bytes arrived", step, len(b), len(sent))
		}
	}
	kept := tls.Client(dial(t, l.Addr()), &tls.Config{ServerName: "keep.test", InsecureSkipVerify: true})
	if err := kept.Handshake(); err != nil {
		t.Errorf("another name: %v", err)
	}
	io.Copy(io.Discard, kept)
	on(t, w, func() {
		if w.Handshakes() > 0 || w.BuffersOut() > 0 {
			t.Errorf("%d handshakes and %d buffers are left", w.Handshakes(), w.BuffersOut())
		}
	})
}

// gather reads c to its end and reports everything, with what had come before.
func gather(w *Worker, c *Conn, all []byte, got chan<- []byte) {
	c.SetHandler(handlerFunc(func(Events) {
		for {
			n, st := c.Read(w.ReadBuffer())
			switch st {
			case OK:
				all = append(all, w.ReadBuffer()[:n]...)
				continue
			case EOF:
				c.Close()
				got <- all
			}
			return
		}
	}))
}
