//go:build linux

package loop

import (
	"math"
	"runtime"
	"testing"
	"time"

	"rauta.io/rauta/proxy/clock"
)

// simulatedLoad is what a worker does in a period, as usual and with turns spaced.
type simulatedLoad struct {
	perSecond, perSecondSpaced float64 // requests
	busy, busySpaced           float64 // share of the time
	turns                      float64 // per request, as usual
}

const simulatedSpace = 50e3 // ns

// simulate runs the decisions for a time under a load and returns for which share of it turns were spaced, and the number
// of trials that began.
func simulate(g *gatherer, now *loadReading, load simulatedLoad, length time.Duration) (spaced float64, trials int) {
	end := now.at + clock.Time(length)
	for now.at < end {
		took := g.until - now.at
		perSecond, busy := load.perSecond, load.busy
		turns := perSecond * load.turns
		if g.spacing {
			perSecond, busy, turns = load.perSecondSpaced, load.busySpaced, 1e9/simulatedSpace
			spaced += float64(took) / float64(length)
		}
		seconds := float64(took) / 1e9
		now.at += took
		now.cpu += int64(busy * float64(took))
		now.finished += uint64(perSecond * seconds)
		now.turns += uint64(turns * seconds)
		before := g.trial
		g.next(*now)
		if before == 0 && g.trial > 0 {
			trials++
		}
	}
	return spaced, trials
}

// byOnes is a fixed rate below saturation: every request has turns of its own.
var byOnes = simulatedLoad{perSecond: 25_000, perSecondSpaced: 25_000, busy: 0.5, busySpaced: 0.3, turns: 2}

func TestTurnsAreSpacedWhileThatSavesCPUTime(t *testing.T) {
	g, now := newGatherer(simulatedSpace), loadReading{}
	if spaced, trials := simulate(&g, &now, byOnes, 10*time.Second); spaced < 0.9 || trials < 2 {
		t.Errorf("spaced for %.2f of the time, after %d trials", spaced, trials)
	}
	idle := simulatedLoad{perSecond: 500, perSecondSpaced: 500, busy: 0.02, busySpaced: 0.02, turns: 2}
	simulate(&g, &now, idle, 100*time.Millisecond)
	if spaced, trials := simulate(&g, &now, idle, time.Second); spaced > 0 || trials > 0 {
		t.Errorf("with hardly any load: spaced for %.2f of the time, %d trials", spaced, trials)
	}
	if spaced, _ := simulate(&g, &now, byOnes, 10*time.Second); spaced < 0.9 {
		t.Errorf("when the load is back: spaced for %.2f of the time", spaced)
	}
}

func TestTurnsAreHardlyEverSpacedWhereThatDoesNotPay(t *testing.T) {
	for name, load := range map[string]simulatedLoad{
		"clients that wait for their answers": {perSecond: 25_000, perSecondSpaced: 9_000, busy: 0.9, busySpaced: 0.2, turns: 2},
		"nothing to share":                    {perSecond: 25_000, perSecondSpaced: 25_000, busy: 0.5, busySpaced: 0.45, turns: 2},
		"fewer answers for the same work":     {perSecond: 60_000, perSecondSpaced: 50_000, busy: 0.95, busySpaced: 0.5, turns: 1},
	} {
		g, now := newGatherer(simulatedSpace), loadReading{}
		simulate(&g, &now, load, time.Minute)
		if spaced, trials := simulate(&g, &now, load, time.Minute); spaced > 0.002 || trials == 0 {
			t.Errorf("%s: spaced for %.4f of the time, %d trials", name, spaced, trials)
		}
	}
}

func TestNothingIsTriedWhereThereIsNothingToGather(t *testing.T) {
	for name, load := range map[string]simulatedLoad{
		"few requests":                {perSecond: 9_000, perSecondSpaced: 9_000, busy: 0.5, busySpaced: 0.1, turns: 10},
		"a worker with time to spare": {perSecond: 12_000, perSecondSpaced: 12_000, busy: 0.2, busySpaced: 0.1, turns: 2},
		"long turns at saturation":    {perSecond: 400_000, perSecondSpaced: 400_000, busy: 1, busySpaced: 0.5, turns: 0.02},
	} {
		g, now := newGatherer(simulatedSpace), loadReading{}
		if spaced, trials := simulate(&g, &now, load, 10*time.Second); spaced > 0 || trials > 0 {
			t.Errorf("%s: spaced for %.4f of the time, %d trials", name, spaced, trials)
		}
	}
}

func TestSpacedTurnsBeginApartAndHoldNobodyUp(t *testing.T) {
	const space, turns = 5 * time.Millisecond, 20
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1 + sparePs)) // else the worker sleeps through the scheduler
	w := startWorker(t, WorkerOptions{Gather: space, Finished: func() uint64 { return 0 }})
	var began []clock.Time // of events, each of which may echo several times; the worker's
	l := listen(t, w, ListenerOptions{Addr: loopback}, func(w *Worker, c *Conn) {
		serveEcho(w, c)
		echo := c.handler
		c.SetHandler(handlerFunc(func(ev Events) {
			if ev&Readable != 0 && w.gatherer.spacing {
				began = append(began, w.Now())
			}
			echo.OnEvent(ev)
		}))
	})
	client := dial(t, l.Addr())
	if err := exchange(client); err != nil {
		t.Fatal(err)
	}
	on(t, w, func() { w.gatherer.spacing, w.gatherer.until = true, math.MaxInt64 })
	for i := range turns {
		if err := exchange(client); err != nil {
			t.Fatal(err)
		}
		if i%4 == 0 {
			runtime.GC() // comes through while the worker sleeps
		}
	}
	var all []clock.Time
	on(t, w, func() { all = began })
	if len(all) < 2 || w.Stats().Spaced.Load() == 0 {
		t.Errorf("%d turns, %d of them spaced", len(all), w.Stats().Spaced.Load())
	}
	for i := 1; i < len(all); i++ {
		if apart := time.Duration(all[i] - all[i-1]); apart < space {
			t.Errorf("turn %d began %v after the one before, want at least %v", i, apart, space)
		}
	}
}
