package exchange

import (
	"rauta.io/rauta/proxy/clock"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/upstream"
)

// mirrorReasons is why the span of a mirror has failed, where the back end did not say it.
var mirrorReasons = [...]string{
	observe.MirrorAnswered: "", observe.MirrorFailed: "upstream_protocol_error", observe.MirrorTimeout: "mirror_timeout",
	observe.MirrorDropped: "mirror_dropped", observe.MirrorIncomplete: "mirror_incomplete",
}

// mirrorSpan is the span of a mirror: of kind CLIENT as that of an attempt, and below the same request. It is told by itself,
// because a mirror may end after its request has been told. Without spans its methods do nothing.
type mirrorSpan struct {
	spans    *spans // nil if the request is not sampled
	received int64  // Record.ReceivedAt of the request
	start    clock.Time
	grpc     bool
}

// open makes it part of the request's trace.
func (p *mirrorSpan) open(x *Exchange) {
	s := x.w.newSpans(x.spans.context)
	s.Mirror, s.SpanID, s.GRPC = true, x.spans.SpanID, x.grpc != message.NotGRPC
	*p = mirrorSpan{spans: s, received: x.rec.ReceivedAt, start: x.limits.start, grpc: s.GRPC}
}

// close gives what it used back.
func (p *mirrorSpan) close(w *Worker) {
	if p.spans != nil {
		w.putSpans(p.spans)
		p.spans = nil
	}
}

func (p *mirrorSpan) since(w *Worker) int64 { return max(int64(w.Clock.Now()-p.start), 1) }

// begin: the mirror has its endpoint, which is to see the span as its parent.
func (p *mirrorSpan) begin(m *mirror) {
	a, e := p.spans.Begin(), m.endpoint
	a.ID = m.w.Settings.Propagation.Attempt(&m.req.Head, &p.spans.context, m.w.rand)
	a.BeganAt = p.since(m.w)
	a.Endpoint, a.Address, a.Secure = e.Stats, e.Name, e.TLS != nil
}

func (p *mirrorSpan) connected(w *Worker) {
	if p.spans != nil {
		p.spans.Last().StreamAt = p.since(w)
	}
}

// sent: the end of the request has been.
func (p *mirrorSpan) sent(w *Worker) {
	if p.spans != nil {
		p.spans.Last().SentAt = p.since(w)
	}
}

func (p *mirrorSpan) answered(w *Worker, resp *message.Response) {
	if p.spans == nil {
		return
	}
	a := p.spans.Last()
	a.FirstByteAt, a.Status = p.since(w), resp.Status
	p.spans.answeredIn(resp.Version)
	p.ended(&resp.Head)
}

// ended notes the status of gRPC, which trailers have, or the head of a response without them.
func (p *mirrorSpan) ended(h *message.Head) {
	if p.spans == nil || !p.grpc {
		return
	}
	if code := grpcStatusIn(h); code >= 0 {
		p.spans.Last().GRPCStatus = observe.GRPCCode(code)
	}
}

func (p *mirrorSpan) failed(f upstream.Failure) {
	if p.spans != nil {
		p.spans.Last().Reason = failureReason(f)
	}
}

// finish tells the span, if the mirror has gone anywhere.
func (p *mirrorSpan) finish(m *mirror, result observe.MirrorResult) {
	a := p.spans.Last()
	if a == nil {
		return
	}
	if a.Reason == "" {
		a.Reason = mirrorReasons[result]
	}
	a.EndAt = p.since(m.w)
	r, q := &m.w.mirrors.record, &m.req
	r.Spans, r.TraceID, r.ReceivedAt, r.EndAt = &p.spans.RequestSpans, p.spans.context.TraceID, p.received, a.EndAt
	r.ReceivedMethod, r.EffectivePath, r.EffectiveQuery = q.Bytes(q.Method), q.Bytes(q.Path), q.Bytes(q.Query)
	m.w.Shard.MirrorSpan(r)
	r.Spans = nil
}
