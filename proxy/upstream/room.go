package upstream

import "rauta.io/rauta/proxy/clock"

// The limit on the connections to an endpoint holds over all workers, but a worker can't see the queues of another. So
// a pool that has requests, no connection and no room counts itself in Endpoint.starving and tries again about every
// roomInterval; pools that have more than their share of the limit close a connection that becomes free, or is idle,
// when they see that count. Somebody has more than his share whenever a pool starves. Without a limit none of this
// costs anything.

// roomInterval is how often a pool that the limit keeps from dialling tries again, and how often a pool with idle
// connections looks for others in need: 20 ms, so that waiting costs little more than a slow request.
const roomInterval = clock.Time(20e6)

// surplusTime is how long an idle connection above the limit is kept, in case that what needed so many goes on: streams
// of one client that come and go together would otherwise cost a new connection each.
const surplusTime = clock.Time(1e9)

// idleMax is one worker's part of the idle connections to one endpoint.
func (c *Cluster) idleMax() int { return max(1, c.limits.IdleMax/c.workers) }

// share is one worker's part of the connections to one endpoint; 0 when there are fewer connections than workers.
func (c *Cluster) share() int { return int(c.connectionsMax) / c.workers }

// fill dials for the requests that have no dial under way, as far as the limit permits.
func (p *Pool) fill() {
	if p.filling {
		return // a dial failed at once, and the loop below goes on
	}
	p.filling = true
	defer func() { p.filling = false }() // the pool must be able to dial after a panic that its loop survived
	for p.wanted() > 0 && p.reserve() {
		p.dialing++
		p.worker.Dialer.Dial(p)
	}
	p.tryLater()
}

// wanted is how many requests wait without a dial.
func (p *Pool) wanted() int { return p.queue.Len() - p.dialing*p.perConn }

// tryLater has the timer dial for those that wait without a dial.
func (p *Pool) tryLater() {
	p.updateStarved()
	if p.wanted() > 0 {
		// Not at regular times, or workers whose timers are in step would always come in the same order.
		wait := roomInterval/2 + clock.Time(p.worker.random(int(roomInterval)))
		p.armFor(p.worker.Clock.Now() + wait)
	}
}

// reserve takes room for one connection.
func (p *Pool) reserve() bool {
	e, c := p.endpoint, p.cluster()
	if c.connectionsMax == 0 {
		e.connections.Add(1)
		return true
	}
	if p.othersStarve() && (p.conns+p.dialing >= max(1, c.share()) || p.worker.Clock.Now() < p.yielded) {
		return false // others have none at all
	}
	for {
		n := e.connections.Load()
		if n >= c.connectionsMax {
			return false
		}
		if e.connections.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// overShare reports whether there is a limit and this pool has more than its part, without those that it gives up.
func (p *Pool) overShare(c *Cluster) bool {
	return c.connectionsMax > 0 && p.conns-p.yielding > c.share()
}

// othersStarve reports whether pools of other workers have requests, and neither a connection nor room for one.
func (p *Pool) othersStarve() bool {
	n := p.endpoint.starving.Load()
	return n > 1 || n == 1 && !p.starved
}

// yield closes a connection without streams, and leaves the room to others for as long as it takes each of them to
// try again.
func (p *Pool) yield(s *Slot) {
	p.yielded = p.worker.Clock.Now() + 2*roomInterval
	p.close(s)
	p.tryLater()
}

// mustYield reports whether a connection that becomes free has to make room for the pool of another worker.
func (p *Pool) mustYield(c *Cluster) bool {
	return p.overShare(c) && p.othersStarve()
}

// updateStarved counts this pool among the starving ones, or no longer.
func (p *Pool) updateStarved() {
	starved := p.queue.Len() > 0 && p.conns+p.dialing == 0
	if starved != p.starved {
		p.starved = starved
		if starved {
			p.endpoint.starving.Add(1)
		} else {
			p.endpoint.starving.Add(-1)
		}
	}
}

// armFor makes the timer fire at deadline or before. A connection that becomes idle again and again finds it armed for
// one that was idle before, which costs a comparison.
func (p *Pool) armFor(deadline clock.Time) {
	if d := p.timer.Deadline(); d == 0 || deadline < d {
		p.worker.Clock.Set(&p.timer, deadline)
	}
}

// idleDeadline is when the idle connections have to be looked at; there is at least one.
func (p *Pool) idleDeadline(c *Cluster, now clock.Time) clock.Time {
	if p.overShare(c) {
		return now + roomInterval
	}
	return p.idle.Back().Item.idleSince + p.idleTime(c)
}

// idleTime is how long the connection that has been idle for longest may go on to be so.
func (p *Pool) idleTime(c *Cluster) clock.Time {
	timeout := clock.Time(c.limits.IdleTimeout)
	if p.idle.Len() > c.idleMax() {
		return min(timeout, surplusTime)
	}
	return timeout
}

// tick closes the idle connections whose time is over, gives an unused one to a pool in need, and tries to dial for
// requests that had no room.
func (p *Pool) tick(now clock.Time) {
	c := p.cluster()
	for n := p.idle.Back(); n != nil && now-n.Item.idleSince >= p.idleTime(c); n = p.idle.Back() {
		p.close(n.Item)
	}
	if n := p.idle.Back(); n != nil && p.mustYield(c) {
		p.yield(n.Item)
	}
	if p.wanted() > 0 {
		p.fill()
	}
	if p.idle.Len() > 0 {
		p.armFor(p.idleDeadline(c, now))
	}
}
