package fastpath

import (
	"rauta.io/rauta/fastpath/wire"
	"rauta.io/rauta/proxy/clock"
	"rauta.io/rauta/proxy/exchange"
	"rauta.io/rauta/proxy/list"
	"rauta.io/rauta/proxy/loop"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/proxyproto"
)

// serverState is what the next byte from the client is.
type serverState uint8

const (
	awaitHead        serverState = iota // a request line; also while none comes
	awaitProxyHeader                    // a PROXY protocol header
	awaitBody                           // request body
	awaitResponse                       // the request is complete: bytes stay in the socket until it is answered
	tunnelling                          // raw bytes
	lingering                           // thrown away until the client closes
	closed
)

// serverConn is a connection that a client opened. It implements loop.Handler and exchange.Downstream.
type serverConn struct {
	// Immutable.
	conn *loop.Conn
	e    *Engine

	// Owned by the worker.
	peer   exchange.Peer
	x      *exchange.Exchange // the request being parsed or served; nil between requests
	taking *exchange.Exchange // is over, but the socket has not taken all of its response
	timer  clock.Timer
	in     inbound
	out    outbound
	parser wire.RequestParser

	state    serverState
	version  message.Version // of the request being served
	inside   bool            // consume is on the stack
	paused   bool            // the exchange takes no body
	starved  bool            // the exchange was told to wait for OnClientWritable
	resp     responseState
	body     bodyState
	requests int

	readDeadline  clock.Time            // the peer must have sent something by then
	writeDeadline clock.Time            // the peer must have taken something by then
	place         list.Node[serverConn] // in e.idle
}

// responseState belongs to the response under way.
type responseState struct {
	head        bool // the request was HEAD
	keepAlive10 bool
	closeAsked  bool // by the client
	begun       bool // the final head was sent
	chunked     bool
	closes      bool // the connection closes after this response
	halfClose   bool // once everything is written
}

// bodyState belongs to the request body under way.
type bodyState struct {
	chunks  wire.ChunkReader
	chunked bool
	left    int64 // of a sized body
	atHand  bool  // all of it was read together with the head
	since   clock.Time
	touched clock.Time // the last time bytes came
	bytes   int64
}

func nanos(ns int64) clock.Time { return clock.Time(ns) }

// OnEvent implements loop.Handler.
func (c *serverConn) OnEvent(ev loop.Events) {
	if ev&loop.HangUp != 0 {
		c.in.hangUp = true
	}
	if ev&loop.Error != 0 || c.out.broken {
		if c.inside { // a panic has brought us here
			c.inside = false
			c.in.release(c.e.loop)
		}
		c.gone("client_reset")
		return
	}
	if ev&loop.Writable != 0 && c.out.blocked {
		c.flush()
	}
	if ev&(loop.Readable|loop.HangUp) != 0 {
		c.in.readable = true
		c.read()
	}
}

// read takes bytes from the socket, or kept ones, as long as they can be used.
func (c *serverConn) read() {
	fresh := true // kept bytes have not been looked at since they could be used
	for range readsPerTurn {
		if !c.takes() {
			return
		}
		if fresh && len(c.in.buf) > 0 {
			fresh = false
			c.consumeAndKeep(c.in.buf)
			continue
		}
		if !c.in.readable {
			return
		}
		data, _, st := c.in.receive(c.conn, readChunk)
		switch st {
		case loop.Again:
			return
		case loop.EOF:
			c.eof()
			return
		case loop.Failed:
			c.gone("client_reset")
			return
		}
		c.consumeAndKeep(data)
	}
	if c.takes() {
		c.conn.Ready(loop.Readable)
	}
}

// takes reports whether a byte from the client could be used now.
func (c *serverConn) takes() bool {
	switch c.state {
	case awaitResponse, closed:
		return false
	case awaitBody, tunnelling:
		return !c.paused
	}
	return true
}

func (c *serverConn) consumeAndKeep(data []byte) {
	c.inside = true
	used := c.consume(data)
	c.inside = false
	if c.state == closed {
		c.in.release(c.e.loop)
		return
	}
	c.in.keep(c.e.loop, data[used:])
}

// consume uses what it can of data and returns how many bytes that is.
func (c *serverConn) consume(data []byte) int {
	used := 0
	for used < len(data) && c.takes() {
		rest := data[used:]
		n := 0
		switch c.state {
		case awaitHead:
			n = c.onHead(rest)
		case awaitProxyHeader:
			n = c.onProxyHeader(rest)
		case awaitBody:
			n = c.onBody(rest)
		case tunnelling:
			n = len(rest)
			c.x.OnRequestData(rest)
		case lingering:
			n = c.discard(rest)
		}
		if n == 0 {
			return used
		}
		used += n
	}
	return used
}

// http2Preface is what a client that knows of HTTP/2 sends first (RFC 9113 section 3.4).
const http2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// mayBeHTTP2: over TLS the client had to say so in the handshake (RFC 9113 section 3.2), and would not be here.
func (c *serverConn) mayBeHTTP2() bool {
	return c.e.http2 != nil && c.peer.Scheme == message.SchemeHTTP
}

// onPreface hands the connection over if it begins with the preface of HTTP/2; it reports whether that is so, or may be.
func (c *serverConn) onPreface(data []byte) bool {
	n := min(len(data), len(http2Preface))
	if string(data[:n]) != http2Preface[:n] {
		return false
	}
	if n == len(http2Preface) {
		c.leave()
		c.e.http2(c.conn, c.peer, data)
	}
	return true
}

// leave gives everything back but the connection itself, which goes on elsewhere.
func (c *serverConn) leave() {
	c.state = closed
	c.conn.EndRequests()
	c.e.loop.Wheel().Remove(&c.timer)
	c.e.idle.Remove(&c.place)
	c.e.conns--
}

// onHead parses a head and starts its exchange; 0 means that more bytes are needed, or that the connection is over.
func (c *serverConn) onHead(data []byte) int {
	if c.requests == 0 && c.x == nil && c.mayBeHTTP2() && data[0] == http2Preface[0] && c.onPreface(data) {
		return 0
	}
	if c.x == nil {
		c.e.idle.Remove(&c.place)
		c.x = c.e.exchange.New(c, &c.peer)
		c.x.LayInSocket(c.conn.RequestRead())
		if c.readDeadline == 0 || c.requests > 0 {
			c.readDeadline = c.e.loop.Now() + nanos(c.e.limits.HeadTimeout)
		}
	}
	x := c.x
	n, reason := c.parser.Parse(data, &x.Req, &c.e.limits.Request)
	if reason != wire.OK {
		c.e.exchange.Shard.ParseError(uint8(reason))
		if reason == wire.UnknownProtocol && c.requests == 0 { // no answer in HTTP/1 would be understood
			c.close()
			return 0
		}
		c.refuse(data, reason.Status(), reason.String())
		return 0
	}
	if n == 0 {
		c.arm()
		return 0
	}
	if c.parser.DroppedFields > 0 {
		c.e.exchange.Shard.FieldDropped(c.parser.DroppedFields)
	}
	c.parser.Reset()
	c.begin(x, len(data)-n)
	return n
}

// begin starts the exchange of a complete head; buffered is how many bytes behind it are at hand.
func (c *serverConn) begin(x *exchange.Exchange, buffered int) {
	req := &x.Req
	c.requests++
	c.version = req.Version
	c.resp = responseState{
		head:        req.MethodID == message.MethodHead,
		keepAlive10: req.Version == message.HTTP10 && !req.Close,
		closeAsked:  req.Close || c.requests == c.e.limits.RequestsPerConn,
	}
	c.paused = false
	c.readDeadline = 0
	switch {
	case req.Framing == message.Streamed:
		c.beginBody(bodyState{chunked: true})
	case req.Framing == message.Sized && req.Length > 0:
		c.beginBody(bodyState{left: req.Length, atHand: req.Length <= int64(buffered)})
	default:
		c.state = awaitResponse
	}
	c.arm()
	sized0 := req.Framing == message.Sized && req.Length == 0
	x.Start()
	if sized0 && c.x == x {
		x.OnRequestEnd(nil)
	}
}

func (c *serverConn) beginBody(b bodyState) {
	b.since = c.e.loop.Now()
	b.touched = b.since
	c.body = b
	c.state = awaitBody
	c.armBody(b.since)
}

// onBody passes a part of the request body on.
func (c *serverConn) onBody(data []byte) int {
	x := c.x
	if x == nil { // answered early with the rest of the body at hand: skip it
		return c.skipBody(data)
	}
	part, n, done, reason := c.decode(data)
	if reason != wire.OK {
		c.e.exchange.Shard.ParseError(uint8(reason))
		c.resp.closes = true
		x.OnBadRequestBody(reason.Status(), reason.String())
		return 0
	}
	c.body.bytes += int64(len(part))
	c.body.touched = c.e.loop.Now()
	if done {
		c.state = awaitResponse
		c.readDeadline = 0
		c.arm()
	}
	if len(part) > 0 {
		x.OnRequestData(part)
	}
	if done && c.x == x {
		x.OnRequestEnd(nil)
	}
	return n
}

// decode takes a part of the body off data.
func (c *serverConn) decode(data []byte) (part []byte, n int, done bool, reason wire.Reason) {
	if c.body.chunked {
		return c.body.chunks.Next(data)
	}
	n = int(min(int64(len(data)), c.body.left))
	c.body.left -= int64(n)
	return data[:n], n, c.body.left == 0, wire.OK
}

// skipBody throws the rest of a body away: of one that is known to be at hand, or, while the client has not taken all of an
// early answer after which its connection closes, whatever comes.
func (c *serverConn) skipBody(data []byte) int {
	_, n, done, reason := c.decode(data)
	switch {
	case !done && reason == wire.OK:
	case c.out.waiting() > 0:
		// flush leads on: who takes no answers can't have more of them made, and behind a bad chunk is nothing to read.
		c.state = awaitResponse
		c.readDeadline = 0
		c.arm()
	default:
		c.awaitNext()
	}
	return n
}

// refuse answers a head that breaks the protocol or a limit.
func (c *serverConn) refuse(data []byte, status int, reason string) {
	x := c.x
	c.resp = responseState{closeAsked: true, head: x.Req.MethodID == message.MethodHead}
	c.version = message.HTTP11
	c.state = awaitResponse
	x.Req.Received = data
	x.Refuse(status, reason)
}

// eof: the client has closed its half.
func (c *serverConn) eof() {
	c.in.hangUp = true
	switch c.state {
	case tunnelling:
		c.state = awaitResponse // nothing more comes in this direction
		c.x.OnRequestEnd(nil)
	case awaitBody:
		if c.x == nil && c.out.waiting() > 0 {
			c.state = awaitResponse // it has seen the early answer and reads the rest of it: flush leads on
			c.readDeadline = 0
			c.arm()
			return
		}
		c.gone("client_closed_early")
	default:
		c.close()
	}
}

// gone ends the connection and the exchange that it carries.
func (c *serverConn) gone(reason string) {
	x := c.x
	begun := c.state != awaitHead && c.state != awaitProxyHeader
	c.x = nil
	c.tookResponse(reason)
	if c.state != closed {
		c.abandon()
	}
	switch {
	case x == nil:
	case begun:
		x.OnClientGone(reason)
	default:
		x.Discard()
	}
}

// close ends the connection in an orderly way.
func (c *serverConn) close() {
	if c.state == closed {
		return
	}
	if x := c.x; x != nil {
		c.x = nil
		x.Discard()
	}
	c.abandon()
}

// abandon gives everything back.
func (c *serverConn) abandon() {
	c.state = closed
	c.tookResponse("client_closed_early")
	c.conn.Close()
	c.e.loop.Wheel().Remove(&c.timer)
	c.e.idle.Remove(&c.place)
	if !c.inside {
		c.in.release(c.e.loop)
	}
	c.out.release(c.e.loop)
	c.e.conns--
	c.e.exchange.Shard.ConnClosed()
}

// onProxyHeader takes the PROXY protocol header off the start of a connection (attack row 39: anything else gets no
// answer).
func (c *serverConn) onProxyHeader(data []byte) int {
	source, n, result := proxyproto.Parse(data)
	switch result {
	case proxyproto.Bad:
		c.close()
	case proxyproto.Done:
		if source.IsValid() {
			c.peer = c.e.exchange.NewPeer(source.Addr(), c.peer.Scheme, c.peer.Port)
			c.peer.Queued = c.conn.Queued()
		}
		c.state = awaitHead
		if n == len(data) {
			c.conn.RequestsFollow()
		}
	}
	return n
}
