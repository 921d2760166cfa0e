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

	mu     sync.Mutex       // held by workers for the first watched request of a route, by others for a chunk at a time
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
	counts
	seen tally
}

type counts struct {
	buckets            [buckets]uint64
	ns, received, sent uint64
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
	t.fold()
	t.mu.Lock()
	defer t.mu.Unlock()
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

// fold adds what was counted since the last time.
func (t *tallies) fold() {
	t.inChunks(func(from, to int) {
		for number := from; number < to; number++ {
			t.totals[number].add(t.read(number))
		}
	}, func() {})
	t.mu.Lock()
	t.folded = time.Now()
	t.mu.Unlock()
}

// inChunks goes over all tallies, a chunk at a time: it calls held with mu and then free without it, since a worker may
// wait for it.
func (t *tallies) inChunks(held func(from, to int), free func()) {
	for from, more := 0, true; more; from += talliesInChunk {
		t.mu.Lock()
		to := min(from+talliesInChunk, len(t.totals))
		held(from, to)
		more = to < len(t.totals)
		t.mu.Unlock()
		free()
	}
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
		t.each(func(s *counts, route observe.Label) {
			emit(float64(s.received), route, received())
			emit(float64(s.sent), route, sent())
		})
	})
	bounds := bucketBounds()
	registry.Histograms("rauta_kernel_request_seconds", func(emit func(*observe.BoundedHistogram, ...observe.Label)) {
		t.each(func(s *counts, route observe.Label) {
			emit(&observe.BoundedHistogram{Bounds: bounds, Buckets: s.buckets[:], SumNs: s.ns}, route)
		})
	})
}

// each calls f for every route of which a request was counted. mu is free meanwhile: f writes to whoever reads the metrics,
// and may wait for them.
func (t *tallies) each(f func(*counts, observe.Label)) {
	t.mu.Lock()
	due := time.Since(t.folded) > foldSpacing
	t.mu.Unlock()
	if due {
		t.fold()
	}
	type row struct {
		counts
		route observe.Label
	}
	rows := make([]row, 0, talliesInChunk)
	t.inChunks(func(from, to int) {
		rows = rows[:0]
		for number := from; number < to; number++ {
			if name := t.name(number); name != "" && t.totals[number].any() {
				rows = append(rows, row{t.totals[number].counts, observe.Label{Name: "route", Value: name}})
			}
		}
	}, func() {
		for i := range rows {
			f(&rows[i].counts, rows[i].route)
		}
	})
}

// name is the route of a tally; "" if it counts for none. mu is held.
func (t *tallies) name(number int) string {
	switch rt := t.owners[number]; {
	case number == tallyNone:
		return "none"
	case number == tallyOther:
		return "other"
	case rt == nil:
		return ""
	default:
		return rt.Name()
	}
}

func (c *counts) any() bool {
	for _, n := range c.buckets {
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
