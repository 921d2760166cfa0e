package upstream

import (
	"testing"
	"time"

	"rauta.io/rauta/proxy/config"
)

func TestAConnectionIsDialledReusedAndTakenLastInFirstOut(t *testing.T) {
	p, w, _ := newTestPool(config.Cluster{})
	a, b := acquire(p), acquire(p)
	expect(t, p, 0, 0, 2, 2)
	w.dialer.connect()
	w.dialer.connect()
	if a.conn.id != 1 || b.conn.id != 2 {
		t.Fatalf("the first to wait got connection %d, the second %d", a.conn.id, b.conn.id)
	}
	expect(t, p, 2, 0, 0, 2)
	p.Release(a.conn)
	p.Release(b.conn)
	expect(t, p, 0, 2, 0, 2)
	if c := acquire(p).conn; c.id != 2 || c.started != 2 {
		t.Fatalf("got connection %d, started %d times; want the one released last, for the second time", c.id, c.started)
	}
	if c := acquire(p).conn; c.id != 1 {
		t.Fatalf("got connection %d, want the other one", c.id)
	}
	if w.dialer.dials != 2 {
		t.Fatalf("%d dials, want 2", w.dialer.dials)
	}
}

func TestAReleasedConnectionServesTheNextWaiterBeforeItsDialEnds(t *testing.T) {
	p, w, _ := newTestPool(config.Cluster{})
	a := acquire(p)
	first := w.dialer.connect()
	b := acquire(p)
	p.Release(a.conn)
	if b.conn != first {
		t.Fatal("the waiter did not get the released connection")
	}
	w.dialer.connect()
	expect(t, p, 1, 1, 0, 2) // the dial that nobody waits for any more
}

func TestMoreThanPendingMaxWaitersOverflow(t *testing.T) {
	p, _, _ := newTestPool(config.Cluster{PendingMax: 2})
	acquire(p)
	acquire(p)
	over := acquire(p)
	want := Failure{Stage: StageQueue, Cause: CauseOverflow}
	if len(over.failures) != 1 || over.failures[0] != want {
		t.Fatalf("failures %v, want %v once", over.failures, want)
	}
	if over.Queued() {
		t.Fatal("a request that overflowed is queued")
	}
	expect(t, p, 0, 0, 2, 2)
}

func TestTheDefaultPendingLimitIs1024(t *testing.T) {
	p, _, _ := newTestPool(config.Cluster{})
	for range 1024 {
		if s := acquire(p); len(s.failures) != 0 {
			t.Fatal("overflow below the limit")
		}
	}
	if s := acquire(p); len(s.failures) != 1 {
		t.Fatal("no overflow at the limit")
	}
}

func TestForgetInEveryState(t *testing.T) {
	p, w, _ := newTestPool(config.Cluster{})
	never := newSink()
	p.Forget(&never.Waiter) // was never queued
	first, middle, last := acquire(p), acquire(p), acquire(p)
	p.Forget(&middle.Waiter)
	p.Forget(&middle.Waiter)
	expect(t, p, 0, 0, 2, 3)
	w.dialer.connect()
	w.dialer.connect()
	if first.conn == nil || last.conn == nil || middle.conn != nil {
		t.Fatal("the connections did not go to those that still wait")
	}
	p.Forget(&first.Waiter) // has its stream already
	expect(t, p, 2, 0, 0, 3)
	w.dialer.connect()
	expect(t, p, 2, 1, 0, 3)

	p2, w2, _ := newTestPool(config.Cluster{})
	gone := acquire(p2)
	p2.Forget(&gone.Waiter)
	w2.dialer.fail()
	if len(gone.failures) != 0 {
		t.Fatal("a forgotten request was told of a failure")
	}
	expect(t, p2, 0, 0, 0, 0)
	p2.Acquire(&gone.Waiter) // a waiter can be used again
	w2.dialer.connect()
	if gone.conn == nil {
		t.Fatal("a forgotten waiter could not be used again")
	}
}

func TestAFailedDialFailsTheOldestWaiterAndTheOthersKeepTheirs(t *testing.T) {
	p, w, _ := newTestPool(config.Cluster{})
	a, b := acquire(p), acquire(p)
	w.dialer.fail()
	if len(a.failures) != 1 || a.failures[0].Cause != CauseConnectFailed || len(b.failures) != 0 {
		t.Fatalf("failures of the first %v, of the second %v", a.failures, b.failures)
	}
	expect(t, p, 0, 0, 1, 1)
	w.dialer.connect()
	if b.conn == nil {
		t.Fatal("the second waiter got nothing")
	}
}

func TestADialerThatFailsAtOnceFailsEveryRequestOnce(t *testing.T) {
	p, w, _ := newTestPool(config.Cluster{ConnectionsMax: 1})
	a, b, c := acquire(p), acquire(p), acquire(p)
	w.dialer.failure = &Failure{Stage: StageConnect, Cause: CauseConnectFailed}
	w.dialer.fail() // the dials for b and c follow, one after the other
	for i, s := range []*fakeSink{a, b, c} {
		if len(s.failures) != 1 {
			t.Errorf("request %d was told of %d failures", i, len(s.failures))
		}
	}
	expect(t, p, 0, 0, 0, 0)
}

func TestARequestMayAcquireAgainFromItsFailure(t *testing.T) {
	p, w, _ := newTestPool(config.Cluster{})
	w.dialer.failure = &Failure{Stage: StageConnect, Cause: CauseConnectFailed}
	s := newSink()
	s.onFail = func() {
		w.dialer.failure, w.dialer.atOnce = nil, true
		p.Acquire(&s.Waiter)
	}
	p.Acquire(&s.Waiter)
	if s.conn == nil || len(s.failures) != 1 {
		t.Fatalf("connection %v after %d failures", s.conn, len(s.failures))
	}
	expect(t, p, 1, 0, 0, 1)
}

func TestAConnectionThatClosedIsReplacedForThoseThatWait(t *testing.T) {
	p, w, _ := newTestPool(config.Cluster{ConnectionsMax: 1})
	a := acquire(p)
	w.dialer.connect()
	b := acquire(p)
	if w.dialer.dials != 1 {
		t.Fatal("dialled beyond ConnectionsMax")
	}
	p.Closed(a.conn)
	if w.dialer.dials != 2 {
		t.Fatal("no dial for the waiter")
	}
	w.dialer.connect()
	if b.conn == nil {
		t.Fatal("the waiter got nothing")
	}
	expect(t, p, 1, 0, 0, 1)
}

func TestAnIdleConnectionThatClosedIsNotUsedAgain(t *testing.T) {
	p, w, _ := newTestPool(config.Cluster{})
	w.dialer.atOnce = true
	a, b, c := acquire(p), acquire(p), acquire(p)
	p.Release(a.conn)
	p.Release(b.conn)
	p.Release(c.conn)
	p.Closed(b.conn) // in the middle of the list
	p.Closed(b.conn) // reported twice
	expect(t, p, 0, 2, 0, 2)
	if got := acquire(p).conn; got != c.conn {
		t.Fatalf("got connection %d, want %d", got.id, c.conn.id)
	}
	if got := acquire(p).conn; got != a.conn {
		t.Fatalf("got connection %d, want %d", got.id, a.conn.id)
	}
	if w.dialer.dials != 3 {
		t.Fatalf("%d dials, want 3", w.dialer.dials)
	}
}

func TestTheIdleLimitIsDividedByTheWorkers(t *testing.T) {
	c := newTestCluster(config.Cluster{}, 128, 1)
	w := newTestWorker(5)
	w.dialer.atOnce = true
	p := c.Pick(w.Worker, 0, nil).Pool(w.Worker)
	a, b, d := acquire(p), acquire(p), acquire(p)
	p.Release(a.conn)
	p.Release(b.conn)
	p.Release(d.conn)
	expect(t, p, 0, 3, 0, 3)
	w.advance(time.Duration(surplusTime) + time.Millisecond*100)
	expect(t, p, 0, 2, 0, 2) // 256 / 128
	if !a.conn.closed || b.conn.closed || d.conn.closed {
		t.Fatal("of those above the limit, the one that was idle for longest is to close")
	}
}

func TestABurstThatComesAgainFindsItsConnections(t *testing.T) {
	c := newTestCluster(config.Cluster{}, 128, 1)
	w := newTestWorker(5)
	w.dialer.atOnce = true
	p := c.Pick(w.Worker, 0, nil).Pool(w.Worker)
	for range 20 {
		var burst [10]*fakeSink
		for i := range burst {
			burst[i] = acquire(p)
		}
		for _, s := range burst {
			p.Release(s.conn)
		}
		w.advance(100 * time.Millisecond)
	}
	if w.dialer.dials != 10 {
		t.Fatalf("%d dials, want 10", w.dialer.dials)
	}
	w.advance(time.Duration(surplusTime) + time.Millisecond*100)
	expect(t, p, 0, 2, 0, 2)
	w.advance(time.Minute + time.Second)
	expect(t, p, 0, 0, 0, 0)
}

func TestTheReaperClosesWhatWasIdleForTooLong(t *testing.T) {
	p, w, _ := newTestPool(config.Cluster{})
	w.dialer.atOnce = true
	a, b := acquire(p), acquire(p)
	a.conn.report = true // an engine that reports what the pool closed
	p.Release(a.conn)
	w.advance(30 * time.Second)
	p.Release(b.conn)
	w.advance(29 * time.Second)
	expect(t, p, 0, 2, 0, 2)
	w.advance(2 * time.Second)
	if !a.conn.closed || b.conn.closed {
		t.Fatal("after 61 s and 31 s, the first and only the first is to be closed")
	}
	expect(t, p, 0, 1, 0, 1)
	w.advance(31 * time.Second)
	expect(t, p, 0, 0, 0, 0)
	if w.Clock.Len() != 0 {
		t.Fatal("a pool without idle connections keeps a timer")
	}
}

func TestAnExpiredIdleConnectionIsNotUsedEvenBeforeTheReaperComes(t *testing.T) {
	p, w, _ := newTestPool(config.Cluster{})
	w.dialer.atOnce = true
	a := acquire(p)
	p.Release(a.conn)
	w.Clock.Remove(&p.timer)
	w.advance(60 * time.Second)
	if b := acquire(p); b.conn == a.conn || !a.conn.closed {
		t.Fatal("a connection past its idle timeout was used")
	}
	expect(t, p, 1, 0, 0, 1)
}

func TestMaxAgeClosesAtReleaseAndSkipsIdleOnes(t *testing.T) {
	p, w, c := newTestPool(config.Cluster{})
	c.SetLimits(Limits{IdleMax: 256, IdleTimeout: time.Minute, AgeMax: 10 * time.Second})
	w.dialer.atOnce = true
	old, idle := acquire(p), acquire(p)
	w.advance(5 * time.Second)
	young := acquire(p)
	p.Release(young.conn)
	p.Release(idle.conn)
	w.advance(6 * time.Second)
	p.Release(old.conn)
	if !old.conn.closed {
		t.Fatal("a connection beyond its age was kept at release")
	}
	if got := acquire(p); got.conn != young.conn || !idle.conn.closed {
		t.Fatal("want the aged idle connection closed and the young one used")
	}
	expect(t, p, 1, 0, 0, 1)
}

func TestARetiredPoolClosesIdleAtOnceAndBusyOnRelease(t *testing.T) {
	p, w, c := newTestPool(config.Cluster{})
	w.dialer.atOnce = true
	busy, idle := acquire(p), acquire(p)
	p.Release(idle.conn)
	w.dialer.atOnce = false
	waiting := acquire(p)
	if waiting.conn != idle.conn {
		t.Fatal("want the idle connection")
	}
	p.Release(idle.conn)
	removed := c.SetEndpoints(nil)
	if len(removed) != 1 || removed[0] != p.Endpoint() {
		t.Fatalf("removed %v", removed)
	}
	w.Retire(removed[0])
	w.Retire(removed[0])
	if !idle.conn.closed || busy.conn.closed {
		t.Fatal("want the idle connection closed and the busy one left alone")
	}
	late := acquire(p) // picked before the set was swapped
	w.dialer.connect()
	if late.conn == nil {
		t.Fatal("a request that was under way is served")
	}
	p.Release(late.conn)
	p.Release(busy.conn)
	if !busy.conn.closed || !late.conn.closed {
		t.Fatal("a connection to a removed endpoint was kept")
	}
	expect(t, p, 0, 0, 0, 0)
	if w.Clock.Len() != 0 || len(w.pools) != 0 {
		t.Fatal("the worker still holds the retired pool")
	}
}

// A request that was matched by an older configuration finds the endpoint there when it is sent once more.
func TestAnEndpointThatThisWorkerFirstUsesAfterItsRetirementKeepsNoConnection(t *testing.T) {
	c := newTestCluster(config.Cluster{}, 2, 1)
	w := newTestWorker(1)
	e := c.Set().Endpoints()[0]
	w.Retire(e)
	w.Retire(e)
	w.dialer.atOnce = true
	late := acquire(e.Pool(w.Worker))
	e.Pool(w.Worker).Release(late.conn)
	if !late.conn.closed || len(w.pools) != 0 || w.Clock.Len() != 0 {
		t.Fatal("the worker holds a connection to an endpoint that is gone")
	}
}

func TestADialThatEndsAfterRetireIsClosedWhenNobodyWaits(t *testing.T) {
	p, w, _ := newTestPool(config.Cluster{})
	s := acquire(p)
	w.Retire(p.Endpoint())
	p.Forget(&s.Waiter)
	if c := w.dialer.connect(); !c.closed {
		t.Fatal("a connection to a removed endpoint became idle")
	}
	expect(t, p, 0, 0, 0, 0)
}

func TestCloseIdleClosesTheIdleConnectionsOfAllPools(t *testing.T) {
	c := newTestCluster(config.Cluster{}, 1, 3)
	w := newTestWorker(0)
	w.dialer.atOnce = true
	var sinks []*fakeSink
	for _, e := range c.Set().Endpoints() {
		p := e.Pool(w.Worker)
		s := acquire(p)
		p.Release(s.conn)
		sinks = append(sinks, s)
	}
	w.Retire(c.Set().Endpoints()[0])
	w.CloseIdle()
	for i, s := range sinks {
		if !s.conn.closed {
			t.Errorf("connection %d is open", i)
		}
	}
}

func TestWrongReportsOfAnEngineArePanics(t *testing.T) {
	for name, wrong := range map[string]func(p *Pool, busy, idle *fakeConn){
		"release of an idle connection":     func(p *Pool, _, idle *fakeConn) { p.Release(idle) },
		"release of a closed connection":    func(p *Pool, busy, _ *fakeConn) { p.Closed(busy); p.Release(busy) },
		"ready twice":                       func(p *Pool, busy, _ *fakeConn) { p.Ready(busy) },
		"ready without a dial":              func(p *Pool, _, _ *fakeConn) { p.Ready(&fakeConn{pool: p}) },
		"failure of a dial that was not":    func(p *Pool, _, _ *fakeConn) { p.DialFailed(Failure{}) },
		"release of one that was not ready": func(p *Pool, _, _ *fakeConn) { p.Release(&fakeConn{pool: p}) },
	} {
		t.Run(name, func(t *testing.T) {
			p, w, _ := newTestPool(config.Cluster{})
			w.dialer.atOnce = true
			busy, idle := acquire(p), acquire(p)
			p.Release(idle.conn)
			defer func() {
				if recover() == nil {
					t.Fatal("no panic")
				}
			}()
			wrong(p, busy.conn, idle.conn)
		})
	}
}

func TestAcquireAndReleaseDoNotAllocate(t *testing.T) {
	p, w, c := newTestPool(config.Cluster{ConnectionsMax: 100})
	w.dialer.atOnce = true
	s, queued := newSink(), newSink()
	p.Acquire(&s.Waiter)
	p.Release(s.conn)
	allocs := testing.AllocsPerRun(1000, func() {
		e := c.Pick(w.Worker, 0, nil)
		e.Pool(w.Worker).Acquire(&s.Waiter)
		w.CountRequest()
		e.Report(w.Worker, true)
		p.Release(s.conn)
	})
	if allocs != 0 {
		t.Errorf("a request on an idle connection: %v allocations", allocs)
	}
	p1, w1, _ := newTestPool(config.Cluster{ConnectionsMax: 1})
	w1.dialer.atOnce = true
	p1.Acquire(&s.Waiter)
	allocs = testing.AllocsPerRun(1000, func() {
		p1.Acquire(&queued.Waiter)
		p1.Release(s.conn)
		s, queued = queued, s
	})
	if allocs != 0 {
		t.Errorf("a request that waits for a release: %v allocations", allocs)
	}
}
