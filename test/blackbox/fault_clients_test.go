package blackbox

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/server"
)

// combination is what a client and a back end speak: 1 or 2.
type combination struct {
	client, backend int
	ca              *issuer // of back ends with TLS, nil for plain text
}

func plain(client, backend int) combination { return combination{client: client, backend: backend} }

func (m combination) String() string {
	s := fmt.Sprintf("HTTP%d to HTTP%d", m.client, m.backend)
	if m.ca != nil {
		s += " over TLS"
	}
	return s
}

// overEveryCombination runs f for each of the four combinations of protocols, on every engine that has it.
func overEveryCombination(t *testing.T, f func(t *testing.T, m combination)) {
	overEach(t, combinations(), f)
}

func overEach(t *testing.T, all []combination, f func(t *testing.T, m combination)) {
	onEveryEngine(t, func(t *testing.T) {
		for _, m := range all {
			t.Run(m.String(), func(t *testing.T) {
				if m.backend == 2 && planeOf(t) != nil {
					t.Skip("the reference engine speaks HTTP/1 to back ends")
				}
				skipDifference(t)
				f(t, m)
			})
		}
	})
}

func combinations() []combination {
	return []combination{plain(1, 1), plain(2, 1), plain(1, 2), plain(2, 2)}
}

// overTLSToo is overEveryCombination, and then the same with TLS to back ends.
func overTLSToo(t *testing.T, f func(t *testing.T, m combination)) {
	ca := newIssuer(t)
	all := combinations()
	for _, m := range all {
		m.ca = ca
		all = append(all, m)
	}
	overEach(t, all, f)
}

// start runs a data plane that speaks the protocol of the back ends.
func (m combination) start(t *testing.T, endpoints []string, options ...option) *rig {
	t.Helper()
	return start(t, endpoints, append(options, func(_ *server.Options, c *config.Config) {
		if m.ca != nil {
			m.ca.trusting()(nil, c)
		}
		if m.backend == 2 {
			c.Clusters[0].Protocol = config.BackendH2
		}
	})...)
}

// healthy is a back end that answers every request with ok, once it has had its body.
func (m combination) healthy(t *testing.T) *backend {
	if m.backend == 2 {
		return m.serves2(t, answeringH2)
	}
	return m.serves1(t, newRecorder(t).serve)
}

// serves1 is a back end of HTTP/1.1. With TLS its connections end without close_notify, unless serve sends one.
func (m combination) serves1(t *testing.T, serve func(c *conn)) *backend {
	if m.ca == nil {
		return newBackend(t, serve)
	}
	return newTLSBackend(t, m.ca.serving(named()), func(c *conn, _ *tls.Conn) { serve(c) })
}

// serves2 is serves1 with HTTP/2.
func (m combination) serves2(t *testing.T, serve func(p *h2peer)) *backend {
	if m.ca == nil {
		return newH2Backend(t, serve)
	}
	settings := m.ca.serving(named())
	settings.NextProtos = []string{"h2"}
	return newTLSBackend(t, settings, func(c *conn, _ *tls.Conn) { speakH2(c, serve) })
}

// outcome is what a client sees of a response.
type outcome struct {
	status    int
	body      string
	truncated bool // it can tell that this is not all
	closes    bool // no further request can follow on the connection
}

func (o outcome) String() string {
	return fmt.Sprintf("%d %q, truncated=%v, closes=%v", o.status, o.body, o.truncated, o.closes)
}

// faultClient sends requests of the matrix: a GET, or another method with a body.
type faultClient interface {
	// do sends a whole request and waits for what comes back.
	do(t *testing.T, method, body string) outcome
	// begin sends a head that announces size bytes, and the first of them; with size -1 it announces no length.
	begin(t *testing.T, method, part string, size int)
	// receive waits for the response to what was begun.
	receive(t *testing.T) outcome
	// end ends the body of what was begun.
	end(t *testing.T)
	// sees waits for a head with the status, and the first byte of a body; 0: for nothing.
	sees(t *testing.T, status int)
	// endsAfterEarly checks that what follows an answer that came before the end of the body does no harm.
	endsAfterEarly(t *testing.T)
	// leave gives the request up as abruptly as the protocol has it.
	leave(t *testing.T)
}

// dial connects a client.
func (m combination) dial(t *testing.T, r *rig) faultClient {
	if m.client == 2 {
		c := r.h2()
		c.t = t
		return &faultClient2{h2client: c}
	}
	return &faultClient1{r: r}
}

// faultClient1 has a connection for each request.
type faultClient1 struct {
	r      *rig
	c      *client
	method string
	size   int
}

func (f *faultClient1) do(t *testing.T, method, body string) outcome {
	t.Helper()
	size := 0
	if method != "GET" {
		size = len(body)
	}
	f.begin(t, method, body, size)
	return f.receive(t)
}

func (f *faultClient1) begin(t *testing.T, method, part string, size int) {
	t.Helper()
	f.c, f.method, f.size = f.r.dial(), method, size
	f.c.t = t
	head := method + " / HTTP/1.1\r\nHost: a.example\r\n"
	switch {
	case size < 0:
		head, part = head+chunkedLine+"\r\n", fmt.Sprintf("%x\r\n%s\r\n", len(part), part)
	case size > 0 || method == "POST":
		head += fmt.Sprintf("Content-Length: %d\r\n", size)
	}
	f.c.send(head + "\r\n" + part)
}

func (f *faultClient1) receive(t *testing.T) outcome {
	t.Helper()
	got := f.c.receive(f.method)
	for got.StatusCode < 200 {
		got = f.c.receive(f.method)
	}
	return outcome{got.StatusCode, got.body, got.err != nil, got.Close}
}

func (f *faultClient1) end(*testing.T) {
	if f.size < 0 {
		f.c.send("0\r\n\r\n")
	}
}

func (f *faultClient1) sees(t *testing.T, status int) {
	t.Helper()
	if status == 0 {
		return
	}
	resp, err := http.ReadResponse(f.c.r, &http.Request{Method: f.method})
	if err != nil || resp.StatusCode != status {
		t.Fatalf("%v, %v; want %d", resp, err, status)
	}
	if status >= 200 {
		if _, err := resp.Body.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
}

func (f *faultClient1) endsAfterEarly(t *testing.T) {
	t.Helper()
	io.WriteString(f.c.TCPConn, canary)
	if rest, closed := f.c.closedByPeer(); !closed || len(rest) > 0 {
		t.Errorf("closed=%v, then came %q", closed, rest)
	}
}

func (f *faultClient1) leave(*testing.T) {
	f.c.SetLinger(0)
	f.c.Close()
}

// faultClient2 has one connection for all requests: none of them may harm it.
type faultClient2 struct {
	*h2client
	id    uint32
	ended bool // END_STREAM has been sent with the head
}

func (f *faultClient2) open(t *testing.T, method string, end bool, more ...string) {
	t.Helper()
	f.t, f.ended = t, end
	f.id += 2
	f.headers(f.id-1, end, append([]string{":method: " + method, ":scheme: http", ":path: /", ":authority: a.example"}, more...))
}

func (f *faultClient2) do(t *testing.T, method, body string) outcome {
	t.Helper()
	if method == "GET" {
		f.open(t, method, true)
		return f.receive(t)
	}
	f.open(t, method, false, fmt.Sprint("content-length: ", len(body)))
	f.must(f.WriteData(f.id-1, true, []byte(body)))
	return f.receive(t)
}

func (f *faultClient2) begin(t *testing.T, method, part string, size int) {
	t.Helper()
	var length []string
	if size > 0 {
		length = []string{fmt.Sprint("content-length: ", size)}
	}
	f.open(t, method, size == 0, length...)
	if part != "" {
		f.must(f.WriteData(f.id-1, false, []byte(part)))
	}
}

func (f *faultClient2) receive(t *testing.T) outcome {
	t.Helper()
	got := f.response(f.id - 1)
	return outcome{got.status, got.body, got.reset, false}
}

func (f *faultClient2) end(t *testing.T) {
	if !f.ended {
		f.must(f.WriteData(f.id-1, true, nil))
	}
}

func (f *faultClient2) sees(t *testing.T, status int) {
	t.Helper()
	for status != 0 {
		switch frame := f.next().(type) {
		case *http2.HeadersFrame:
			fields, err := f.dec.DecodeFull(frame.HeaderBlockFragment())
			if err != nil || fields[0].Value != fmt.Sprint(status) {
				t.Fatalf("%v, %v; want %d", fields, err, status)
			}
			if status < 200 {
				return
			}
		case *http2.DataFrame:
			return
		default:
			t.Fatalf("%v; want %d", frame, status)
		}
	}
}

// endsAfterEarly: the rest of the request is called off, and what is under way of it is no error.
func (f *faultClient2) endsAfterEarly(t *testing.T) {
	t.Helper()
	f.wantReset(f.id-1, http2.ErrCodeNo)
	f.must(f.WriteData(f.id-1, true, []byte("the rest")))
}

func (f *faultClient2) leave(t *testing.T) { f.must(f.WriteRSTStream(f.id-1, http2.ErrCodeCancel)) }

// drain reads the body that the requests of the matrix have.
func (c *conn) drain(head string) {
	if strings.HasPrefix(head, "POST") {
		c.read(len(faultBody))
	}
}

const faultBody = "0123456789"

// hang waits for the end of the connection.
func (c *conn) hang() { io.Copy(io.Discard, c.r) }
