//go:build linux && (amd64 || arm64)

package bpf

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

const (
	// windowBudget is what watching in windows may cost, as a share of the CPU time that the process uses: half a percent.
	windowBudget = 0.005
	// windowFloor is what it may cost however little that is, in nanoseconds for each second of each worker: a thousandth.
	windowFloor = 1_000_000
	// Costs in nanoseconds: of a look at an arrival, in whatever socket, and of a watched request above the looks at its
	// arrivals. As measured by TestWhatWatchingCosts on an AMD EPYC (PERF.md, "What watching costs"), on a slow day: where
	// they are less, so is what a request takes.
	lookCost, watchedCost = 190, 440
	// turnCost is what it costs to open and close a window, likewise: the kernel patches its code on every processor.
	turnCost = 540_000
	// windowTime is the length of a window when there is time between windows: many requests fit into it, and several of them
	// into the time for which people look at a number.
	windowTime = 100 * time.Millisecond
	// gapMax bounds the time between windows: whatever it costs, there is something to see every few seconds.
	gapMax = 5 * time.Second
	// attachRetry is the pause after the program could not be attached again.
	attachRetry = 10 * time.Second
)

// window says when requests are watched, and has the program attached then.
type window struct {
	// immutable
	shared   *requestsWindow // with the kernel
	program  *ebpf.Program
	length   time.Duration
	tallies  *tallies
	failures *atomic.Uint64
	used     func() time.Duration // CPU time of the process

	// atomic
	share atomic.Uint64 // for how much of the time windows are open, as math.Float64bits
	open  atomic.Uint32 // the epoch of the window; 0: none is open

	mu     sync.Mutex
	link   link.Link // nil: not attached
	epoch  uint32
	opened time.Time
	spent  time.Duration // in windows that are over
}

// attach opens a window, unless one is open. The kernel has its epoch before it can look at anything, and workers have it when it does.
func (w *window) attach() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.link != nil {
		return nil
	}
	w.epoch++
	atomic.StoreUint32(&w.shared.Epoch, w.epoch)
	at, err := link.AttachTracing(link.TracingOptions{Program: w.program})
	if err != nil {
		return err
	}
	w.link, w.opened = at, time.Now()
	w.open.Store(w.epoch)
	return nil
}

// detach closes the window, if one is open. What is awaited then is not stamped any more, unless nothing else comes before.
func (w *window) detach() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.link == nil {
		return
	}
	w.open.Store(0)
	_ = w.link.Close()
	w.link = nil
	w.spent += time.Since(w.opened)
}

// ratio is for how much of the time windows are open at the present load.
func (w *window) ratio() float64 { return math.Float64frombits(w.share.Load()) }

// seconds is for how long windows were open.
func (w *window) seconds() float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	spent := w.spent
	if w.link != nil {
		spent += time.Since(w.opened)
	}
	return spent.Seconds()
}

// looks is how often the kernel has looked.
func (w *window) looks() (n uint64) {
	for i := range w.shared.Looks {
		n += atomic.LoadUint64(&w.shared.Looks[i].N)
	}
	return n
}

// run opens and closes windows until it is to stop. One is open at first. into is how much of the first window is over.
func (w *window) run(stop <-chan struct{}, into time.Duration) {
	since, used := time.Now(), w.used()
	for {
		began, looks, counted := time.Now(), w.looks(), w.tallies.counted()
		for w.attach() != nil {
			w.failures.Add(1)
			if !pause(attachRetry, stop) {
				return
			}
		}
		gap := time.Duration(0)
		for gap == 0 {
			if !pause(w.length-into, stop) {
				return
			}
			into = 0
			took := time.Since(began)
			usedNow := w.used()
			allowed := allowance(usedNow-used, began.Add(took).Sub(since), len(w.tallies.workers))
			since, used = began.Add(took), usedNow
			gap = gapFor(took, w.looks()-looks, w.tallies.counted()-counted, allowed)
			w.share.Store(math.Float64bits(float64(took) / float64(took+gap)))
			began, looks, counted = began.Add(took), w.looks(), w.tallies.counted()
		}
		w.detach()
		if !pause(gap, stop) {
			return
		}
	}
}

// allowance is what watching may cost, in nanoseconds for each second, of a process that has used so much CPU time in some time.
func allowance(used, in time.Duration, workers int) float64 {
	return max(windowBudget*float64(time.Second)*used.Seconds()/in.Seconds(), float64(windowFloor*workers))
}

// processTime is the CPU time that the process has used.
func processTime() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts) // 0 leaves windowFloor
	return time.Duration(ts.Nano())
}

// gapFor is how long no window may be open after what has happened in one, in order that all together keeps to what is
// allowed, in nanoseconds for each second.
func gapFor(took time.Duration, looks, counted uint64, perSecond float64) time.Duration {
	cost := float64(looks)*lookCost + float64(counted)*watchedCost
	if cost <= perSecond*took.Seconds() {
		return 0
	}
	whole := time.Duration((cost + turnCost) / perSecond * float64(time.Second))
	return min(whole-took, gapMax)
}

// pause reports whether it has lasted.
func pause(d time.Duration, stop <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-stop:
		return false
	}
}
