package observe

import "sync/atomic"

// parseReasonsMax is the number of parse error reasons: what a uint8 tells apart.
const parseReasonsMax = 256

// Shard is what one worker counts. The worker is its only writer on the loop, so that additions never contend; they
// are atomic so that a scrape may read at any time and the reference engine may share one shard between goroutines.
type Shard struct {
	// immutable
	registry *Registry
	worker   int

	// atomic, written by the worker
	connsOpened   atomic.Uint64
	connsClosed   atomic.Uint64
	retries       atomic.Uint64
	bytesIn       atomic.Uint64
	bytesOut      atomic.Uint64
	fieldsDropped atomic.Uint64
	logDropped    atomic.Uint64
	resets        [resetCount]atomic.Uint64
	mirrors       [mirrorResultCount]atomic.Uint64
	stall         histogram
	parseErrors   [parseReasonsMax]atomic.Uint64
	reasons       [reasonsMax]atomic.Pointer[reasonCount]

	ring      atomic.Pointer[logRing]  // nil while there is no access log
	errorRing atomic.Pointer[logRing]  // nil while there is no error log
	spans     atomic.Pointer[spanRing] // nil while none are exported
	_         [64]byte                 // the next allocation is not on our last cache line
}

// reasonCount counts one Record.Reason.
type reasonCount struct {
	name string
	n    atomic.Uint64
}

// ConnOpened counts a client connection that was accepted.
func (s *Shard) ConnOpened() { s.connsOpened.Add(1) }

// ConnClosed counts a client connection that ended; once per ConnOpened, on the shard of the connection's owner.
func (s *Shard) ConnClosed() { s.connsClosed.Add(1) }

// Retry counts a request that is sent to a back end again.
func (s *Shard) Retry() { s.retries.Add(1) }

// AttemptFailed counts an attempt that another one follows, with what was answered, 0 for nothing; Finish counts the last one.
func (s *Shard) AttemptFailed(e *Endpoint, status int) {
	if e != nil {
		s.countEndpoint(e, status)
	}
}

// ParseError counts a request that was refused by the parser; SetParseReasons names the reasons.
func (s *Shard) ParseError(reason uint8) { s.parseErrors[reason].Add(1) }

// FieldDropped counts n header fields that were not forwarded because their names are ambiguous to back ends.
func (s *Shard) FieldDropped(n int) { s.fieldsDropped.Add(uint64(n)) }

// BytesIn counts bytes from clients that no Record carries (passed-through connections).
func (s *Shard) BytesIn(n int64) { s.bytesIn.Add(uint64(n)) }

// BytesOut counts bytes to clients that no Record carries (passed-through connections).
func (s *Shard) BytesOut(n int64) { s.bytesOut.Add(uint64(n)) }

// LoopStall counts a turn of the loop that kept ready connections waiting, in nanoseconds.
func (s *Shard) LoopStall(ns int64) { s.stall.add(ns) }

// Begin counts an exchange as under way on a route, until Finish. nil is no route.
func (s *Shard) Begin(rec *Record, rt *Route) {
	if rt == nil {
		return
	}
	rec.Route = rt
	rec.cell = s.routeCell(rt)
	rec.cell.inFlight.Add(1)
}

func (s *Shard) routeCell(rt *Route) *routeCell {
	c := rt.cells.Load()
	if c == nil {
		c = s.registry.useRoute(rt)
	}
	return c.of(s.worker)
}

// Finish counts an exchange and logs it when there is an access log. It allocates only where a route, a method of it,
// an endpoint or a reason is seen by this worker for the first time.
func (s *Shard) Finish(rec *Record) {
	if rec.cell != nil {
		rec.cell.inFlight.Add(-1)
		rec.cell = nil
	}
	rt := rec.Route
	if rt == nil {
		rt = s.registry.none
	}
	cell := s.routeCell(rt) // another one than at Begin if the route was forgotten meanwhile
	method := rec.Method
	if int(method) >= len(s.registry.methods) {
		method = 0
	}
	cell.duration.add(rec.EndAt)
	cell.stages.count(rec)
	cell.counts(method).n[statusClass(rec.Status)].Add(1)
	if rec.GRPCStatus != 0 {
		cell.countGRPC(rec.GRPCStatus)
	}

	rec.endAttempt()
	if rec.Endpoint != nil {
		e := s.endpointCell(rec.Endpoint)
		e.answers.n[statusClass(backendStatus(rec))].Add(1)
		if rec.FirstByteAt > 0 {
			e.ttfb.add(rec.waited())
		}
	}
	if rec.BytesIn > 0 {
		s.bytesIn.Add(uint64(rec.BytesIn))
	}
	if rec.BytesOut > 0 {
		s.bytesOut.Add(uint64(rec.BytesOut))
	}
	if rec.Reason != "" {
		countReason(s.reasons[:], rec.Reason, 1)
	}
	if ring := s.ring.Load(); ring != nil && !ring.line(rec) {
		s.logDropped.Add(1)
	}
	if rec.failed() {
		if ring := s.errorRing.Load(); ring != nil && !ring.line(rec) {
			s.logDropped.Add(1)
		}
	}
	if rec.Spans != nil || rec.SpansLost {
		if ring := s.spans.Load(); ring != nil {
			ring.put(rec)
		}
	}
}

// backendStatus returns what the endpoint answered, 0 for nothing. An exchange that does not tell has passed the
// status on unless it failed.
func backendStatus(rec *Record) int {
	if rec.BackendStatus == 0 && rec.FirstByteAt > 0 && rec.Reason == "" {
		return rec.Status
	}
	return rec.BackendStatus
}

func (s *Shard) countEndpoint(e *Endpoint, status int) {
	s.endpointCell(e).answers.n[statusClass(status)].Add(1)
}

func (s *Shard) endpointCell(e *Endpoint) *endpointCell {
	c := e.cells.Load()
	if c == nil {
		c = s.registry.useEndpoint(e)
	}
	return c.of(s.worker)
}

// Flush tells the writers of the logs that lines are pending. The loop calls it at the end of a turn; it costs three
// loads for each, and wakes a writer at most once per flush interval however many turns ask.
func (s *Shard) Flush() {
	if ring := s.ring.Load(); ring != nil {
		ring.wakeWriter()
	}
	if ring := s.errorRing.Load(); ring != nil {
		ring.wakeWriter()
	}
}

// Logs reports whether there may be a log for an exchange with the reason: without one Finish needs no views of a Record.
func (s *Shard) Logs(reason string) bool {
	return s.ring.Load() != nil || reason != "" && s.errorRing.Load() != nil
}
