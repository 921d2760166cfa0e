package h2

import (
	"rauta.io/rauta/proxy/clock"
	"rauta.io/rauta/proxy/message"
)

// stream is one request on a connection, of either direction: the windows, what waits to be sent, and what came while
// nobody took it. A stream that has died stays valid until the end of the turn.
type stream struct {
	c     *link
	user  user
	next  *stream // in the send queue
	id    uint32
	index int // in c.streams

	live      bool // the exchange is not over
	dead      bool
	queued    bool // in the send queue
	resumed   bool // in the connection's list of streams whose body goes on
	paused    bool // the exchange takes no body
	hold      bool // what comes has to wait for the tunnel that it belongs to
	headless  bool // the head that DATA belongs to has not come
	connect   bool // a tunnel was asked for (RFC 8441)
	tunnel    bool // and is there: DATA is the tunnel's
	outlives  bool // the connection is gone, but what came on it is passed on
	starved   bool // the exchange was told to wait until there is room
	endAsked  bool // SendEnd has been called
	sentEnd   bool // END_STREAM has been framed
	recvEnded bool // END_STREAM has come
	endPassed bool // the exchange knows

	// Receiving.
	body       []byte // what came while paused; holds a buffer only then
	recvWindow int64  // what the peer may send
	recvCredit int64  // what it gets back
	recvTarget int64  // the window when everything has been passed on
	recvHeld   bool   // body had to wait since the last credit
	withheld   int64  // of the connection's window, by body
	length     int64  // of the body, as announced; -1: not
	bodyBytes  int64  // received
	since      clock.Time
	touched    clock.Time // the last time body came
	// trailers came while body waits, nil for none.
	trailers *message.Head

	// Sending.
	pend       []byte // what waits for the window or its turn
	pendOff    int
	sendWindow int64
	progress   clock.Time // the last time that bytes of pend went out
	// pendTrailers follow what waits, nil for none. They are encoded in their turn, because a block changes compression state.
	pendTrailers *message.Head
	lastFrame    uint64 // place of the header of the last frame that may end the stream
}

// user is the exchange that a stream belongs to, as its side sees it.
type user interface {
	// onData takes a part of the body; p is valid during the call.
	onData(p []byte)
	// onEnd takes the end of the body; trailers are nil for none.
	onEnd(trailers *message.Head)
	// onWritable: there is room again after SendData had reported false.
	onWritable()
	// halfDone: our half has been framed completely, or the peer's has come.
	halfDone()
	// onLost: the stream is over, and what the exchange waits for will not come.
	onLost(reason string)
	// recycle: no list has the stream any more.
	recycle()
}

func (s *stream) pending() []byte { return s.pend[s.pendOff:] }

// SendData implements exchange.Downstream and upstream.Stream.
func (s *stream) SendData(p []byte) bool {
	if s.dead || s.sentEnd || len(p) == 0 {
		return true
	}
	c := s.c
	c.markDirty()
	if len(s.pending()) == 0 {
		n := s.writeData(p)
		if p = p[n:]; len(p) == 0 {
			return true
		}
		s.progress = c.e.loop.Now()
	}
	s.keep(p)
	if s.sendWindow > 0 {
		c.queue.push(s)
	}
	c.watch()
	if len(s.pending()) < bufferedHigh {
		return true
	}
	s.starved = true
	return false
}

// keep copies p behind what waits.
func (s *stream) keep(p []byte) {
	w := s.c.e.loop
	waiting := len(s.pending())
	if cap(s.pend)-len(s.pend) < len(p) {
		if cap(s.pend)-waiting >= len(p) {
			s.pend = s.pend[:copy(s.pend[:cap(s.pend)], s.pending())]
		} else {
			next := append(w.GetBuffer(waiting + len(p))[:0], s.pending()...)
			s.releasePend()
			s.pend = next
		}
		s.pendOff = 0
	}
	s.pend = append(s.pend, p...)
}

func (s *stream) releasePend() {
	if s.pend != nil {
		s.c.e.loop.PutBuffer(s.pend)
	}
	s.pend, s.pendOff = nil, 0
}

func (s *stream) releaseBody() {
	if s.body != nil {
		s.tookBody(len(s.body))
		s.c.e.loop.PutBuffer(s.body)
	}
	s.body = nil
}

// bufferBody keeps p until the exchange goes on.
func (s *stream) bufferBody(p []byte) {
	c := s.c
	if need := len(s.body) + len(p); cap(s.body) < need {
		next := append(c.e.loop.GetBuffer(max(need, min(2*cap(s.body), int(s.recvTarget))))[:0], s.body...)
		if s.body != nil {
			c.e.loop.PutBuffer(s.body)
		}
		s.body = next
	}
	s.body = append(s.body, p...)
	s.recvHeld = true
	if c.buffered += len(p); c.buffered > c.bodiesMax {
		s.withheld += int64(len(p))
		c.recvCredit -= int64(len(p))
	}
}

// tookBody takes n bytes, all that the stream had buffered, off the books.
func (s *stream) tookBody(n int) {
	s.c.buffered -= n
	s.c.recvCredit += s.withheld
	s.withheld = 0
}

// writeData frames as much of p as windows and output allow; it returns how much that is.
func (s *stream) writeData(p []byte) int {
	c := s.c
	done := 0
	for done < len(p) {
		n := int(min(int64(len(p)-done), frameBytesMax, s.sendWindow, c.sendWindow))
		if n <= 0 || !c.room(frameHeaderBytes+n) {
			break
		}
		c.out.reserve(c.e.loop, frameHeaderBytes+n)
		s.lastFrame = c.out.place()
		c.out.buf = appendFrameHeader(c.out.buf, n, frameData, 0, s.id)
		c.out.buf = append(c.out.buf, p[done:done+n]...)
		c.sendWindow -= int64(n)
		s.sendWindow -= int64(n)
		c.budgets.earnByData()
		done += n
	}
	return done
}

// sentBytes takes n bytes off what waits.
func (s *stream) sentBytes(n int) {
	s.pendOff += n
	if n > 0 {
		s.progress = s.c.e.loop.Now()
	}
	if s.pendOff == len(s.pend) {
		s.releasePend()
	}
}

// afterPump leads on what waited for the bytes that have gone out.
func (s *stream) afterPump() {
	switch {
	case s.endAsked && len(s.pending()) == 0:
		s.writeEnd(s.pendTrailers)
		s.user.halfDone()
	case s.starved && len(s.pending()) <= bufferedLow && s.live:
		s.starved = false
		s.user.onWritable()
	}
}

// writeEnd ends our half of the stream, with trailers unless they are nil: on the last frame if it has not left yet, else
// with a frame of its own.
func (s *stream) writeEnd(trailers *message.Head) {
	if s.sentEnd {
		return
	}
	c := s.c
	s.sentEnd = true
	if trailers != nil {
		c.writeTrailers(s, trailers)
	}
	const flagsAt = 4
	if flags := c.out.at(s.lastFrame + flagsAt); flags != nil && c.out.at(s.lastFrame) != nil {
		*flags |= flagEndStream
		return
	}
	c.out.reserve(c.e.loop, frameHeaderBytes)
	c.out.buf = appendFrameHeader(c.out.buf, 0, frameData, flagEndStream, s.id)
}

// SendEnd implements exchange.Downstream and upstream.Stream.
func (s *stream) SendEnd(trailers *message.Head) {
	if s.dead {
		return
	}
	s.endAsked = true
	if len(s.pending()) == 0 {
		s.writeEnd(trailers)
	} else {
		s.pendTrailers = copyTrailers(trailers)
	}
	s.c.markDirty()
}

// copyTrailers makes trailers outlive a call; nil stays nil.
func copyTrailers(trailers *message.Head) *message.Head {
	if trailers == nil {
		return nil
	}
	own := new(message.Head)
	own.Copy(trailers)
	return own
}

// PauseBody implements exchange.Downstream and upstream.Stream.
func (s *stream) PauseBody() { s.paused = true }

// ResumeBody implements exchange.Downstream and upstream.Stream.
func (s *stream) ResumeBody() {
	s.paused = false
	s.touched = s.c.e.loop.Now()
	if !s.dead && !s.resumed && (len(s.body) > 0 || s.recvEnded && !s.endPassed) {
		s.resumed = true
		s.c.resumed = append(s.c.resumed, s)
		s.c.markDirty()
	}
}

// onBody takes a part of the body from the peer, and its end.
func (s *stream) onBody(p []byte) {
	c := s.c
	s.touched = c.e.loop.Now()
	switch {
	case !s.live: // answered already: what is left of the response waits for the client
	case len(p) == 0:
	case s.paused || s.hold || len(s.body) > 0:
		s.bufferBody(p)
	default:
		s.user.onData(p)
		c.creditStream(s, len(p))
	}
	s.passEnd(nil)
}

// passEnd tells the exchange that the body is complete, once it has had all of it. trailers end the body, nil for none.
func (s *stream) passEnd(trailers *message.Head) {
	switch {
	case !s.live || !s.recvEnded || s.endPassed:
	case len(s.body) > 0 || s.hold:
		s.trailers = copyTrailers(trailers)
	default:
		s.endPassed = true
		s.user.onEnd(trailers)
	}
}

// passRest passes on what waits of a tunnel whose peer has ended its half: it has gone, but it had said all it wanted.
func (s *stream) passRest() {
	if !s.tunnel || !s.recvEnded || s.endPassed {
		return
	}
	listed := s.resumed
	s.paused = false
	s.resume()
	s.resumed = listed
}

// resume passes on what came while the exchange took no body.
func (s *stream) resume() {
	s.resumed = false
	if s.dead || s.paused || s.hold || !s.live {
		return
	}
	if n := len(s.body); n > 0 {
		body := s.body
		s.body = nil
		s.tookBody(n)
		s.user.onData(body)
		s.c.e.loop.PutBuffer(body)
		s.c.creditStream(s, n)
	}
	s.passEnd(s.trailers)
}
