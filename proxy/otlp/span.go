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

const (
	// knownMethods are those that the conventions let stand for themselves (RFC 9110 and RFC 5789).
	knownMethods = " GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH "
	// otherValue stands for what has no name of its own.
	otherValue = "_OTHER"
	// routeBytesMax bounds http.route, which is part of names, in bytes. Paths of rules have up to 1,024.
	routeBytesMax = 256
	// schemaURL names the version of the semantic conventions.
	schemaURL = "https://opentelemetry.io/schemas/1.43.0"
)

// maker makes spans of what observe has kept, by the semantic conventions for HTTP.
type maker struct {
	resource *resource.Resource
	scope    instrumentation.Scope
}

func newMaker(r *resource.Resource, version string) maker {
	return maker{r, instrumentation.Scope{Name: "rauta", Version: version, SchemaURL: schemaURL}}
}

// appendSpans appends the span of a request and those of its attempts.
func (m *maker) appendSpans(to []sdktrace.ReadOnlySpan, s *observe.Span) []sdktrace.ReadOnlySpan {
	if !s.Mirror {
		to = append(to, m.request(s))
	}
	attempts := s.Attempts()
	for i := range attempts {
		to = append(to, m.attempt(s, &attempts[i]))
	}
	return to
}

// request makes the span of a request: the server's side.
func (m *maker) request(s *observe.Span) sdktrace.ReadOnlySpan {
	name, a := appendMethod(make([]attribute.KeyValue, 0, 40), s)
	a = appendRequest(a, s)
	a = appendPlace(a, s)
	if route := routeOf(s); route != "" {
		name += " " + route
		a = append(a, attribute.String("http.route", route))
	}
	a, status := appendOutcome(a, s)
	for stage := range observe.StageCount {
		if ns := s.Stages[stage]; ns > 0 {
			a = append(a, attribute.Float64("rauta.stage."+stage.String(), float64(ns)/1e9))
		}
	}
	var parent trace.SpanContext
	if s.ParentID != [8]byte{} {
		parent = contextOf(s, s.ParentID, true)
	}
	start := time.Unix(0, s.ReceivedAt)
	return tracetest.SpanStub{
		Name: name, SpanContext: contextOf(s, s.SpanID, false), Parent: parent, SpanKind: trace.SpanKindServer,
		StartTime: start, EndTime: start.Add(time.Duration(s.EndAt)),
		Attributes: a, Events: eventsOf(start, s.StreamAt, s.SentAt, s.FirstByteAt), Status: status,
		Resource: m.resource, InstrumentationScope: m.scope,
	}.Snapshot()
}

func contextOf(s *observe.Span, id [8]byte, remote bool) trace.SpanContext {
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: s.TraceID, SpanID: id, TraceFlags: trace.FlagsSampled, Remote: remote})
}

// appendMethod appends the method, and returns it as names have it.
func appendMethod(a []attribute.KeyValue, s *observe.Span) (string, []attribute.KeyValue) {
	method := s.Method()
	if method != "" && strings.Contains(knownMethods, " "+method+" ") {
		return method, append(a, attribute.String("http.request.method", method))
	}
	return "HTTP", append(a, attribute.String("http.request.method", otherValue), attribute.String("http.request.method_original", utf8Of(method)))
}

// routeOf is the path that the rule asks for, with "/*" behind it if all below belongs to it.
func routeOf(s *observe.Span) string {
	route := s.PathRule
	if s.PathBelow {
		route = strings.TrimSuffix(route, "/") + "/*"
	}
	return utf8Of(route[:min(len(route), routeBytesMax)])
}

// appendRequest appends what the client has sent.
func appendRequest(a []attribute.KeyValue, s *observe.Span) []attribute.KeyValue {
	a = append(a, attribute.String("url.scheme", s.Scheme), attribute.String("url.path", utf8Of(s.Path())))
	if q := s.Query(); q != "" {
		a = append(a, attribute.String("url.query", redacted(q)))
	}
	a = append(a, attribute.Int64("http.request.body.size", s.BytesIn))
	if _, version, ok := strings.Cut(s.Protocol, "/"); ok {
		a = appendVersion(a, version)
	}
	a = appendAddress(a, "server", s.Host())
	if s.Client.IsValid() {
		a = append(a, attribute.String("client.address", s.Client.WithZone("").String()))
	}
	if s.Peer.IsValid() {
		a = append(a, attribute.String("network.peer.address", s.Peer.WithZone("").String()))
	}
	if agent := s.UserAgent(); agent != "" {
		a = append(a, attribute.String("user_agent.original", utf8Of(agent)))
	}
	return appendCall(a, s)
}

func appendVersion(a []attribute.KeyValue, version string) []attribute.KeyValue {
	return append(a, attribute.String("network.protocol.name", "http"), attribute.String("network.protocol.version", version))
}

// appendAddress appends host and port under the names prefix.address and prefix.port.
func appendAddress(a []attribute.KeyValue, prefix, authority string) []attribute.KeyValue {
	host, port, err := net.SplitHostPort(authority)
	if err != nil {
		host = strings.Trim(authority, "[]")
	}
	if host != "" {
		a = append(a, attribute.String(prefix+".address", utf8Of(host)))
	}
	if n, err := strconv.ParseUint(port, 10, 16); err == nil {
		a = append(a, attribute.Int(prefix+".port", int(n)))
	}
	return a
}

// appendCall appends what is asked for with gRPC.
func appendCall(a []attribute.KeyValue, s *observe.Span) []attribute.KeyValue {
	if !s.GRPC {
		return a
	}
	return append(a, attribute.String("rpc.system.name", "grpc"), attribute.String("rpc.system", "grpc"),
		attribute.String("rpc.method", utf8Of(strings.TrimPrefix(s.Path(), "/"))))
}

// appendStatusOfCall appends the status of gRPC, also under the name that it had before version 1.39 of the conventions, which
// much of what shows traces knows.
func appendStatusOfCall(a []attribute.KeyValue, status observe.GRPCStatus) []attribute.KeyValue {
	if status == 0 {
		return a
	}
	a = append(a, attribute.String("rpc.response.status_code", status.String()))
	if code, ok := status.Code(); ok {
		a = append(a, attribute.Int("rpc.grpc.status_code", code))
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
	return append(a, attribute.Int("rauta.attempts", s.AttemptCount))
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
	a = appendStatusOfCall(a, s.GRPCStatus)
	code := s.GRPCStatus.String()
	failed := s.Status >= 500 || s.Status == 0
	switch code {
	case "UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS":
		failed = true
	}
	return failure(a, failed, s.Reason, code, s.Status)
}

// failure says why something has failed, if it has: the reason, or else the status of gRPC, or else that of HTTP.
func failure(a []attribute.KeyValue, failed bool, reason, grpc string, status int) ([]attribute.KeyValue, sdktrace.Status) {
	if !failed {
		return a, sdktrace.Status{}
	}
	kind := reason
	switch {
	case kind != "":
	case grpc != "" && grpc != "OK":
		kind = grpc
	case status != 0:
		kind = strconv.Itoa(status)
	default:
		kind = otherValue
	}
	return append(a, attribute.String("error.type", kind)), sdktrace.Status{Code: codes.Error, Description: reason}
}

// eventsOf tells when a request went from one stage to the next, as far as it came, and which stage ended then; times are after
// start, in nanoseconds.
func eventsOf(start time.Time, stream, sent, firstByte int64) []sdktrace.Event {
	var events []sdktrace.Event
	for _, e := range [...]struct {
		name string
		ends observe.Stage
		at   int64
	}{
		{"backend connected", observe.StageBackendConnect, stream}, {"request sent", observe.StageRequestBody, sent},
		{"response head received", observe.StageBackendTTFB, firstByte},
	} {
		if e.at > 0 {
			events = append(events, sdktrace.Event{
				Name: e.name, Time: start.Add(time.Duration(e.at)), Attributes: []attribute.KeyValue{attribute.String("rauta.stage", e.ends.String())},
			})
		}
	}
	return events
}

// redacted replaces the values of a query, which are secrets more often than paths are; the names stay.
func redacted(query string) string {
	var b strings.Builder
	for i, part := range strings.Split(query, "&") {
		if i > 0 {
			b.WriteByte('&')
		}
		name, _, hasValue := strings.Cut(part, "=")
		if !hasValue && len(part) > 0 { // a value without a name, as likely as not
			b.WriteString(redactedValue)
			continue
		}
		b.WriteString(name)
		if hasValue {
			b.WriteString("=" + redactedValue)
		}
	}
	return utf8Of(b.String())
}

// redactedValue is what the conventions put in place of a secret.
const redactedValue = "REDACTED"

// utf8Of replaces what is no UTF-8, which a collector refuses together with the whole batch.
func utf8Of(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
