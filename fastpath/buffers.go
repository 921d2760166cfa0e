package fastpath

import (
	"rauta.io/rauta/proxy/loop"
)

// outbound is what waits to be written to one connection. It holds a buffer only while something waits.
type outbound struct {
	buf     []byte
	sent    int   // of buf
	blocked bool  // the socket is full: Writable will come
	broken  bool  // a write failed
	dirty   bool  // registered for the end of the turn
	wrote   bool  // a byte was written since the last clear; of a response also: one before it may be in the socket yet
	taken   int64 // bytes, by the socket
}

// mayMeetFullSocket reports whether what waits may find no room. A client that asks has not necessarily read: what was sent to
// it before may all be in the socket yet.
func (o *outbound) mayMeetFullSocket() bool {
	return o.blocked || o.wrote || o.taken+int64(o.waiting()) > loop.SocketBytesMin
}

// waiting is the number of bytes that wait.
func (o *outbound) waiting() int { return len(o.buf) - o.sent }

// reserve makes room for n more bytes.
func (o *outbound) reserve(w *loop.Worker, n int) {
	if cap(o.buf)-len(o.buf) >= n {
		return
	}
	next := w.GetBuffer(o.waiting() + n)[:0]
	next = append(next, o.buf[o.sent:]...)
	o.release(w)
	o.buf = next
}

func (o *outbound) release(w *loop.Worker) {
	if o.buf != nil {
		w.PutBuffer(o.buf)
	}
	o.buf, o.sent = nil, 0
}

// flush writes what waits; false means that something still does, or that the connection is broken.
func (o *outbound) flush(c *loop.Conn) bool {
	if o.broken {
		return false
	}
	if o.waiting() > 0 {
		n, st := c.Write(o.buf[o.sent:])
		o.sent += n
		o.taken += int64(n)
		o.wrote = o.wrote || n > 0
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

// write sends p, behind what waits. Small pieces are only joined to it: the caller flushes at the end.
func (o *outbound) write(c *loop.Conn, p []byte) {
	w := c.Worker()
	if !o.blocked && !o.broken && o.waiting()+len(p) > joinMax {
		if o.waiting() == 0 || o.flush(c) {
			n, st := c.Write(p)
			p = p[n:]
			o.taken += int64(n)
			o.wrote = o.wrote || n > 0
			o.blocked = st == loop.Again
			o.broken = st == loop.Failed
		}
	}
	if len(p) > 0 && !o.broken {
		o.reserve(w, len(p))
		o.buf = append(o.buf, p...)
	}
}

// inbound is what was read from one connection and can't be used yet. It holds a buffer only while there is something.
type inbound struct {
	buf      []byte
	readable bool // the socket may hold bytes
	hangUp   bool // the peer has closed its half
}

// ended reports whether the end of the peer's half has been read.
func (i *inbound) ended() bool { return i.hangUp && !i.readable }

// receive reads up to chunk bytes. data is all that has come and was not used: it is in the shared buffer or, behind what
// was kept, in buf; keep says what is left of it. filled reports whether there may be more at once.
func (i *inbound) receive(c *loop.Conn, chunk int) (data []byte, filled bool, st loop.Status) {
	space := i.space(c.Worker(), chunk)
	n, st := c.Read(space)
	if st != loop.OK {
		i.readable = false
		return nil, false, st
	}
	filled = n == len(space)
	if !filled && !i.hangUp {
		i.readable = false // a short read has emptied the socket; the edge comes with the next byte
	}
	if kept := len(i.buf); kept > 0 {
		i.buf = i.buf[:kept+n]
		return i.buf, filled, st
	}
	return space[:n], filled, st
}

// space returns where to read: chunk bytes of the worker's shared buffer, or behind what was kept.
func (i *inbound) space(w *loop.Worker, chunk int) []byte {
	if len(i.buf) == 0 {
		return w.ReadBuffer()[:chunk]
	}
	if cap(i.buf)-len(i.buf) < headRoom/4 {
		next := w.GetBuffer(2 * cap(i.buf))[:0]
		next = append(next, i.buf...)
		w.PutBuffer(i.buf)
		i.buf = next
	}
	return i.buf[len(i.buf):cap(i.buf)]
}

// keep keeps rest, which is either the tail of what was kept or a part of the shared buffer.
func (i *inbound) keep(w *loop.Worker, rest []byte) {
	switch {
	case len(rest) == 0:
		i.release(w)
	case i.buf != nil:
		i.buf = i.buf[:copy(i.buf[:cap(i.buf)], rest)]
	default:
		i.buf = append(w.GetBuffer(len(rest) + headRoom/4)[:0], rest...)
	}
}

func (i *inbound) release(w *loop.Worker) {
	if i.buf != nil {
		w.PutBuffer(i.buf)
		i.buf = nil
	}
}
