package h2

import (
	"math"
	"syscall"

	"rauta.io/rauta/proxy/clock"
	"rauta.io/rauta/proxy/loop"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/upstream"
)

// clientConn is a connection to a back end. It implements upstream.Conn. Until the back end's settings have come the pool
// does not know it: whoever does not speak HTTP/2 fails the dial and no request.
type clientConn struct {
	link

	// Immutable.
	pool *upstream.Pool
	// scheme is what requests are sent with. Servers take one that is not that of the connection for an error (Kestrel), or
	// forget the TLS that they have spoken (net/http of Go 1.27). What the client has used is in X-Forwarded-Proto.
	scheme message.Scheme

	// Owned by the worker.
	slot       upstream.Slot
	nextID     uint32 // of the next stream
	streamsMax int    // as the back end says, at most streamsUpstreamMax
	listMax    uint32 // what the back end takes of the fields of a request (SETTINGS_MAX_HEADER_LIST_SIZE)
	ready      bool   // the pool knows the connection
	leaving    bool   // it takes no more streams
	connects   bool   // the back end takes extended CONNECT (RFC 8441)
	pinged     bool   // a PING is under way because nothing had come for long

	cancelled cancelled

	// end is why the connection is over, for the streams that it had; it is Shared once one of them has failed with it.
	end upstream.Failure
}

// cancelled are streams that were given up and still count against the back end's limit, because it may not have heard of
// it: a proxy that opened others at once would pass a rapid reset on (attack row 27).
type cancelled struct {
	streams int        // all of them
	aged    int        // those that were there when the clock last looked
	probed  int        // those that the PING under way is for; 0: none is
	since   clock.Time // of that PING
}

// Payloads of our PINGs to back ends.
const (
	pingCancelled = "rauta/rs"
	pingAlive     = "rauta/up"
)

// Attach takes over an open connection to p's endpoint, on which HTTP/2 has been agreed by ALPN or is known to be spoken,
// and reports it with p.Ready or p.DialFailed. What has come already is delivered as an event.
func (e *Engine) Attach(conn *loop.Conn, p *upstream.Pool) {
	c := &clientConn{pool: p, nextID: 1, streamsMax: streamsUpstreamAssumed, listMax: math.MaxUint32}
	if conn.Secured() {
		c.scheme = message.SchemeHTTPS
	}
	c.init(e, conn, c, e.limits.ResponseHeadBytes, observe.ResetFromBackend)
	c.streamWindowMax, c.bodiesMax = streamWindowUpstreamMax, math.MaxInt
	c.state = awaitSettings
	conn.SetHandler(&c.link)
	conn.KeepAlive()
	conn.ReceiveAhead()
	c.out.reserve(e.loop, 96)
	b := append(c.out.buf, Preface...)
	b = appendFrameHeader(b, 3*settingBytes, frameSettings, 0, 0)
	b = appendSetting(b, settingEnablePush, 0)
	b = appendSetting(b, settingInitialWindowSize, streamWindow)
	b = appendSetting(b, settingMaxHeaderListSize, uint32(c.headBytes))
	c.out.buf = appendWindowUpdate(b, 0, connWindow-windowDefault)
	c.markDirty()
	c.readDeadline = e.loop.Now() + nanos(p.ConnectTimeout())
	c.arm()
}

// Slot implements upstream.Conn.
func (c *clientConn) Slot() *upstream.Slot { return &c.slot }

// Capacity implements upstream.Conn.
func (c *clientConn) Capacity() int {
	if c.leaving || c.state == closed {
		return 0
	}
	return c.streamsMax
}

// Start implements upstream.Conn. The stream gets its id with its head, because ids must come in order.
func (c *clientConn) Start(sink upstream.Sink) upstream.Stream {
	s := c.e.takeClientStream()
	s.conn, s.sink = c, sink
	s.c, s.user, s.live, s.headless, s.length = &c.link, s, true, true, -1
	return s
}

// Close implements upstream.Conn.
func (c *clientConn) Close() {
	if c.state == closed {
		return
	}
	if !c.out.blocked {
		c.out.reserve(c.e.loop, 32)
		c.out.buf = appendGoAway(c.out.buf, 0, codeNo)
		c.flushOut()
	}
	c.state = closed
	c.conn.Close()
	c.release()
	c.markDirty() // to bury what died in this turn
}

// over ends the connection, and with it its streams.
func (c *clientConn) over(cause upstream.Cause, detail string, err error) {
	if c.state == closed {
		return
	}
	c.state = closed
	c.conn.Close()
	c.end = upstream.Failure{Stage: upstream.StageConnect, Cause: cause, Detail: detail, Err: err}
	if c.ready {
		c.pool.Closed(c)
	} else {
		c.pool.DialFailed(c.end)
	}
	for _, s := range c.streams { // a response that is here completely is still passed on
		s.user.(*clientStream).outlive()
	}
	c.dropStreams(detail)
	c.release()
	c.markDirty()
}

// leave lets the connection take no more streams; it closes with its last one.
func (c *clientConn) leave() {
	c.leaving = true
	if c.ready {
		c.pool.Changed(c)
	}
}

// fail implements role.
func (c *clientConn) fail(code errCode, reason string) {
	if c.state == closed {
		return
	}
	c.out.reserve(c.e.loop, 32)
	c.out.buf = appendGoAway(c.out.buf, 0, code)
	if !c.out.blocked {
		c.flushOut()
	}
	c.over(upstream.CauseProtocol, reason, nil)
}

// lose implements role.
func (c *clientConn) lose(why loss) {
	switch why {
	case lossClosed:
		c.over(upstream.CauseEOF, "", nil)
	case lossStuck:
		c.over(upstream.CauseTimeout, "back_end_stuck", syscall.ETIMEDOUT)
	case lossFlood:
		c.over(upstream.CauseProtocol, "control_flood", nil)
	default:
		cause, detail := upstream.LossOf(c.conn.Err())
		c.over(cause, detail, c.conn.Err())
	}
}

// onBroken implements role: what the back end had sent before it closed is still read, or responses that were complete
// would be lost with the requests that came too late.
func (c *clientConn) onBroken() {
	c.readable = true
	c.read()
	if c.state != closed && !c.readable {
		c.lose(lossReset)
	}
}

// onSetting implements role.
func (c *clientConn) onSetting(id uint16, value uint32) errCode {
	switch id {
	case settingEnablePush: // RFC 9113 section 6.5.2
		if value != 0 {
			return codeProtocol
		}
	case settingMaxConcurrentStreams:
		c.streamsMax = int(min(value, streamsUpstreamMax))
	case settingMaxHeaderListSize:
		c.listMax = value
	case settingEnableConnectProtocol: // RFC 8441 section 3
		if value > 1 || value == 0 && c.connects {
			return codeProtocol
		}
		c.connects = value == 1
	}
	return codeNo
}

// onSettings implements role. A back end that takes no stream yet may say later that it does.
func (c *clientConn) onSettings() {
	switch {
	case c.ready:
		c.pool.Changed(c)
	case c.streamsMax > 0:
		c.ready = true
		c.readDeadline = 0
		c.pool.Ready(c)
	}
}

// onGoAway implements role (RFC 9113 section 6.8). Streams above last were not looked at, and may be tried elsewhere.
func (c *clientConn) onGoAway(last uint32, code errCode) {
	if !c.ready {
		c.over(upstream.CauseEOF, "goaway", nil)
		return
	}
	c.leave()
	for i := len(c.streams) - 1; i >= 0; i-- {
		if i >= len(c.streams) {
			continue // more than one has gone
		}
		if s := c.streams[i]; s.id > last {
			s.user.(*clientStream).refused(code)
		}
	}
}

// onPong implements role.
func (c *clientConn) onPong(payload []byte) bool {
	switch string(payload) {
	case pingCancelled:
		if n := c.cancelled.probed; n > 0 {
			c.cancelled.probed = 0
			c.forget(n)
			c.probe()
			return true
		}
	case pingAlive:
		return true // armRead has seen it
	}
	return false
}

// forgets implements role: the back end may go on for a while on streams that we have left long ago.
func (c *clientConn) forgets() bool { return true }

// glitch implements role: a back end that breaks the protocol on one stream is not asked again on this connection.
func (c *clientConn) glitch() { c.leave() }

// emptied implements role.
func (c *clientConn) emptied() { c.armRead() }

// afterTurn and discard implement role.
func (c *clientConn) afterTurn()  {}
func (c *clientConn) tookOutput() {}
func (c *clientConn) discard(int) {}

// gaveUp counts a stream that was reset by us.
func (c *clientConn) gaveUp() {
	if c.state == closed {
		return
	}
	c.cancelled.streams++
	c.probe()
	c.watch()
}

// probe asks the back end whether it has heard, when many streams count that nobody uses. A few are left to the clock:
// some servers take offence at PINGs.
func (c *clientConn) probe() {
	if c.cancelled.streams < cancelledProbeMin || c.cancelled.probed > 0 || c.state == closed {
		return
	}
	c.cancelled.probed, c.cancelled.since = c.cancelled.streams, c.e.loop.Now()
	c.ping(pingCancelled)
}

func (c *clientConn) ping(payload string) {
	c.out.reserve(c.e.loop, frameHeaderBytes+len(payload))
	c.out.buf = append(appendFrameHeader(c.out.buf, len(payload), framePing, 0, 0), payload...)
	c.markDirty()
}

// forget lets n streams that were given up count no more.
func (c *clientConn) forget(n int) {
	c.cancelled.streams -= n
	c.cancelled.aged = max(0, c.cancelled.aged-n)
	for ; n > 0 && c.state != closed; n-- {
		c.pool.Release(c)
	}
}

// armRead implements role: while streams wait, the back end has to show that it is alive.
func (c *clientConn) armRead() {
	if c.state != serving {
		return
	}
	c.pinged = false
	c.readDeadline = 0
	if len(c.streams) > 0 {
		c.readDeadline = c.e.loop.Now() + nanos(c.e.limits.PingAfter)
	}
	c.arm()
}

// onReadTimeout implements role.
func (c *clientConn) onReadTimeout() {
	c.readDeadline = 0
	switch {
	case c.state == awaitSettings:
		c.over(upstream.CauseConnectTimeout, "no_settings", syscall.ETIMEDOUT)
	case c.pinged:
		c.lose(lossStuck)
	case len(c.streams) > 0:
		c.pinged = true
		c.ping(pingAlive)
		c.readDeadline = c.e.loop.Now() + nanos(c.e.limits.PongWithin)
		c.arm()
	}
}

// onWatch implements role: it looks after streams that were given up.
func (c *clientConn) onWatch(now clock.Time) {
	g := &c.cancelled
	if g.probed > 0 {
		if now-g.since >= nanos(c.e.limits.PongWithin) {
			c.lose(lossStuck)
			return
		}
	} else {
		c.forget(g.aged)
		g.aged = g.streams
	}
	if (c.lastWords(now) || g.streams > 0) && c.state != closed {
		c.watch()
	}
}

// lastWords looks at tunnels whose clients have gone, and whose last bytes the back end does not take; it reports whether
// there are some.
func (c *clientConn) lastWords(now clock.Time) (left bool) {
	for i := len(c.streams) - 1; i >= 0; i-- {
		s := c.streams[i].user.(*clientStream)
		switch {
		case s.live || !s.endAsked || s.sentEnd:
		case s.progress+nanos(c.e.limits.WriteIdle) <= now:
			s.giveUp(codeCancel)
		default:
			left = true
		}
	}
	return left
}

// onReset implements role (RFC 9113 section 6.4).
func (c *clientConn) onReset(s *stream, code errCode) {
	if s == nil {
		c.spend(&c.budgets.empty, emptyFramesPerMinute, "rst_flood")
		return
	}
	s.user.(*clientStream).onReset(code)
}

// onBlock implements role: a block is a response head or trailers.
func (c *clientConn) onBlock(fragment []byte) {
	id := c.block.stream
	c.block.stream = 0
	s := c.find(id)
	switch {
	case id > c.lastID:
		c.fail(codeProtocol, "headers_on_idle_stream")
	case s == nil: // given up by us, or over
		if c.decode(blockIgnored, nil, fragment) {
			c.spend(&c.budgets.empty, emptyFramesPerMinute, "headers_after_end")
		}
	case s.headless:
		c.onResponse(s.user.(*clientStream), fragment)
	default:
		c.onTrailers(s, fragment)
	}
}

// began reports whether a part of a header block of the stream has come. Of a few bytes it can't be known whose they are.
func (c *clientConn) began(id uint32) bool {
	switch {
	case c.block.stream != 0:
		return c.block.stream == id
	case len(c.kept) < frameHeaderBytes:
		return len(c.kept) > 0
	}
	return parseFrameHeader(c.kept).stream == id
}

// onResponse takes a response head, interim or final.
func (c *clientConn) onResponse(s *clientStream, fragment []byte) {
	endStream := c.block.endStream
	resp := &c.e.response
	resp.Reset()
	if !c.decode(blockResponse, nil, fragment) {
		return
	}
	if p := c.e.head.finishResponse(endStream, s.toHead, s.connect); p.bad() {
		c.streamError(s.id, codeProtocol, p.reason)
		return
	}
	s.touched = c.e.loop.Now()
	if resp.Status < statusOK {
		s.interim = true
		s.sink.OnHead(resp)
		return
	}
	s.onFinalHead(resp, endStream)
}
