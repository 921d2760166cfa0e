package h2

import (
	"rauta.io/rauta/proxy/clock"
	"rauta.io/rauta/proxy/exchange"
	"rauta.io/rauta/proxy/list"
	"rauta.io/rauta/proxy/loop"
	"rauta.io/rauta/proxy/observe"
)

// connState is how far a connection has come.
type connState uint8

const (
	awaitPreface  connState = iota
	awaitSettings           // the preface has come; SETTINGS must be the first frame (RFC 9113 section 3.4)
	serving
	lingering // GOAWAY has been sent: what comes is thrown away until the client closes
	closed
)

// goingAway is how far a graceful end has come (RFC 9113 section 6.8).
type goingAway uint8

const (
	staying goingAway = iota
	// announced: the client has been told to open no more streams, and pinged so that we know when it has heard.
	announced
	// leaving: the last stream that is served is fixed.
	leaving
)

// serverConn is a connection that a client opened.
type serverConn struct {
	link

	// Immutable.
	peer exchange.Peer

	// Owned by the worker.
	taking   []taking // in the order of their places; nil for none
	away     goingAway
	finSent  bool
	opened   uint32
	leaveID  uint32    // the last stream that is served once leaving
	resets   *resetLog // nil until the first reset
	glitches int

	partSince   clock.Time // when the begin of a frame or header block was left without its rest
	announcedAt clock.Time // when the graceful end was first looked at
	idleSince   clock.Time // when the last stream ended; 0 before the first one
	lingerLeft  int64

	index int                   // in e.conns
	place list.Node[serverConn] // in e.idle
}

func nanos(ns int64) clock.Time { return clock.Time(ns) }

func newServerConn(e *Engine, conn *loop.Conn, peer exchange.Peer) *serverConn {
	peer.Protocol = "HTTP/2"
	peer.Queued = conn.Queued()
	c := &serverConn{peer: peer}
	c.place.Item = c
	c.init(e, conn, c, e.limits.HeadBytes, observe.ResetFromClient)
	c.streamWindowMax, c.bodiesMax = streamWindowMax, bodiesBufferedMax
	return c
}

// begin sends our preface and takes what has been read.
func (c *serverConn) begin(initial []byte) {
	c.out.reserve(c.e.loop, 64)
	b := appendFrameHeader(c.out.buf, 4*settingBytes, frameSettings, 0, 0)
	b = appendSetting(b, settingMaxConcurrentStreams, uint32(c.e.limits.Streams))
	b = appendSetting(b, settingInitialWindowSize, streamWindow)
	b = appendSetting(b, settingMaxHeaderListSize, uint32(c.e.limits.HeadBytes))
	b = appendSetting(b, settingEnableConnectProtocol, 1)
	c.out.buf = appendWindowUpdate(b, 0, connWindow-windowDefault)
	c.markDirty()
	c.readDeadline = c.conn.AcceptedAt() + nanos(c.e.limits.HeadTimeout)
	c.arm()
	c.conn.ReceiveAhead()
	c.e.idle.PushBack(&c.place)
	if c.e.exchange.Draining {
		c.shutdown()
	}
	used := c.consume(initial)
	if c.state != closed {
		c.keep(initial[used:])
		c.readable = true
		c.conn.Ready(loop.Readable)
	}
}

// fail implements role.
func (c *serverConn) fail(code errCode, reason string) {
	if c.state == closed || c.state == lingering {
		return
	}
	c.out.reserve(c.e.loop, 32)
	c.out.buf = appendGoAway(c.out.buf, c.lastID, code)
	c.linger()
	c.dropStreams(reason)
	if !c.out.blocked {
		c.flushOut() // before what else comes in this turn may exceed what is read in vain
	}
	c.markDirty()
}

// linger goes on reading for a while, so that the client gets to see what we have sent: closing with unread bytes in the
// socket would reset the connection.
func (c *serverConn) linger() {
	c.state = lingering
	c.e.idle.Remove(&c.place)
	c.lingerLeft = c.e.limits.LingerBytes
	c.readDeadline = c.e.loop.Now() + nanos(c.e.limits.LingerTime)
	c.arm()
}

// afterTurn implements role.
func (c *serverConn) afterTurn() {
	if c.away == leaving && len(c.streams) == 0 && c.state == serving {
		c.linger()
	}
	if c.state == lingering && !c.finSent {
		c.finSent = true
		c.conn.CloseWrite()
	}
}

// discard implements role: it throws bytes away while lingering.
func (c *serverConn) discard(n int) {
	c.lingerLeft -= int64(n)
	if c.lingerLeft < 0 {
		c.gone("client_reset")
	}
}

// lossReasons name a loss in logs and metrics.
var lossReasons = [...]string{
	lossReset: "client_reset", lossClosed: "client_closed", lossStuck: "client_write_timeout", lossFlood: "client_control_flood",
}

// lose and onBroken implement role.
func (c *serverConn) lose(why loss) { c.gone(lossReasons[why]) }
func (c *serverConn) onBroken()     { c.lose(lossReset) }

// gone ends the connection and the exchanges that it carries.
func (c *serverConn) gone(reason string) {
	if c.state == closed {
		return
	}
	c.state = closed
	c.conn.Close()
	c.e.idle.Remove(&c.place)
	c.e.remove(c)
	c.dropStreams(reason)
	c.loseTaking(reason)
	c.release()
	c.e.exchange.Shard.ConnClosed()
}

// closeIdle ends a connection without streams.
func (c *serverConn) closeIdle() {
	c.e.idle.Remove(&c.place)
	if c.state == awaitPreface || c.state == awaitSettings {
		c.gone("client_idle")
		return
	}
	c.fail(codeNo, "client_idle")
}

// pingLeaving is the payload of the PING that tells when the client has heard of the end.
const pingLeaving = "rauta/go"

// shutdown begins a graceful end: streams that the client has opened meanwhile are served (RFC 9113 section 6.8).
func (c *serverConn) shutdown() {
	if c.away != staying || c.state == closed || c.state == lingering {
		return
	}
	c.away = announced
	c.out.reserve(c.e.loop, 64)
	b := appendGoAway(c.out.buf, streamIDMask, codeNo)
	b = appendFrameHeader(b, len(pingLeaving), framePing, 0, 0)
	c.out.buf = append(b, pingLeaving...)
	c.watch()
	c.markDirty()
}

// leave fixes the last stream that is served.
func (c *serverConn) leave() {
	c.away = leaving
	c.leaveID = c.lastID
	c.out.reserve(c.e.loop, 32)
	c.out.buf = appendGoAway(c.out.buf, c.leaveID, codeNo)
	c.markDirty()
}

// onGoAway implements role: the client opens no more streams (RFC 9113 section 6.8).
func (c *serverConn) onGoAway(uint32, errCode) {
	if c.away != leaving {
		c.leave()
	}
}

// onPong implements role.
func (c *serverConn) onPong(payload []byte) bool {
	if c.away == announced && string(payload) == pingLeaving {
		c.leave()
		return true
	}
	return false
}

// onSetting implements role. We never push.
func (c *serverConn) onSetting(id uint16, value uint32) errCode {
	if id == settingEnablePush && value > 1 {
		return codeProtocol
	}
	return codeNo
}

// onSettings implements role.
func (c *serverConn) onSettings() {}

// forgets implements role: ids that the client has skipped were never streams.
func (c *serverConn) forgets() bool { return false }

// emptied implements role.
func (c *serverConn) emptied() {
	if c.state == serving {
		c.idleSince = c.e.loop.Now()
		c.armRead()
		c.e.idle.PushBack(&c.place)
	}
}

// onReset implements role (RFC 9113 section 6.4).
func (c *serverConn) onReset(s *stream, _ errCode) {
	if s == nil {
		c.spend(&c.budgets.empty, emptyFramesPerMinute, "rst_flood")
		return
	}
	begun := s.user.(*serverStream).begun
	c.remove(s, false)
	s.user.onLost("client_reset_stream")
	if !begun {
		c.countReset()
	}
}
