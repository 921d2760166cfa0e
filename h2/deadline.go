package h2

import "rauta.io/rauta/proxy/clock"

// watchEvery is how often streams that wait for the client are looked at, in nanoseconds. One timer per connection serves
// them all.
const watchEvery = 1e9

// drainPingTime is how long a client may take to answer the PING of a graceful end, in nanoseconds.
const drainPingTime = 2e9

// arm sets the timer for whichever deadline comes first.
func (c *link) arm() {
	if c.state == closed {
		return
	}
	next := clock.Time(0)
	for _, t := range [...]clock.Time{c.readDeadline, c.writeDeadline, c.watchAt} {
		if t != 0 && (next == 0 || t < next) {
			next = t
		}
	}
	c.e.loop.Wheel().Set(&c.timer, next)
}

// armRead implements role. It sets the deadline for the next bytes, when there is something to wait for. A deadline that
// is under way for the same thing stays.
func (c *serverConn) armRead() {
	switch {
	case c.state == lingering || c.state == closed:
		return
	case c.lastID == 0: // from accept to the first head
	case len(c.kept) > 0 || c.block.stream != 0:
		if c.partSince == 0 {
			c.partSince = c.e.loop.Now()
		}
		c.readDeadline = c.partSince + nanos(c.e.limits.HeadTimeout)
		c.arm()
		return
	case len(c.streams) == 0:
		if c.idleSince == 0 { // the first stream was not served
			c.idleSince = c.e.loop.Now()
		}
		c.readDeadline = c.idleSince + nanos(c.e.limits.KeepAlive)
	default:
		c.readDeadline = 0
	}
	c.partSince = 0
	c.arm()
}

// watch looks at the streams before long.
func (c *link) watch() {
	if c.watchAt == 0 {
		c.watchAt = c.e.loop.Now() + watchEvery
		c.arm()
	}
}

func (c *link) onTimer(now clock.Time) {
	c.e.loop.Blame(c.conn)
	defer c.e.loop.Blame(nil)
	switch {
	case c.writeDeadline != 0 && c.writeDeadline <= now:
		c.conn.Reset()
		c.role.lose(lossStuck)
	case c.readDeadline != 0 && c.readDeadline <= now:
		c.role.onReadTimeout()
	case c.watchAt != 0 && c.watchAt <= now:
		c.watchAt = 0
		c.role.onWatch(now)
		c.arm()
	default:
		c.arm()
	}
}

// onReadTimeout implements role.
func (c *serverConn) onReadTimeout() {
	c.readDeadline = 0
	switch {
	case c.state == lingering:
		c.gone("client_closed")
	case c.state == serving && len(c.streams) == 0 && len(c.kept) == 0 && c.block.stream == 0:
		c.closeIdle()
	default:
		c.fail(codeEnhanceYourCalm, "head_timeout")
	}
}

// statusRequestTimeout answers a client that is too slow (RFC 9110 section 15.5.9).
const statusRequestTimeout = 408

// onWatch implements role: it looks for streams whose client sends or takes too little.
func (c *serverConn) onWatch(now clock.Time) {
	if c.state != serving && c.state != awaitSettings {
		return
	}
	if c.away == announced {
		if c.announcedAt == 0 {
			c.announcedAt = now
		}
		if now-c.announcedAt >= drainPingTime {
			c.leave()
		}
	}
	again := c.away == announced
	for i := len(c.streams) - 1; i >= 0; i-- {
		if i >= len(c.streams) {
			continue // more than one has gone
		}
		s := c.streams[i].user.(*serverStream)
		again = again || s.receives() || len(s.pending()) > 0
		c.watchStream(s, now)
	}
	if again {
		c.watch()
	}
}

func (c *serverConn) watchStream(s *serverStream, now clock.Time) {
	limits := &c.e.limits
	if len(s.pending()) > 0 && s.progress+nanos(limits.WriteIdle) <= now { // attack row 30
		c.streamError(s.id, codeCancel, "client_write_timeout")
		return
	}
	if !s.receives() {
		return
	}
	if s.paused { // it is the back end that is slow
		s.touched = now
		return
	}
	age := now - s.since
	reason := ""
	switch {
	case s.touched+nanos(limits.BodyIdle) <= now:
		reason = "body_timeout"
	case age > nanos(limits.BodyRateGrace) && s.bodyBytes < int64(age)/1e9*limits.BodyRateMin:
		reason = "body_too_slow"
	default:
		return
	}
	s.x.OnBadRequestBody(statusRequestTimeout, reason)
}
