package loop

import (
	"sync/atomic"

	"rauta.io/rauta/proxy/clock"
)

// StallNanoseconds is the length of a turn from which it counts as a stall: everybody else on the worker waited for it.
const StallNanoseconds = 10e6

// TurnBounds are the upper bounds, in nanoseconds, of the buckets of WorkerStats.TurnTimes; the last is unbounded.
var TurnBounds = [...]int64{100e3, 1e6, 10e6, 100e6, 1e9}

// WorkerStats is written by its worker alone and may be read by anybody at any time. Totals since the start unless
// said otherwise.
type WorkerStats struct {
	Turns, Events     atomic.Uint64
	Transfers         atomic.Uint64 // receives and sends, also those that moved nothing
	Waits             atomic.Uint64 // looks and sleeps for events
	Spaced            atomic.Uint64 // turns that were put off in order that requests gather
	Accepts           atomic.Uint64
	AcceptErrors      atomic.Uint64 // failures of accept other than "none waiting"
	HandedOver        atomic.Uint64 // accepted here, given to a less loaded worker
	Connects          atomic.Uint64
	Panics            atomic.Uint64
	ListenerPauses    atomic.Uint64 // accepting was suspended at the connection or descriptor limit
	Stalls            atomic.Uint64 // turns of StallNanoseconds and more
	StallTime         atomic.Uint64 // nanoseconds spent in such turns
	TurnTimeMax       atomic.Uint64 // nanoseconds of the longest turn
	TurnTimes         [len(TurnBounds) + 1]atomic.Uint64
	Handshakes        HandshakeStats // with clients
	Dialled           HandshakeStats // with back ends
	ConnectionsOpen   atomic.Int64   // now: accepted and connected sockets
	RegisteredSockets atomic.Int64   // now
}

// HandshakeStats are about TLS handshakes.
type HandshakeStats struct {
	Succeeded atomic.Uint64
	Failed    atomic.Uint64 // also those that took too long or were given up
	Open      atomic.Int64  // now: under way
}

// counts are the worker's own words; they are published at the end of a turn, because an atomic store per event is not
// for free.
type counts struct {
	turns, events, transfers, waits, spaced, accepts, acceptErrors, handedOver, connected, panics, pauses uint64
	stalls, stallTime, turnMax                                                                            uint64
	turnTimes                                                                                             [len(TurnBounds) + 1]uint64
	open, registered, active                                                                              int64
}

// Stats may be read from any goroutine.
func (w *Worker) Stats() *WorkerStats { return &w.stats }

// turnEnded books how long the turn that began at Now has taken.
func (w *Worker) turnEnded(now clock.Time) {
	took := int64(now - w.turnBegan)
	bucket := 0
	for bucket < len(TurnBounds) && took > TurnBounds[bucket] {
		bucket++
	}
	c := &w.counts
	c.turnTimes[bucket]++
	if bucket > 0 {
		w.countsChanged = true
	}
	if took >= StallNanoseconds {
		c.stalls++
		c.stallTime += uint64(took)
		if w.opt.OnStall != nil {
			w.opt.OnStall(took)
		}
	}
	c.turnMax = max(c.turnMax, uint64(took))
}

// publish makes the counts visible: five of them every turn, the others when one that matters has changed.
func (w *Worker) publish() {
	c, s := &w.counts, &w.stats
	w.publishActive()
	s.Turns.Store(c.turns)
	s.Events.Store(c.events)
	s.Transfers.Store(c.transfers)
	s.Waits.Store(c.waits)
	s.Spaced.Store(c.spaced)
	if !w.countsChanged && c.turns%publishTurns != 0 {
		return
	}
	w.countsChanged = false
	s.Accepts.Store(c.accepts)
	s.AcceptErrors.Store(c.acceptErrors)
	s.HandedOver.Store(c.handedOver)
	s.Connects.Store(c.connected)
	s.Panics.Store(c.panics)
	s.ListenerPauses.Store(c.pauses)
	s.Stalls.Store(c.stalls)
	s.StallTime.Store(c.stallTime)
	s.TurnTimeMax.Store(c.turnMax)
	for i := range c.turnTimes {
		s.TurnTimes[i].Store(c.turnTimes[i])
	}
	w.handshakes.publish(&s.Handshakes)
	w.dialled.publish(&s.Dialled)
	s.ConnectionsOpen.Store(c.open)
	s.RegisteredSockets.Store(c.registered)
}

// publishActive tells the acceptors of other workers how many streams are in progress here.
func (w *Worker) publishActive() {
	if w.opt.Active == nil {
		return
	}
	if n := int64(w.opt.Active()); n != w.counts.active {
		w.counts.active = n
		w.load.active.Store(n)
	}
}

// publishTurns is how many turns the rarely read counts may lag behind.
const publishTurns = 256
