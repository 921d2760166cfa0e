package upstream

import "rauta.io/rauta/proxy/clock"

// Pool is one worker's connections to one endpoint. Every method but Endpoint and ConnectTimeout is called on the
// worker's thread only.
//
// The pool calls out (Sink, Conn.Start, Dialer.Dial, Conn.Close) only when its books are in order, so that each of these
// may call back into it.
type Pool struct {
	// Immutable.
	endpoint *Endpoint
	worker   *Worker

	// Owned by the worker.
	index   int // in Worker.pools
	idle    idleList
	queue   waitList
	waiting int  // length of queue
	active  int  // streams in progress
	dialing int  // connections being opened
	conns   int  // open connections, idle and busy
	filling bool // in fill
	retired bool
	starved bool        // counted in Endpoint.starving
	yielded clock.Time  // until then others come first, see yield
	timer   clock.Timer // see tick
}

func newPool(e *Endpoint, w *Worker) *Pool {
	p := &Pool{endpoint: e, worker: w}
	p.timer.Fire = p.tick
	return p
}

// Endpoint returns what the pool connects to.
func (p *Pool) Endpoint() *Endpoint { return p.endpoint }

// ConnectTimeout is how long the dialer may take, in nanoseconds.
func (p *Pool) ConnectTimeout() int64 { return p.cluster().connectTimeout }

// Active is the number of streams in progress.
func (p *Pool) Active() int { return p.active }

// Idle is the number of idle connections.
func (p *Pool) Idle() int { return p.idle.count }

// Waiting is the number of requests that wait for a connection.
func (p *Pool) Waiting() int { return p.waiting }

func (p *Pool) cluster() *Cluster { return p.endpoint.cluster.Load() }

// Acquire gets wt.Sink a stream: at once from an idle connection, the one used last first, or later from one that is
// opened or released. Sink.OnStream may be called before Acquire returns, and so may Sink.OnFailure: with
// {StageQueue, CauseOverflow} when too many wait already, or when the dialer fails at once.
func (p *Pool) Acquire(wt *Waiter) {
	if s := p.takeIdle(); s != nil {
		p.start(s, wt.Sink)
		return
	}
	if p.waiting >= p.cluster().pendingMax {
		wt.Sink.OnFailure(Failure{Stage: StageQueue, Cause: CauseOverflow})
		return
	}
	wt.pool = p
	p.queue.push(wt)
	p.waiting++
	p.fill()
}

// Forget takes wt out of the queue, if it is still there; its sink will not be called. A connection that is being
// opened for it goes to the next one that waits, or becomes idle.
func (p *Pool) Forget(wt *Waiter) {
	if wt.pool != p {
		return
	}
	p.unqueue(wt)
	p.updateStarved()
}

// Ready hands over a connection that the dialer has opened.
func (p *Pool) Ready(c Conn) {
	s := c.Slot()
	if s.state != connGone {
		panic("upstream: Ready was called twice for one connection")
	}
	p.dialled()
	now := p.worker.Clock.Now()
	*s = Slot{conn: c, pool: p, created: now, state: connBusy}
	p.conns++
	p.updateStarved()
	if p.waiting == 0 && p.mustYield(p.cluster()) {
		p.yield(s)
		return
	}
	p.place(s, now)
}

// DialFailed reports that a connection could not be opened. The request that has waited longest gets f; the others
// have a further dial each.
func (p *Pool) DialFailed(f Failure) {
	p.dialled()
	p.endpoint.connections.Add(-1)
	p.endpoint.Report(p.worker, false)
	if wt := p.queue.front; wt != nil {
		p.unqueue(wt)
		wt.Sink.OnFailure(f)
	}
	p.fill()
}

// Release gives back a connection whose response is complete and that can carry another request. The next one that
// waits is started on it before Release returns, so the engine calls it last.
func (p *Pool) Release(c Conn) {
	s := c.Slot()
	if s.state != connBusy {
		panic("upstream: Release of a connection that is not in use")
	}
	p.active--
	if p.mustYield(p.cluster()) {
		p.yield(s)
		return
	}
	p.place(s, p.worker.Clock.Now())
}

// Closed reports that a connection is gone, whether it was idle or in use. A connection that the pool has closed itself
// may be reported or not.
func (p *Pool) Closed(c Conn) {
	s := c.Slot()
	switch s.state {
	case connGone:
		return
	case connIdle:
		p.idle.remove(s)
	case connBusy:
		p.active--
	}
	p.drop(s)
	p.fill()
}

// place decides what happens to a connection that is open and free: s is busy, but not counted as active.
func (p *Pool) place(s *Slot, now clock.Time) {
	c := p.cluster()
	tooOld := c.limits.AgeMax > 0 && now-s.created >= clock.Time(c.limits.AgeMax)
	if tooOld {
		p.close(s)
		p.fill()
		return
	}
	if wt := p.queue.front; wt != nil {
		p.unqueue(wt)
		p.start(s, wt.Sink)
		return
	}
	if p.retired || p.idle.count >= c.idleMax() {
		p.close(s)
		return
	}
	s.state, s.idleSince = connIdle, now
	p.idle.push(s)
	p.armFor(p.idleDeadline(c, now))
}

// start begins a stream on a connection that is in no list.
func (p *Pool) start(s *Slot, sink Sink) {
	s.state = connBusy
	p.active++
	sink.OnStream(s.conn.Start(sink))
}

// takeIdle removes and returns the idle connection that was used last, or nil. When that one is too old to be trusted,
// so are all behind it.
func (p *Pool) takeIdle() *Slot {
	s := p.idle.front
	if s == nil {
		return nil
	}
	c, now := p.cluster(), p.worker.Clock.Now()
	if now-s.idleSince >= clock.Time(c.limits.IdleTimeout) {
		p.closeIdle()
		return nil
	}
	for s != nil && c.limits.AgeMax > 0 && now-s.created >= clock.Time(c.limits.AgeMax) {
		p.idle.remove(s)
		p.close(s)
		s = p.idle.front
	}
	if s != nil {
		p.idle.remove(s)
	}
	return s
}

// dialled takes one dial off the books; each Dial is answered once.
func (p *Pool) dialled() {
	if p.dialing == 0 {
		panic("upstream: a connection was reported that was not asked for")
	}
	p.dialing--
}

func (p *Pool) unqueue(wt *Waiter) {
	p.queue.remove(wt)
	wt.pool = nil
	p.waiting--
}

// close closes a connection that is in no list and not active.
func (p *Pool) close(s *Slot) {
	conn := s.conn
	p.drop(s)
	conn.Close()
}

// drop takes a connection that is in no list out of the books.
func (p *Pool) drop(s *Slot) {
	*s = Slot{}
	p.conns--
	p.endpoint.connections.Add(-1)
}

func (p *Pool) closeIdle() {
	for s := p.idle.back; s != nil; s = p.idle.back {
		p.idle.remove(s)
		p.close(s)
	}
}

func (p *Pool) retire() {
	if p.retired {
		return
	}
	p.retired = true
	p.worker.removePool(p)
	p.closeIdle()
	if p.waiting == 0 {
		p.worker.Clock.Remove(&p.timer)
	}
}
