package exchange

import (
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/trace"
	"rauta.io/rauta/proxy/upstream"
)

// spans is what an exchange has only if its request is sampled and spans are exported. A worker keeps them for reuse.
type spans struct {
	observe.RequestSpans
	context trace.Context
	next    *spans // free list
}

// joinTrace makes the request part of a trace; path is what the rule asks for, nil if none has matched.
func (x *Exchange) joinTrace(path *config.PathMatch) {
	w := x.w
	p := w.Settings.Propagation
	if p == nil {
		return
	}
	share := p.Share
	if x.rule != nil {
		if percent, set := x.rule.TraceSampling(); set {
			share = trace.ShareOf(percent)
		}
	}
	room := !p.Spans || w.Shard.TakesSpans() // what would be dropped in the end is not made
	c := p.Join(&x.Req.Head, x.peer.Trusted || !w.Settings.TracesOfTrusted, share, room, w.rand)
	x.rec.TraceID = c.TraceID
	if !c.Own {
		x.rec.SpansLost = c.Sampled && p.Spans
		return
	}
	s := w.newSpans(c)
	s.SpanID, s.ParentID, s.Peer = c.SpanID, c.ParentID, x.peer.Client
	if path != nil {
		s.PathRule, s.PathBelow = path.Value, path.Kind == config.PathPrefix
	}
	x.spans, x.rec.Spans = s, &s.RequestSpans
}

// beginAttemptSpan gives the attempt under way a span, which the back end sees as its parent.
func (x *Exchange) beginAttemptSpan(e *upstream.Endpoint) {
	a := x.spans.Begin()
	a.ID = x.w.Settings.Propagation.Attempt(&x.Req.Head, &x.spans.context, x.w.rand)
	a.BeganAt = x.since(x.w.Clock.Now())
	a.Endpoint, a.Address, a.Secure = e.Stats, e.Name, e.TLS != nil
}

// endAttemptSpan ends the span of the last attempt, if it has not ended yet. The reason is why it failed.
func (x *Exchange) endAttemptSpan(reason string) {
	a, r := x.spans.Last(), &x.rec
	if a == nil || a.EndAt != 0 {
		return
	}
	a.StreamAt, a.SentAt, a.FirstByteAt, a.EndAt = r.StreamAt, r.SentAt, r.FirstByteAt, x.since(x.w.Clock.Now())
	a.Reason = reason
	if r.FirstByteAt != 0 { // else the status of gRPC is RAUTA's own
		a.Status, a.GRPCStatus = r.BackendStatus, r.GRPCStatus
	}
}

// answeredIn notes the version of the protocol in which the attempt was answered.
func (s *spans) answeredIn(v message.Version) {
	switch v {
	case message.HTTP10:
		s.Last().Version = "1.0"
	case message.HTTP11:
		s.Last().Version = "1.1"
	case message.HTTP2:
		s.Last().Version = "2"
	}
}

// newSpans returns empty ones.
func (w *Worker) newSpans(c trace.Context) *spans {
	s := w.freeSpans
	if s != nil {
		w.freeSpans, s.next = s.next, nil
		w.freeSpansCount--
	} else {
		s = new(spans)
	}
	s.context = c
	return s
}

// putSpans gives the spans of an exchange or a mirror back.
func (w *Worker) putSpans(s *spans) {
	if w.freeSpansCount >= freeMax {
		return
	}
	s.Reset()
	s.next, w.freeSpans = w.freeSpans, s
	w.freeSpansCount++
}
