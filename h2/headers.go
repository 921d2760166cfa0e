package h2

import (
	"encoding/binary"
	"errors"

	"rauta.io/rauta/h2/hpack"
	"rauta.io/rauta/proxy/loop"
	"rauta.io/rauta/proxy/message"
)

// onHeaders takes the begin of a header block (RFC 9113 section 6.2).
func (c *link) onHeaders(h frameHeader, payload []byte) {
	if h.stream%2 == 0 { // RFC 9113 section 5.1.1; 0 is the connection
		c.fail(codeProtocol, "bad_stream_id")
		return
	}
	fragment, ok := cutPadding(h.flags, payload)
	if !ok {
		c.fail(codeProtocol, "bad_padding")
		return
	}
	c.block = headerBlock{stream: h.stream, endStream: h.flags&flagEndStream != 0, buf: c.block.buf}
	if h.flags&flagPriority != 0 {
		if len(fragment) < 5 {
			c.fail(codeFrameSize, "bad_priority")
			return
		}
		c.block.selfDependent = binary.BigEndian.Uint32(fragment)&streamIDMask == h.stream
		fragment = fragment[5:]
	}
	if h.flags&flagEndHeaders != 0 {
		c.role.onBlock(fragment)
		return
	}
	c.gather(fragment)
}

// onContinuation takes more of a header block (RFC 9113 section 6.10).
func (c *link) onContinuation(h frameHeader, payload []byte) {
	if c.block.stream == 0 {
		c.fail(codeProtocol, "unexpected_continuation")
		return
	}
	if c.block.continuations++; c.block.continuations > continuationsMax {
		c.fail(codeEnhanceYourCalm, "continuation_flood")
		return
	}
	c.gather(payload)
	if h.flags&flagEndHeaders != 0 && c.state == serving {
		buf := c.block.buf
		c.role.onBlock(buf)
		c.e.loop.PutBuffer(buf)
		c.block.buf = nil
	}
}

// gather keeps a fragment. A block that is larger than any head we accept is not worth decoding (attack row 29).
func (c *link) gather(fragment []byte) {
	b := &c.block
	if len(b.buf)+len(fragment) > c.headBytes+headerBlockSlack {
		c.fail(codeEnhanceYourCalm, "header_block_too_large")
		return
	}
	w := c.e.loop
	if need := len(b.buf) + len(fragment); cap(b.buf) < need {
		next := append(w.GetBuffer(need)[:0], b.buf...)
		if b.buf != nil {
			w.PutBuffer(b.buf)
		}
		b.buf = next
	}
	b.buf = append(b.buf, fragment...)
}

// onBlock implements role: a block is a request, or its trailers.
func (c *serverConn) onBlock(fragment []byte) {
	id := c.block.stream
	c.block.stream = 0
	if id <= c.lastID {
		if s := c.find(id); s != nil {
			c.onTrailers(s, fragment)
			return
		}
		known, byUs := c.recall(id)
		switch {
		case known && byUs:
			c.decode(blockIgnored, nil, fragment)
		case known:
			c.fail(codeStreamClosed, "headers_after_end")
		default:
			c.fail(codeProtocol, "stream_id_went_back")
		}
		return
	}
	c.lastID = id
	c.opened++
	c.budgets.earnByStream()
	switch {
	case c.away == leaving:
		c.decode(blockIgnored, nil, fragment)
		c.remember(id, true)
	case len(c.streams) >= c.e.limits.Streams: // RFC 9113 section 5.1.2
		if c.decode(blockIgnored, nil, fragment) {
			c.sendReset(id, codeRefusedStream)
			c.remember(id, true)
		}
	default:
		c.onRequest(id, fragment)
	}
}

// decode runs a block through the decoder; false means that the connection is over.
func (c *link) decode(mode blockMode, req *message.Request, fragment []byte) bool {
	err := c.e.head.read(mode, req, c.decoder, fragment)
	switch {
	case err == nil:
		return true
	case errors.Is(err, hpack.ErrTextTooLong):
		c.fail(codeEnhanceYourCalm, "head_too_large")
	default: // RFC 9113 section 4.3
		c.fail(codeCompression, "bad_header_block")
	}
	return false
}

// onRequest opens a stream.
func (c *serverConn) onRequest(id uint32, fragment []byte) {
	endStream, selfDependent := c.block.endStream, c.block.selfDependent
	s := c.open(id)
	x := c.e.exchange.New(s, &c.peer)
	ok := c.decode(blockRequest, &x.Req, fragment)
	if !ok {
		x.Discard() // the stream is gone with the connection
		return
	}
	s.x = x
	h := &c.e.head
	p := h.finish(endStream)
	if selfDependent && !p.bad() {
		p = problem{0, "bad_priority"}
	}
	if h.dropped > 0 {
		c.e.exchange.Shard.FieldDropped(h.dropped)
	}
	s.recvEnded = endStream
	s.length = -1
	if x.Req.Framing == message.Sized {
		s.length = x.Req.Length
	}
	s.toHead = x.Req.MethodID == message.MethodHead
	s.connect = x.Req.ExtendedConnect()
	s.hold = s.connect
	s.endPassed = endStream && !s.connect
	if p.bad() {
		c.refuse(s, p)
		return
	}
	if s.receives() {
		c.watch()
	}
	if n := c.e.limits.RequestsPerConn; n > 0 && c.opened >= uint32(n) {
		c.shutdown()
	}
	x.Start()
}

// refuse answers a bad request, or resets its stream.
func (c *serverConn) refuse(s *serverStream, p problem) {
	x := s.x
	if p.status == 0 {
		s.mute = true
		p.status = 400
	}
	s.endPassed = true
	mute := s.mute
	x.Refuse(p.status, p.reason)
	if mute {
		c.glitch()
	}
}

// onTrailers takes the end of a body (RFC 9113 section 8.1).
func (c *link) onTrailers(s *stream, fragment []byte) {
	endStream := c.block.endStream
	if !c.decode(blockTrailers, nil, fragment) {
		return
	}
	switch {
	case s.recvEnded:
		c.streamError(s.id, codeStreamClosed, "headers_after_end")
	case !endStream || c.e.head.problem.bad():
		c.streamError(s.id, codeProtocol, "bad_trailers")
	case s.length >= 0 && s.bodyBytes != s.length:
		c.streamError(s.id, codeProtocol, "content_length_mismatch")
	case s.connect: // RFC 9113 section 8.5: a tunnel has DATA only
		c.streamError(s.id, codeProtocol, "trailers_in_tunnel")
	default:
		s.recvEnded = true
		s.touched = c.e.loop.Now()
		s.passEnd(c.e.head.finishTrailers())
		if !s.dead {
			s.user.halfDone()
		}
	}
}

// writeHead frames a response head.
func (c *serverConn) writeHead(s *serverStream, resp *message.Response) {
	at := c.beginBlock(&s.stream, blockBytes(&resp.Head))
	c.out.buf = appendResponse(c.encoder, c.out.buf, resp, s.toHead)
	c.endBlock(&s.stream, at)
}

// writeTrailers frames the fields that follow a body. The caller ends the stream.
func (c *link) writeTrailers(s *stream, trailers *message.Head) {
	at := c.beginBlock(s, blockBytes(trailers))
	c.out.buf = appendFields(c.encoder, c.out.buf, trailers)
	c.endBlock(s, at)
}

// beginBlock begins a header block of up to n bytes; it returns where its frame begins.
func (c *link) beginBlock(s *stream, n int) (at int) {
	c.out.reserve(c.e.loop, frameHeaderBytes+n)
	s.lastFrame = c.out.place()
	at = len(c.out.buf)
	c.out.buf = appendFrameHeader(c.out.buf, 0, frameHeaders, flagEndHeaders, s.id)
	c.out.buf = c.encoder.Begin(c.out.buf)
	return at
}

// endBlock completes a header block, in several frames if it must (RFC 9113 section 4.3).
func (c *link) endBlock(s *stream, at int) {
	b := c.out.buf
	n := len(b) - at - frameHeaderBytes
	if n > frameBytesMax {
		c.writeLongBlock(s, at, b)
		return
	}
	b[at], b[at+1], b[at+2] = byte(n>>16), byte(n>>8), byte(n)
}

// writeLongBlock frames the block that b has behind at and a frame header.
func (c *link) writeLongBlock(s *stream, at int, b []byte) {
	block := append([]byte(nil), b[at+frameHeaderBytes:]...)
	c.out.buf = b[:at]
	typ, first := frameHeaders, true
	for len(block) > 0 || first {
		n := min(len(block), frameBytesMax)
		flags := uint8(0)
		if n == len(block) {
			flags = flagEndHeaders
		}
		c.out.reserve(c.e.loop, frameHeaderBytes+n)
		if first {
			s.lastFrame = c.out.place()
		}
		c.out.buf = appendFrameHeader(c.out.buf, n, typ, flags, s.id)
		c.out.buf = append(c.out.buf, block[:n]...)
		block, typ, first = block[n:], frameContinuation, false
	}
	if c.out.waiting() > outFlush && !c.out.blocked {
		c.conn.Ready(loop.Writable)
	}
}
