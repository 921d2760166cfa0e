//go:build linux && (amd64 || arm64)

package bpf

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"

	"rauta.io/rauta/proxy/observe"
)

const (
	tallyNone  = 0 // no route has matched
	tallyOther = 1 // routes without a tally of their own
	tallyFirst = 2 // of routes

	// foldSpacing keeps the two metrics of one scrape from reading all of the tallies twice.
	foldSpacing = 20 * time.Millisecond
)

// tallies count requests by route. The kernel has a chunk of them for each processor; this side adds them up.
type tallies struct {
	// immutable
	registry    *observe.Registry
	outer       *ebpf.Map
	chunk       *ebpf.MapSpec
	perChunk    int
	generations []uint64 // shared with the kernel

	growing sync.Mutex

	mu     sync.Mutex // held for the first watched request of a route, for growth, and for a scrape
	chunks []*ebpf.Map
	owners []*observe.Route // by number; nil: nobody
	free   []uint32
	totals []total
	folded time.Time
}

// total is what all processors have counted for a route, and what they had counted when they were last read.
type total struct {
	buckets            [buckets]uint64
	ns, received, sent uint64
	seen               requestsTally
}

// buckets is BUCKETS of src/requests.c, and boundBits BOUND_BITS.
const (
	buckets   = len(requestsTally{}.Buckets)
	boundBits = 13
)

func newTallies(registry *observe.Registry, outer *ebpf.Map, chunk *ebpf.MapSpec, generations []uint64) (*tallies, error) {
	t := &tallies{registry: registry, outer: outer, chunk: chunk, perChunk: int(chunk.MaxEntries), generations: generations}
	t.owners = make([]*observe.Route, tallyFirst)
	t.totals = make([]total, tallyFirst)
	return t, t.grow()
}

// of returns the number of a route's tally with its generation.
func (t *tallies) of(rt *observe.Route) (number, generation uint32) {
	if rt == nil {
		return tallyNone, 0
	}
	if v := rt.KernelTally().Load(); v != 0 {
		return uint32(v >> 32), uint32(v)
	}
	return t.assign(rt)
}

func (t *tallies) assign(rt *observe.Route) (number, generation uint32) {
	hasSeries := t.registry.RouteHasSeries(rt)
	t.mu.Lock()
	defer t.mu.Unlock()
	if v := rt.KernelTally().Load(); v != 0 { // another worker was faster
		return uint32(v >> 32), uint32(v)
	}
	room := len(t.chunks) * t.perChunk
	switch {
	case !hasSeries:
		return tallyOther, 0
	case len(t.free) > 0:
		number = t.free[len(t.free)-1]
		t.free = t.free[:len(t.free)-1]
	case len(t.owners) < room:
		number = uint32(len(t.owners))
		t.owners, t.totals = append(t.owners, nil), append(t.totals, total{})
	default:
		return tallyOther, 0
	}
	if len(t.owners)+t.perChunk > room && room < len(t.generations) { // one chunk ahead
		go t.growOnce(len(t.chunks))
	}
	generation = uint32(atomic.LoadUint64(&t.generations[number]))
	t.owners[number] = rt
	t.totals[number] = total{seen: t.totals[number].seen}
	rt.KernelTally().Store(uint64(number)<<32 | uint64(generation))
	return number, generation
}

// growOnce adds a chunk if there are no more than so many. It can take some 10 ms, so that it is not for a worker.
func (t *tallies) growOnce(chunks int) {
	t.growing.Lock()
	defer t.growing.Unlock()
	t.mu.Lock()
	grown := len(t.chunks) > chunks
	t.mu.Unlock()
	if !grown {
		_ = t.grow() // else routes count for others
	}
}

func (t *tallies) grow() error {
	m, err := ebpf.NewMap(t.chunk)
	if err != nil {
		return fmt.Errorf("make counters for routes: %w", err)
	}
	if err := t.outer.Put(uint32(len(t.chunks)), m); err != nil {
		m.Close()
		return fmt.Errorf("add counters for routes: %w", err)
	}
	t.mu.Lock()
	t.chunks = append(t.chunks, m)
	t.mu.Unlock()
	return nil
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

// reclaim takes the tallies of routes that are forgotten. What is counted for them late counts for others.
func (t *tallies) reclaim() {
	t.mu.Lock()
	defer t.mu.Unlock()
	var gone []int
	for i := tallyFirst; i < len(t.owners); i++ {
		if rt := t.owners[i]; rt != nil && t.registry.RouteForgotten(rt) {
			atomic.AddUint64(&t.generations[i], 1)
			gone = append(gone, i)
		}
	}
	t.fold() // what came until now is not the next owner's
	for _, i := range gone {
		t.owners[i].KernelTally().Store(0)
		t.owners[i] = nil
		t.free = append(t.free, uint32(i))
	}
}

// fold adds what was counted since the last time. mu is held.
func (t *tallies) fold() {
	var values []requestsTally
	for number := range t.totals {
		chunk, index := t.chunks[number/t.perChunk], uint32(number%t.perChunk)
		if err := chunk.Lookup(&index, &values); err != nil {
			continue // the same difference comes the next time
		}
		t.totals[number].add(values)
	}
	t.folded = time.Now()
}

// add takes what each processor has counted.
func (s *total) add(values []requestsTally) {
	var now requestsTally
	for i := range values {
		v := &values[i]
		now.Ns, now.Received, now.Sent = now.Ns+v.Ns, now.Received+v.Received, now.Sent+v.Sent
		for b, n := range v.Buckets {
			now.Buckets[b] += n
		}
	}
	s.ns, s.received, s.sent = s.ns+now.Ns-s.seen.Ns, s.received+now.Received-s.seen.Received, s.sent+now.Sent-s.seen.Sent
	for b, n := range now.Buckets {
		s.buckets[b] += uint64(n - s.seen.Buckets[b])
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
