package reference

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"time"

	"github.com/valyala/fasthttp"

	"rauta.io/rauta/fastpath/wire"
	"rauta.io/rauta/proxy/message"
)

// headSlack is what fasthttp's read buffer has beyond the largest head, in bytes, so that it is our parser that refuses
// heads which are too large.
const headSlack = 4 << 10

func (e *Engine) newHTTP1() *fasthttp.Server {
	limits := &e.opt.Limits
	return &fasthttp.Server{
		Handler:                       e.guarded(e.serveHTTP1),
		ErrorHandler:                  func(ctx *fasthttp.RequestCtx, err error) { e.guard(func() { e.refuseHTTP1(ctx, err) }) },
		ConnState:                     trackState,
		StreamRequestBody:             true,
		MaxRequestBodySize:            1, // the handler runs once one byte of the body has come; 0 would mean 4 MiB
		DisablePreParseMultipartForm:  true,
		DisableHeaderNamesNormalizing: true,
		NoDefaultServerHeader:         true,
		NoDefaultDate:                 true,
		NoDefaultContentType:          true,
		SecureErrorLogMessage:         true,
		ReadBufferSize:                limits.Request.RequestLineBytes + limits.Request.HeadBytes + headSlack,
		ReadTimeout:                   time.Duration(limits.HeadTimeout),
		IdleTimeout:                   time.Duration(limits.KeepAlive),
		MaxRequestsPerConn:            limits.RequestsPerConn,
		Logger:                        quietLogger{e},
		HeaderReceived: func(h *fasthttp.RequestHeader) fasthttp.RequestConfig {
			if n := h.ContentLength(); n == 0 || n == -2 {
				h.Del("Expect") // without a body there is nothing to wait for (RFC 9110 section 10.1.1)
			}
			return fasthttp.RequestConfig{ReadTimeout: time.Duration(limits.BodyIdle), MaxRequestBodySize: 1}
		},
	}
}

// guarded is a handler whose panic ends the connection.
func (e *Engine) guarded(h fasthttp.RequestHandler) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		if !e.guard(func() { h(ctx) }) {
			c := ctx.Conn().(*conn)
			c.resets.Store(true)
			leave(ctx, c)
		}
	}
}

// quietLogger passes on what fasthttp has to say about connections, which is about what clients do.
type quietLogger struct{ e *Engine }

func (l quietLogger) Printf(format string, args ...any) {
	l.e.opt.Log.Debug("fasthttp", "message", format, "args", args)
}

func trackState(nc net.Conn, state fasthttp.ConnState) {
	if c, ok := nc.(*conn); ok {
		c.active.Store(state == fasthttp.StateActive || state == fasthttp.StateHijacked)
	}
}

// serveHTTP1 is fasthttp's handler.
func (e *Engine) serveHTTP1(ctx *fasthttp.RequestCtx) {
	c := ctx.Conn().(*conn)
	r := newRequest(c.core)
	version := message.HTTP11
	if !ctx.Request.Header.IsHTTP11() {
		version = message.HTTP10
	}
	length := int64(0)
	if ctx.Request.IsBodyStream() || ctx.Request.Header.ContentLength() > 0 {
		length = int64(ctx.Request.Header.ContentLength())
	}
	body := r.begin(c.gate.head, &c.peer, version, length)
	gone := func() { r.gone("client_reset") }
	c.TCPConn.SetReadDeadline(time.Time{})
	switch {
	case body && r.startPump():
		stream := gatedBody{ctx.RequestBodyStream(), c}
		e.running.Go(func() {
			e.guard(func() { r.pump(stream, func(in time.Duration) { c.TCPConn.SetReadDeadline(time.Now().Add(in)) }) })
			if _, whole, _ := r.whole(); whole {
				c.watch(gone)
			}
		})
	default:
		c.watch(gone)
	}
	e.respondHTTP1(ctx, c, r)
}

// gatedBody reads a request body, with the word of the gate or the connection on what is wrong with it.
type gatedBody struct {
	io.Reader
	c *conn
}

func (b gatedBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	switch {
	case err == nil:
		return n, nil
	case b.c.gate.err != nil && b.c.gate.state == gateChunked:
		return n, b.c.gate.err // also where fasthttp is content with an end that comes early
	case err == io.EOF && b.c.readErr == nil:
		return n, io.EOF
	case b.c.readErr == io.EOF:
		return n, io.ErrUnexpectedEOF
	case b.c.readErr != nil:
		return n, b.c.readErr
	}
	return n, err
}

// respondHTTP1 waits for the response and hands it to fasthttp, which writes it after this returns.
func (e *Engine) respondHTTP1(ctx *fasthttp.RequestCtx, c *conn, r *request) {
	unblock := func() { c.TCPConn.SetReadDeadline(time.Unix(1, 0)) }
	head := r.awaitHead(func(resp *message.Response) {
		c.Write(wire.AppendResponseHead(nil, resp, wire.ResponseOptions{Version: r.version}))
	})
	if head == nil {
		r.finish(unblock)
		c.resets.Store(true)
		leave(ctx, c)
		return
	}
	response, request, closes := r.whole()
	opt := wire.ResponseOptions{
		Version: r.version, KeepAlive10: r.keepAlive10, ToHead: r.toHead, Close: head.Close || closes,
	}
	if !request && ctx.RequestBodyStream() != nil {
		opt.Close = opt.Close || r.pumpStarted()
		c.lingers.Store(true)
	}
	if r.refused {
		c.lingers.Store(true)
	}
	streamed := head.Framing == message.Streamed || head.Framing == message.UntilClose
	switch {
	case head.Status == 101:
		e.hijack(ctx, c, r, wire.AppendResponseHead(nil, head, opt), true)
		return
	case streamed && r.version == message.HTTP10 && !r.toHead:
		// fasthttp would send chunks, which such a client can't read.
		e.hijack(ctx, c, r, wire.AppendResponseHead(nil, head, opt), false)
		return
	}
	if err := setHead(&ctx.Response, wire.AppendResponseHead(nil, head, opt)); err != nil {
		e.opt.Log.Error("fasthttp does not take a response head", "error", err)
		r.finish(unblock)
		leave(ctx, c)
		return
	}
	if head.Framing == message.NoBody || r.toHead {
		ctx.Response.SkipBody = true
		r.awaitEnd()
		r.finish(unblock)
		return
	}
	size := -1
	if head.Framing == message.Sized {
		size = int(head.Length)
	}
	ctx.Response.ImmediateHeaderFlush = !response
	ctx.Response.SetBodyStream(&responseBody{r: r, c: c, unblock: unblock}, size)
}

// leave makes fasthttp give the connection up without writing anything.
func leave(ctx *fasthttp.RequestCtx, c *conn) {
	ctx.HijackSetNoResponse(true)
	ctx.Hijack(func(net.Conn) { c.Close() })
}

// setHead gives fasthttp a response head in the form that it would have on the wire, because its setters do not take
// every field (it insists on a Date of its own).
func setHead(resp *fasthttp.Response, head []byte) error {
	return resp.Header.Read(bufio.NewReaderSize(bytes.NewReader(head), len(head)))
}

// responseBody is what fasthttp reads the body of a response from.
type responseBody struct {
	r       *request
	c       *conn
	unblock func()
}

// Read implements io.Reader. An error makes fasthttp close the connection, so that the client sees the response as cut off.
func (b *responseBody) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err == errAborted && b.r.version == message.HTTP10 {
		b.c.resets.Store(true)
	}
	return n, err
}

// Close implements io.Closer: fasthttp has written the body, or failed to.
func (b *responseBody) Close() error {
	b.r.finish(b.unblock)
	return nil
}

// hijack takes the connection over to write head and what follows as it comes, both ways for a tunnel.
func (e *Engine) hijack(ctx *fasthttp.RequestCtx, c *conn, r *request, head []byte, tunnel bool) {
	ctx.HijackSetNoResponse(true)
	ctx.Hijack(func(nc net.Conn) {
		c.gate.state = gateOpen
		e.guard(func() { r.carry(nc, c, head, tunnel) })
		c.Close()
	})
}

// carry writes head and the body to the client, and in a tunnel what the client sends to the back end.
func (r *request) carry(nc net.Conn, c *conn, head []byte, tunnel bool) {
	c.TCPConn.SetReadDeadline(time.Time{})
	_, err := c.Write(head)
	if tunnel {
		if r.startPump() {
			r.core.e.running.Go(func() { r.core.e.guard(func() { r.carryUp(nc) }) })
		}
	}
	buf := make([]byte, pumpChunk)
	for err == nil {
		var n int
		if n, err = r.Read(buf); n > 0 {
			_, err = c.Write(buf[:n])
		}
	}
	switch {
	case err == io.EOF && tunnel:
		c.TCPConn.CloseWrite()
		r.awaitOver()
	case err == errAborted:
		c.resets.Store(true)
	}
	r.finish(func() { c.TCPConn.SetReadDeadline(time.Unix(1, 0)) })
}

// carryUp passes what the client sends through a tunnel.
func (r *request) carryUp(nc net.Conn) {
	defer r.endPump()
	buf := make([]byte, pumpChunk)
	for r.awaitResume(func() {}) {
		n, err := nc.Read(buf)
		r.core.do(func() {
			x := r.x
			if x != nil && n > 0 {
				x.OnRequestData(buf[:n])
			}
			if r.x != x || x == nil || err == nil {
				return
			}
			if err == io.EOF {
				x.OnRequestEnd(nil)
				return
			}
			r.x, r.aborted = nil, true
			x.OnClientGone("client_reset")
			r.changed.Broadcast()
		})
		if err != nil {
			break
		}
	}
}

// refuseHTTP1 answers what was refused before it came to a handler: by the gate, by time, or by fasthttp.
func (e *Engine) refuseHTTP1(ctx *fasthttp.RequestCtx, err error) {
	c := ctx.Conn().(*conn)
	r := newRequest(c.core)
	r.complete = true
	timeout := errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, fasthttp.ErrTimeout)
	var network net.Error
	switch {
	case c.gate.foreign():
		c.core.exchange.Shard.ParseError(uint8(wire.UnknownProtocol))
		c.cut()
		return
	case c.gate.err != nil && c.gate.state == gateHead:
		r.begin(c.gate.buf, &c.peer, message.HTTP11, 0)
	case timeout || errors.As(err, &network) && network.Timeout():
		r.refuseBytes(&c.peer, 408, "head_timeout")
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || isConnError(err):
		c.cut() // nobody is left to get an answer
		return
	default:
		r.refuseBytes(&c.peer, 400, "bad_request")
	}
	e.respondHTTP1(ctx, c, r)
}
