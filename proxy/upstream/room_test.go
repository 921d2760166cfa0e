package upstream

import (
	"testing"
	"time"

	"rauta.io/rauta/proxy/config"
)

// workersOf returns workers whose clocks move together, and their pools to the only endpoint of one cluster.
func workersOf(n int, settings config.Cluster) (ws []*testWorker, ps []*Pool, advance func(time.Duration)) {
	c := newTestCluster(settings, n, 1)
	for i := range n {
		w := newTestWorker(i)
		w.dialer.atOnce = true
		ws = append(ws, w)
		ps = append(ps, c.Pick(w.Worker, 0, nil).Pool(w.Worker))
	}
	return ws, ps, func(d time.Duration) {
		for range d / (10 * time.Millisecond) {
			for _, w := range ws {
				w.advance(10 * time.Millisecond)
			}
		}
	}
}

func TestTheConnectionLimitHoldsOverAllWorkers(t *testing.T) {
	_, ps, _ := workersOf(2, config.Cluster{ConnectionsMax: 3})
	a, b := acquire(ps[0]), acquire(ps[0])
	c, d := acquire(ps[1]), acquire(ps[1])
	if a.conn == nil || b.conn == nil || c.conn == nil || d.conn != nil {
		t.Fatal("want three connections, and the fourth request waiting")
	}
	expect(t, ps[1], 1, 0, 1, 3)
	ps[1].Release(c.conn)
	if d.conn != c.conn {
		t.Fatal("the waiter did not get the connection of its own worker")
	}
}

func TestRoomThatAnotherWorkerMakesIsFound(t *testing.T) {
	_, ps, advance := workersOf(2, config.Cluster{ConnectionsMax: 1})
	a, b := acquire(ps[0]), acquire(ps[1])
	advance(100 * time.Millisecond)
	if b.conn != nil {
		t.Fatal("connected beyond the limit")
	}
	ps[0].Closed(a.conn)
	advance(2 * time.Duration(roomInterval))
	if b.conn == nil {
		t.Fatal("the room was not found")
	}
	if n := ps[0].endpoint.starving.Load(); n != 0 {
		t.Fatalf("%d pools count as starving, want 0", n)
	}
}

func TestIdleConnectionsAboveTheShareGoToAWorkerInNeed(t *testing.T) {
	_, ps, advance := workersOf(2, config.Cluster{ConnectionsMax: 2})
	a, b := acquire(ps[0]), acquire(ps[0])
	ps[0].Release(a.conn)
	ps[0].Release(b.conn)
	c := acquire(ps[1])
	if c.conn != nil {
		t.Fatal("connected beyond the limit")
	}
	advance(3 * time.Duration(roomInterval))
	if c.conn == nil {
		t.Fatal("idle connections of one worker kept another from its share")
	}
	expect(t, ps[0], 0, 1, 0, 2)
}

func TestABusyWorkerAboveItsShareYieldsAtRelease(t *testing.T) {
	_, ps, advance := workersOf(2, config.Cluster{ConnectionsMax: 2})
	a, b := acquire(ps[0]), acquire(ps[0])
	next := acquire(ps[0])
	needy := acquire(ps[1])
	ps[0].Release(a.conn)
	if !a.conn.closed || next.conn != nil {
		t.Fatal("want the connection closed for the worker in need")
	}
	advance(2 * time.Duration(roomInterval))
	if needy.conn == nil {
		t.Fatal("the worker in need got nothing")
	}
	ps[0].Release(b.conn)
	if next.conn != b.conn {
		t.Fatal("a worker within its share keeps its connection for its own waiters")
	}
}

func TestTheRoomThatAWorkerYieldedIsNotTakenByItsOwnNextRequest(t *testing.T) {
	_, ps, advance := workersOf(2, config.Cluster{ConnectionsMax: 1})
	a, needy := acquire(ps[0]), acquire(ps[1])
	ps[0].Release(a.conn)
	next := acquire(ps[0])
	if !a.conn.closed || next.conn != nil {
		t.Fatal("the worker yielded its connection and opened another one")
	}
	advance(2 * time.Duration(roomInterval))
	if needy.conn == nil {
		t.Fatal("the worker in need got nothing")
	}
	ps[1].Release(needy.conn)
	advance(2 * time.Duration(roomInterval))
	if next.conn == nil {
		t.Fatal("the worker that yielded did not get its turn")
	}
}

func TestWorkersTakeTurnsWhenThereAreFewerConnectionsThanWorkers(t *testing.T) {
	_, ps, advance := workersOf(3, config.Cluster{ConnectionsMax: 1})
	served := make([]int, len(ps))
	waiting := make([]*fakeSink, len(ps))
	for range 300 {
		for i, p := range ps {
			if waiting[i] == nil {
				waiting[i] = acquire(p)
			}
			if s := waiting[i]; s.conn != nil {
				served[i]++
				waiting[i] = acquire(p)
				p.Release(s.conn)
			}
		}
		if n := ps[0].endpoint.Connections(); n > 1 {
			t.Fatalf("%d connections, want at most 1", n)
		}
		advance(10 * time.Millisecond)
	}
	for i, n := range served {
		if n < 20 {
			t.Errorf("worker %d served %d requests of %v: it starves", i, n, served)
		}
	}
}

func TestAWaiterThatGivesUpIsNoLongerInNeed(t *testing.T) {
	_, ps, _ := workersOf(2, config.Cluster{ConnectionsMax: 1})
	a, b := acquire(ps[0]), acquire(ps[1])
	ps[1].Forget(&b.Waiter)
	ps[0].Release(a.conn)
	expect(t, ps[0], 0, 1, 0, 1)
}

func TestWithoutWaitersOrIdleConnectionsNoTimerRuns(t *testing.T) {
	ws, ps, advance := workersOf(2, config.Cluster{ConnectionsMax: 1})
	a, b := acquire(ps[0]), acquire(ps[1])
	ps[1].Forget(&b.Waiter)
	ps[0].Closed(a.conn)
	advance(200 * time.Millisecond)
	if n := ws[0].Clock.Len() + ws[1].Clock.Len(); n != 0 {
		t.Fatalf("%d timers", n)
	}
}
