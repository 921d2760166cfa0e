package fastpath

import "rauta.io/rauta/proxy/clock"

// arm sets the timer for whichever deadline comes first.
func (c *serverConn) arm() {
	if c.state == closed {
		return
	}
	next := c.readDeadline
	if c.writeDeadline != 0 && (next == 0 || c.writeDeadline < next) {
		next = c.writeDeadline
	}
	c.e.loop.Wheel().Set(&c.timer, next)
}

// justAccepted reports whether the client could still be about to send its first request.
func (c *serverConn) justAccepted() bool {
	accepted := c.readDeadline - nanos(c.e.limits.HeadTimeout)
	return c.requests == 0 && c.e.loop.Now() < accepted+firstRequestGrace
}

func (c *serverConn) onTimer(now clock.Time) {
	c.e.loop.Blame(c.conn)
	defer c.e.loop.Blame(nil)
	switch {
	case c.writeDeadline != 0 && c.writeDeadline <= now:
		c.conn.Reset()
		c.gone("client_write_timeout")
	case c.readDeadline != 0 && c.readDeadline <= now:
		c.onReadTimeout(now)
	default:
		c.arm()
	}
}

func (c *serverConn) onReadTimeout(now clock.Time) {
	switch c.state {
	case awaitHead:
		if c.x == nil { // nothing of a request has come: nobody expects an answer
			c.close()
			return
		}
		c.readDeadline = 0
		c.refuse(c.in.buf, statusRequestTimeout, "head_timeout")
	case awaitBody:
		c.onBodyTimeout(now)
	default:
		c.close()
	}
}

// onBodyTimeout is called when the body has paused too long, and from time to time to look at its rate.
func (c *serverConn) onBodyTimeout(now clock.Time) {
	reason := ""
	age := now - c.body.since
	switch {
	case c.paused || c.resp.begun: // it is the back end that is slow, or the two talk to each other
	case c.body.touched+nanos(c.e.limits.BodyIdle) <= now:
		reason = "body_timeout"
	case age > nanos(c.e.limits.BodyRateGrace) && c.body.bytes < int64(age)/1e9*c.e.limits.BodyRateMin:
		reason = "body_too_slow"
	}
	if reason == "" {
		c.armBody(now)
		return
	}
	c.readDeadline = 0
	c.resp.closes = true
	if c.x == nil {
		c.close()
		return
	}
	c.x.OnBadRequestBody(statusRequestTimeout, reason)
}

// armBody looks at the body again when it may have paused too long, and at its rate once per grace period.
func (c *serverConn) armBody(now clock.Time) {
	if c.paused || c.resp.begun { // onBodyTimeout lets it wait: the next look has to lie ahead
		c.body.touched = now
	}
	c.readDeadline = min(now+nanos(c.e.limits.BodyRateGrace), c.body.touched+nanos(c.e.limits.BodyIdle))
	c.arm()
}

// statusRequestTimeout answers a client that is too slow (RFC 9110 section 15.5.9).
const statusRequestTimeout = 408
