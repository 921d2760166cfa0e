package reference

//lint:file-ignore SA1019 x/net's own server is what this engine is there to compare with; net/http does not serve single connections.

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http2"

	"rauta.io/rauta/proxy/message"
)

// http2Server is x/net's server with what it takes its settings from.
type http2Server struct {
	server http2.Server
	base   http.Server
}

func (e *Engine) newHTTP2() (*http2Server, error) {
	limits := &e.opt.Limits
	s := &http2Server{base: http.Server{
		ReadHeaderTimeout: time.Duration(limits.HeadTimeout), IdleTimeout: time.Duration(limits.KeepAlive),
		MaxHeaderBytes: limits.Request.HeadBytes, ErrorLog: slog.NewLogLogger(e.opt.Log.Handler(), slog.LevelDebug),
	}}
	if err := http2.ConfigureServer(&s.base, &s.server); err != nil {
		return nil, fmt.Errorf("configure http2: %w", err)
	}
	return s, nil
}

// serveHTTP2 runs a connection whose client knows that HTTP/2 is spoken here.
func (e *Engine) serveHTTP2(c *conn) {
	c.active.Store(true) // Drain leaves it to GOAWAY
	c.peer.Protocol = "HTTP/2"
	c.gate.state = gateOpen
	c.TCPConn.SetReadDeadline(time.Time{})
	e.http2.server.ServeConn(c, &http2.ServeConnOpts{
		Context: e.ctx, BaseConfig: &e.http2.base,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { e.serveStream(c, w, q) }),
	})
	c.Close()
}

// serveStream is http2's handler.
func (e *Engine) serveStream(c *conn, w http.ResponseWriter, q *http.Request) {
	r := newRequest(c.core)
	length := q.ContentLength
	body := r.begin(rawStreamHead(q), &c.peer, message.HTTP2, length)
	control := http.NewResponseController(w)
	if body && r.startPump() {
		e.running.Go(func() {
			e.guard(func() { r.pump(q.Body, func(in time.Duration) { control.SetReadDeadline(time.Now().Add(in)) }) })
		})
	}
	stop := context.AfterFunc(q.Context(), func() { r.gone("client_reset") })
	defer stop()
	defer r.finish(func() { q.Body.Close() })
	head := r.awaitHead(func(resp *message.Response) { writeStreamHead(w, resp) })
	if head == nil {
		panic(http.ErrAbortHandler)
	}
	writeStreamHead(w, head)
	buf := make([]byte, pumpChunk)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if _, writeErr := w.Write(buf[:n]); writeErr != nil {
				panic(http.ErrAbortHandler)
			}
			if r.drained() {
				control.Flush()
			}
		}
		switch err {
		case nil:
		case errAborted:
			panic(http.ErrAbortHandler)
		default:
			return
		}
	}
}

// rawStreamHead writes the head of a stream as HTTP/1.1 has it, so that one parser says what is valid.
func rawStreamHead(q *http.Request) []byte {
	b := make([]byte, 0, 1024)
	b = append(append(b, q.Method...), ' ')
	b = append(append(b, q.RequestURI...), " HTTP/1.1\r\nHost: "...)
	b = append(append(b, q.Host...), "\r\n"...)
	for name, values := range q.Header {
		if name == "Content-Length" || name == "Host" && len(values) == 1 && strings.EqualFold(values[0], q.Host) {
			continue // http2 has checked both (RFC 9113 sections 8.1.1 and 8.3.1)
		}
		for _, v := range values {
			b = append(append(append(append(b, name...), ": "...), v...), "\r\n"...)
		}
	}
	switch {
	case q.ContentLength > 0:
		b = append(strconv.AppendInt(append(b, "Content-Length: "...), q.ContentLength, 10), "\r\n"...)
	case q.ContentLength < 0:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	return append(b, "\r\n"...)
}

// writeStreamHead writes an interim or the final head.
func writeStreamHead(w http.ResponseWriter, resp *message.Response) {
	fields := w.Header()
	clear(fields)
	fields["Content-Type"] = nil // or http2 would guess one
	for i := range resp.Fields {
		f := &resp.Fields[i]
		if f.ID != message.Removed {
			fields.Add(string(resp.Bytes(f.Name)), string(resp.Bytes(f.Value)))
		}
	}
	if resp.Length >= 0 && resp.Framing != message.Streamed && resp.Framing != message.UntilClose && resp.Status >= 200 &&
		(resp.Framing == message.Sized || resp.Length > 0) {
		fields.Set("Content-Length", strconv.FormatInt(resp.Length, 10))
	}
	w.WriteHeader(resp.Status)
}
