package blackbox

//lint:file-ignore SA1019 x/net's server is there to be broken; net/http does not serve single connections.

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// stormServer is a connection at a stormBackend that speaks HTTP/2: single streams misbehave at random, and all of it does.
type stormServer struct {
	b      *stormBackend
	doomed bool // dies at some time, so that no response of it need be whole

	mu   sync.Mutex
	rand *rand.Rand
}

func (s *stormServer) intN(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rand.IntN(n)
}

// in reports true once in n.
func (s *stormServer) in(n int) bool { return s.intN(n) == 0 }

func (s *stormServer) stall() { time.Sleep(time.Duration(s.intN(3000)) * time.Microsecond) }

// serve speaks on nc, which is raw or TLS on it.
func (s *stormServer) serve(nc net.Conn, raw *net.TCPConn) {
	if s.in(6) {
		s.doomed = true
		d := &doomedConn{Conn: nc, raw: raw}
		d.left.Store(int64(s.intN(100 << 10)))
		d.resets = s.in(2)
		nc = d
	}
	base := &http.Server{}
	server := &http2.Server{
		MaxConcurrentStreams:     []uint32{1, 3, 20, 250}[s.intN(4)],
		MaxUploadBufferPerStream: []int32{1 << 10, 64 << 10, 1 << 20}[s.intN(3)],
	}
	if err := http2.ConfigureServer(base, server); err != nil {
		panic(err)
	}
	if s.in(4) { // GOAWAY
		timer := time.AfterFunc(time.Duration(s.intN(50))*time.Millisecond, func() { base.Shutdown(context.Background()) })
		defer timer.Stop()
	}
	server.ServeConn(nc, &http2.ServeConnOpts{BaseConfig: base, Handler: s})
}

// doomedConn ends after a number of bytes.
type doomedConn struct {
	net.Conn
	raw    *net.TCPConn
	left   atomic.Int64
	resets bool
}

// Write implements net.Conn.
func (d *doomedConn) Write(p []byte) (int, error) {
	left := d.left.Add(-int64(len(p)))
	if left >= 0 {
		return d.Conn.Write(p)
	}
	n, _ := d.Conn.Write(p[:max(0, int(left)+len(p))])
	if d.resets {
		d.raw.SetLinger(0)
	}
	d.raw.Close()
	return n, io.ErrClosedPipe
}

// ServeHTTP implements http.Handler.
func (s *stormServer) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	early := req.ContentLength != 0 && s.in(8)
	if !early && !s.readBody(req) {
		panic(http.ErrAbortHandler)
	}
	if s.in(10) {
		s.stall()
	}
	if s.in(30) {
		panic(http.ErrAbortHandler)
	}
	s.respond(w, req, early)
}

// readBody reads the request body, which must be the one of its id.
func (s *stormServer) readBody(req *http.Request) bool {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return false
	}
	s.b.check(req, body)
	return true
}

// respond sends a response that belongs to the request, or a part of it.
func (s *stormServer) respond(w http.ResponseWriter, req *http.Request, early bool) {
	id := req.Header.Get(idField)
	body := pattern(id, []int{0, 2, 100, 5000, 70 << 10, 64 << 10, 300 << 10}[s.intN(7)])
	status := http.StatusOK
	switch {
	case s.in(12):
		status, body = http.StatusNoContent, ""
	case s.in(12):
		status, body = http.StatusNotModified, ""
	}
	breaks := !early && s.in(12)
	h := w.Header()
	h.Set(idField, id)
	h.Set(sizeField, strconv.Itoa(len(body)))
	if s.in(10) {
		h.Set("X-Large", strings.Repeat("l", s.intN(20<<10)))
	}
	if !breaks && !s.doomed {
		h.Set(wholeField, "1")
	}
	if status == http.StatusOK && s.in(2) {
		h.Set("Content-Length", strconv.Itoa(len(body)))
	}
	if s.in(5) {
		h.Set(http.TrailerPrefix+"X-Storm-Trailer", "1")
	}
	w.WriteHeader(status)
	if req.Method == http.MethodHead {
		return
	}
	if breaks {
		s.pieces(w, body[:s.intN(len(body)+1)])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	s.pieces(w, body)
}

// pieces writes in one piece or several.
func (s *stormServer) pieces(w io.Writer, body string) {
	for s.in(3) && len(body) > 1 {
		n := 1 + s.intN(len(body)-1)
		io.WriteString(w, body[:n])
		body = body[n:]
		w.(http.Flusher).Flush()
		if s.in(4) {
			s.stall()
		}
	}
	io.WriteString(w, body)
}

// check looks whether a body is the one of its request.
func (b *stormBackend) check(req *http.Request, body []byte) {
	size := req.Header.Get(sizeField)
	if string(body) != pattern(req.Header.Get(idField), len(body)) || size != "" && size != fmt.Sprint(len(body)) {
		b.wrong.Add(1)
	}
	b.whole.Add(1)
}
