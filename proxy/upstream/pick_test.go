package upstream

import (
	"sync"
	"testing"

	"rauta.io/rauta/proxy/config"
)

var policies = []config.Policy{config.PolicyP2C, config.PolicyRoundRobin, config.PolicyRandom, config.PolicyMaglev}

// spread counts picks by endpoint; every request of a Maglev cluster has another key.
func spread(c *Cluster, w *Worker, n int, exclude *Endpoint) map[*Endpoint]int {
	counts := map[*Endpoint]int{}
	for i := range n {
		counts[c.Pick(w, mix(uint64(i)+1), exclude)]++
	}
	return counts
}

func TestEveryPolicyReachesAllEndpointsAboutEqually(t *testing.T) {
	for _, policy := range policies {
		t.Run(string(policy), func(t *testing.T) {
			c := newTestCluster(config.Cluster{Policy: policy}, 1, 10)
			counts := spread(c, newTestWorker(0).Worker, 100_000, nil)
			if len(counts) != 10 {
				t.Fatalf("%d endpoints were picked, want 10", len(counts))
			}
			for e, n := range counts {
				if n < 9_500 || n > 10_500 {
					t.Errorf("%s was picked %d times of 100000", e.Name, n)
				}
			}
		})
	}
}

func TestAClusterWithoutEndpointsPicksNone(t *testing.T) {
	for _, policy := range policies {
		c := newTestCluster(config.Cluster{Policy: policy}, 1, 0)
		if e := c.Pick(newTestWorker(0).Worker, 5, nil); e != nil {
			t.Errorf("%s picked %s", policy, e.Name)
		}
	}
}

func TestTheExcludedEndpointIsAvoidedWhenThereIsAnother(t *testing.T) {
	for _, policy := range policies {
		for _, n := range []int{1, 2, 3, 10} {
			c := newTestCluster(config.Cluster{Policy: policy}, 1, n)
			w := newTestWorker(0).Worker
			exclude := c.Set().Endpoints()[n/2]
			counts := spread(c, w, 20_000, exclude)
			if n == 1 {
				if counts[exclude] != 20_000 {
					t.Errorf("%s: the only endpoint has to be picked again", policy)
				}
				continue
			}
			if counts[exclude] != 0 || len(counts) != n-1 {
				t.Errorf("%s of %d: excluded one picked %d times, %d endpoints in all", policy, n, counts[exclude], len(counts))
			}
		}
	}
}

func TestP2CPrefersTheEndpointWithLessLoadOfThisWorker(t *testing.T) {
	c := newTestCluster(config.Cluster{}, 2, 2)
	w, neighbour := newTestWorker(0), newTestWorker(1)
	busy, free := c.Set().Endpoints()[0], c.Set().Endpoints()[1]
	w.dialer.atOnce = true
	s := acquire(busy.Pool(w.Worker))
	if counts := spread(c, w.Worker, 1000, nil); counts[free] != 1000 {
		t.Errorf("a stream in progress: the free endpoint was picked %d times of 1000", counts[free])
	}
	if counts := spread(c, neighbour.Worker, 1000, nil); counts[free] < 400 || counts[free] > 600 {
		t.Errorf("another worker's load counts: %d of 1000", counts[free])
	}
	busy.Pool(w.Worker).Release(s.conn)
	if counts := spread(c, w.Worker, 1000, nil); counts[free] < 400 || counts[free] > 600 {
		t.Errorf("after the end of the stream: %d of 1000", counts[free])
	}
	w.dialer.atOnce = false
	acquire(free.Pool(w.Worker)) // waits for its dial
	if counts := spread(c, w.Worker, 1000, nil); counts[busy] != 1000 {
		t.Errorf("a request that waits does not count: %d of 1000", counts[busy])
	}
}

func TestRoundRobinTakesEachEndpointExactlyOncePerRound(t *testing.T) {
	c := newTestCluster(config.Cluster{Policy: config.PolicyRoundRobin}, 2, 7)
	for id := range 2 {
		w := newTestWorker(id).Worker
		eps := c.Set().Endpoints()
		start := -1
		for i := range 70 {
			e := c.Pick(w, 0, nil)
			if start < 0 {
				for k := range eps {
					if eps[k] == e {
						start = k
					}
				}
			}
			if want := eps[(start+i)%7]; e != want {
				t.Fatalf("worker %d, pick %d: %s, want %s", id, i, e.Name, want.Name)
			}
		}
	}
}

func TestRoundRobinOfDifferentWorkersStartsAtDifferentEndpoints(t *testing.T) {
	c := newTestCluster(config.Cluster{Policy: config.PolicyRoundRobin}, 16, 16)
	starts := map[*Endpoint]int{}
	for id := range 16 {
		starts[c.Pick(newTestWorker(id).Worker, 0, nil)]++
	}
	if len(starts) < 6 {
		t.Fatalf("16 workers start at %d of 16 endpoints", len(starts))
	}
}

func TestTerminatingEndpointsServeOnlyWhenNothingElseIsReady(t *testing.T) {
	for _, policy := range policies {
		c := newTestCluster(config.Cluster{Policy: policy}, 1, 0)
		w := newTestWorker(0).Worker
		eps := addresses(4)
		eps[0].Terminating, eps[2].Terminating = true, true
		c.SetEndpoints(eps)
		if s := c.Set(); s.Len() != 4 || s.Ready() != 2 {
			t.Fatalf("%d endpoints, %d ready", s.Len(), s.Ready())
		}
		for e := range spread(c, w, 1000, nil) {
			if e.Name == eps[0].Address || e.Name == eps[2].Address {
				t.Errorf("%s picked %s, which is terminating", policy, e.Name)
			}
		}
		for i := range eps {
			eps[i].Terminating = true
		}
		c.SetEndpoints(eps)
		if counts := spread(c, w, 1000, nil); len(counts) != 4 {
			t.Errorf("%s picked %d of 4 terminating endpoints when nothing else is ready", policy, len(counts))
		}
	}
}

func TestARetryGoesToATerminatingEndpointWhenTheOnlyReadyOneFailed(t *testing.T) {
	c := newTestCluster(config.Cluster{}, 1, 0)
	eps := addresses(2)
	eps[0].Terminating = true
	c.SetEndpoints(eps)
	w := newTestWorker(0).Worker
	failed := c.Pick(w, 0, nil)
	if e := c.Pick(w, 0, failed); e == failed || e == nil {
		t.Fatal("want the terminating endpoint")
	}
}

// nearAndDistant returns a cluster of which the first n of 6 endpoints are near.
func nearAndDistant(policy config.Policy, n int) *Cluster {
	c := newTestCluster(config.Cluster{Policy: policy}, 1, 0)
	eps := addresses(6)
	for i := range eps {
		eps[i].Distant = i >= n
	}
	c.SetEndpoints(eps)
	return c
}

func TestDistantEndpointsServeOnlyWhenNothingNearIsReady(t *testing.T) {
	for _, policy := range policies {
		w := newTestWorker(0).Worker
		for near, want := range map[int]int{0: 6, 1: 1, 2: 2, 6: 6} {
			c := nearAndDistant(policy, near)
			counts := spread(c, w, 2000, nil)
			if len(counts) != want {
				t.Errorf("%s: with %d near endpoints %d were picked, want %d", policy, near, len(counts), want)
			}
			if s := c.Set(); s.Ready() != 6 {
				t.Errorf("%s: %d are ready, want 6: distant ones are", policy, s.Ready())
			}
		}
		terminating := addresses(2)
		terminating[0].Terminating, terminating[1].Distant = true, true
		c := newTestCluster(config.Cluster{Policy: policy}, 1, 0)
		c.SetEndpoints(terminating)
		for e := range spread(c, w, 100, nil) {
			if e.Name != terminating[1].Address {
				t.Errorf("%s: a near one that is terminating was picked before a distant one that is ready", policy)
			}
		}
	}
}

func TestDistantEndpointsStandInForNearOnesThatFail(t *testing.T) {
	for _, policy := range policies {
		for _, near := range []int{1, 2} {
			c, w := nearAndDistant(policy, near), newTestWorker(0).Worker
			for e := range spread(c, w, 1000, nil) {
				ejectNow(e, w)
			}
			counts := spread(c, w, 4000, nil)
			if len(counts) != 6-near {
				t.Errorf("%s, %d near: %d endpoints serve, want the %d distant ones", policy, near, len(counts), 6-near)
			}
			w.Clock.Advance(w.Clock.Now() + ejectionBase)
			if counts := spread(c, w, 1000, nil); len(counts) != near {
				t.Errorf("%s, %d near: %d endpoints serve after the ejection, want the near ones", policy, near, len(counts))
			}
		}
	}
}

func TestARetryGoesToADistantEndpointBeforeATerminatingOne(t *testing.T) {
	c, w := newTestCluster(config.Cluster{}, 1, 0), newTestWorker(0).Worker
	eps := addresses(9)
	for i := range eps {
		eps[i].Distant, eps[i].Terminating = i == 1, i > 1
	}
	c.SetEndpoints(eps)
	failed := c.Pick(w, 0, nil)
	for range 50 {
		if e := c.Pick(w, 0, failed); e.Name != eps[1].Address {
			t.Fatalf("the retry goes to %s, want the distant one that is ready", e.Name)
		}
	}
}

func TestPickDoesNotAllocate(t *testing.T) {
	for _, policy := range policies {
		c := newTestCluster(config.Cluster{Policy: policy}, 1, 50)
		w := newTestWorker(0).Worker
		ejectNow(c.Set().Endpoints()[3], w)
		failed := c.Set().Endpoints()[7]
		key := uint64(1)
		if n := testing.AllocsPerRun(1000, func() {
			key = mix(key)
			c.Pick(w, key, nil)
			c.Pick(w, key, failed)
		}); n != 0 {
			t.Errorf("%s: %v allocations", policy, n)
		}
	}
}

func TestEndpointsMayBeReplacedWhileWorkersPick(t *testing.T) {
	for _, policy := range policies {
		c := newTestCluster(config.Cluster{Policy: policy}, 4, 3)
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for id := range 4 {
			wg.Go(func() {
				w := newTestWorker(id)
				w.dialer.atOnce = true
				s := newSink()
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					e := c.Pick(w.Worker, uint64(i), nil)
					if e == nil {
						t.Error("no endpoint")
						return
					}
					p := e.Pool(w.Worker)
					p.Acquire(&s.Waiter)
					e.Report(w.Worker, i%5 != 0)
					p.Release(s.conn)
				}
			})
		}
		for i := range 30 {
			eps := addresses(3 + i%5)
			eps[i%3].Terminating = i%2 == 0
			c.SetEndpoints(eps)
			if i%5 == 0 {
				NewCluster(c.Config(), nil, 4, c)
			}
		}
		close(stop)
		wg.Wait()
	}
}
