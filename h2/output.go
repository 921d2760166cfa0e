package h2

import "rauta.io/rauta/proxy/loop"

// outbound is what waits to be written to one connection. It holds a buffer only while something waits.
type outbound struct {
	buf     []byte
	sent    int    // of buf
	before  uint64 // bytes of earlier buffers, so that a place in the output has a number
	blocked bool   // the socket is full: Writable will come
	broken  bool   // a write failed
}

// waiting is the number of bytes that wait.
func (o *outbound) waiting() int { return len(o.buf) - o.sent }

// reserve makes room for n more bytes.
func (o *outbound) reserve(w *loop.Worker, n int) {
	if cap(o.buf)-len(o.buf) >= n {
		return
	}
	next := w.GetBuffer(max(o.waiting()+n, 2*cap(o.buf)))[:0]
	next = append(next, o.buf[o.sent:]...)
	before := o.before + uint64(o.sent)
	o.release(w)
	o.buf, o.before = next, before
}

func (o *outbound) release(w *loop.Worker) {
	o.before += uint64(len(o.buf))
	if o.buf != nil {
		w.PutBuffer(o.buf)
	}
	o.buf, o.sent = nil, 0
}

// place is the number of the next byte.
func (o *outbound) place() uint64 { return o.before + uint64(len(o.buf)) }

// at returns the byte with the number place, nil if it has been sent.
func (o *outbound) at(place uint64) *byte {
	if place < o.before+uint64(o.sent) {
		return nil
	}
	return &o.buf[place-o.before]
}

// taken is the number of bytes that the socket has taken.
func (o *outbound) taken() uint64 { return o.before + uint64(o.sent) }

// mayMeetFullSocket reports whether what waits may find no room.
func (o *outbound) mayMeetFullSocket() bool { return o.blocked || o.place() > loop.SocketBytesMin }

// flush writes what waits; false means that something still does, or that the connection is broken.
func (o *outbound) flush(c *loop.Conn) bool {
	if o.broken {
		return false
	}
	if o.waiting() > 0 {
		n, st := c.Write(o.buf[o.sent:])
		o.sent += n
		o.blocked = st == loop.Again
		o.broken = st == loop.Failed
		if st != loop.OK {
			return false
		}
	}
	o.blocked = false
	o.release(c.Worker())
	return true
}

// room reports whether n more bytes of DATA may be framed now; it sends early what has piled up.
func (c *link) room(n int) bool {
	o := &c.out
	if o.waiting()+n > outFlush && !o.blocked {
		c.flushOut()
	}
	return !o.broken && (!o.blocked || o.waiting()+n <= outHigh)
}

// flushOut writes what waits and keeps the deadline for a peer that does not take it.
func (c *link) flushOut() {
	before := c.out.waiting()
	drained := c.out.flush(c.conn)
	switch {
	case drained:
		c.writeDeadline = 0
		c.controls = 0
	case c.out.waiting() < before || c.writeDeadline == 0:
		c.writeDeadline = c.e.loop.Now() + nanos(c.e.limits.WriteIdle)
	}
}

// control makes room for a frame that answers the peer's doing; a peer that makes us answer without reading is cut off.
func (c *link) control() {
	c.out.reserve(c.e.loop, 64)
	c.controls++
	c.markDirty()
}

// sendQueue holds the streams with bytes to send and window to send them, first come first served.
type sendQueue struct{ first, last *stream }

func (q *sendQueue) push(s *stream) {
	if s.queued {
		return
	}
	s.queued = true
	s.next = nil
	if q.last != nil {
		q.last.next = s
	} else {
		q.first = s
	}
	q.last = s
}

func (q *sendQueue) pop() *stream {
	s := q.first
	q.first = s.next
	if q.first == nil {
		q.last = nil
	}
	s.next, s.queued = nil, false
	return s
}

// pump frames DATA of the waiting streams, a quantum of each in turn.
func (c *link) pump() {
	left := pumpBytesMax
	for c.queue.first != nil && c.sendWindow > 0 && c.room(frameHeaderBytes+quantum) {
		if left <= 0 {
			c.conn.Ready(loop.Writable)
			return
		}
		s := c.queue.pop()
		if s.dead || s.sendWindow <= 0 { // WINDOW_UPDATE brings it back
			continue
		}
		n := s.writeData(s.pending()[:min(quantum, len(s.pending()))])
		left -= n
		s.sentBytes(n)
		if len(s.pending()) > 0 {
			c.queue.push(s)
		}
		s.afterPump()
	}
}
