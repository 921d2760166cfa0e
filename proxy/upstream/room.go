package upstream

import "rauta.io/rauta/proxy/clock"

// The limit on the connections to an endpoint holds over all workers, but a worker can't see the queues of another. So
// a pool that has requests, no connection and no room counts itself in Endpoint.starving and tries again every
// roomInterval; pools that have more than their share, or connections that they do not use, close some when they see
// that. Without a limit, none of this costs anything.

// roomInterval is how often a pool that the limit keeps from dialling tries again, and how often a pool with idle
// connections looks for others in need: 20 ms, so that waiting costs little more than a slow request.
const roomInterval = clock.Time(20e6)

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
	for p.dialing < p.waiting && p.reserve() {
		p.dialing++
		p.worker.Dialer.Dial(p)
	}
	p.filling = false
	p.updateStarved()
}

// reserve takes room for one connection.
func (p *Pool) reserve() bool {
	e, c := p.endpoint, p.cluster()
	if c.connectionsMax == 0 {
		e.connections.Add(1)
		return true
	}
	if e.starving.Load() > 0 && !p.starved && p.conns+p.dialing >= max(1, c.share()) {
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

// mustYield reports whether a connection that becomes free has to make room for the pool of another worker.
func (p *Pool) mustYield(c *Cluster) bool {
	if c.connectionsMax == 0 || p.endpoint.starving.Load() == 0 {
		return false
	}
	return p.waiting == 0 || p.conns > c.share()
}

// updateStarved counts this pool among the starving ones, or no longer, and sees to it that it tries again.
func (p *Pool) updateStarved() {
	starved := p.waiting > 0 && p.conns+p.dialing == 0
	if starved != p.starved {
		p.starved = starved
		if starved {
			p.endpoint.starving.Add(1)
		} else {
			p.endpoint.starving.Add(-1)
		}
	}
	if p.waiting > p.dialing {
		p.armFor(p.worker.Clock.Now() + roomInterval)
	}
}

// arm sets the timer for the idle connections. While it is armed nothing is done, so that a busy connection which
// becomes idle again and again costs one comparison.
func (p *Pool) arm(c *Cluster, now clock.Time) {
	if p.timer.Deadline() != 0 {
		return
	}
	p.armFor(p.idleDeadline(c, now))
}

func (p *Pool) armFor(deadline clock.Time) {
	if d := p.timer.Deadline(); d == 0 || deadline < d {
		p.worker.Clock.Set(&p.timer, deadline)
	}
}

// idleDeadline is when the idle connections have to be looked at; there is at least one.
func (p *Pool) idleDeadline(c *Cluster, now clock.Time) clock.Time {
	if c.connectionsMax > 0 && p.endpoint.connections.Load() >= c.connectionsMax {
		return now + roomInterval
	}
	return p.idle.back.idleSince + clock.Time(c.limits.IdleTimeout)
}

// tick closes the idle connections whose time is over, gives an unused one to a pool in need, and tries to dial for
// requests that had no room.
func (p *Pool) tick(now clock.Time) {
	c := p.cluster()
	for s := p.idle.back; s != nil && now-s.idleSince >= clock.Time(c.limits.IdleTimeout); s = p.idle.back {
		p.idle.remove(s)
		p.close(s)
	}
	if s := p.idle.back; s != nil && c.connectionsMax > 0 && p.endpoint.starving.Load() > 0 {
		p.idle.remove(s)
		p.close(s)
	}
	if p.waiting > p.dialing {
		p.fill()
	}
	if p.idle.count > 0 {
		p.armFor(p.idleDeadline(c, now))
	}
}
