//go:build linux && (amd64 || arm64)

package bpf

import (
	"math/bits"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"rauta.io/rauta/proxy/observe"
)

// Sampling is how many requests of a connection go by for each one that the kernel watches: 1 for all of them, 0 for all of
// them in windows, which are as much of the time as keeps to the budget.
type Sampling uint32

// sampler implements observe.Requests for one worker.
type sampler struct {
	// immutable
	r       *requests
	window  *window
	every   uint32
	worker  int
	workers uint32
	counted *workerTallies

	// owned by the worker
	call  *stampCall
	free  []uint32 // slots that were given back, the last one first
	fresh uint32   // the next slot that nobody has had
	phase uint32   // so that of all first requests of connections as many are watched as of others
}

// newSampler gives a worker its part of the slots.
func newSampler(r *requests, worker, workers int, every Sampling) *sampler {
	s := &sampler{
		r: r, window: r.window, every: max(uint32(every), 1), worker: worker, workers: uint32(workers), counted: r.tallies.workers[worker],
		call: new(stampCall), fresh: uint32(worker),
	}
	if worker == 0 { // slot 0 stands for none
		s.fresh = s.workers
	}
	return s
}

// Watching implements observe.Requests.
func (s *sampler) Watching() bool { return s.window.open.Load() != 0 }

// Open implements observe.Requests.
func (s *sampler) Open(t *observe.RequestTap, fd int, _, since int64) {
	s.phase = (s.phase + 1) % s.every
	*t = observe.RequestTap{State: observe.TapIdle, Left: s.phase}
	if t.Left > 0 || !s.Watching() {
		return
	}
	came := unread(fd)
	if !came {
		if s.arm(t, fd) {
			s.next(t)
			return
		}
		came = t.Left == 0 && unread(fd) // meanwhile, or there is no slot
	}
	if came && since != 0 { // when exactly it came is not known, but it was with the connection
		s.next(t)
		t.Since = since
	}
}

// Join implements observe.Requests.
func (s *sampler) Join(t *observe.RequestTap) {
	s.phase = (s.phase + 1) % s.every
	*t = observe.RequestTap{State: observe.TapIdle, Left: s.phase}
}

// arm awaits the request after the last one, if it is the turn of it.
func (s *sampler) arm(t *observe.RequestTap, fd int) bool {
	due := t.Left == 0 || t.Left == 1 && t.State == observe.TapIdle // the request that is over was the last to pass
	if t.Armed || !due {
		return t.Armed
	}
	epoch := s.window.open.Load()
	if epoch == 0 || t.Slot == 0 && !s.give(t, fd) {
		return false
	}
	number := t.Request + 1
	slot := &s.r.slots.all[t.Slot]
	atomic.StoreUint32(&slot.Epoch, epoch)
	if t.Epoch == epoch {
		atomic.StoreUint32(&slot.Awaited, number)
		t.Armed = true
		return true
	}
	// What came outside of windows the kernel has not seen: only of an empty socket is it known that the next bytes are the
	// first. Bytes that come between these lines cost the watch of one request.
	atomic.StoreUint32(&slot.Fresh, number)
	atomic.StoreUint32(&slot.Awaited, number)
	if unread(fd) {
		t.Request = number // which nobody awaits any more
		return false
	}
	t.Epoch, t.Armed = epoch, true
	return true
}

// unread reports whether bytes lie in the socket, or whether that is not known.
func unread(fd int) bool {
	n, err := unix.IoctlGetInt(fd, unix.SIOCINQ)
	return err != nil || n > 0
}

// give gives a connection a slot. Without one it is not tried again for the next requests.
func (s *sampler) give(t *observe.RequestTap, fd int) bool {
	const pause = 64 // requests
	slot := s.take()
	if slot != 0 && !s.r.stamp(s.call, fd, slot) {
		s.free = append(s.free, slot)
		slot = 0
	}
	if slot == 0 {
		t.Left = pause
		return false
	}
	t.Slot = slot
	t.Request = s.r.slots.all[t.Slot].Awaited // numbers go on from one connection to the next: nothing late is taken for another
	return true
}

// take takes a slot of the worker's part, 0 if there is none.
func (s *sampler) take() (slot uint32) {
	if last := len(s.free) - 1; last >= 0 {
		slot, s.free = s.free[last], s.free[:last]
		return slot
	}
	if int(s.fresh) >= len(s.r.slots.all) || s.r.slots.reach(s.fresh) != nil {
		return 0
	}
	slot = s.fresh
	s.fresh += s.workers
	return slot
}

// next goes on to the request after the last one.
func (s *sampler) next(t *observe.RequestTap) {
	t.Request++
	t.Armed = false
	t.Since, t.Ended = 0, 0
	t.Received, t.Sent = 0, 0
	t.State = observe.TapAwaiting
	t.Left = s.every - 1
}

// Read implements observe.Requests.
func (s *sampler) Read(t *observe.RequestTap, now int64) int64 {
	if t.Since == 0 {
		// The kernel had the lock of the socket when it wrote them, and so had the receive after which this is called.
		if slot := &s.r.slots.all[t.Slot]; atomic.LoadUint32(&slot.Stamped) == t.Request {
			t.Since = int64(atomic.LoadUint64(&slot.Arrived))
		}
	}
	if t.Since == 0 { // it came in another window than it was awaited, in none, or behind bytes that were there before
		t.State = observe.TapIdle
		return 0
	}
	t.State = observe.TapUnderWay
	return max(1, now-t.Since)
}

// Leaves implements observe.Requests.
func (s *sampler) Leaves(t *observe.RequestTap, fd int, now int64) {
	t.Ended = now
	s.arm(t, fd)
}

// Left implements observe.Requests.
func (s *sampler) Left(t *observe.RequestTap, fd int, now int64, completely, spoilt bool) {
	if !completely { // its time goes on
		t.Ended = 0
		return
	}
	passed := t.State == observe.TapIdle && t.Left > 0
	if t.State == observe.TapUnderWay && !spoilt {
		s.count(t, now)
	}
	t.Ended, t.Route = 0, nil
	switch {
	case spoilt: // the first bytes of the next one are here already
		if t.Armed {
			t.Armed = false
			t.Request++
		}
		t.State = observe.TapIdle
	case s.arm(t, fd):
		s.next(t)
		return
	default:
		t.State = observe.TapIdle
	}
	if passed {
		t.Left--
	}
}

// count counts a request that is over.
func (s *sampler) count(t *observe.RequestTap, now int64) {
	if t.Ended != 0 {
		now = t.Ended
	}
	ns := uint64(max(0, now-t.Since))
	s.counted.add(s.r.tallies.of(t.Route), ns, t.Received, t.Sent)
}

// Release implements observe.Requests.
func (s *sampler) Release(t *observe.RequestTap) {
	if t.Slot != 0 {
		atomic.AddUint32(&s.r.slots.all[t.Slot].Generation, 1)
		s.free = append(s.free, t.Slot)
	}
	*t = observe.RequestTap{}
}

// bucketOf is the bucket of a duration in nanoseconds.
func bucketOf(ns uint64) int {
	return min(bits.Len64((max(ns, 1)-1)>>boundBits), buckets-1)
}
