//go:build linux && (amd64 || arm64)

package bpf

import (
	"sync/atomic"

	"rauta.io/rauta/proxy/observe"
)

// Sampling is how many requests of a connection go by for each one that the kernel watches: 1 for all of them, 0 for as many
// as keep to the budget.
type Sampling uint32

const (
	// sampleBudget is what watching may cost of a worker's time, in nanoseconds for each second: 1%.
	sampleBudget = 10_000_000
	// Costs in nanoseconds of a request of HTTP/1.1 to the worker: of one that is watched, above what it costs that the program
	// looks at every arrival, at the client's and at the back end's socket. As measured by TestWhatWatchingCosts on an AMD EPYC
	// on which a request takes 25 us (PERF.md, "What watching costs"): a faster machine could watch more.
	watchedCost, lookedAtCost = 440, 590
	// everyMax bounds the interval: with all of the budget gone for looking, there is still something to see. One watched
	// request in so many adds a hundredth to the cost of looking.
	everyMax = 64
	// adaptInterval is how often the interval follows the rate of requests, in nanoseconds.
	adaptInterval = 1_000_000_000
)

// sampler implements observe.Requests for one worker.
type sampler struct {
	// immutable
	r     *requests
	fixed bool

	// atomic, written by the worker
	every atomic.Uint32

	// owned by the worker
	call      *stampCall
	free      []uint32 // slots
	phase     uint32   // so that of all first requests of connections as many are watched as of others
	began     int64    // the interval in which the requests are counted
	requested uint64   // about as many requests as came since
}

// newSampler gives a worker its part of the slots.
func newSampler(r *requests, worker, workers int, every Sampling) *sampler {
	s := &sampler{r: r, fixed: every != 0, call: new(stampCall)}
	s.every.Store(max(uint32(every), 1))
	for slot := len(r.slots) - 1; slot > 0; slot-- { // 0 stands for none
		if slot%workers == worker {
			s.free = append(s.free, uint32(slot))
		}
	}
	return s
}

// Open implements observe.Requests.
func (s *sampler) Open(t *observe.RequestTap, fd int, now, since int64) {
	every := s.every.Load()
	s.phase = (s.phase + 1) % every
	*t = observe.RequestTap{State: observe.TapIdle, Left: s.phase}
	if t.Left == 0 && s.arm(t, fd) {
		s.next(t, now)
		t.Since = since
	}
}

// arm awaits the request after the last one, if it is the turn of it.
func (s *sampler) arm(t *observe.RequestTap, fd int) bool {
	due := t.Left == 0 || t.Left == 1 && t.State == observe.TapIdle // the request that is over was the last to pass
	if t.Armed || !due {
		return t.Armed
	}
	if t.Slot == 0 && !s.give(t, fd) {
		t.Left = everyMax
		return false
	}
	slot := &s.r.slots[t.Slot]
	atomic.StoreUint64(&slot.Arrived, 0)
	atomic.StoreUint32(&slot.Awaited, t.Request+1)
	t.Armed = true
	return true
}

// give gives a connection a slot.
func (s *sampler) give(t *observe.RequestTap, fd int) bool {
	last := len(s.free) - 1
	if last < 0 || !s.r.stamp(s.call, fd, s.free[last]) {
		return false
	}
	t.Slot = s.free[last]
	s.free = s.free[:last]
	return true
}

// next goes on to the request that is armed.
func (s *sampler) next(t *observe.RequestTap, now int64) {
	t.Request++
	t.Armed = false
	t.Since = 0
	t.State = observe.TapAwaiting
	t.Left = s.adapt(now) - 1
}

// adapt returns the interval, after one request of each that many was chosen.
func (s *sampler) adapt(now int64) uint32 {
	every := s.every.Load()
	s.requested += uint64(every)
	if took := now - s.began; took >= adaptInterval && !s.fixed {
		if s.began != 0 {
			every = everyFor(s.requested * adaptInterval / uint64(took))
			s.every.Store(every)
		}
		s.began, s.requested = now, 0
	}
	return every
}

// everyFor is the smallest interval that keeps to the budget at so many requests per second.
func everyFor(rate uint64) uint32 {
	looking := rate * lookedAtCost
	if looking >= sampleBudget {
		return everyMax
	}
	left := sampleBudget - looking
	return uint32(min(max((rate*watchedCost+left-1)/left, 1), everyMax))
}

// Read implements observe.Requests.
func (s *sampler) Read(t *observe.RequestTap, now int64) int64 {
	slot := &s.r.slots[t.Slot]
	arrived := int64(atomic.LoadUint64(&slot.Arrived))
	t.State = observe.TapUnderWay
	switch {
	case arrived != 0:
		t.Since = 0
	case t.Since != 0:
		arrived = t.Since // it came with the connection
	default: // it came before the response to the one before it was written, whose bytes the kernel can't tell apart then
		t.State = observe.TapIdle
		s.spoil(slot)
		return 0
	}
	return max(1, now-arrived)
}

// spoil keeps the kernel from counting what was written last.
func (s *sampler) spoil(slot *requestsSlot) { atomic.StoreUint64(&slot.Ended, 0) }

// Leaves implements observe.Requests.
func (s *sampler) Leaves(t *observe.RequestTap, fd int, now int64) {
	if t.State == observe.TapUnderWay {
		s.written(t, now)
	}
	s.arm(t, fd)
	t.Announced = true
}

func (s *sampler) written(t *observe.RequestTap, now int64) {
	slot := &s.r.slots[t.Slot]
	slot.Tally, slot.TallyGeneration = s.r.tallies.of(t.Route)
	slot.Since = uint64(t.Since)
	atomic.StoreUint64(&slot.Ended, uint64(now))
	atomic.StoreUint32(&slot.Written, t.Request)
}

// Left implements observe.Requests.
func (s *sampler) Left(t *observe.RequestTap, fd int, now int64, completely, spoilt bool) {
	watched := t.State == observe.TapUnderWay
	if !completely {
		if watched && t.Announced { // its time goes on
			atomic.StoreUint32(&s.r.slots[t.Slot].Written, t.Request-1)
		}
		t.Announced = false
		return
	}
	if watched && !t.Announced {
		s.written(t, now)
		t.Left = 0 // to find out whether the next request was faster than this
	}
	if spoilt && t.Slot != 0 {
		s.spoil(&s.r.slots[t.Slot])
	}
	switch {
	case s.arm(t, fd):
		s.next(t, now)
	case !watched && t.Left > 0:
		t.Left--
		fallthrough
	default:
		t.State = observe.TapIdle
	}
	t.Announced, t.Route = false, nil
}

// Release implements observe.Requests.
func (s *sampler) Release(t *observe.RequestTap) {
	if t.Slot != 0 {
		slot := &s.r.slots[t.Slot]
		atomic.AddUint32(&slot.Generation, 1)
		atomic.StoreUint32(&slot.Awaited, 0)
		atomic.StoreUint32(&slot.Written, 0)
		s.free = append(s.free, t.Slot)
	}
	*t = observe.RequestTap{}
}
