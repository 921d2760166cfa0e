package fastpath

import (
	"errors"

	"rauta.io/rauta/fastpath/wire"
	"rauta.io/rauta/proxy/loop"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/upstream"
)

// read takes bytes from the socket, or kept ones, as long as they can be used.
func (c *clientConn) read() {
	fresh := true
	for range readsPerTurn {
		if c.state == clientClosed || c.paused && c.sink != nil {
			return
		}
		if c.ended { // every further event of the socket says so again, the exchange is told once
			c.in.readable = false
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
		data, filled, st := c.in.receive(c.conn, c.chunk)
		switch st {
		case loop.Again:
			return
		case loop.EOF:
			c.eof()
			return
		case loop.Failed:
			c.lost()
			return
		}
		c.consumeAndKeep(data)
		c.adaptChunk(filled)
	}
	if c.state != clientClosed && !c.paused {
		c.conn.Ready(loop.Readable)
	}
}

// adaptChunk lets a response that fills every read, to a client that takes all of it, be read in larger pieces: fewer
// system calls make large bodies a quarter cheaper (loadtest large). A client that does not keep up gets small ones, since
// what it has not taken must be kept.
func (c *clientConn) adaptChunk(filled bool) {
	switch {
	case c.paused:
		c.chunk = readChunk
	case filled:
		c.chunk = min(2*c.chunk, readChunkMax)
	}
}

func (c *clientConn) consumeAndKeep(data []byte) {
	c.inside = true
	used := c.consume(data)
	c.inside = false
	if c.state == clientClosed {
		c.in.release(c.e.loop)
		if c.head != nil {
			c.releaseHead()
		}
		return
	}
	c.in.keep(c.e.loop, data[used:])
}

// consume uses what it can of data and returns how many bytes that is.
func (c *clientConn) consume(data []byte) int {
	used := 0
	for used < len(data) {
		rest := data[used:]
		n := 0
		switch c.state {
		case awaitRespHead:
			n = c.onHead(rest)
		case awaitRespBody:
			if c.paused {
				return used
			}
			n = c.onBody(rest)
		case clientTunnel:
			if c.paused {
				return used
			}
			n = len(rest)
			if c.sink != nil { // see Cancel
				c.sink.OnData(rest)
			}
		case idle:
			c.drop() // bytes that nobody asked for: a response to no request (attack row 34)
		}
		if n == 0 {
			return used
		}
		used += n
	}
	return used
}

// onHead parses a response head and delivers it.
func (c *clientConn) onHead(data []byte) int {
	c.req.answered = true
	if c.head == nil {
		c.head = c.e.takeResponse()
	}
	head := c.head
	n, reason := c.parser.Parse(data, head, c.req.head, &c.e.limits.Response)
	if reason != wire.OK {
		c.fail(upstream.CauseProtocol, reason.String(), nil)
		return 0
	}
	if n == 0 {
		return 0
	}
	c.parser.Reset()
	c.deliver(head, len(data)-n)
	if c.head != nil {
		c.releaseHead()
	}
	return n
}

// deliver hands a complete head to the exchange and prepares for what follows it; rest is how many bytes are at hand.
func (c *clientConn) deliver(head *message.Response, rest int) {
	if head.Status < 200 && head.Status != 101 {
		c.sink.OnHead(head)
		return
	}
	if head.Status == 101 && c.req.accept != nil && !accepts(head, c.req.accept) {
		c.fail(upstream.CauseProtocol, "bad_websocket_accept", nil)
		return
	}
	c.req.begun = true
	c.body = responseBody{framing: head.Framing, left: head.Length, closes: head.Close}
	head.Close = false // that was about this connection, not the client's
	if head.Status == 101 {
		c.state = clientTunnel
		c.conn.KeepAlive()
		c.sink.OnHead(head)
		return
	}
	c.state = awaitRespBody
	c.sink.OnHead(head)
	if c.state != awaitRespBody {
		return // the exchange has given the stream up
	}
	if c.body.framing == message.NoBody || c.body.framing == message.Sized && c.body.left == 0 {
		c.complete(rest)
	}
}

// onBody delivers a part of the body.
func (c *clientConn) onBody(data []byte) int {
	part, n, done := data, len(data), false
	switch c.body.framing {
	case message.Sized:
		n = int(min(int64(n), c.body.left))
		part = data[:n]
		c.body.left -= int64(n)
		done = c.body.left == 0
	case message.Streamed:
		var reason wire.Reason
		part, n, done, reason = c.body.chunks.Next(data)
		if reason != wire.OK {
			c.fail(upstream.CauseProtocol, reason.String(), nil)
			return 0
		}
	}
	if len(part) > 0 {
		c.sink.OnData(part)
	}
	if done && c.state == awaitRespBody {
		c.complete(len(data) - n)
	}
	return n
}

// complete ends the response; rest is how many bytes follow it, which must be none if the connection is to be used again.
func (c *clientConn) complete(rest int) {
	sink := c.sink
	reusable := c.req.ended && !c.req.upgrade && !c.body.closes && !c.in.hangUp && rest == 0 && c.out.waiting() == 0 &&
		!c.out.broken
	c.sink = nil
	c.state = idle
	sink.OnEnd(nil)
	if reusable && c.in.readable { // the last read filled its buffer: more may follow in the socket than belongs here
		_, st := c.conn.Read(c.e.loop.ReadBuffer()[:1])
		reusable = st == loop.Again
		c.in.readable = false
	}
	if reusable {
		c.pool.Release(c)
		return
	}
	c.drop()
}

// lost: the connection has failed. A TLS connection that ends without close_notify is one that may have been cut off by
// somebody in between: whatever was to come, its end is none (RFC 9112 section 9.8).
func (c *clientConn) lost() {
	err := c.conn.Err()
	cause, detail := upstream.LossOf(err)
	if errors.Is(err, loop.ErrTruncated) {
		cause = upstream.CauseEOF
	}
	c.fail(cause, detail, err)
}

// eof: the back end has closed its half.
func (c *clientConn) eof() {
	c.in.hangUp = true
	switch {
	case c.state == awaitRespBody && c.body.framing == message.UntilClose:
		c.complete(0)
	case c.state == clientTunnel:
		c.ended = true
		if c.sink != nil {
			c.sink.OnEnd(nil)
		}
	case c.state == idle:
		c.drop()
	default:
		c.fail(upstream.CauseEOF, "", nil)
	}
}
