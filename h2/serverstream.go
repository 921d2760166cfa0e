package h2

import (
	"rauta.io/rauta/proxy/exchange"
	"rauta.io/rauta/proxy/message"
)

// serverStream is a request of a client. It implements exchange.Downstream.
type serverStream struct {
	stream
	conn *serverConn
	x    *exchange.Exchange // nil once the exchange is over
	// taking is over, but what is left of its response waits for the client's windows and socket.
	taking *exchange.Exchange

	mute   bool // the exchange's answer is replaced by a reset
	toHead bool // the request was HEAD
	begun  bool // the final head has been framed
}

// open makes a stream of the client's new id.
func (c *serverConn) open(id uint32) *serverStream {
	s := c.e.takeServerStream()
	s.conn, s.user, s.live = c, s, true
	c.add(&s.stream, id)
	c.e.idle.Remove(&c.place)
	return s
}

// SendHead implements exchange.Downstream.
func (s *serverStream) SendHead(resp *message.Response) {
	c := s.conn
	if s.dead || s.mute {
		return
	}
	if s.connect && resp.Status == statusSwitching {
		s.openTunnel(resp)
	}
	if resp.Status >= 200 {
		s.begun = true
		if c.e.exchange.Draining || c.peer.Outdated() {
			c.shutdown()
		}
	}
	c.writeHead(s, resp)
	c.budgets.earnByData()
	c.markDirty()
}

// SendData implements exchange.Downstream.
func (s *serverStream) SendData(p []byte) bool {
	if s.mute || s.toHead {
		return true
	}
	return s.stream.SendData(p)
}

// SendEnd implements exchange.Downstream.
func (s *serverStream) SendEnd(trailers *message.Head) {
	if s.mute {
		return
	}
	if s.toHead {
		trailers = nil
	}
	s.stream.SendEnd(trailers)
}

// Abort implements exchange.Downstream.
func (s *serverStream) Abort(cancelled bool) {
	s.over()
	if !s.dead {
		code := codeInternal
		if cancelled || s.tunnel { // RFC 8441 section 5: what a reset is in TCP
			code = codeCancel
		}
		s.c.reset(&s.stream, code)
	}
}

// Finished implements exchange.Downstream. The response counts as taken once the socket has its last frame.
func (s *serverStream) Finished() (taken bool) {
	x := s.over()
	s.starved = false
	if s.dead {
		return true
	}
	s.releaseBody()
	if s.mute {
		s.c.reset(&s.stream, codeProtocol)
		return true
	}
	if !s.sentEnd && !s.tunnel {
		s.taking = x
		return false
	}
	taken = s.tunnel || x == nil || !s.conn.await(x)
	s.halfDone()
	return taken
}

// tookResponse tells an exchange that waits for it that its response has gone, or never will because of lost.
func (s *serverStream) tookResponse(lost string) {
	if x := s.taking; x != nil {
		s.taking = nil
		x.OnTaken(lost)
	}
}

// halfDone implements user: it ends a stream whose exchange is over, once its response has been framed completely.
func (s *serverStream) halfDone() {
	if s.x != nil || !s.sentEnd || s.dead {
		return
	}
	if x := s.taking; x != nil && s.conn.await(x) {
		s.taking = nil
	}
	s.tookResponse("")
	if !s.recvEnded { // RFC 9113 section 8.1: the rest of the request is not needed
		s.c.reset(&s.stream, codeNo)
		return
	}
	s.c.remove(&s.stream, false)
}

// over forgets the exchange.
func (s *serverStream) over() *exchange.Exchange {
	x := s.x
	s.x, s.live = nil, false
	return x
}

// The rest of user.
func (s *serverStream) onData(p []byte)              { s.x.OnRequestData(p) }
func (s *serverStream) onEnd(trailers *message.Head) { s.x.OnRequestEnd(trailers) }
func (s *serverStream) onWritable()                  { s.x.OnClientWritable() }
func (s *serverStream) recycle()                     { s.conn.e.putServerStream(s) }

func (s *serverStream) onLost(reason string) {
	s.tookResponse(reason)
	if x := s.over(); x != nil {
		x.OnClientGone(reason)
	}
}
