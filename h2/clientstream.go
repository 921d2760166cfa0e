package h2

import (
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/upstream"
	"rauta.io/rauta/proxy/websocket"
)

// clientStream is a request to a back end. It implements upstream.Stream.
type clientStream struct {
	stream
	conn *clientConn
	sink upstream.Sink // nil once the exchange has been told of the end, or has given up

	toHead   bool           // the request is HEAD
	interim  bool           // an interim head has come
	cause    upstream.Cause // why nothing is sent of the request
	headAt   uint64         // place of the request's head in the output
	hasKey   bool
	answered [websocket.AcceptBytes]byte // what answers the client's key
}

// SendHead implements upstream.Stream.
func (s *clientStream) SendHead(req *message.Request) {
	c := s.conn
	if req.Upgrade.Len > 0 && !s.openConnect(req) {
		s.refuse(upstream.CauseNoTunnel)
		return
	}
	size := requestBytes(req)
	if listBytesBound(size, len(req.Fields)) > int(c.listMax) && listBytes(req, c.scheme) > int(c.listMax) {
		if s.hasKey {
			hideKey(req, false)
		}
		s.refuse(upstream.CauseHeadLimit)
		return
	}
	s.toHead = req.MethodID == message.MethodHead
	c.add(&s.stream, c.nextID)
	c.lastID = c.nextID
	c.nextID += 2
	s.headAt = c.out.place()
	at := c.beginBlock(&s.stream, size)
	c.out.buf, c.e.path = appendRequest(c.encoder, c.out.buf, req, c.scheme, c.e.path)
	c.endBlock(&s.stream, at)
	if s.hasKey {
		hideKey(req, false)
	}
	if req.Framing == message.NoBody && !s.connect {
		s.endAsked = true
		s.writeEnd(nil)
	}
	c.budgets.earnByStream()
	c.budgets.empty.earn(1, emptyFramesPerMinute)
	c.markDirty()
	if c.readDeadline == 0 {
		c.armRead()
	}
	if c.nextID >= lastStreamID {
		c.leave()
	}
}

// refuse sends nothing of the request, which the back end would not take. The sink is told after it has had its stream.
func (s *clientStream) refuse(cause upstream.Cause) {
	s.cause = cause
	s.dead = true // what else is said on the stream goes nowhere
	s.c.e.loop.AtEndOfTurn(s)
}

// openConnect prepares a tunnel with extended CONNECT (RFC 8441); false means that the back end does not take it.
func (s *clientStream) openConnect(req *message.Request) bool {
	if !s.conn.connects || !message.EqualFold(req.Bytes(req.Upgrade), websocket.Protocol) {
		return false
	}
	s.connect = true
	if i := req.Lookup(websocket.KeyField, message.Unknown, 0); i >= 0 {
		s.hasKey = true
		s.answered = websocket.Accept(req.Bytes(req.Fields[i].Value))
		hideKey(req, true)
	}
	return true
}

// hideKey takes the key off while the head is written (RFC 8441 section 5). Another attempt may need it.
func hideKey(req *message.Request, hide bool) {
	from, to := message.Unknown, message.Removed
	if !hide {
		from, to = to, from
	}
	for i := range req.Fields {
		if f := &req.Fields[i]; f.ID == from && message.EqualFold(req.Bytes(f.Name), websocket.KeyField) {
			f.ID = to
		}
	}
}

// OnTurnEnd implements loop.TurnHandler: it fails a request that was refused.
func (s *clientStream) OnTurnEnd() {
	c := s.conn
	if s.live {
		sink := s.forgetSink()
		sink.OnFailure(upstream.Failure{Stage: upstream.StageQueue, Cause: s.cause})
	}
	s.recycle()
	if c.state != closed {
		c.pool.Release(c)
	}
}

// Cancel implements upstream.Stream. A tunnel whose client has ended its half is not cut off: what waits is still sent, as
// long as the back end takes some of it within WriteIdle.
func (s *clientStream) Cancel() {
	s.forgetSink()
	switch {
	case s.dead:
	case s.id == 0: // nothing was sent
		c := s.conn
		s.recycle()
		c.pool.Release(c)
	case s.tunnel && s.endAsked && s.recvEnded:
		s.halfDone()
	case s.tunnel && s.endAsked && !s.sentEnd:
		s.releaseBody()
		s.conn.watch()
	default:
		s.giveUp(codeCancel)
	}
}

// giveUp resets the stream. It counts until the back end can have heard of it.
func (s *clientStream) giveUp(code errCode) {
	c := s.conn
	if c.state == closed {
		c.remove(&s.stream, true)
		return
	}
	c.reset(&s.stream, code)
	c.gaveUp()
}

// finish ends the stream in peace.
func (s *clientStream) finish() {
	c := s.conn
	c.remove(&s.stream, false)
	if c.state != closed {
		c.pool.Release(c)
	}
}

// forgetSink detaches the exchange.
func (s *clientStream) forgetSink() upstream.Sink {
	sink := s.sink
	s.sink, s.live = nil, false
	return sink
}

// onFinalHead delivers the head that answers the request.
func (s *clientStream) onFinalHead(resp *message.Response, endStream bool) {
	s.headless = false
	s.recvEnded = endStream
	s.length = -1
	switch {
	case s.connect && resp.Status < 300:
		s.openTunnel(resp)
	case resp.Framing == message.Sized:
		s.length = resp.Length
	case resp.Framing == message.NoBody:
		s.length = 0
	}
	if !s.tunnel {
		s.connect = false
	}
	s.sink.OnHead(resp)
	if endStream && !s.dead {
		s.passEnd(nil)
	}
}

// openTunnel turns the head that opens a tunnel into the one that HTTP/1 has for it.
func (s *clientStream) openTunnel(resp *message.Response) {
	resp.Status, resp.Framing, resp.Length = statusSwitching, message.NoBody, -1
	resp.Upgrade = resp.StoreString(websocket.Protocol)
	resp.RemoveName(websocket.AcceptField, message.Unknown)
	if s.hasKey {
		resp.AddBytes("Sec-WebSocket-Accept", s.answered[:], message.Unknown)
	}
	s.tunnel = true
}

// stage is how far the request has come.
func (s *clientStream) stage() upstream.Stage {
	switch {
	case !s.headless:
		return upstream.StageBody
	case s.c.out.at(s.headAt) != nil:
		return upstream.StageUnsent
	case s.interim || s.conn.began(s.id):
		return upstream.StageHead
	}
	return upstream.StageSent
}

// onReset: the back end gives the stream up.
func (s *clientStream) onReset(code errCode) {
	if s.recvEnded && s.live { // the response is here completely, and waits for the client: only our half is not wanted
		s.stopSending()
		return
	}
	if code == codeRefusedStream { // RFC 9113 section 8.7
		s.refused(code)
		return
	}
	s.failed(upstream.Failure{Stage: s.stage(), Cause: upstream.CauseReset, Detail: code.String()})
}

// outlive keeps the stream for a response that is here completely, and waits for the client.
func (s *clientStream) outlive() {
	if s.recvEnded && s.live && !s.tunnel {
		s.outlives = true
		s.stopSending()
	}
}

// stopSending drops what has not been sent yet of the request.
func (s *clientStream) stopSending() {
	s.releasePend()
	s.endAsked, s.sentEnd = true, true
	if s.starved {
		s.starved = false
		s.sink.OnWritable()
	}
}

// refused: the back end has not looked at the request.
func (s *clientStream) refused(code errCode) {
	s.failed(upstream.Failure{Stage: upstream.StageUnsent, Cause: upstream.CauseReset, Detail: code.String()})
}

// failed ends the stream, which the back end counts no more.
func (s *clientStream) failed(f upstream.Failure) {
	sink := s.forgetSink()
	s.finish()
	if sink != nil {
		sink.OnFailure(f)
	}
}

// onData implements user.
func (s *clientStream) onData(p []byte) { s.sink.OnData(p) }

// onEnd implements user. The rest of a request that has its answer is not needed (RFC 9113 section 8.1).
func (s *clientStream) onEnd(trailers *message.Head) {
	if s.tunnel {
		s.sink.OnEnd(nil)
		return
	}
	s.forgetSink().OnEnd(trailers)
	switch {
	case s.dead:
	case s.sentEnd:
		s.finish()
	default:
		s.giveUp(codeCancel)
	}
}

// onWritable implements user.
func (s *clientStream) onWritable() { s.sink.OnWritable() }

// halfDone implements user. A response is over with its end; a tunnel when both ends have closed, or when its client has
// gone and all that it said has been sent.
func (s *clientStream) halfDone() {
	switch {
	case s.live || s.dead || !s.sentEnd:
	case s.recvEnded:
		s.finish()
	default:
		s.giveUp(codeCancel)
	}
}

// onLost implements user: the connection is over, or the back end broke the protocol on this stream.
func (s *clientStream) onLost(reason string) {
	c := s.conn
	f := upstream.Failure{Stage: s.stage(), Cause: upstream.CauseProtocol, Detail: reason}
	if c.state == closed {
		f.Cause, f.Err, f.Shared = c.end.Cause, c.end.Err, c.end.Shared
		c.end.Shared = c.end.Shared || f.Stage != upstream.StageUnsent
	} else {
		c.gaveUp()
	}
	if sink := s.forgetSink(); sink != nil {
		sink.OnFailure(f)
	}
}

// recycle implements user.
func (s *clientStream) recycle() { s.conn.e.putClientStream(s) }
