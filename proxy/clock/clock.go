// Package clock is the time of one event loop: a reading that is taken once per turn, and timers that cost two stores
// to move. It owns the timer wheel; proxy/loop drives one per worker with the real clock, tests drive one by hand, and
// proxy/exchange and proxy/upstream only see this package, so that they run on simulated time.
package clock

import "math/bits"

// Time is monotonic nanoseconds. 0 means "never" where a deadline is meant.
type Time int64

// Tick is the resolution of the wheel in nanoseconds: a timer fires up to one Tick late, never early.
const Tick = 10e6

// slotsMax is the number of buckets; deadlines further out than slotsMax ticks stay in the last bucket and are
// re-filed when it comes round. 4096 * 10 ms = 41 s, longer than most deadlines live.
const slotsMax = 4096

// Timer is embedded in what waits. The zero value is an unarmed timer; set Fire before the first Set.
// Owned by the worker of its Wheel.
type Timer struct {
	// Fire is called on the worker when the deadline has passed. It may Set the timer again.
	Fire func(now Time)

	deadline   Time // 0: not armed
	filed      Time // the tick it is filed under; 0: not in the wheel
	next, prev *Timer
}

// Deadline returns when the timer will fire, or 0.
func (t *Timer) Deadline() Time { return t.deadline }

// Wheel is a hashed timer wheel. Moving a deadline later, and disarming, only store: the timer is looked at again when
// its old bucket comes round, so a keep-alive connection that moves its deadline on every request does no list work.
type Wheel struct {
	now   Time
	tick  Time // the last tick that was run
	armed int  // timers in the wheel
	open  bool // the bucket of tick is being run, or a Fire of it panicked
	slots [slotsMax]*Timer
	used  [slotsMax / 64]uint64 // bitmap of slots that may hold a timer; cleared when its bucket is run
}

// NewWheel starts at now.
func NewWheel(now Time) *Wheel {
	return &Wheel{now: now, tick: now / Tick}
}

// Now is the reading of the current turn.
func (w *Wheel) Now() Time { return w.now }

// Len is the number of timers filed, armed or not.
func (w *Wheel) Len() int { return w.armed }

// Set arms t for deadline, whatever it was armed for before. A deadline of 0 disarms it.
func (w *Wheel) Set(t *Timer, deadline Time) {
	t.deadline = deadline
	if deadline == 0 {
		return
	}
	due := deadline/Tick + 1
	if t.filed != 0 {
		if t.filed <= due {
			return // it is looked at in time and re-filed then
		}
		w.unlink(t)
	}
	w.file(t, due)
}

// Remove takes t out of the wheel, so that its memory can be reused or collected.
func (w *Wheel) Remove(t *Timer) {
	t.deadline = 0
	if t.filed != 0 {
		w.unlink(t)
	}
}

func (w *Wheel) file(t *Timer, due Time) {
	if due <= w.tick {
		due = w.tick + 1
	}
	if due > w.tick+slotsMax-1 {
		due = w.tick + slotsMax - 1
	}
	t.filed = due
	head := &w.slots[due%slotsMax]
	t.prev, t.next = nil, *head
	if t.next != nil {
		t.next.prev = t
	}
	*head = t
	w.used[due%slotsMax/64] |= 1 << (due % 64)
	w.armed++
}

func (w *Wheel) unlink(t *Timer) {
	if t.prev != nil {
		t.prev.next = t.next
	} else {
		w.slots[t.filed%slotsMax] = t.next
	}
	if t.next != nil {
		t.next.prev = t.prev
	}
	t.next, t.prev, t.filed = nil, nil, 0
	w.armed--
}

// SetNow takes a new reading and fires nothing yet: the loop calls it at the beginning of a turn, so that the turn's
// events see the time, and Advance after them. Time that went backwards is ignored.
func (w *Wheel) SetNow(now Time) { w.now = max(w.now, now) }

// Advance takes a new reading, like SetNow, and fires what is due. If a Fire panics and the caller recovers, Advance
// with the same reading goes on with the timer after it.
func (w *Wheel) Advance(now Time) {
	w.SetNow(now)
	target := w.now / Tick
	if w.armed == 0 && !w.open {
		w.tick = target
		return
	}
	for w.open || w.tick < target {
		if !w.open {
			w.tick++
			w.open = true
		}
		w.runBucket()
		w.used[w.tick%slotsMax/64] &^= 1 << (w.tick % 64)
		w.open = false
	}
}

// runBucket looks at every timer in the bucket of the present tick once; what it files again lands in a later bucket.
func (w *Wheel) runBucket() {
	head := &w.slots[w.tick%slotsMax]
	for t := *head; t != nil; t = *head {
		w.unlink(t)
		switch {
		case t.deadline == 0:
		case t.deadline > w.now:
			w.file(t, t.deadline/Tick+1)
		default:
			t.deadline = 0
			t.Fire(w.now)
		}
	}
}

// Next returns nanoseconds until the next bucket that may hold a timer, or -1 when there is none; the loop sleeps no
// longer than that.
func (w *Wheel) Next() int64 {
	if w.armed == 0 {
		return -1
	}
	first := (w.tick + 1) % slotsMax
	word := first / 64
	bitsLeft := w.used[word] &^ (1<<(first%64) - 1)
	for range slotsMax/64 + 1 {
		if bitsLeft != 0 {
			slot := word*64 + Time(bits.TrailingZeros64(bitsLeft))
			ahead := (slot-first+slotsMax)%slotsMax + 1
			return max(int64((w.tick+ahead)*Tick-w.now), 0)
		}
		word = (word + 1) % (slotsMax / 64)
		bitsLeft = w.used[word]
	}
	return int64(Tick)
}
