//go:build linux

package loop

import (
	"testing"
)

// startGroup runs n workers that listen on one address.
func startGroup(t testing.TB, n int, group *Group, onAccept func(*Worker, *Conn)) ([]*Worker, []*Listener) {
	t.Helper()
	opt := ListenerOptions{Addr: loopback, CloseGrace: 200e6}
	var workers []*Worker
	var listeners []*Listener
	for range n {
		w := startWorker(t, WorkerOptions{Group: group})
		l := listen(t, w, opt, onAccept)
		opt.Addr = l.Addr()
		workers, listeners = append(workers, w), append(listeners, l)
	}
	return workers, listeners
}

func TestFewConnectionsSpreadEvenlyOverTheWorkers(t *testing.T) {
	for _, workers := range []int{2, 4} {
		all, listeners := startGroup(t, workers, NewGroup(0), serveEcho)
		for i := range 2 * workers {
			c := dial(t, listeners[0].Addr())
			if err := exchange(c); err != nil {
				t.Fatalf("connection %d: %v", i, err)
			}
		}
		for _, w := range all {
			on(t, w, func() {
				if w.counts.open != 2 {
					t.Errorf("worker %d of %d has %d connections, want 2", w.ID(), workers, w.counts.open)
				}
			})
		}
	}
}

func TestAConnectionIsAcceptedOnTheThreadOfItsOwner(t *testing.T) {
	owners := make(chan bool, 100)
	_, listeners := startGroup(t, 3, NewGroup(0), func(w *Worker, c *Conn) {
		w.owner.check()
		owners <- c.Worker() == w
		serveEcho(w, c)
	})
	for range 12 {
		if err := exchange(dial(t, listeners[0].Addr())); err != nil {
			t.Fatal(err)
		}
		if !receive(t, owners) {
			t.Error("a connection was given to somebody else than its owner")
		}
	}
}

func TestAConnectionThatNeverSendsHasAnOwnerToo(t *testing.T) {
	owners := make(chan *Worker, 10)
	_, listeners := startGroup(t, 2, NewGroup(0), func(w *Worker, c *Conn) { owners <- w })
	seen := map[*Worker]int{}
	for range 4 {
		dial(t, listeners[0].Addr())
		seen[receive(t, owners)]++
	}
	for w, n := range seen {
		if n != 2 {
			t.Errorf("worker %d has %d silent connections, want 2", w.ID(), n)
		}
	}
}

func TestAConnectionStaysWhileTheDifferenceOfLoadIsSmall(t *testing.T) {
	g := NewGroup(0)
	a, b := newWorker(t, 0, WorkerOptions{Group: g}), newWorker(t, 1, WorkerOptions{Group: g})
	a.load.accepting.Store(true)
	b.load.accepting.Store(true)
	for _, c := range []struct {
		own, other, streams int64
		stays               bool
	}{
		{0, 0, 0, true},
		{1, 0, 0, false},
		{7, 7, 0, true},
		{8, 7, 0, false},
		{9, 8, 0, true},
		{10, 8, 0, false},
		{112, 100, 0, true},
		{113, 100, 0, false},
		{100, 90, 10, true}, // 10 streams weigh as much as 40 connections
		{102, 90, 10, true},
		{103, 90, 10, false}, // but connections stay for life
		{2, 1, 100, true},
		{3, 1, 100, false},
	} {
		a.load.conns.Store(c.own)
		b.load.conns.Store(c.other)
		b.load.active.Store(c.streams)
		if stays := g.ownerFor(a) == a; stays != c.stays {
			t.Errorf("own load %d, other %d with %d streams: stays %v", c.own, c.other, c.streams, stays)
		}
	}
}

func TestAWorkerThatStopsGetsNoConnections(t *testing.T) {
	workers, listeners := startGroup(t, 2, NewGroup(0), serveEcho)
	stopping := workers[0]
	on(t, stopping, func() { listeners[0].Close(); stopping.load.accepting.Store(false) })
	for range 6 {
		if err := exchange(dial(t, listeners[1].Addr())); err != nil {
			t.Fatal(err)
		}
	}
	on(t, workers[1], func() {
		if n := workers[1].counts.open; n != 6 {
			t.Errorf("the other worker has %d of 6 connections", n)
		}
	})
}
