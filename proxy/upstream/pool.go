package upstream

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"

	"rauta.io/rauta/proxy/clock"
	"rauta.io/rauta/proxy/list"
)

// streamsAssumed is how many requests wait for one dial to an endpoint that speaks HTTP/2, before it has said how many
// streams it takes: the least that RFC 9113 section 6.5.2 recommends.
const streamsAssumed = 100

// Pool is one worker's connections to one endpoint. Every method but Endpoint and ConnectTimeout is called on the
// worker's thread only.
//
// Requests share a connection that carries several streams until it is full; only then another one is used or opened.
// Few busy connections cost the least, because what arrives and leaves together shares system calls (DESIGN: 16
// connections cost twice as much as one).
//
// The pool calls out (Sink, Conn.Start, Dialer.Dial, Conn.Close) only when its books are in order, so that each of these
// may call back into it.
type Pool struct {
	// Immutable.
	endpoint *Endpoint
	worker   *Worker

	// Owned by the worker.
	index    int               // in Worker.pools
	idle     list.List[Slot]   // connections without a stream, the one used last in front
	open     list.List[Slot]   // connections with streams and room for more, likewise
	queue    list.List[Waiter] // requests, the oldest in front
	tickets  uint64            // Waiter.ticket of the last that came
	active   int               // streams in progress
	dialing  int               // connections being opened
	perConn  int               // streams that a connection which is being opened is taken to carry
	conns    int               // open connections
	yielding int               // of conns, those that yield
	filling  bool              // in fill
	retired  bool
	starved  bool        // counted in Endpoint.starving
	yielded  clock.Time  // until then others come first, see yield
	timer    clock.Timer // see tick
}

func newPool(e *Endpoint, w *Worker) *Pool {
	p := &Pool{endpoint: e, worker: w, perConn: e.streamsAssumed()}
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
func (p *Pool) Idle() int { return p.idle.Len() }

// Waiting is the number of requests that wait for a connection.
func (p *Pool) Waiting() int { return p.queue.Len() }

func (p *Pool) cluster() *Cluster { return p.endpoint.cluster.Load() }

// Acquire gets wt.Sink a stream: at once from a connection that has room, or later from one that is opened or gets room.
// Sink.OnStream may be called before Acquire returns, and so may Sink.OnFailure: with {StageQueue, CauseOverflow} when
// too many wait already, or when the dialer fails at once.
func (p *Pool) Acquire(wt *Waiter) {
	if s := p.take(); s != nil {
		p.start(s, wt.Sink)
		return
	}
	if p.queue.Len() >= p.cluster().pendingMax {
		wt.Sink.OnFailure(Failure{Stage: StageQueue, Cause: CauseOverflow})
		return
	}
	p.tickets++
	wt.pool, wt.ticket, wt.queued.Item = p, p.tickets, wt
	p.queue.PushBack(&wt.queued)
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
	*s = Slot{conn: c, pool: p, created: now, state: connFull, capacity: c.Capacity()}
	p.perConn = max(1, min(s.capacity, streamsAssumed))
	s.listed.Item = s
	p.conns++
	p.updateStarved()
	if p.queue.Len() == 0 && p.mustYield(p.cluster()) {
		p.yield(s)
		return
	}
	p.settle(s, now)
	if p.wanted() > 0 {
		p.fill() // it carries fewer than was assumed
	}
}

// Connected counts how many nanoseconds it took to open a connection, handshake included; Ready or DialFailed follows.
func (p *Pool) Connected(ns int64) {
	if p.worker.Shard != nil {
		p.worker.Shard.Connected(p.endpoint.Stats, ns)
	}
}

// connectReason is the label of a connection that could not be opened: what the system calls it, where it said anything.
func connectReason(f Failure) string {
	var errno syscall.Errno
	if f.Cause == CauseConnectFailed && errors.As(f.Err, &errno) {
		if name := unix.ErrnoName(errno); name != "" {
			return name
		}
	}
	if f.Detail != "" {
		return f.Detail
	}
	return f.Cause.String()
}

// DialFailed reports that a connection could not be opened. The requests that relied on it, oldest first, get f; the
// others have further dials.
func (p *Pool) DialFailed(f Failure) {
	p.dialled()
	p.endpoint.connections.Add(-1)
	p.endpoint.Report(p.worker, false)
	if p.worker.Shard != nil {
		p.worker.Shard.ConnectFailed(p.endpoint.Stats, connectReason(f))
	}
	last := p.tickets // those that come while the others are told are not among them
	for n := min(p.perConn, max(1, p.queue.Len()-p.dialing*p.perConn)); n > 0; n-- {
		oldest := p.queue.Front()
		if oldest == nil || oldest.Item.ticket > last {
			break
		}
		wt := oldest.Item
		p.unqueue(wt)
		wt.Sink.OnFailure(f)
	}
	p.fill()
}

// Release ends a stream: the connection has room for one more. A stream that was given up is released when the back end
// can have heard of it, so that it counts for as long as it costs.
func (p *Pool) Release(c Conn) {
	s := c.Slot()
	if s.streams == 0 {
		panic("upstream: Release of a connection that is not in use")
	}
	s.streams--
	p.active--
	switch {
	case !s.yields && !p.mustYield(p.cluster()):
		p.settle(s, p.worker.Clock.Now())
	case s.streams == 0:
		p.yield(s)
	case !s.yields:
		s.yields, s.capacity = true, 0
		p.yielding++
		p.list(s)
	}
}

// Changed reports that the Capacity of a connection may be another one: a further setting has come, or the back end takes
// no more requests on it.
func (p *Pool) Changed(c Conn) {
	s := c.Slot()
	if s.state == connGone || s.yields {
		return
	}
	s.capacity = c.Capacity()
	p.settle(s, p.worker.Clock.Now())
	if p.wanted() > 0 {
		p.fill()
	}
}

// Closed reports that a connection is gone, with all its streams, whether it was idle or in use. A connection that the
// pool has closed itself may be reported or not.
func (p *Pool) Closed(c Conn) {
	s := c.Slot()
	if s.state == connGone {
		return
	}
	p.active -= s.streams
	p.drop(s)
	p.fill()
}

// settle gives the room of a connection to those that wait, and decides what happens to it after that.
func (p *Pool) settle(s *Slot, now clock.Time) {
	c := p.cluster()
	if p.tooOld(s, c, now) {
		s.capacity = 0
	}
	for s.streams < s.capacity && p.queue.Len() > 0 {
		wt := p.queue.Front().Item
		p.unqueue(wt)
		p.start(s, wt.Sink)
	}
	switch {
	case s.state == connGone:
	case s.streams > 0:
		p.list(s)
	case s.capacity == 0:
		p.close(s)
		p.fill()
	case s.state == connIdle:
	case p.retired:
		p.close(s)
	default:
		s.idleSince = now
		p.list(s)
		p.armFor(p.idleDeadline(c, now))
	}
}

func (p *Pool) tooOld(s *Slot, c *Cluster, now clock.Time) bool {
	return c.limits.AgeMax > 0 && now-s.created >= clock.Time(c.limits.AgeMax)
}

// start begins a stream on a connection that has room for it.
func (p *Pool) start(s *Slot, sink Sink) {
	s.streams++
	p.active++
	p.list(s)
	sink.OnStream(s.conn.Start(sink))
}

// list puts a connection into the list that it belongs to.
func (p *Pool) list(s *Slot) {
	state := connFull
	switch {
	case s.streams == 0:
		state = connIdle
	case s.streams < s.capacity:
		state = connOpen
	}
	if state == s.state {
		return
	}
	p.unlist(s)
	s.state = state
	switch state {
	case connIdle:
		p.idle.PushFront(&s.listed)
	case connOpen:
		p.open.PushFront(&s.listed)
	}
}

// unlist takes a connection out of the list that it is in.
func (p *Pool) unlist(s *Slot) {
	switch s.state {
	case connIdle:
		p.idle.Remove(&s.listed)
	case connOpen:
		p.open.Remove(&s.listed)
	}
	s.state = connFull
}

// take returns a connection with room, or nil. Those that carry streams already come first, then the idle one that was
// used last; when that one is too old to be trusted, so are all behind it.
func (p *Pool) take() *Slot {
	c, now := p.cluster(), p.worker.Clock.Now()
	for n := p.open.Front(); n != nil; n = p.open.Front() {
		s := n.Item
		if !p.tooOld(s, c, now) {
			return s
		}
		s.capacity = 0
		p.list(s)
	}
	n := p.idle.Front()
	if n != nil && now-n.Item.idleSince >= clock.Time(c.limits.IdleTimeout) {
		p.closeIdle()
		return nil
	}
	for ; n != nil; n = p.idle.Front() {
		if !p.tooOld(n.Item, c, now) {
			return n.Item
		}
		p.close(n.Item)
	}
	return nil
}

// dialled takes one dial off the books; each Dial is answered once.
func (p *Pool) dialled() {
	if p.dialing == 0 {
		panic("upstream: a connection was reported that was not asked for")
	}
	p.dialing--
}

func (p *Pool) unqueue(wt *Waiter) {
	p.queue.Remove(&wt.queued)
	wt.pool = nil
}

// close closes a connection without streams.
func (p *Pool) close(s *Slot) {
	conn := s.conn
	p.drop(s)
	conn.Close()
}

// drop takes a connection out of the books.
func (p *Pool) drop(s *Slot) {
	p.unlist(s)
	if s.yields {
		p.yielding--
	}
	*s = Slot{}
	p.conns--
	p.endpoint.connections.Add(-1)
}

func (p *Pool) closeIdle() {
	for n := p.idle.Back(); n != nil; n = p.idle.Back() {
		p.close(n.Item)
	}
}

func (p *Pool) retire() {
	if p.retired {
		return
	}
	p.retired = true
	p.worker.removePool(p)
	p.closeIdle()
	if p.queue.Len() == 0 {
		p.worker.Clock.Remove(&p.timer)
	}
}
