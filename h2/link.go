package h2

import (
	"rauta.io/rauta/h2/hpack"
	"rauta.io/rauta/proxy/clock"
	"rauta.io/rauta/proxy/loop"
	"rauta.io/rauta/proxy/observe"
)

// link is what both ends of a connection have in common: frames in and out, header blocks, streams, flow control, and
// the bounds on what a peer may do without effect. What differs is the role, which embeds it. It implements loop.Handler,
// loop.TurnHandler and loop.Sender.
type link struct {
	// Immutable.
	conn *loop.Conn
	e    *Engine
	role role
	// resetFrom counts the resets of the peer; the one after it those that it gets.
	resetFrom observe.Reset

	// Owned by the worker.
	timer   clock.Timer
	kept    []byte // the begin of a frame whose rest has not come; holds a buffer only then
	out     outbound
	decoder *hpack.Decoder
	encoder *hpack.Encoder
	// headBytes bounds what the peer's header blocks may become.
	headBytes int
	// streamWindowMax bounds the windows of streams, bodiesMax what waits in all of them before the connection's closes.
	streamWindowMax int64
	bodiesMax       int
	state           connState
	readable        bool // the socket may hold bytes
	hangUp          bool // the peer has closed its half
	dirty           bool // registered for the end of the turn
	sending         bool // registered for the sends behind it

	// Streams. ids[i] is streams[i].id, so that a look-up touches little memory.
	streams    []*stream
	ids        []uint32
	recent     *[recentSlots]*stream // by id; nil while there are few
	lastID     uint32                // of the streams that have been opened
	closedIDs  [closedMax]closedStream
	closedNext int
	graveyard  []*stream // dead since this turn began
	queue      sendQueue
	resumed    []*stream // with body to pass on at the end of the turn
	block      headerBlock

	// Flow control, in bytes.
	sendWindow       int64 // of the connection, as the peer gave it
	streamSendWindow int64 // that new streams get
	recvWindow       int64 // what the peer may send
	recvCredit       int64 // what it gets back
	buffered         int   // in the streams' bodies

	budgets  budgets
	controls int // frames that answer the peer's doing, since the output was last empty

	readDeadline  clock.Time // something must have come by then
	writeDeadline clock.Time // the peer must have taken something by then
	watchAt       clock.Time // streams that wait for the peer are looked at
}

// role is what the two ends of a connection do differently.
type role interface {
	// onBlock takes a complete header block, which c.block describes.
	onBlock(fragment []byte)
	// onReset: the peer gives a stream up; s is nil if it is over already.
	onReset(s *stream, code errCode)
	// onGoAway: the peer wants no more streams than those up to last.
	onGoAway(last uint32, code errCode)
	// onSetting takes one setting that both ends do not have in common, onSettings their end.
	onSetting(id uint16, value uint32) errCode
	onSettings()
	// onPong: a PING of ours has been answered; false means that there was none.
	onPong(payload []byte) bool
	// forgets reports whether a frame on a stream that is over, and that was not a short while ago, is no error.
	forgets() bool
	// glitch counts an error of the peer that cost it one stream.
	glitch()
	// fail ends the connection because of an error of the peer (RFC 9113 section 5.4.1).
	fail(code errCode, reason string)
	// lose ends the connection without a word; onBroken does so when what has come was read.
	lose(why loss)
	onBroken()
	// emptied: the last stream is over.
	emptied()
	// tookOutput: the socket may have taken more.
	tookOutput()
	// afterTurn decides what comes next when all that could be sent has been.
	afterTurn()
	// armRead sets the deadline for the next bytes.
	armRead()
	// onReadTimeout and onWatch: a deadline has passed.
	onReadTimeout()
	onWatch(now clock.Time)
	// discard throws bytes away that come after the end.
	discard(n int)
}

// loss is why a connection was lost.
type loss uint8

const (
	lossReset  loss = iota // the socket broke
	lossClosed             // the peer closed it
	lossStuck              // the peer took nothing for too long
	lossFlood              // the peer makes us answer and does not read
)

// init prepares the link in place, because its timer and its role point to it.
func (c *link) init(e *Engine, conn *loop.Conn, role role, headBytes int, resetFrom observe.Reset) {
	*c = link{
		conn: conn, e: e, role: role, resetFrom: resetFrom, headBytes: headBytes,
		sendWindow: windowDefault, streamSendWindow: windowDefault, recvWindow: connWindow,
	}
	c.timer.Fire = c.onTimer
	c.decoder, c.encoder = hpack.NewDecoder(headBytes), hpack.NewEncoder()
}

func (c *link) fail(code errCode, reason string) { c.role.fail(code, reason) }

// closedMax is how many closed streams a connection remembers, to tell frames that were on their way from nonsense.
const closedMax = 2 * StreamsMax

// closedStream is the id of a stream that has ended, which has 31 bits, and perhaps resetByUs.
type closedStream uint32

// resetByUs: we have sent RST_STREAM, and the peer may not know yet.
const resetByUs closedStream = 1 << 31

// headerBlock is a block whose CONTINUATION frames have not all come.
type headerBlock struct {
	stream        uint32 // 0: none is open
	endStream     bool
	selfDependent bool
	buf           []byte
	continuations int
}

// OnEvent implements loop.Handler.
func (c *link) OnEvent(ev loop.Events) {
	if ev&loop.Error != 0 || c.out.broken {
		c.role.onBroken()
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
		c.hangUp = c.hangUp || ev&loop.HangUp != 0
		c.read()
	}
}

// read takes frames from the socket.
func (c *link) read() {
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
			c.role.lose(lossClosed)
			return
		case loop.Failed:
			c.role.lose(lossReset)
			return
		}
		if n < readChunk && !c.hangUp {
			c.readable = false // a short read has emptied the socket; the edge comes with the next byte
		}
		data := buf[:kept+n]
		used := c.consume(data)
		if c.state == closed {
			return
		}
		c.keep(data[used:])
	}
	if c.readable {
		c.conn.Ready(loop.Readable)
	}
}

// keep keeps the begin of a frame; there is a time limit for its rest.
func (c *link) keep(rest []byte) {
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
	c.role.armRead()
}

func (c *link) releaseKept() {
	if c.kept != nil {
		c.e.loop.PutBuffer(c.kept)
		c.kept = nil
	}
}

// consume uses whole frames and returns how many bytes that is.
func (c *link) consume(data []byte) int {
	used := 0
	for {
		rest := data[used:]
		switch c.state {
		case closed:
			return len(data)
		case lingering:
			c.role.discard(len(rest))
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
func (c *link) markDirty() {
	if !c.dirty {
		c.dirty = true
		c.e.loop.AtEndOfTurn(c)
	}
}

// OnTurnEnd implements loop.TurnHandler: it gathers the last frames of the turn, which leave together.
func (c *link) OnTurnEnd() {
	c.dirty = false
	if c.state == closed {
		c.resume()
		c.bury()
		return
	}
	c.e.loop.Blame(c.conn)
	c.resume()
	c.creditConn()
	c.pump()
	c.bury()
	if !c.out.blocked && c.out.waiting() > 0 {
		if !c.sending {
			c.sending = true
			c.e.loop.SendLast(c)
		}
		return
	}
	c.sent()
}

// OnSend implements loop.Sender.
func (c *link) OnSend() {
	c.sending = false
	if c.state == closed {
		return
	}
	c.e.loop.Blame(c.conn)
	if !c.out.blocked && c.out.waiting() > 0 {
		c.flushOut()
	}
	c.sent()
}

// sent ends the link's turn.
func (c *link) sent() {
	c.role.tookOutput()
	switch {
	case c.out.broken:
		c.role.onBroken()
	case c.controls > controlFramesMax:
		c.conn.Reset()
		c.role.lose(lossFlood)
	case c.out.waiting() == 0:
		c.role.afterTurn()
	}
	c.arm()
}

// resume passes bodies on that the exchanges had paused.
func (c *link) resume() {
	for i := 0; i < len(c.resumed); i++ {
		s := c.resumed[i]
		c.resumed[i] = nil
		s.resume()
	}
	c.resumed = c.resumed[:0]
}

// bury gives back the streams that died in this turn; those that a list still names wait for the next time.
func (c *link) bury() {
	left := c.graveyard[:0]
	for _, s := range c.graveyard {
		if s.queued || s.resumed {
			left = append(left, s)
		} else {
			s.user.recycle()
		}
	}
	clear(c.graveyard[len(left):])
	c.graveyard = left
}

// release gives back what the link holds of the worker; its streams are dropped by the caller.
func (c *link) release() {
	c.e.loop.Wheel().Remove(&c.timer)
	c.releaseKept()
	c.out.release(c.e.loop)
	c.queue = sendQueue{}
}

// dropStreams ends all streams without telling the peer, but those that outlive the connection.
func (c *link) dropStreams(reason string) {
	for i := len(c.streams) - 1; i >= 0; i = min(i, len(c.streams)) - 1 {
		s := c.streams[i]
		s.passRest()
		if s.dead || s.outlives { // that was all that was missing
			continue
		}
		c.remove(s, true)
		s.user.onLost(reason)
	}
}
