package blackbox

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"
)

// h2tunnel is a stream that extended CONNECT has opened (RFC 8441), alone on its connection: reading and writing are the
// two halves of the tunnel. It keeps to the windows of both sides.
type h2tunnel struct {
	c  *h2client
	id uint32

	head chan h2reply // the response

	mu     sync.Mutex
	change sync.Cond // of anything below
	in     bytes.Buffer
	end    error // io.EOF after END_STREAM
	stream int   // what may be sent
	conn   int
	goAway bool
}

// errReset is the end of a tunnel by RST_STREAM.
type errReset struct{ code http2.ErrCode }

func (e errReset) Error() string { return "the stream was reset: " + e.code.String() }

// h2connect is a head that asks for a tunnel.
func h2connect(more ...string) []string {
	return append([]string{
		":method: CONNECT", ":protocol: websocket", ":scheme: http", ":path: /", ":authority: a.example",
		"sec-websocket-version: 13",
	}, more...)
}

// tunnel asks for a tunnel and returns it with the response; data leaves together with the request.
func (r *rig) tunnel(t *testing.T, head []string, data string) (*h2tunnel, h2reply) {
	t.Helper()
	return tunnelOn(t, r.h2(), head, data)
}

// tunnelOn is tunnel on a connection that is there.
func tunnelOn(t *testing.T, c *h2client, head []string, data string) (*h2tunnel, h2reply) {
	t.Helper()
	c.t = t
	tn := &h2tunnel{c: c, id: 1, head: make(chan h2reply, 1), stream: 65535, conn: 65535}
	tn.change.L = &tn.mu
	tn.mu.Lock()
	c.headers(1, false, head)
	tn.mu.Unlock()
	if data != "" {
		tn.Write([]byte(data))
	}
	go tn.receive()
	reply, isThere := <-tn.head
	if !isThere {
		t.Fatalf("no response: %v", tn.end)
	}
	return tn, reply
}

// receive takes frames until the connection ends.
func (tn *h2tunnel) receive() {
	defer close(tn.head)
	for {
		f, err := tn.c.ReadFrame()
		tn.mu.Lock()
		if err != nil {
			tn.finish(err)
		} else {
			tn.onFrame(f)
		}
		tn.change.Broadcast()
		tn.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (tn *h2tunnel) finish(err error) {
	if tn.end == nil {
		tn.end = err
	}
}

func (tn *h2tunnel) onFrame(f http2.Frame) {
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if v, is := f.Value(http2.SettingInitialWindowSize); is {
			tn.stream += int(v) - 65535
		}
		if !f.IsAck() {
			tn.c.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			tn.c.WritePing(true, f.Data)
		}
	case *http2.WindowUpdateFrame:
		if f.StreamID == 0 {
			tn.conn += int(f.Increment)
		} else {
			tn.stream += int(f.Increment)
		}
	case *http2.GoAwayFrame:
		tn.goAway = true
	case *http2.RSTStreamFrame:
		tn.finish(errReset{f.ErrCode})
	case *http2.HeadersFrame:
		fields, err := tn.c.dec.DecodeFull(f.HeaderBlockFragment())
		if err != nil {
			tn.finish(err)
			return
		}
		reply := h2reply{fields: fields}
		reply.status, _ = strconv.Atoi(reply.get(":status"))
		if reply.status >= 200 {
			tn.head <- reply
		}
	case *http2.DataFrame:
		tn.in.Write(f.Data())
	}
	if d, is := f.(interface{ StreamEnded() bool }); is && d.StreamEnded() {
		tn.finish(io.EOF)
	}
}

// Read implements io.Reader; what has been read may be sent again.
func (tn *h2tunnel) Read(p []byte) (int, error) {
	tn.mu.Lock()
	defer tn.mu.Unlock()
	for tn.in.Len() == 0 && tn.end == nil {
		tn.change.Wait()
	}
	if tn.in.Len() == 0 {
		return 0, tn.end
	}
	n, _ := tn.in.Read(p)
	tn.c.WriteWindowUpdate(0, uint32(n))
	tn.c.WriteWindowUpdate(tn.id, uint32(n))
	return n, nil
}

// Write implements io.Writer.
func (tn *h2tunnel) Write(p []byte) (int, error) {
	tn.mu.Lock()
	defer tn.mu.Unlock()
	done := 0
	for done < len(p) {
		n := min(len(p)-done, 16<<10, tn.stream, tn.conn)
		if n <= 0 {
			if tn.end != nil && tn.end != io.EOF {
				return done, tn.end
			}
			tn.change.Wait()
			continue
		}
		if err := tn.c.WriteData(tn.id, false, p[done:done+n]); err != nil {
			return done, err
		}
		tn.stream -= n
		tn.conn -= n
		done += n
	}
	return done, nil
}

// CloseWrite ends the client's half.
func (tn *h2tunnel) CloseWrite() error {
	tn.mu.Lock()
	defer tn.mu.Unlock()
	return tn.c.WriteData(tn.id, true, nil)
}

// Reset gives the tunnel up.
func (tn *h2tunnel) Reset(code http2.ErrCode) error {
	tn.mu.Lock()
	defer tn.mu.Unlock()
	return tn.c.WriteRSTStream(tn.id, code)
}

// endAll ends the client's half and that of the connection, which is no reset whatever comes meanwhile.
func (tn *h2tunnel) endAll() {
	tn.CloseWrite()
	tn.c.TCPConn.CloseWrite()
}

// Close implements io.Closer.
func (tn *h2tunnel) Close() error {
	tn.CloseWrite()
	return tn.c.TCPConn.Close()
}

// h2upgrader makes a client library for WebSockets over HTTP/1 use a tunnel over HTTP/2: what it asks for with an upgrade
// is asked for with extended CONNECT, and the response is turned back.
type h2upgrader struct {
	t    *testing.T
	dial func() *h2client
}

// RoundTrip implements http.RoundTripper.
func (u h2upgrader) RoundTrip(req *http.Request) (*http.Response, error) {
	head := []string{
		":method: CONNECT", ":protocol: websocket", ":scheme: " + req.URL.Scheme, ":path: " + req.URL.RequestURI(), ":authority: " + req.URL.Host,
	}
	for name, values := range req.Header {
		switch name {
		case "Connection", "Upgrade", "Sec-Websocket-Key":
			continue
		}
		head = append(head, strings.ToLower(name)+": "+strings.Join(values, ", "))
	}
	tn, reply := tunnelOn(u.t, u.dial(), head, "")
	resp := &http.Response{StatusCode: reply.status, Header: http.Header{}, Request: req, Body: tn}
	for _, f := range reply.fields[1:] {
		resp.Header.Add(f.Name, f.Value)
	}
	if resp.Header.Get("Sec-Websocket-Accept") != "" {
		return nil, errors.New("the response has a field that HTTP/2 does not use")
	}
	if reply.status == 200 {
		resp.StatusCode = 101
		resp.Header.Set("Connection", "Upgrade")
		resp.Header.Set("Upgrade", "websocket")
		resp.Header.Set("Sec-WebSocket-Accept", acceptOf(req.Header.Get("Sec-Websocket-Key")))
	}
	resp.Status = fmt.Sprint(resp.StatusCode)
	return resp, nil
}
