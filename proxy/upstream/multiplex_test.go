package upstream

import (
	"testing"
	"time"

	"rauta.io/rauta/proxy/config"
)

// newSharedPool returns a pool to an endpoint that speaks HTTP/2, whose connections carry so many streams.
func newSharedPool(capacity int, settings config.Cluster) (*Pool, *testWorker, *Cluster) {
	settings.Protocol = config.BackendH2
	p, w, c := newTestPool(settings)
	w.dialer.carries = func() int { return capacity }
	return p, w, c
}

func TestRequestsShareAConnectionUntilItIsFull(t *testing.T) {
	p, w, _ := newSharedPool(3, config.Cluster{})
	var sinks []*fakeSink
	for range 4 {
		sinks = append(sinks, acquire(p))
	}
	if w.dialer.dials != 1 {
		t.Fatalf("%d dials for four requests, want one", w.dialer.dials)
	}
	first := w.dialer.connect()
	expect(t, p, 3, 0, 1, 2)
	if w.dialer.dials != 2 {
		t.Fatal("no second dial for the request that found no room")
	}
	w.dialer.connect()
	expect(t, p, 4, 0, 0, 2)
	p.Release(first)
	if s := acquire(p); s.conn != first {
		t.Fatal("want the stream on the fuller connection")
	}
	p.Release(sinks[3].conn)
	expect(t, p, 3, 1, 0, 2)
	p.Release(first)
	if s := acquire(p); s.conn != first {
		t.Fatal("a connection with streams comes before one without")
	}
}

func TestAReleasedStreamMakesRoomForTheNextThatWaits(t *testing.T) {
	p, w, _ := newSharedPool(2, config.Cluster{ConnectionsMax: 1})
	a, b, c := acquire(p), acquire(p), acquire(p)
	conn := w.dialer.connect()
	if a.conn != conn || b.conn != conn || c.conn != nil {
		t.Fatal("want two streams and one request waiting")
	}
	p.Release(conn)
	if c.conn != conn {
		t.Fatal("the room was not given to the request that waits")
	}
	expect(t, p, 2, 0, 0, 1)
}

func TestAFailedDialFailsAllThatReliedOnIt(t *testing.T) {
	p, w, _ := newSharedPool(100, config.Cluster{})
	var sinks []*fakeSink
	for range streamsAssumed + 20 {
		sinks = append(sinks, acquire(p))
	}
	if w.dialer.dials != 2 {
		t.Fatalf("%d dials for %d requests, want 2", w.dialer.dials, len(sinks))
	}
	again := 0
	sinks[0].onFail = func() { again++; p.Acquire(&sinks[0].Waiter) } // waits for the dial that is left
	w.dialer.fail()
	for i, s := range sinks {
		if failed := len(s.failures) == 1; failed != (i < 20) {
			t.Fatalf("request %d of %d failed: %v", i, len(sinks), failed)
		}
	}
	expect(t, p, 0, 0, streamsAssumed+1, 2)
	w.dialer.fail()
	w.dialer.fail()
	for i, s := range sinks {
		if n := len(s.failures); n != 1 && i != 0 || i == 0 && again != n {
			t.Fatalf("request %d has %d failures", i, n)
		}
	}
}

func TestAConnectionThatTakesNoMoreEndsWithItsStreams(t *testing.T) {
	p, w, _ := newSharedPool(10, config.Cluster{})
	w.dialer.atOnce = true
	a, b := acquire(p), acquire(p)
	old := a.conn
	old.capacity = 0 // GOAWAY
	p.Changed(old)
	c := acquire(p)
	if c.conn == old || w.dialer.dials != 2 {
		t.Fatal("a stream was started on a connection that takes no more")
	}
	p.Release(a.conn)
	if old.closed {
		t.Fatal("closed with a stream in use")
	}
	p.Release(b.conn)
	if !old.closed {
		t.Fatal("kept without streams")
	}
	p.Release(c.conn)
	c.conn.capacity = 0
	p.Changed(c.conn)
	if !c.conn.closed {
		t.Fatal("an idle connection that takes no more was kept")
	}
	expect(t, p, 0, 0, 0, 0)
}

func TestMoreRoomIsUsedAtOnce(t *testing.T) {
	p, w, _ := newSharedPool(1, config.Cluster{ConnectionsMax: 1})
	a, b := acquire(p), acquire(p)
	conn := w.dialer.connect()
	if a.conn != conn || b.conn != nil {
		t.Fatal("want one stream")
	}
	conn.capacity = 2
	p.Changed(conn)
	if b.conn != conn {
		t.Fatal("the request goes on waiting although there is room")
	}
}

func TestAClosedConnectionTakesAllItsStreamsOffTheBooks(t *testing.T) {
	p, w, _ := newSharedPool(10, config.Cluster{})
	w.dialer.atOnce = true
	a := acquire(p)
	acquire(p)
	p.Closed(a.conn)
	expect(t, p, 0, 0, 0, 0)
}

func TestASharedConnectionBeyondItsAgeTakesNoMoreStreams(t *testing.T) {
	p, w, c := newSharedPool(10, config.Cluster{})
	c.SetLimits(Limits{IdleMax: 256, IdleTimeout: time.Minute, AgeMax: 10 * time.Second})
	w.dialer.atOnce = true
	a := acquire(p)
	w.advance(11 * time.Second)
	if b := acquire(p); b.conn == a.conn {
		t.Fatal("a stream on a connection beyond its age")
	}
	p.Release(a.conn)
	if !a.conn.closed {
		t.Fatal("a connection beyond its age was kept")
	}
	expect(t, p, 1, 0, 0, 1)
}

// TestASharedConnectionAboveTheShareEmptiesForAWorkerInNeed: it is never without streams by itself.
func TestASharedConnectionAboveTheShareEmptiesForAWorkerInNeed(t *testing.T) {
	ws, ps, advance := workersOf(2, config.Cluster{ConnectionsMax: 1, Protocol: config.BackendH2})
	for _, w := range ws {
		w.dialer.carries = func() int { return 10 }
	}
	a, b := acquire(ps[0]), acquire(ps[0])
	needy := acquire(ps[1])
	ps[0].Release(a.conn)
	next := acquire(ps[0])
	if next.conn != nil {
		t.Fatal("a connection that is to go took another stream")
	}
	ps[0].Release(b.conn)
	if !b.conn.closed {
		t.Fatal("the connection was not given up")
	}
	advance(2 * time.Duration(roomInterval))
	if needy.conn == nil {
		t.Fatal("the worker in need got nothing")
	}
}

func TestAnotherProtocolMakesNewEndpoints(t *testing.T) {
	c := newTestCluster(config.Cluster{}, 1, 2)
	w := newTestWorker(0)
	w.dialer.atOnce = true
	before := c.Set().Endpoints()
	p := before[0].Pool(w.Worker)
	s := acquire(p)
	p.Release(s.conn)
	next := NewCluster(config.Cluster{Name: c.Name(), Protocol: config.BackendH2}, nil, 1, c)
	if next.Has(addresses(2)) {
		t.Fatal("the endpoints are taken for what they should be")
	}
	removed := next.SetEndpoints(addresses(2))
	if len(removed) != 2 || removed[0] != before[0] {
		t.Fatalf("removed %v", removed)
	}
	for _, e := range next.Set().Endpoints() {
		if e.Protocol != config.BackendH2 {
			t.Fatal("an endpoint that speaks the old protocol is in the set")
		}
	}
	if !next.Has(addresses(2)) {
		t.Fatal("equal endpoints would be set again")
	}
}
