package upstream

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"rauta.io/rauta/proxy/config"
)

// TestWhateverHappensTheBooksBalanceAndEveryRequestIsAnsweredOnce drives the pools of three workers to one endpoint with
// random events.
func TestWhateverHappensTheBooksBalanceAndEveryRequestIsAnsweredOnce(t *testing.T) {
	for seed := range uint64(80) {
		m := newModel(seed)
		for step := range 2000 {
			m.step()
			m.check(t, seed, step)
		}
		m.settle()
		m.check(t, seed, -1)
		for i, w := range m.workers {
			p := m.pools[i]
			if p.active != 0 || p.queue.Len() != 0 || p.dialing != 0 || p.idle.Len() != 0 || w.Clock.Len() != 0 {
				t.Fatalf("seed %d: worker %d is left with %+v", seed, i, p)
			}
		}
		if n := m.pools[0].endpoint.starving.Load(); n != 0 {
			t.Fatalf("seed %d: %d pools count as starving at the end", seed, n)
		}
	}
}

type model struct {
	rng     *rand.Rand
	cluster *Cluster
	workers []*testWorker
	pools   []*Pool
	open    [][]*fakeSink // by worker: requests that were asked for and are not over
}

func newModel(seed uint64) *model {
	rng := rand.New(rand.NewPCG(seed, 1))
	settings := config.Cluster{PendingMax: 6, ConnectionsMax: rng.IntN(6)} // 0: no limit
	if seed%4 >= 2 {
		settings.Protocol = config.BackendH2
	}
	m := &model{rng: rng, cluster: newTestCluster(settings, 3, 1), open: make([][]*fakeSink, 3)}
	if seed%2 == 0 {
		m.cluster.SetLimits(Limits{IdleMax: 3, IdleTimeout: time.Second, AgeMax: 2 * time.Second})
	}
	for id := range 3 {
		w := newTestWorker(id)
		if settings.Protocol == config.BackendH2 {
			w.dialer.carries = func() int { return 1 + rng.IntN(4) }
		}
		m.workers = append(m.workers, w)
		m.pools = append(m.pools, m.cluster.Set().Endpoints()[0].Pool(w.Worker))
	}
	return m
}

func (m *model) step() {
	i := m.rng.IntN(3)
	w, p := m.workers[i], m.pools[i]
	switch m.rng.IntN(10) {
	case 0, 1, 2:
		m.open[i] = append(m.open[i], acquire(p))
	case 3, 4:
		if len(w.dialer.pending) > 0 {
			w.dialer.connect()
		}
	case 5:
		if len(w.dialer.pending) > 0 {
			w.dialer.fail()
		}
	case 6, 7:
		if len(m.open[i]) > 0 {
			m.end(i, m.rng.IntN(len(m.open[i])))
		}
	case 8:
		if n := p.idle.Back(); n != nil && m.rng.IntN(2) == 0 {
			p.Closed(n.Item.conn)
		}
		d := time.Duration(m.rng.IntN(50)) * time.Millisecond
		for _, w := range m.workers {
			w.advance(d)
		}
	case 9:
		m.change(i)
	}
}

// change has a connection that carries several streams say how many it takes from now on.
func (m *model) change(i int) {
	if m.cluster.settings.Protocol != config.BackendH2 || len(m.open[i]) == 0 {
		return
	}
	if c := m.open[i][m.rng.IntN(len(m.open[i]))].conn; c != nil {
		c.capacity = m.rng.IntN(5)
		m.pools[i].Changed(c)
	}
}

// end ends request k of worker i in one of the ways that fit its state.
func (m *model) end(i, k int) {
	s, p := m.open[i][k], m.pools[i]
	m.open[i] = append(m.open[i][:k], m.open[i][k+1:]...)
	switch {
	case s.conn == nil:
		p.Forget(&s.Waiter)
	case m.rng.IntN(4) == 0:
		conn := s.conn
		// All its streams end.
		m.open[i] = slices.DeleteFunc(m.open[i], func(s *fakeSink) bool { return s.conn == conn })
		p.Closed(conn)
	default:
		p.Release(s.conn)
	}
}

func (m *model) settle() {
	for i := range m.pools {
		for len(m.open[i]) > 0 {
			m.end(i, 0)
		}
	}
	for i, w := range m.workers {
		for len(w.dialer.pending) > 0 {
			w.dialer.fail()
		}
		w.Retire(m.pools[i].endpoint)
		w.advance(time.Second)
	}
}

func (m *model) check(t *testing.T, seed uint64, step int) {
	t.Helper()
	total := 0
	for i, p := range m.pools {
		waiting, active := 0, 0
		carries := map[*fakeConn]int{}
		for _, s := range m.open[i] {
			switch {
			case s.Queued():
				waiting++
			case s.conn != nil:
				active++
				carries[s.conn]++
				if s.conn.closed {
					t.Fatalf("seed %d, step %d: a request holds a connection that the pool closed", seed, step)
				}
			}
			if answers := len(s.failures); s.conn != nil && answers != 0 || answers > 1 || s.Queued() && answers != 0 {
				t.Fatalf("seed %d, step %d: a request was answered more than once", seed, step)
			}
			if !s.Queued() && s.conn == nil && len(s.failures) == 0 {
				t.Fatalf("seed %d, step %d: a request was lost", seed, step)
			}
		}
		yielding := 0
		for c, n := range carries {
			if c.slot.streams != n {
				t.Fatalf("seed %d, step %d: a connection carries %d streams, its books say %d", seed, step, n, c.slot.streams)
			}
			if c.slot.yields {
				yielding++
			} else if waiting > 0 && n < c.slot.capacity {
				t.Fatalf("seed %d, step %d: requests wait beside a connection that has room", seed, step)
			}
			if open := n < c.slot.capacity; open != (c.slot.state == connOpen) {
				t.Fatalf("seed %d, step %d: a connection with %d of %d streams is in state %d", seed, step, n, c.slot.capacity,
					c.slot.state)
			}
		}
		if p.queue.Len() != waiting || p.active != active || p.conns != len(carries)+p.idle.Len() || p.yielding != yielding ||
			p.dialing != len(m.workers[i].dialer.pending) {
			t.Fatalf("seed %d, step %d: %d wait and %d are active, but the books say %+v", seed, step, waiting, active, p)
		}
		if waiting > 0 && p.idle.Len() > 0 {
			t.Fatalf("seed %d, step %d: requests wait beside idle connections", seed, step)
		}
		if p.wanted() > 0 && p.timer.Deadline() == 0 {
			t.Fatalf("seed %d, step %d: a request waits for nothing", seed, step)
		}
		total += p.conns + p.dialing
	}
	if got := m.pools[0].endpoint.Connections(); got != int64(total) {
		t.Fatalf("seed %d, step %d: %d connections are counted, there are %d", seed, step, got, total)
	}
	if limit := m.cluster.connectionsMax; limit > 0 && int64(total) > limit {
		t.Fatalf("seed %d, step %d: %d connections, the limit is %d", seed, step, total, limit)
	}
}
