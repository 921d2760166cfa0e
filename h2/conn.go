package h2

import (
	"golang.org/x/net/http2/hpack"

	"rauta.io/rauta/proxy/clock"
	"rauta.io/rauta/proxy/exchange"
	"rauta.io/rauta/proxy/loop"
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

// serverConn is a connection that a client opened. It implements loop.Handler and loop.TurnHandler.
type serverConn struct {
	// Immutable.
	conn *loop.Conn
	e    *Engine
	peer exchange.Peer

	// Owned by the worker.
	timer    clock.Timer
	kept     []byte // the begin of a frame whose rest has not come; holds a buffer only then
	out      outbound
	decoder  *hpack.Decoder
	state    connState
	away     goingAway
	readable bool // the socket may hold bytes
	dirty    bool // registered for the end of the turn
	started  bool // a header block of ours has been sent
	finSent  bool
	opened   uint32

	// Streams. ids[i] is streams[i].id, so that a look-up touches little memory.
	streams    []*stream
	ids        []uint32
	lastID     uint32 // of the streams that the client has opened
	leaveID    uint32 // the last stream that is served once leaving
	closedIDs  [closedMax]closedStream
	closedNext int
	graveyard  []*stream // dead since this turn began
	queue      sendQueue
	resumed    []*stream // with body to pass on at the end of the turn
	block      headerBlock

	// Flow control, in bytes.
	sendWindow       int64 // of the connection, as the client gave it
	streamSendWindow int64 // that new streams get
	recvWindow       int64 // what the client may send
	recvCredit       int64 // what it gets back
	buffered         int   // in the streams' bodies

	budgets  budgets
	resets   *resetLog // nil until the first reset
	glitches int
	controls int // frames that answer the client's doing, since the output was last empty

	readDeadline  clock.Time // something must have come by then
	writeDeadline clock.Time // the client must have taken something by then
	watchAt       clock.Time // streams that wait for the client are looked at
	partSince     clock.Time // when the begin of a frame or header block was left without its rest
	announcedAt   clock.Time // when the graceful end was first looked at
	idleSince     clock.Time // when the last stream ended; 0 before the first one
	lingerLeft    int64

	inIdle   bool
	index    int // in e.conns
	idlePrev *serverConn
	idleNext *serverConn
}

// closedMax is how many closed streams a connection remembers, to tell frames that were on their way from nonsense.
const closedMax = 2 * StreamsMax

// closedStream is a stream that has ended.
type closedStream struct {
	id   uint32
	byUs bool // we have sent RST_STREAM: the client may not know yet
}

// headerBlock is a block whose CONTINUATION frames have not all come.
type headerBlock struct {
	stream        uint32 // 0: none is open
	endStream     bool
	selfDependent bool
	buf           []byte
	continuations int
}

func nanos(ns int64) clock.Time { return clock.Time(ns) }

func newServerConn(e *Engine, conn *loop.Conn, peer exchange.Peer) *serverConn {
	peer.Protocol = "HTTP/2"
	c := &serverConn{
		conn: conn, e: e, peer: peer, sendWindow: windowDefault, streamSendWindow: windowDefault, recvWindow: connWindow,
	}
	c.timer.Fire = c.onTimer
	c.decoder = hpack.NewDecoder(headerTableBytes, e.head.onField)
	c.decoder.SetMaxStringLength(e.limits.HeadBytes)
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
	c.e.idle.push(c)
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

// OnEvent implements loop.Handler.
func (c *serverConn) OnEvent(ev loop.Events) {
	if ev&loop.Error != 0 || c.out.broken {
		c.gone("client_reset")
		return
	}
	if ev&loop.Writable != 0 {
		if c.out.blocked {
			c.flushOut()
		}
		c.markDirty() // streams may go on
	}
	if ev&(loop.Readable|loop.HangUp) != 0 {
		c.readable = true
		c.read()
	}
}

// read takes frames from the socket.
func (c *serverConn) read() {
	for range readsPerTurn {
		if c.state == closed || !c.readable {
			return
		}
		// Everything is read into the worker's buffer, behind the begin of a frame that was left over.
		buf := c.e.loop.ReadBuffer()
		kept := copy(buf, c.kept)
		n, st := c.conn.Read(buf[kept : kept+readChunk])
		switch st {
		case loop.Again:
			c.readable = false
			return
		case loop.EOF:
			c.gone("client_closed")
			return
		case loop.Failed:
			c.gone("client_reset")
			return
		}
		data := buf[:kept+n]
		used := c.consume(data)
		if c.state == closed {
			return
		}
		c.keep(data[used:])
	}
	c.conn.Ready(loop.Readable)
}

// keep keeps the begin of a frame; there is a time limit for its rest.
func (c *serverConn) keep(rest []byte) {
	w := c.e.loop
	if len(rest) == 0 {
		c.releaseKept()
	} else {
		if cap(c.kept) < len(rest) {
			c.releaseKept()
			c.kept = w.GetBuffer(len(rest))
		}
		c.kept = append(c.kept[:0], rest...)
	}
	c.armRead()
}

func (c *serverConn) releaseKept() {
	if c.kept != nil {
		c.e.loop.PutBuffer(c.kept)
		c.kept = nil
	}
}

// consume uses whole frames and returns how many bytes that is.
func (c *serverConn) consume(data []byte) int {
	used := 0
	for {
		rest := data[used:]
		switch c.state {
		case closed:
			return len(data)
		case lingering:
			c.discard(len(rest))
			return len(data)
		case awaitPreface:
			n := min(len(rest), len(Preface))
			if string(rest[:n]) != Preface[:n] {
				c.fail(codeProtocol, "bad_preface")
				return len(data)
			}
			if n < len(Preface) {
				return used
			}
			used += n
			c.state = awaitSettings
			continue
		}
		if len(rest) < frameHeaderBytes {
			return used
		}
		h := parseFrameHeader(rest)
		if h.length > frameBytesMax {
			c.fail(codeFrameSize, "frame_too_large")
			return len(data)
		}
		if len(rest) < frameHeaderBytes+h.length {
			return used
		}
		c.onFrame(h, rest[frameHeaderBytes:frameHeaderBytes+h.length])
		used += frameHeaderBytes + h.length
	}
}

// markDirty makes sure that OnTurnEnd runs in this turn.
func (c *serverConn) markDirty() {
	if !c.dirty {
		c.dirty = true
		c.e.loop.AtEndOfTurn(c)
	}
}

// OnTurnEnd implements loop.TurnHandler: all frames of the turn leave together.
func (c *serverConn) OnTurnEnd() {
	c.dirty = false
	if c.state == closed {
		c.bury()
		return
	}
	c.e.loop.Blame(c.conn)
	c.resume()
	c.creditConn()
	c.pump()
	if !c.out.blocked && c.out.waiting() > 0 {
		c.flushOut()
	}
	c.bury()
	switch {
	case c.out.broken:
		c.gone("client_reset")
	case c.controls > controlFramesMax:
		c.conn.Reset()
		c.gone("client_control_flood")
	case c.out.waiting() > 0:
	case c.away == leaving && len(c.streams) == 0 && c.state == serving:
		c.linger()
		fallthrough
	case c.state == lingering && !c.finSent:
		c.finSent = true
		c.conn.CloseWrite()
	}
	c.arm()
}

// resume passes request bodies on that the exchanges had paused.
func (c *serverConn) resume() {
	for i := 0; i < len(c.resumed); i++ {
		s := c.resumed[i]
		c.resumed[i] = nil
		s.resume()
	}
	c.resumed = c.resumed[:0]
}

// bury gives back the streams that died in this turn; those that a list still names wait for the next time.
func (c *serverConn) bury() {
	left := c.graveyard[:0]
	for _, s := range c.graveyard {
		if s.queued || s.resumed {
			left = append(left, s)
		} else {
			c.e.putStream(s)
		}
	}
	clear(c.graveyard[len(left):])
	c.graveyard = left
}

// fail ends the connection because of an error of the peer (RFC 9113 section 5.4.1).
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
	c.e.idle.remove(c)
	c.lingerLeft = c.e.limits.LingerBytes
	c.readDeadline = c.e.loop.Now() + nanos(c.e.limits.LingerTime)
	c.arm()
}

// discard throws bytes away while lingering.
func (c *serverConn) discard(n int) {
	c.lingerLeft -= int64(n)
	if c.lingerLeft < 0 {
		c.gone("client_reset")
	}
}

// gone ends the connection and the exchanges that it carries.
func (c *serverConn) gone(reason string) {
	if c.state == closed {
		return
	}
	c.state = closed
	c.conn.Close()
	c.e.loop.Wheel().Remove(&c.timer)
	c.e.idle.remove(c)
	c.e.remove(c)
	c.dropStreams(reason)
	c.releaseKept()
	c.out.release(c.e.loop)
	c.queue = sendQueue{}
	c.e.exchange.Shard.ConnClosed()
}

// dropStreams ends all streams without telling the client.
func (c *serverConn) dropStreams(reason string) {
	for len(c.streams) > 0 {
		s := c.streams[len(c.streams)-1]
		x := s.x
		s.x = nil
		c.remove(s, true)
		if x != nil {
			x.OnClientGone(reason)
		}
	}
}

// closeIdle ends a connection without streams.
func (c *serverConn) closeIdle() {
	c.e.idle.remove(c)
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
