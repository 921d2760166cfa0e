package blackbox

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Fields of the storm. wholeField is set on responses that the back end does all it can to deliver whole.
const (
	idField    = "X-Storm-Id"
	sizeField  = "X-Storm-Size"
	wholeField = "X-Storm-Whole"
)

// pattern is the body that belongs to an id: no part of another's fits into it at the same place.
func pattern(id string, size int) string {
	unit := id + ";"
	return strings.Repeat(unit, size/len(unit)+1)[:size]
}

// stormBackend misbehaves at random.
type stormBackend struct {
	*backend
	seed  uint64
	open  atomic.Int64 // connections
	wrong atomic.Int64 // requests whose body is not the one of their id
	whole atomic.Int64 // requests that were read completely
	// surplus is what came on a connection behind the last request that it could take, nil for nothing.
	surplus atomic.Value
}

func newStormBackend(t *testing.T, m combination, seed uint64) *stormBackend {
	b := &stormBackend{seed: seed}
	var settings *tls.Config
	if m.ca != nil {
		settings = m.ca.serving(named())
		if m.backend == 2 {
			settings.NextProtos = []string{"h2"}
		}
	}
	ready := make(chan struct{})
	b.backend = newBackend(t, func(c *conn) {
		<-ready
		c.SetDeadline(time.Time{}) // a small window on a busy machine may take longer; the clients' patience is the bound
		b.open.Add(1)
		defer b.open.Add(-1)
		raw := c.Conn.(*net.TCPConn)
		if settings != nil {
			over := tls.Server(raw, settings)
			if over.Handshake() != nil {
				return
			}
			c = &conn{over, bufio.NewReader(over), c.b, c.n}
		}
		rnd := rand.New(rand.NewPCG(seed, uint64(c.n)))
		if m.backend == 2 {
			(&stormServer{b: b, rand: rnd}).serve(c.Conn, raw)
		} else {
			(&stormConn{conn: c, b: b, rand: rnd}).serve()
		}
	})
	close(ready)
	return b
}

// stormConn is a connection at a stormBackend.
type stormConn struct {
	*conn
	b    *stormBackend
	rand *rand.Rand
}

// in reports true once in n.
func (s *stormConn) in(n int) bool { return s.rand.IntN(n) == 0 }

func (s *stormConn) stall() { time.Sleep(time.Duration(s.rand.IntN(3000)) * time.Microsecond) }

func (s *stormConn) serve() {
	if s.in(60) { // at once, in one of two ways
		if s.in(2) {
			reset(s.conn)
		}
		return
	}
	for {
		req, err := http.ReadRequest(s.r)
		if err != nil || !s.answer(req) {
			return
		}
	}
}

// answer serves one request; false ends the connection.
func (s *stormConn) answer(req *http.Request) bool {
	early := req.ContentLength != 0 && s.in(8)
	if !early && !s.readBody(req) {
		return false
	}
	if s.in(10) {
		s.stall()
	}
	switch s.rand.IntN(40) {
	case 0:
		return false
	case 1:
		reset(s.conn)
		return false
	case 2:
		s.write("HTTP/1.1 200 OK\r\nContent-Le")
		return false
	case 3:
		s.write("nonsense\r\n\r\n")
		return false
	}
	for s.in(6) {
		s.write("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
	}
	if req.Header.Get("Upgrade") != "" && !s.in(4) {
		s.tunnel(req)
		return false
	}
	return s.respond(req, early)
}

// readBody reads the request body, which must be the one of its id.
func (s *stormConn) readBody(req *http.Request) bool {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return false
	}
	s.b.check(req, body)
	return true
}

// respond sends a response that belongs to the request, or a part of it.
func (s *stormConn) respond(req *http.Request, early bool) bool {
	id := req.Header.Get(idField)
	size := []int{0, 2, 100, 5000, 70 << 10, 64 << 10, 300 << 10}[s.rand.IntN(7)]
	body := pattern(id, size)
	status, framing := "200 OK", s.rand.IntN(4)
	switch {
	case s.in(12):
		status, body, framing = "204 No Content", "", 3
	case s.in(12):
		status, body, framing = "304 Not Modified", "", 3
	}
	breaks := !early && s.in(12)
	if breaks && framing == untilClose { // nobody could tell
		framing = 1
	}
	head := fmt.Sprintf("HTTP/1.1 %s\r\n%s: %s\r\n%s: %d\r\n", status, idField, id, sizeField, len(body))
	if s.in(10) {
		head += "X-Large: " + strings.Repeat("l", s.rand.IntN(20<<10)) + "\r\n"
	}
	if !breaks {
		head += wholeField + ": 1\r\n"
	}
	wire, closes := s.frame(head, body, framing)
	switch {
	case req.Method == "HEAD":
		wire, closes = wire[:strings.Index(wire, "\r\n\r\n")+4], closes || framing == untilClose
	case breaks:
		s.pieces(wire[:s.rand.IntN(len(wire))])
		if s.in(2) {
			reset(s.conn)
		}
		return false
	}
	s.pieces(wire)
	if early { // until the other side has had enough of it
		io.Copy(io.Discard, req.Body)
		if framing == untilClose {
			s.leave()
		}
		return false
	}
	if s.in(15) && len(wire) < 2000 && framing != untilClose { // close without a word, which over TLS ends no such body
		return false
	}
	if closes {
		s.leave()
	}
	return !closes
}

// untilClose is a framing: see frame.
const untilClose = 2

// closeWrite ends our half, of TLS with close_notify.
func (s *stormConn) closeWrite() { s.Conn.(interface{ CloseWrite() error }).CloseWrite() }

// leave ends a connection as RFC 9112 section 9.6 asks servers to: what comes behind the last request is read, not refused, since
// that might destroy the response on its way. Nothing should come.
func (s *stormConn) leave() {
	s.closeWrite()
	if rest, _ := io.ReadAll(s.r); len(rest) > 0 {
		s.b.surplus.Store(fmt.Sprintf("%d bytes: %q", len(rest), rest[:min(len(rest), 200)]))
	}
}

// frame puts body behind head: sized, chunked, until the end of the connection, or none.
func (s *stormConn) frame(head, body string, framing int) (wire string, closes bool) {
	switch framing {
	case 0:
		return fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, len(body), body), false
	case 1:
		var b strings.Builder
		b.WriteString(head + "Transfer-Encoding: chunked\r\n\r\n")
		for len(body) > 0 {
			n := min(len(body), 1+s.rand.IntN(20<<10))
			fmt.Fprintf(&b, "%x\r\n%s\r\n", n, body[:n])
			body = body[n:]
		}
		b.WriteString("0\r\n\r\n")
		return b.String(), false
	case untilClose:
		return head + "Connection: close\r\n\r\n" + body, true
	}
	if strings.HasPrefix(head, "HTTP/1.1 200") {
		return fmt.Sprintf("%sContent-Length: %d\r\nConnection: close\r\n\r\n%s", head, len(body), body), true
	}
	return head + "\r\n", false
}

// pieces writes in one piece or several.
func (s *stormConn) pieces(wire string) {
	for s.in(3) && len(wire) > 1 {
		n := 1 + s.rand.IntN(len(wire)-1)
		s.write(wire[:n])
		wire = wire[n:]
		if s.in(4) {
			s.stall()
		}
	}
	s.write(wire)
}

// tunnel echoes until the client has closed its half; or closes its own half first and swallows the rest; or breaks.
func (s *stormConn) tunnel(req *http.Request) {
	head := "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: " + req.Header.Get("Upgrade") + "\r\n"
	if key := req.Header.Get("Sec-WebSocket-Key"); key != "" {
		head += "Sec-WebSocket-Accept: " + acceptOf(key) + "\r\n"
	}
	switch s.rand.IntN(4) {
	case 0:
		s.write(head + "\r\n")
		io.CopyN(s.Conn, s.r, int64(s.rand.IntN(1000)))
		reset(s.conn)
	case 1:
		s.write(head + "\r\n")
		s.closeWrite()
		s.stall()
		io.Copy(io.Discard, s.r)
	default:
		s.write(head + wholeField + ": 1\r\n\r\n")
		io.Copy(s.Conn, s.r)
		s.closeWrite()
		io.Copy(io.Discard, s.r)
	}
}
