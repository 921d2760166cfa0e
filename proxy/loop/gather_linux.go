package loop

import (
	"math"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"rauta.io/rauta/proxy/clock"
)

// Below saturation requests come one by one, and each has turns of its own: waking up, a look for events, sends that
// nobody shares. A worker that lets some time pass between the begins of two turns gathers requests instead, and delays
// each by up to that time when it comes and when its answer does. So it does that only while it is known to pay, from
// trials: some periods as usual and some with turns spaced, in turns. With 25,000 requests/s it takes a third of the CPU
// time off (loadtest fixed).
const (
	// gatherFinishedMin is the rate, in requests a second, below which there is too little to gather.
	gatherFinishedMin = 10_000
	// gatherBusyMin: a worker that runs for less than one part in so many has CPU time to spare, and latency counts.
	gatherBusyMin = 4
	// gatherPays is the share of the CPU time per request that spaced turns may take at most, in percent.
	gatherPays = 75
	// gatherRateMin: clients that wait for answers before they ask again get slower. Spaced turns must finish this share
	// of the requests, in percent; the rest is for chance.
	gatherRateMin = 90
)

// Lengths of time, in nanoseconds.
const (
	gatherWatch   = 20e6 // between looks at the load
	gatherPeriod  = 10e6 // of each half of a trial: some hundred requests
	gatherHold    = 1e9  // what a trial has found holds for so long, then there is another one
	gatherHoldMax = 32e9 // the more often that spacing did not pay, the longer it is not tried again
)

// gatherTrial is the number of periods of a trial.
const gatherTrial = 8

// gatherer decides whether turns are spaced. It is asked at the end of each period.
type gatherer struct {
	space   int64      // nanoseconds between the begins of two turns; 0: never
	spacing bool       // turns are spaced now
	until   clock.Time // end of this period

	trial  int // periods of the trial that are left
	hold   int64
	holds  clock.Time // until then the last decision holds
	last   loadReading
	plain  loadReading // sums over the periods of a trial
	spaced loadReading
}

// loadReading is what a worker has done up to a time, or in a time.
type loadReading struct {
	at       clock.Time
	cpu      int64 // nanoseconds of the thread
	finished uint64
	turns    uint64
}

func (r *loadReading) add(since, now *loadReading) {
	r.at += now.at - since.at
	r.cpu += now.cpu - since.cpu
	r.finished += now.finished - since.finished
	r.turns += now.turns - since.turns
}

// enough reports whether requests come fast enough.
func (r *loadReading) enough() bool {
	return r.at > 0 && float64(r.finished)*1e9 >= gatherFinishedMin*float64(r.at)
}

// worthIt reports whether there is a load at which spaced turns could save something. At saturation turns are long, and
// gather by themselves.
func (g *gatherer) worthIt(r *loadReading) bool {
	return r.enough() && r.cpu*gatherBusyMin >= int64(r.at) && int64(r.turns)*g.space >= int64(r.at)
}

func newGatherer(space int64) gatherer {
	g := gatherer{space: space, hold: gatherHold}
	if space <= 0 {
		g.until = math.MaxInt64
	}
	return g
}

// next ends a period.
func (g *gatherer) next(now loadReading) {
	var period loadReading
	period.add(&g.last, &now)
	g.last = now
	switch {
	case g.trial > 0:
		g.tried(&period, now.at)
	case g.spacing:
		// Spacing saves CPU time and turns, so that neither says anything here.
		if !period.enough() {
			g.spacing, g.holds = false, now.at
		} else if now.at >= g.holds {
			g.begin()
		}
	case now.at >= g.holds && g.worthIt(&period):
		g.begin()
	}
	length := clock.Time(gatherWatch)
	if g.trial > 0 {
		length = gatherPeriod
	}
	g.until = now.at + length
}

// begin starts a trial, with a period as usual.
func (g *gatherer) begin() {
	g.trial, g.spacing = gatherTrial, false
	g.plain, g.spaced = loadReading{}, loadReading{}
}

// tried counts a period of a trial and decides after the last one.
func (g *gatherer) tried(period *loadReading, now clock.Time) {
	sum := &g.plain
	if g.spacing {
		sum = &g.spaced
	}
	sum.add(&loadReading{}, period)
	if g.trial--; g.trial > 0 {
		g.spacing = !g.spacing
		return
	}
	g.spacing = g.pays()
	if g.spacing {
		g.hold = gatherHold
	}
	g.holds = now + clock.Time(g.hold)
	if !g.spacing {
		g.hold = min(2*g.hold, gatherHoldMax)
	}
}

// pays compares the CPU time per request, and the requests per time, of the two ways.
func (g *gatherer) pays() bool {
	plain, spaced := float64(g.plain.finished), float64(g.spaced.finished)
	return g.worthIt(&g.plain) &&
		100*float64(g.spaced.cpu)*plain <= gatherPays*float64(g.plain.cpu)*spaced &&
		100*spaced*float64(g.plain.at) >= gatherRateMin*plain*float64(g.spaced.at)
}

// gatherReading is what the worker has done up to now.
func (w *Worker) gatherReading(now clock.Time) loadReading {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts) // no kernel lacks it
	return loadReading{at: now, cpu: ts.Nano(), finished: w.opt.Finished(), turns: w.counts.turns}
}

// gather lets the time between two turns pass, and returns the present time. The sleep does not tell the scheduler, as
// in sleep, and is cut in two where somebody wants the processor.
func (w *Worker) gather(now clock.Time) clock.Time {
	next := w.turnBegan + clock.Time(w.gatherer.space)
	if now >= next {
		return now
	}
	w.counts.spaced++
	for now < next && w.mailbox.head.Load() == nil && !w.stopping.Load() {
		ts := unix.NsecToTimespec(int64(next))
		_, _, errno := syscall.RawSyscall6(unix.SYS_CLOCK_NANOSLEEP, unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME,
			uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
		if errno == unix.EINTR {
			runtime.Gosched()
		}
		now = w.time.read()
		if errno != 0 && errno != unix.EINTR {
			return now
		}
	}
	return now
}

// gatherSlack is how late, in nanoseconds, the kernel may end a sleep of the worker's thread; its default of 50 µs would
// double the time between turns.
const gatherSlack = 1000
