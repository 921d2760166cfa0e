package l4

import "rauta.io/rauta/proxy/loop"

// Sizes in bytes.
const (
	// chunkMin is what one read takes at first, and after the other side did not take all of one: it is what has to be kept.
	chunkMin = 16 << 10
	// chunkMax is what a read grows to while the other side takes everything. Between plain connections the bytes of such a
	// transfer stay in the kernel (splice), which costs 20% less CPU than reads of 64 KiB for the size, and 13% less again for
	// not copying (PERF.md, forwarded connections).
	chunkMax = loop.ReadBufferBytes
	// pumpMax is what one side forwards before others have their turn.
	pumpMax = 4 * chunkMax
)

// side is one of the two connections of a tunnel. It implements loop.Handler.
type side struct {
	// Immutable.
	t     *tunnel
	other *side

	// Owned by the worker.
	conn     *loop.Conn
	waiting  []byte     // for this connection, which did not take it yet: a worker's buffer
	sent     int        // of waiting
	pipe     *loop.Pipe // with bytes for this connection, in place of waiting
	chunk    int        // what a read from this connection takes
	readable bool       // the socket may hold bytes, or an end
	hangUp   bool       // a FIN has come: behind it comes no event
	ended    bool       // its end has been read
}

// OnEvent implements loop.Handler.
func (s *side) OnEvent(ev loop.Events) {
	t := s.t
	switch {
	case t.done:
		return
	case s.conn.Closed(): // a handler has panicked
		t.cut(reasonInternal)
		return
	case !t.connected:
		t.onConnecting(s, ev)
		return
	}
	s.hangUp = s.hangUp || ev&loop.HangUp != 0
	if ev&(loop.Readable|loop.HangUp|loop.Error) != 0 {
		s.readable = true
	}
	if ev&loop.Writable != 0 && s.blocked() {
		if !s.flush() {
			return
		}
		s.other.pump()
		if t.done {
			return
		}
	}
	s.pump()
}

// pump moves bytes from this side to the other, until there are none or the other takes no more.
func (s *side) pump() {
	o := s.other
	for moved := 0; s.readable && !s.ended && !o.blocked(); {
		if moved >= pumpMax {
			s.conn.Ready(loop.Readable)
			return
		}
		if s.chunk == chunkMax && s.t.splices {
			n, ok := s.splice()
			if !ok {
				return
			}
			moved += n
			continue
		}
		buf := s.t.e.loop.ReadBuffer()[:s.chunk]
		n, st := s.conn.Read(buf)
		switch st {
		case loop.Again:
			s.readable = false
			return
		case loop.EOF:
			s.ended = true
			o.finish()
			return
		case loop.Failed:
			s.broken()
			return
		}
		moved += n
		s.readable = n == len(buf) || s.hangUp // a short read has emptied the socket
		if s == &s.t.down {
			s.t.count(s, n)
		}
		s.t.moved()
		if !o.write(buf[:n]) {
			return
		}
		s.adapt(n == len(buf))
	}
}

// splice moves bytes of a large transfer inside the kernel. False means that there is nothing more to do for now.
func (s *side) splice() (n int, ok bool) {
	w, o := s.t.e.loop, s.other
	pipe := w.GetPipe()
	if pipe == nil {
		s.chunk /= 2
		return 0, true
	}
	n, st := s.conn.SpliceFrom(pipe, loop.PipeBytes)
	switch st {
	case loop.Again, loop.EOF:
		w.PutPipe(pipe)
		s.readable = st == loop.EOF
		if s.readable {
			s.ended = true
			o.finish()
		}
		return 0, false
	case loop.Failed:
		w.PutPipe(pipe)
		s.broken()
		return 0, false
	}
	if s == &s.t.down {
		s.t.count(s, n)
	}
	s.t.moved()
	if n < chunkMin {
		s.chunk = chunkMin // no large transfer any more: copying small pieces is cheaper
	}
	o.pipe = pipe
	return n, o.unpipe()
}

// unpipe gives what is in the pipe to the connection. False means that some is left, or that the tunnel is over.
func (s *side) unpipe() bool {
	n, st := s.conn.SpliceTo(s.pipe)
	if n > 0 && s == &s.t.down {
		s.t.count(s.other, n)
	}
	switch st {
	case loop.Again:
		return false
	case loop.Failed:
		s.broken()
		return false
	}
	s.t.e.loop.PutPipe(s.pipe)
	s.pipe = nil
	return true
}

// blocked: something waits for the connection, so that nothing more is read for it.
func (s *side) blocked() bool { return s.waiting != nil || s.pipe != nil }

// adapt chooses the size of the next read: large while the other side keeps up.
func (s *side) adapt(filled bool) {
	switch {
	case s.other.blocked():
		s.chunk = chunkMin
	case filled:
		s.chunk = min(2*s.chunk, chunkMax)
	}
}

// write gives p to the connection and keeps what it does not take. False means that the tunnel is over.
func (s *side) write(p []byte) bool {
	n, ok := s.give(p)
	if ok && n < len(p) {
		s.waiting = append(s.t.e.loop.GetBuffer(len(p)-n), p[n:]...)
	}
	return ok
}

func (s *side) give(p []byte) (n int, ok bool) {
	n, st := s.conn.Write(p)
	if n > 0 && s == &s.t.down {
		s.t.count(s.other, n)
	}
	if st == loop.Failed {
		s.broken()
		return n, false
	}
	return n, true
}

// flush gives what waits to the connection. It reports whether nothing is left.
func (s *side) flush() bool {
	switch {
	case s.pipe != nil:
		s.t.moved()
		return s.unpipe()
	case s.waiting == nil:
		return true
	}
	n, ok := s.give(s.waiting[s.sent:])
	if !ok {
		return false
	}
	s.sent += n
	if n > 0 {
		s.t.moved()
	}
	if s.sent < len(s.waiting) {
		return false
	}
	s.drop()
	return true
}

// finish tells the connection that the other side is done. It has everything: while something waits nothing is read, so
// neither is the end.
func (s *side) finish() {
	if s.ended {
		s.t.end(reasonClosed) // closing says it too
	} else {
		s.conn.CloseWrite()
	}
}

// broken breaks the tunnel off because this connection failed: the other side sees a reset too.
func (s *side) broken() {
	if s == &s.t.down {
		s.t.cut(reasonClientReset)
	} else {
		s.t.cut(reasonBackendReset)
	}
}

// drop gives the buffer back.
func (s *side) drop() {
	if s.waiting != nil {
		s.t.e.loop.PutBuffer(s.waiting)
		s.waiting, s.sent = nil, 0
	}
	if s.pipe != nil {
		s.t.e.loop.PutPipe(s.pipe)
		s.pipe = nil
	}
}

// release closes the connection.
func (s *side) release() {
	s.drop()
	if s.conn != nil {
		s.conn.Close()
	}
}
