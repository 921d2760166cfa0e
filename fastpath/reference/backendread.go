package reference

import (
	"io"

	"rauta.io/rauta/fastpath/wire"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/upstream"
)

// readChunk is what one read takes from a back end, in bytes; the buffer grows for heads that are larger.
const readChunk = 16 << 10

// readLoop reads from the back end as long as the connection lives, also between requests: that is how its end, and
// bytes that nobody asked for, are noticed.
func (b *backendConn) readLoop() {
	buf := make([]byte, readChunk)
	kept := 0 // bytes at the start of buf that could not be used yet
	for b.awaitWanted() {
		if kept > 0 {
			kept = b.consumeKept(buf, kept)
			if kept == 0 || !b.takes() {
				continue
			}
			// what is left is a part of a head, which needs more bytes
		}
		if kept == len(buf) {
			buf = append(buf, make([]byte, len(buf))...)
		}
		n, err := b.nc.Read(buf[kept:])
		kept = b.onRead(buf[:kept+n], err)
		if err != nil {
			return
		}
	}
}

// awaitWanted waits while the exchange takes no body; false means that the connection is over.
func (b *backendConn) awaitWanted() bool {
	b.core.mu.Lock()
	defer b.core.mu.Unlock()
	for b.paused && b.sink != nil {
		b.changed.Wait()
	}
	return b.state != backendClosed
}

// takes reports whether a byte from the back end could be used now.
func (b *backendConn) takes() bool {
	b.core.mu.Lock()
	defer b.core.mu.Unlock()
	return !b.paused || b.sink == nil
}

func (b *backendConn) consumeKept(buf []byte, kept int) int {
	b.core.lock()
	defer b.core.mu.Unlock()
	return copy(buf, buf[b.consume(buf[:kept]):kept])
}

// onRead uses data, and handles the end of the connection; it returns how many bytes were moved to the front of data.
func (b *backendConn) onRead(data []byte, err error) int {
	b.core.lock()
	defer b.core.mu.Unlock()
	b.hangUp = b.hangUp || err != nil
	rest := data
	for {
		rest = rest[b.consume(rest):]
		if err == nil || len(rest) == 0 || b.state == backendClosed || !b.paused {
			break
		}
		b.changed.Wait() // the last bytes of the connection must be taken before its end is told
		b.core.wheel.SetNow(b.core.e.now())
	}
	switch {
	case b.state == backendClosed:
	case err == io.EOF:
		b.eof()
	case err != nil:
		cause, detail := upstream.LossOf(err)
		b.fail(cause, detail, err)
	}
	return copy(data, rest)
}

// consume uses what it can of data and returns how many bytes that is.
func (b *backendConn) consume(data []byte) int {
	used := 0
	for used < len(data) {
		rest := data[used:]
		n := 0
		switch b.state {
		case backendHead:
			n = b.onHead(rest)
		case backendBody, backendTunnel:
			if b.paused {
				return used
			}
			n = b.onBody(rest)
		case backendIdle:
			b.drop() // bytes that nobody asked for: a response to no request (attack row 34)
		}
		if n == 0 {
			return used
		}
		used += n
	}
	return used
}

// onHead parses a response head and delivers it.
func (b *backendConn) onHead(data []byte) int {
	b.req.answered = true
	n, reason := b.parser.Parse(data, &b.head, b.req.head, &b.core.e.opt.Limits.Response)
	if reason != wire.OK {
		b.fail(upstream.CauseProtocol, reason.String(), nil)
		return 0
	}
	if n == 0 {
		return 0
	}
	b.parser.Reset()
	b.deliver(&b.head, len(data)-n)
	return n
}

// deliver hands a complete head to the exchange and prepares for what follows it; rest is how many bytes are at hand.
func (b *backendConn) deliver(head *message.Response, rest int) {
	if head.Status < 200 && head.Status != 101 {
		b.sink.OnHead(head)
		return
	}
	b.req.begun = true
	b.body = backendBodyState{framing: head.Framing, left: head.Length, closes: head.Close}
	head.Close = false // that was about this connection, not the client's
	if head.Status == 101 {
		b.state = backendTunnel
		b.sink.OnHead(head)
		return
	}
	b.state = backendBody
	b.sink.OnHead(head)
	if b.state != backendBody {
		return // the exchange has given the stream up
	}
	if b.body.framing == message.NoBody || b.body.framing == message.Sized && b.body.left == 0 {
		b.finish(rest)
	}
}

// onBody delivers a part of the body, or of a tunnel.
func (b *backendConn) onBody(data []byte) int {
	part, n, done := data, len(data), false
	switch {
	case b.state == backendTunnel:
	case b.body.framing == message.Sized:
		n = int(min(int64(n), b.body.left))
		part = data[:n]
		b.body.left -= int64(n)
		done = b.body.left == 0
	case b.body.framing == message.Streamed:
		var reason wire.Reason
		part, n, done, reason = b.body.chunks.Next(data)
		if reason != wire.OK {
			b.fail(upstream.CauseProtocol, reason.String(), nil)
			return 0
		}
	}
	if len(part) > 0 {
		b.sink.OnData(part)
	}
	if done && b.state == backendBody {
		b.finish(len(data) - n)
	}
	return n
}

// finish ends the response; rest is how many bytes follow it, which must be none if the connection is to be used again.
func (b *backendConn) finish(rest int) {
	sink := b.sink
	reusable := b.req.ended && !b.req.upgrade && !b.body.closes && !b.hangUp && rest == 0 && len(b.out) == 0 &&
		b.written() && !b.broken
	b.sink = nil
	b.state = backendIdle
	sink.OnEnd(nil)
	if reusable {
		b.pool.Release(b)
		return
	}
	b.drop()
}

// written reports whether the request has left. With TLS the response may come before the writer has told so: of a few
// bytes it can be taken for granted.
func (b *backendConn) written() bool {
	const few = 4 << 10
	return b.writing == 0 || b.raw == nil && b.writing <= few
}

// eof: the back end has closed its half.
func (b *backendConn) eof() {
	switch {
	case b.state == backendBody && b.body.framing == message.UntilClose:
		b.finish(0)
	case b.state == backendTunnel:
		b.sink.OnEnd(nil)
	case b.state == backendIdle:
		b.drop()
	default:
		b.fail(upstream.CauseEOF, "", nil)
	}
}
