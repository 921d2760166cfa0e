package otlp

import (
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"rauta.io/rauta/proxy/observe"
)

// attempt makes the span of an attempt: the client's side, which is the parent of what the endpoint does.
func (m *maker) attempt(s *observe.Span, t *observe.AttemptSpan) sdktrace.ReadOnlySpan {
	name, a := appendMethod(make([]attribute.KeyValue, 0, 24), s)
	a = append(a, attribute.String("url.full", urlOf(s, t)))
	a = appendAddress(a, "server", t.Address)
	a = appendAddress(a, "network.peer", t.Address)
	if t.Version != "" {
		a = appendVersion(a, t.Version)
	}
	if t.Resend > 0 {
		a = append(a, attribute.Int("http.request.resend_count", t.Resend))
	}
	if s.Mirror {
		a = append(a, attribute.Bool("rauta.mirror", true))
	}
	a = appendCall(a, s)
	a = appendTarget(a, t.Endpoint)
	a, status := appendAnswer(a, t)
	start := time.Unix(0, s.ReceivedAt)
	return tracetest.SpanStub{
		Name: name, SpanContext: contextOf(s, t.ID, false), Parent: contextOf(s, s.SpanID, false), SpanKind: trace.SpanKindClient,
		StartTime: start.Add(time.Duration(t.BeganAt)), EndTime: start.Add(time.Duration(t.EndAt)),
		Attributes: a, Events: eventsOf(start, t.StreamAt, t.SentAt, t.FirstByteAt), Status: status,
		Resource: m.resource, InstrumentationScope: m.scope,
	}.Snapshot()
}

// urlOf is where the attempt went; the endpoint stands where the conventions want the host that was connected to.
func urlOf(s *observe.Span, t *observe.AttemptSpan) string {
	var b strings.Builder
	if t.Secure {
		b.WriteString("https://")
	} else {
		b.WriteString("http://")
	}
	b.WriteString(t.Address)
	b.WriteString(utf8Of(s.SentPath()))
	if q := s.SentQuery(); q != "" {
		b.WriteByte('?')
		b.WriteString(redacted(q))
	}
	return b.String()
}

// appendTarget appends what is known of an endpoint, nil for nothing.
func appendTarget(a []attribute.KeyValue, e *observe.Endpoint) []attribute.KeyValue {
	if e == nil {
		return a
	}
	t := e.Target()
	for _, of := range [...][2]string{
		{"rauta.cluster", e.Cluster()}, {"rauta.backend.pod", t.Pod}, {"rauta.backend.namespace", t.Namespace},
		{"rauta.backend.node", t.Node}, {"rauta.backend.zone", t.Zone},
	} {
		if of[1] != "" {
			a = append(a, attribute.String(of[0], of[1]))
		}
	}
	return a
}

// appendAnswer appends what the endpoint said. To a client every code of 4xx and 5xx is a failure, and every status of gRPC
// but OK.
func appendAnswer(a []attribute.KeyValue, t *observe.AttemptSpan) ([]attribute.KeyValue, sdktrace.Status) {
	if t.Status != 0 {
		a = append(a, attribute.Int("http.response.status_code", t.Status))
	}
	a = appendStatusOfCall(a, t.GRPCStatus)
	code := t.GRPCStatus.String()
	failed := t.Reason != "" || t.Status == 0 || t.Status >= 400 || code != "" && code != "OK"
	return failure(a, failed, t.Reason, code, t.Status)
}
