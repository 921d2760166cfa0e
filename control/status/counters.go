package status

import "sync/atomic"

// Kinds returns the names of all kinds that have a status of ours.
func Kinds() []string {
	return []string{
		kindGatewayClass, kindGateway, kindListenerSet, kindHTTPRoute, kindGRPCRoute, kindTLSRoute, kindTCPRoute, kindUDPRoute, kindBackendTLSPolicy, kindIngress,
	}
}

// kindsMax is room for the kinds, and one for what is not among them.
const kindsMax = 16

// counters are read by metrics at any time.
type counters struct {
	kinds   [kindsMax]kindCounters
	waiting atomic.Int64

	eventsSent, eventsFailed, eventsDropped atomic.Uint64
}

type kindCounters struct{ writes, failures, conflicts atomic.Uint64 }

func (c *counters) of(kind string) *kindCounters {
	for i, k := range Kinds() {
		if k == kind {
			return &c.kinds[i]
		}
	}
	return &c.kinds[kindsMax-1]
}

// KindStats are what has become of the writes of one kind since the process began.
type KindStats struct{ Writes, Failures, Conflicts uint64 }

// Stats returns the counts of a kind.
func (w *Writer) Stats(kind string) KindStats {
	c := w.counters.of(kind)
	return KindStats{Writes: c.writes.Load(), Failures: c.failures.Load(), Conflicts: c.conflicts.Load()}
}

// Waiting is the number of statuses that failed and are tried again.
func (w *Writer) Waiting() int64 { return w.counters.waiting.Load() }

// EventStats are what has become of Events.
type EventStats struct{ Sent, Failed, Dropped uint64 }

// Events returns the counts of Events.
func (w *Writer) Events() EventStats {
	return EventStats{Sent: w.counters.eventsSent.Load(), Failed: w.counters.eventsFailed.Load(), Dropped: w.counters.eventsDropped.Load()}
}
