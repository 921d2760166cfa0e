package observe

import "net/netip"

// spanAttemptsMax bounds the attempts of one request that have a span: the first ones, and the last. Without retries set by
// a route there are two at most.
const spanAttemptsMax = 4

// RequestSpans is what a sampled exchange has to tell beyond its Record. proxy/exchange fills it in and passes it with the
// Record.
type RequestSpans struct {
	// SpanID is the id of the request's own span, ParentID that of the client's, zero if the trace begins here.
	SpanID, ParentID [8]byte
	// Mirror: it is that of a copy of the request, with one attempt. The request's own span is told elsewhere.
	Mirror bool
	// PathRule is the path that the rule asks for, "" if none has matched; PathBelow says that all below it belongs to it.
	PathRule  string
	PathBelow bool
	// Scheme is "http" or "https".
	Scheme string
	// GRPC: it is a call.
	GRPC bool
	// Peer is the other end of the client's connection.
	Peer netip.Addr

	attempts [spanAttemptsMax]AttemptSpan
	begun    int // attempts; those that found no room included
}

// AttemptSpan is one attempt to get an answer from an endpoint. Times are those of Record: 0 for what did not happen.
type AttemptSpan struct {
	ID [8]byte
	// Resend counts the attempts before it.
	Resend                                        int
	BeganAt, StreamAt, SentAt, FirstByteAt, EndAt int64
	// Status is 0 if the endpoint has not answered, then Reason says why. Version is that of the answer, as "1.1" or "2".
	Status     int
	GRPCStatus GRPCStatus
	Reason     string
	Version    string
	// Endpoint is nil where endpoints are not counted, Address is where it is, Secure says that it speaks TLS.
	Endpoint *Endpoint
	Address  string
	Secure   bool
}

// Begin returns an empty span for another attempt. Where there is no room, it takes that of the last one.
func (s *RequestSpans) Begin() *AttemptSpan {
	a := &s.attempts[min(s.begun, spanAttemptsMax-1)]
	*a = AttemptSpan{Resend: s.begun}
	s.begun++
	return a
}

// Attempts returns those attempts that have a span, in order.
func (s *RequestSpans) Attempts() []AttemptSpan { return s.attempts[:min(s.begun, spanAttemptsMax)] }

// count is the number of spans.
func (s *RequestSpans) count() int {
	if s.Mirror {
		return len(s.Attempts())
	}
	return 1 + len(s.Attempts())
}

// Last returns the span of the last attempt, nil for none.
func (s *RequestSpans) Last() *AttemptSpan {
	if s.begun == 0 {
		return nil
	}
	return &s.attempts[min(s.begun, spanAttemptsMax)-1]
}

// Reset empties s.
func (s *RequestSpans) Reset() {
	s.ParentID, s.Mirror, s.PathRule, s.PathBelow, s.begun = [8]byte{}, false, "", false, 0
}
