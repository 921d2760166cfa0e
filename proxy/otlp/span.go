package otlp

import (
	"net"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"rauta.io/rauta/proxy/observe"
)

// knownMethods are those that the conventions let stand for themselves (RFC 9110 and RFC 5789).
const knownMethods = " GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH "

// snapshotOf makes the span of a request, by the stable semantic conventions for HTTP servers.
func snapshotOf(s *observe.Span, from *resource.Resource) sdktrace.ReadOnlySpan {
	start := time.Unix(0, s.ReceivedAt)
	method := s.Method()
	name, attributes := method, make([]attribute.KeyValue, 0, 32)
	if method == "" || !strings.Contains(knownMethods, " "+method+" ") {
		attributes = append(attributes, attribute.String("http.request.method_original", utf8Of(method)))
		name, method = "HTTP", "_OTHER"
	}
	attributes = append(attributes, attribute.String("http.request.method", method))
	attributes = appendRequest(attributes, s)
	attributes = appendPlace(attributes, s)
	attributes, status := appendOutcome(attributes, s)
	for stage := range observe.StageCount {
		if ns := s.Stages[stage]; ns > 0 {
			attributes = append(attributes, attribute.Float64("rauta.stage."+stage.String(), float64(ns)/1e9))
		}
	}
	context := trace.SpanContextConfig{TraceID: s.TraceID, SpanID: s.SpanID, TraceFlags: trace.FlagsSampled}
	parent := trace.SpanContextConfig{}
	if s.ParentID != [8]byte{} {
		parent = trace.SpanContextConfig{TraceID: s.TraceID, SpanID: s.ParentID, TraceFlags: trace.FlagsSampled, Remote: true}
	}
	return tracetest.SpanStub{
		Name: name, SpanContext: trace.NewSpanContext(context), Parent: trace.NewSpanContext(parent), SpanKind: trace.SpanKindServer,
		StartTime: start, EndTime: start.Add(time.Duration(s.EndAt)),
		Attributes: attributes, Events: eventsOf(s, start), Status: status,
		Resource: from, InstrumentationScope: instrumentation.Scope{Name: "rauta"},
	}.Snapshot()
}

// appendRequest appends what the client has sent.
func appendRequest(a []attribute.KeyValue, s *observe.Span) []attribute.KeyValue {
	a = append(a, attribute.String("url.path", utf8Of(s.Path())), attribute.Int64("http.request.body.size", s.BytesIn))
	if _, version, ok := strings.Cut(s.Protocol, "/"); ok {
		a = append(a, attribute.String("network.protocol.name", "http"), attribute.String("network.protocol.version", version))
	}
	host, port, err := net.SplitHostPort(s.Host())
	if err != nil {
		host = strings.Trim(s.Host(), "[]")
	}
	if host != "" {
		a = append(a, attribute.String("server.address", utf8Of(host)))
	}
	if n, err := strconv.ParseUint(port, 10, 16); err == nil {
		a = append(a, attribute.Int("server.port", int(n)))
	}
	if s.Client.IsValid() {
		a = append(a, attribute.String("client.address", s.Client.WithZone("").String()))
	}
	if agent := s.UserAgent(); agent != "" {
		a = append(a, attribute.String("user_agent.original", utf8Of(agent)))
	}
	return a
}

// appendPlace appends where the request went.
func appendPlace(a []attribute.KeyValue, s *observe.Span) []attribute.KeyValue {
	for _, at := range [...][2]string{{"rauta.route", s.Route}, {"rauta.rule", s.Rule}, {"rauta.cluster", s.Cluster}, {"rauta.endpoint", s.Endpoint}} {
		if at[1] != "" {
			a = append(a, attribute.String(at[0], at[1]))
		}
	}
	return append(a, attribute.Int("rauta.attempts", s.Attempts))
}

// appendOutcome appends what came of the request. To a server a request has failed if the server has: codes of 4xx are
// the client's fault.
func appendOutcome(a []attribute.KeyValue, s *observe.Span) ([]attribute.KeyValue, sdktrace.Status) {
	a = append(a, attribute.Int64("http.response.body.size", s.BytesOut))
	if s.Status != 0 {
		a = append(a, attribute.Int("http.response.status_code", s.Status))
	}
	if s.Reason != "" {
		a = append(a, attribute.String("rauta.reason", s.Reason))
	}
	failed := s.Status >= 500 || s.Status == 0
	kind := s.Reason
	if code := s.GRPCStatus.String(); code != "" {
		a = append(a, attribute.String("rpc.system.name", "grpc"), attribute.String("rpc.response.status_code", code))
		switch code {
		case "UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS":
			failed = true
		}
		if kind == "" {
			kind = code
		}
	}
	if !failed {
		return a, sdktrace.Status{}
	}
	if kind == "" && s.Status != 0 {
		kind = strconv.Itoa(s.Status)
	} else if kind == "" {
		kind = "_OTHER"
	}
	return append(a, attribute.String("error.type", kind)), sdktrace.Status{Code: codes.Error, Description: s.Reason}
}

// eventsOf tells when a request went from one stage to the next, as far as it came.
func eventsOf(s *observe.Span, start time.Time) []sdktrace.Event {
	var events []sdktrace.Event
	for _, e := range [...]struct {
		name string
		at   int64
	}{{"backend connected", s.StreamAt}, {"request sent", s.SentAt}, {"response head received", s.FirstByteAt}} {
		if e.at > 0 {
			events = append(events, sdktrace.Event{Name: e.name, Time: start.Add(time.Duration(e.at))})
		}
	}
	return events
}

// utf8Of replaces what is no UTF-8, which a collector refuses together with the whole batch.
func utf8Of(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
