package upstream

import (
	"math/bits"

	"rauta.io/rauta/proxy/clock"
	"rauta.io/rauta/proxy/observe"
)

// Worker is what one event loop keeps for all clusters: its clock, its dialer, its source of randomness, its retry
// budget and the list of its pools. Every method is called on that loop's thread.
type Worker struct {
	// ID indexes the pools of an endpoint: 0 to the number of workers that the clusters were made for, minus 1.
	ID     int
	Clock  *clock.Wheel
	Dialer Dialer
	// Shard, if not nil, counts connections that were opened, and that could not be.
	Shard *observe.Shard

	rng    uint64
	budget budget
	pools  []*Pool // those that are not retired
}

// NewWorker returns the state of worker id. Each worker needs its own seed, so that workers do not choose the same
// endpoints at the same time.
func NewWorker(id int, clk *clock.Wheel, d Dialer, seed uint64) *Worker {
	return &Worker{ID: id, Clock: clk, Dialer: d, rng: mix(seed + uint64(id) + 1), budget: newBudget()}
}

// random returns a number below n, which is at least 1. It is splitmix64: choosing endpoints needs spread, not secrecy.
func (w *Worker) random(n int) int {
	w.rng += 0x9e3779b97f4a7c15
	hi, _ := bits.Mul64(mix(w.rng), uint64(n))
	return int(hi)
}

// Random returns an evenly distributed number, for choices that need spread and not secrecy.
func (w *Worker) Random() uint32 {
	w.rng += 0x9e3779b97f4a7c15
	return uint32(mix(w.rng) >> 32)
}

// CountRequest notes a request that is sent for the first time; retries are a share of these.
func (w *Worker) CountRequest() { w.budget.countRequest(w.Clock.Now()) }

// AllowRetry reports whether one more retry fits into the budget, and takes it.
func (w *Worker) AllowRetry() bool { return w.budget.allowRetry(w.Clock.Now()) }

// Retire closes this worker's idle connections to an endpoint that left its set. Connections in use are closed when
// they are released, and requests that wait for one are still served. The server calls it on every worker.
func (w *Worker) Retire(e *Endpoint) {
	if e.upgrades != nil {
		w.Retire(e.upgrades)
	}
	if p := e.pools[w.ID]; p != nil {
		p.retire()
		return
	}
	// A request of an older configuration may still be sent there again: its connection must not stay.
	p := newPool(e, w)
	p.retired = true
	e.pools[w.ID] = p
}

// CloseIdle closes the idle connections of every pool of this worker, for the end of a drain.
func (w *Worker) CloseIdle() {
	for _, p := range w.pools {
		p.closeIdle()
	}
}

// Connections is the number of connections of this worker, those being opened included. Those to endpoints that have been
// retired are not counted.
func (w *Worker) Connections() int {
	n := 0
	for _, p := range w.pools {
		n += p.conns + p.dialing
	}
	return n
}

func (w *Worker) addPool(p *Pool) {
	p.index = len(w.pools)
	w.pools = append(w.pools, p)
	// Pools are sized to the number of workers, which is how a worker learns its share of what all have together.
	w.budget.share(len(p.endpoint.pools))
}

func (w *Worker) removePool(p *Pool) {
	last := len(w.pools) - 1
	w.pools[p.index] = w.pools[last]
	w.pools[p.index].index = p.index
	w.pools[last] = nil
	w.pools = w.pools[:last]
}
