package fastpath

import (
	"rauta.io/rauta/fastpath/wire"
	"rauta.io/rauta/proxy/clock"
	"rauta.io/rauta/proxy/loop"
	"rauta.io/rauta/proxy/message"
)

// SendHead implements upstream.Stream.
func (c *clientConn) SendHead(req *message.Request) {
	c.req.head = req.MethodID == message.MethodHead
	c.req.upgrade = req.Upgrade.Len > 0
	c.req.chunked = req.Framing == message.Streamed
	if req.ExtendedConnect() {
		c.req.accept = openWebSocket(req)
	}
	c.body.chunks.Reset()
	line := int(req.Method.Len + req.Path.Len + req.Query.Len + req.Authority.Len + req.Upgrade.Len)
	c.out.reserve(c.e.loop, headBytes(&req.Head, line))
	c.out.buf = wire.AppendRequestHead(c.out.buf, req)
	if req.Framing == message.NoBody {
		c.req.ended = true // sent at the end of the turn, see serverConn.SendEnd
	}
	c.afterWrite()
}

// SendData implements upstream.Stream.
func (c *clientConn) SendData(p []byte) bool {
	if len(p) == 0 {
		return true
	}
	if c.req.chunked && c.state != clientTunnel {
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

// SendEnd implements upstream.Stream. Trailers are dropped (attack row 14).
func (c *clientConn) SendEnd(*message.Head) {
	if c.state == clientClosed || c.req.ended && c.state != clientTunnel {
		return
	}
	c.req.ended = true
	c.req.halfClosed = c.state == clientTunnel
	if c.req.chunked && c.state != clientTunnel {
		c.out.write(c.conn, lastChunk)
	}
	c.afterWrite()
	if c.state == clientTunnel && c.out.waiting() == 0 {
		c.conn.CloseWrite()
	}
}

// PauseBody implements upstream.Stream.
func (c *clientConn) PauseBody() { c.paused = true }

// ResumeBody implements upstream.Stream.
func (c *clientConn) ResumeBody() {
	c.paused = false
	if !c.inside && (c.in.readable || len(c.in.buf) > 0) {
		c.conn.Ready(loop.Readable)
	}
}

// Cancel implements upstream.Stream. A tunnel whose client has ended its half is not cut off: what waits is still written,
// as long as the back end takes some of it within WriteIdle; what the back end sends meanwhile is thrown away.
func (c *clientConn) Cancel() {
	if c.req.halfClosed && c.out.waiting() > 0 && !c.out.broken {
		c.sink, c.paused = nil, false
		c.timer.Fire = c.onWriteTimeout
		c.armWrite()
		return
	}
	c.drop()
}

func (c *clientConn) armWrite() {
	c.e.loop.Wheel().Set(&c.timer, c.e.loop.Now()+nanos(c.e.limits.WriteIdle))
}

func (c *clientConn) onWriteTimeout(clock.Time) {
	c.e.loop.Blame(c.conn)
	defer c.e.loop.Blame(nil)
	c.drop()
}

// OnSend implements loop.Sender.
func (c *clientConn) OnSend() {
	c.e.loop.Blame(c.conn)
	c.out.dirty = false
	if c.state != clientClosed && !c.out.blocked && c.out.waiting() > 0 {
		c.flush()
	}
}

// afterWrite looks after what a write left behind. A failed one is reported in the next turn, after what the back end
// may have answered before it closed.
func (c *clientConn) afterWrite() {
	switch {
	case c.out.broken:
		c.conn.Ready(loop.Error)
	case c.out.blocked:
	case c.out.waiting() > 0 && !c.out.dirty:
		c.out.dirty = true
		c.e.loop.SendLast(c)
	}
}

// flush writes what waits, called by the loop; it leads on what waited for it.
func (c *clientConn) flush() {
	drained := c.out.flush(c.conn)
	if c.out.broken {
		c.conn.Ready(loop.Error)
		return
	}
	if drained && c.req.halfClosed {
		c.conn.CloseWrite()
	}
	if c.sink == nil && c.state == clientTunnel { // see Cancel
		if drained {
			c.drop()
			return
		}
		c.armWrite()
	}
	if c.starved && c.out.waiting() <= bufferedLow && c.sink != nil {
		c.starved = false
		c.sink.OnWritable()
	}
}
