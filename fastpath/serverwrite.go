package fastpath

import (
	"rauta.io/rauta/fastpath/wire"
	"rauta.io/rauta/proxy/loop"
	"rauta.io/rauta/proxy/message"
)

// headBytes bounds the size of a head when it is written: line, framing and connection fields included.
func headBytes(h *message.Head, more int) int {
	n := 256 + more
	for i := range h.Fields {
		f := &h.Fields[i]
		n += int(f.Name.Len) + int(f.Value.Len) + len(": \r\n")
	}
	return n
}

// SendHead implements exchange.Downstream.
func (c *serverConn) SendHead(resp *message.Response) {
	opt := wire.ResponseOptions{
		Version: c.version, KeepAlive10: c.resp.keepAlive10, ToHead: c.resp.head,
		Close: resp.Close || c.resp.closeAsked || !c.requestAtHand(),
	}
	c.out.reserve(c.e.loop, headBytes(&resp.Head, int(resp.Upgrade.Len)))
	c.out.buf = wire.AppendResponseHead(c.out.buf, resp, opt)
	switch {
	case resp.Status == 101:
		c.state = tunnelling
		c.readDeadline = 0
		c.arm()
		c.ResumeBody()
	case resp.Status >= 200:
		c.resp.begun = true
		c.resp.chunked = opt.Chunked(resp)
		c.resp.closes = c.resp.closes || opt.Closes(resp)
	}
	c.markDirty()
}

// requestAtHand reports whether the request has been read, or will be without waiting for the client; if not, the
// connection can't be kept after an early response (attack row 7).
func (c *serverConn) requestAtHand() bool { return c.state != awaitBody || c.body.atHand }

// SendData implements exchange.Downstream.
func (c *serverConn) SendData(p []byte) bool {
	if len(p) == 0 {
		return true
	}
	if c.resp.chunked {
		c.out.reserve(c.e.loop, 24)
		c.out.buf = wire.AppendChunkHeader(c.out.buf, len(p))
		c.out.write(c.conn, p)
		c.out.write(c.conn, chunkEnd)
	} else {
		c.out.write(c.conn, p)
	}
	c.afterWrite()
	if c.out.waiting() < bufferedHigh || !c.out.blocked {
		return true
	}
	c.starved = true
	return false
}

var (
	chunkEnd  = []byte(wire.ChunkEnd)
	lastChunk = []byte(wire.LastChunk)
)

// SendEnd implements exchange.Downstream. Trailers are dropped (attack row 14). The bytes leave at the end of the turn: receiving and deciding for all
// connections first and sending for all of them then keeps either code in the cache, 3% of a request (PERF.md).
func (c *serverConn) SendEnd(*message.Head) {
	if c.state == closed {
		return
	}
	if !c.resp.begun {
		c.resp.halfClose = true // a tunnel
	} else if c.resp.chunked {
		c.out.write(c.conn, lastChunk)
	}
	c.afterWrite()
	if c.resp.halfClose && c.out.waiting() == 0 {
		c.conn.CloseWrite()
	}
}

// PauseBody implements exchange.Downstream.
func (c *serverConn) PauseBody() { c.paused = true }

// ResumeBody implements exchange.Downstream.
func (c *serverConn) ResumeBody() {
	if c.paused && c.state == awaitBody { // the time in which the client was held back is not its own
		now := c.e.loop.Now()
		c.body.since, c.body.touched, c.body.bytes = now, now, 0
	}
	c.paused = false
	if !c.inside && (c.in.readable || len(c.in.buf) > 0) {
		c.conn.Ready(loop.Readable)
	}
}

// Abort implements exchange.Downstream: the client must not take what it has for the whole response. Where only the end of
// the connection ends the body, and in a tunnel, a reset says so. Everywhere else the framing does, and the connection ends
// so that responses to earlier requests of a pipeline, which the client may not have got yet, survive.
func (c *serverConn) Abort(bool) {
	c.x = nil
	if c.state == closed {
		return
	}
	if c.out.waiting() > 0 && !c.out.broken {
		c.out.flush(c.conn)
	}
	switch {
	case !c.resp.begun || !c.resp.chunked && c.version == message.HTTP10:
		c.conn.Reset()
		c.abandon()
	case c.out.broken || c.in.ended():
		c.abandon()
	default:
		c.out.release(c.e.loop)
		c.writeDeadline = 0
		c.lingerOn()
	}
}

// Finished implements exchange.Downstream. Unless the socket is sure to have room for all of the response at the end of this
// turn, the exchange stays until it has taken it.
func (c *serverConn) Finished() (taken bool) {
	x := c.x
	c.x = nil
	if x != nil {
		c.conn.RequestOf(x.Route())
	}
	c.starved = false
	c.paused = false // a body that nobody takes any more is skipped, not held back
	if c.state == tunnelling {
		c.state = awaitResponse // nobody takes what the client may go on to send
	}
	switch {
	case c.state == closed:
	case c.out.waiting() > 0: // what is left goes on when the client takes it: see flush
		if c.resp.begun && c.out.mayMeetFullSocket() {
			c.taking = x
			return false
		}
	default:
		c.responseWritten()
	}
	return true
}

// tookResponse tells an exchange that waits for it that the socket has taken its response, or never will because of lost.
func (c *serverConn) tookResponse(lost string) {
	if x := c.taking; x != nil {
		c.taking = nil
		x.OnTaken(lost)
	}
}

// responseWritten goes on after a response has been handed to the kernel completely.
func (c *serverConn) responseWritten() {
	pipelined := len(c.in.buf) > 0
	c.conn.ResponseLeft(true, pipelined)
	c.out.wrote = pipelined // then this one may be in the socket yet when the next is sent
	if c.resp.closes || !c.resp.begun {
		c.linger()
		return
	}
	if c.state == awaitBody { // skipBody leads on, here or in the next turn
		if !c.inside {
			c.conn.Ready(loop.Readable)
		}
		return
	}
	c.awaitNext()
}

// awaitNext makes the connection ready for the next request.
func (c *serverConn) awaitNext() {
	c.state = awaitHead
	if c.e.exchange.Draining && len(c.in.buf) == 0 {
		c.linger() // a further request may be in the socket already, and must not destroy the answer to this one
		return
	}
	c.readDeadline = c.e.loop.Now() + nanos(c.e.limits.KeepAlive)
	c.arm()
	c.e.idle.PushBack(&c.place)
	if !c.inside && (c.in.readable || len(c.in.buf) > 0) {
		c.conn.Ready(loop.Readable)
	}
}

// linger ends the connection so that the client gets to see the response: closing with unread bytes in the socket
// would reset the connection and might destroy it (RFC 9112 section 9.6).
func (c *serverConn) linger() {
	unread := c.state == awaitBody || len(c.in.buf) > 0 || c.in.readable || c.inside
	if c.in.ended() || !unread { // nothing of a further request is here
		c.close()
		return
	}
	c.lingerOn()
}

// lingerOn closes our half and throws away what still comes.
func (c *serverConn) lingerOn() {
	c.conn.CloseWrite()
	c.state = lingering
	c.body.left = c.e.limits.LingerBytes
	c.readDeadline = c.e.loop.Now() + nanos(c.e.limits.LingerTime)
	c.arm()
	if !c.inside {
		c.conn.Ready(loop.Readable)
	}
}

// discard throws bytes away while lingering.
func (c *serverConn) discard(data []byte) int {
	c.body.left -= int64(len(data))
	if c.body.left < 0 {
		c.close()
	}
	return len(data)
}

// markDirty makes sure that what waits is written at the end of the turn at the latest.
func (c *serverConn) markDirty() {
	if !c.out.dirty && !c.out.blocked {
		c.out.dirty = true
		c.e.loop.SendLast(c)
	}
}

// OnSend implements loop.Sender.
func (c *serverConn) OnSend() {
	c.e.loop.Blame(c.conn)
	c.out.dirty = false
	if c.state != closed && !c.out.blocked && c.out.waiting() > 0 {
		c.flush()
	}
}

// afterWrite looks after what a write left behind: a time limit, a flush, or the news that the client is gone.
func (c *serverConn) afterWrite() {
	switch {
	case c.out.broken:
		c.conn.Ready(loop.Error)
	case c.out.blocked:
		if c.writeDeadline == 0 {
			c.writeDeadline = c.e.loop.Now() + nanos(c.e.limits.WriteIdle)
			c.arm()
		}
	case c.out.waiting() > 0:
		c.markDirty()
	}
}

// flush writes what waits, called by the loop; it leads on what waited for it.
func (c *serverConn) flush() {
	before := c.out.waiting()
	ends := c.ending()
	if ends {
		c.conn.ResponseLeaves()
	}
	drained := c.out.flush(c.conn)
	if ends && !drained {
		c.conn.ResponseLeft(false, false)
	}
	switch {
	case c.out.broken:
		c.gone("client_reset")
		return
	case drained:
		c.writeDeadline = 0
	case c.out.waiting() < before || c.writeDeadline == 0:
		c.writeDeadline = c.e.loop.Now() + nanos(c.e.limits.WriteIdle)
	}
	c.arm()
	if c.starved && c.out.waiting() <= bufferedLow && c.x != nil {
		c.starved = false
		c.x.OnClientWritable()
	}
	if !drained || c.state == closed {
		return
	}
	if c.resp.halfClose {
		c.conn.CloseWrite()
	}
	c.tookResponse("")
	if ends {
		c.responseWritten()
	}
}

// ending reports whether what waits is the rest of a response.
func (c *serverConn) ending() bool {
	return c.x == nil && (c.state == awaitResponse || c.state == awaitBody)
}
