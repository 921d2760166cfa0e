package observe

// MirrorResult is what became of a copy of a request.
type MirrorResult uint8

// Results of mirrors.
const (
	MirrorAnswered MirrorResult = iota
	MirrorFailed
	MirrorTimeout
	// MirrorDropped: there were too many, or it took its body too slowly.
	MirrorDropped
	// MirrorIncomplete: the client or the back end gave the request up before its end.
	MirrorIncomplete
	mirrorResultCount
)

var mirrorResultNames = [mirrorResultCount]string{"answered", "failed", "timeout", "dropped", "incomplete"}

// Mirrored counts a copy of a request. What was sent to an endpoint counts there too, with the status of the answer, 0 for
// none; e is nil if nothing was.
func (s *Shard) Mirrored(result MirrorResult, e *Endpoint, status int) {
	s.mirrors[result].Add(1)
	if e != nil {
		s.countEndpoint(e, status)
	}
}

// MirrorSpan keeps the span of a mirror, if spans are exported. Of the Record it takes Spans, with one attempt, TraceID,
// ReceivedAt and EndAt, and of the request ReceivedMethod, EffectivePath and EffectiveQuery.
func (s *Shard) MirrorSpan(rec *Record) {
	if ring := s.spans.Load(); ring != nil {
		ring.put(rec)
	}
}

// sumMirrors adds up what all workers have counted.
func (r *Registry) sumMirrors() map[string]uint64 {
	sum := map[string]uint64{}
	for _, s := range r.shards {
		for result := range s.mirrors {
			sum[mirrorResultNames[result]] += s.mirrors[result].Load()
		}
	}
	return sum
}
