package upstream

import "rauta.io/rauta/proxy/clock"

const (
	// retriesShare is the divisor that limits retries to 20% of the requests of the window: enough for an endpoint or
	// two that fail, too little to double the load on a cluster that is failing as a whole.
	retriesShare = 5
	// retriesPerSecondMin is allowed over all workers whatever the number of requests, so that a quiet proxy retries.
	retriesPerSecondMin = 100
	// The window is one second, in budgetSlots parts, so that a burst is forgotten soon after it.
	budgetSlots       = 10
	budgetSlotLength  = clock.Time(100e6)
	budgetWindowSlots = clock.Time(budgetSlots)
)

// budget limits retries over a sliding window of one second. It belongs to one worker.
type budget struct {
	slots    [budgetSlots]struct{ requests, retries uint32 }
	current  clock.Time // number of the slot that is being filled, in slot lengths since the clock's origin
	requests uint32     // sum over slots
	retries  uint32
	floor    uint32 // retries per window that are always allowed
}

func newBudget() budget { return budget{floor: retriesPerSecondMin} }

// share sets the floor to this worker's part of retriesPerSecondMin, at least 1.
func (b *budget) share(workers int) { b.floor = uint32(max(1, retriesPerSecondMin/max(1, workers))) }

func (b *budget) countRequest(now clock.Time) {
	s := b.slide(now)
	b.slots[s].requests++
	b.requests++
}

func (b *budget) allowRetry(now clock.Time) bool {
	s := b.slide(now)
	if b.retries >= max(b.requests/retriesShare, b.floor) {
		return false
	}
	b.slots[s].retries++
	b.retries++
	return true
}

// slide forgets the slots that have left the window and returns the index of the current one.
func (b *budget) slide(now clock.Time) int {
	slot := now / budgetSlotLength
	if slot > b.current {
		for range min(slot-b.current, budgetWindowSlots) {
			b.current++
			s := &b.slots[b.current%budgetWindowSlots]
			b.requests -= s.requests
			b.retries -= s.retries
			s.requests, s.retries = 0, 0
		}
		b.current = slot
	}
	return int(slot % budgetWindowSlots)
}
