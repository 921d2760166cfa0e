//go:build linux && (amd64 || arm64)

package bpf

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"rauta.io/rauta/proxy/observe"
)

const (
	tallyNone  = 0 // no route has matched
	tallyOther = 1 // routes without a tally of their own
	tallyFirst = 2 // of routes

	// foldSpacing keeps the two metrics of one scrape from reading all of the tallies twice.
	foldSpacing = 20 * time.Millisecond
)

// tallies count requests by route. Every worker has its own counters, in chunks that it makes as it needs them; a scrape adds
// them up. The kernel could count only when it next looks at a socket, which between windows it does not.
type tallies struct {
	// immutable
	registry *observe.Registry
	workers  []*workerTallies

	mu     sync.Mutex       // held for the first watched request of a route, and for a scrape
	owners []*observe.Route // by number; nil: nobody
	free   []uint32
	late   []uint32 // free when nobody counts any more who has looked for the number before
	totals []total
	folded time.Time
}

// tally is what one worker counts for one route. Its numbers are read as differences, so that they may overflow.
type tally struct {
	ns, received, sent uint64
	buckets            [buckets]uint32
}

const (
	// buckets of a histogram: the first ends at 2^boundBits ns, each further one at twice the one before, the last never.
	buckets   = 25
	boundBits = 13
	// talliesInChunk and chunksMax bound the routes that are told apart.
	talliesInChunk = 128
	chunksMax      = 80
)

// workerTallies are those of one worker: it alone writes.
type workerTallies struct {
	counted atomic.Uint64 // in all of them
	chunks  [chunksMax]atomic.Pointer[[talliesInChunk]tally]
}

// add counts a request for the tally of a number.
func (w *workerTallies) add(number uint32, ns, received, sent uint64) {
	t := w.at(int(number))
	if t == nil {
		chunk := new([talliesInChunk]tally)
		w.chunks[number/talliesInChunk].Store(chunk)
		t = &chunk[number%talliesInChunk]
	}
	atomic.AddUint32(&t.buckets[bucketOf(ns)], 1)
	atomic.AddUint64(&t.ns, ns)
	atomic.AddUint64(&t.received, received)
	atomic.AddUint64(&t.sent, sent)
	w.counted.Add(1)
}

// at is nil for what was never counted.
func (w *workerTallies) at(number int) *tally {
	chunk := w.chunks[number/talliesInChunk].Load()
	if chunk == nil {
		return nil
	}
	return &chunk[number%talliesInChunk]
}

// total is what all workers have counted for a route, and what they had counted when they were last read.
type total struct {
	buckets            [buckets]uint64
	ns, received, sent uint64
	seen               tally
}

func newTallies(registry *observe.Registry, workers int) *tallies {
	t := &tallies{registry: registry, owners: make([]*observe.Route, tallyFirst), totals: make([]total, tallyFirst)}
	for range workers {
		t.workers = append(t.workers, new(workerTallies))
	}
	return t
}

// counted is how many requests were watched.
func (t *tallies) counted() (n uint64) {
	for _, w := range t.workers {
		n += w.counted.Load()
	}
	return n
}

// of returns the number of a route's tally.
func (t *tallies) of(rt *observe.Route) uint32 {
	if rt == nil {
		return tallyNone
	}
	if v := rt.KernelTally().Load(); v != 0 {
		return uint32(v)
	}
	return t.assign(rt)
}

func (t *tallies) assign(rt *observe.Route) (number uint32) {
	hasSeries := t.registry.RouteHasSeries(rt)
	t.mu.Lock()
	defer t.mu.Unlock()
	if v := rt.KernelTally().Load(); v != 0 { // another worker was faster
		return uint32(v)
	}
	switch {
	case !hasSeries:
		return tallyOther
	case len(t.free) > 0:
		number = t.free[len(t.free)-1]
		t.free = t.free[:len(t.free)-1]
	case len(t.owners) < talliesInChunk*chunksMax:
		number = uint32(len(t.owners))
		t.owners, t.totals = append(t.owners, nil), append(t.totals, total{})
	default:
		return tallyOther
	}
	t.owners[number] = rt
	t.totals[number] = total{seen: t.read(int(number))}
	rt.KernelTally().Store(uint64(number))
	return number
}

// reclaimInterval is how often tallies are read without a scrape: their buckets of 32 bits must not go round in between.
const reclaimInterval = time.Minute

func (t *tallies) reclaimUntil(stop <-chan struct{}) {
	tick := time.NewTicker(reclaimInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			t.reclaim()
		case <-stop:
			return
		}
	}
}

// reclaim takes the tallies of routes that are forgotten. What is counted for them late counts for others, or, by a worker
// that had looked for the number just before, for nobody: the number is given away only at the next time.
func (t *tallies) reclaim() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fold()
	t.free = append(t.free, t.late...)
	t.late = t.late[:0]
	for i := tallyFirst; i < len(t.owners); i++ {
		if rt := t.owners[i]; rt != nil && t.registry.RouteForgotten(rt) {
			rt.KernelTally().Store(0)
			t.owners[i] = nil
			t.late = append(t.late, uint32(i))
		}
	}
}

// fold adds what was counted since the last time. mu is held.
func (t *tallies) fold() {
	for number := range t.totals {
		t.totals[number].add(t.read(number))
	}
	t.folded = time.Now()
}

// read adds up what the workers have counted.
func (t *tallies) read(number int) (sum tally) {
	for _, w := range t.workers {
		one := w.at(number)
		if one == nil {
			continue
		}
		sum.ns += atomic.LoadUint64(&one.ns)
		sum.received += atomic.LoadUint64(&one.received)
		sum.sent += atomic.LoadUint64(&one.sent)
		for b := range one.buckets {
			sum.buckets[b] += atomic.LoadUint32(&one.buckets[b])
		}
	}
	return sum
}

// add takes what the workers have counted.
func (s *total) add(now tally) {
	s.ns, s.received, s.sent = s.ns+now.ns-s.seen.ns, s.received+now.received-s.seen.received, s.sent+now.sent-s.seen.sent
	for b, n := range now.buckets {
		s.buckets[b] += uint64(n - s.seen.buckets[b])
	}
	s.seen = now
}

func (t *tallies) register(registry *observe.Registry) {
	registry.Counters("rauta_kernel_request_bytes_total", func(emit emit) {
		t.each(func(s *total, route observe.Label) {
			emit(float64(s.received), route, received())
			emit(float64(s.sent), route, sent())
		})
	})
	bounds := bucketBounds()
	registry.Histograms("rauta_kernel_request_seconds", func(emit func(*observe.BoundedHistogram, ...observe.Label)) {
		t.each(func(s *total, route observe.Label) {
			emit(&observe.BoundedHistogram{Bounds: bounds, Buckets: s.buckets[:], SumNs: s.ns}, route)
		})
	})
}

// each calls f for every route of which a request was counted.
func (t *tallies) each(f func(*total, observe.Label)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.folded) > foldSpacing {
		t.fold()
	}
	for number := range t.totals {
		s := &t.totals[number]
		name := ""
		switch rt := t.owners[number]; {
		case number == tallyNone:
			name = "none"
		case number == tallyOther:
			name = "other"
		case rt == nil:
			continue
		default:
			name = rt.Name()
		}
		if s.any() {
			f(s, observe.Label{Name: "route", Value: name})
		}
	}
}

func (s *total) any() bool {
	for _, n := range s.buckets {
		if n > 0 {
			return true
		}
	}
	return false
}

// bucketBounds are the upper bounds of the buckets in seconds.
func bucketBounds() []string {
	bounds := make([]string, buckets)
	for i := range buckets - 1 {
		bounds[i] = strconv.FormatFloat(float64(uint64(1)<<(boundBits+i))/1e9, 'g', -1, 64)
	}
	bounds[buckets-1] = "+Inf"
	return bounds
}
