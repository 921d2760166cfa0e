package observe

import "net/netip"

// Record is what one exchange leaves behind. proxy/exchange keeps one per exchange, fills it, and passes it to
// Shard.Finish exactly once. Byte slices need to be valid during Finish only.
type Record struct {
	// Route is the route that matched, nil when none did (counted as route="none").
	Route *Route
	// Endpoint is the last endpoint that was tried, nil when none was.
	Endpoint *Endpoint

	// Method is an index into Options.Methods; an index outside it counts as 0.
	Method uint8
	// Status is the final status code sent to the client, 0 when none was sent.
	Status int
	// BackendStatus is the final status code that Endpoint answered, 0 when it did not answer.
	BackendStatus int
	// GRPCStatus is what a gRPC exchange ended with. Status is then what HTTP would have said in place of it if RAUTA
	// answered, and else 200 in most cases.
	GRPCStatus GRPCStatus
	// Reason is a static token ("no_route", "connect_failed", "client_gone", ...) when RAUTA answered by itself or the
	// exchange failed, "" otherwise. Not more than reasonsMax different ones may be used by the program.
	Reason string

	// ReceivedAt is when the request head was complete, in nanoseconds since the Unix epoch.
	ReceivedAt int64
	// StreamAt, SentAt, FirstByteAt and EndAt are nanoseconds after ReceivedAt on the monotonic clock: upstream
	// connection in hand, request fully sent, response head received, all of the last attempt, and exchange ended. 0 when it did not happen; 1 when
	// it happened at the clock reading of ReceivedAt, so that the log can tell at which stage an exchange ended.
	StreamAt, SentAt, FirstByteAt, EndAt int64
	// Stages are the nanoseconds that the request spent in each stage; from StageProxy on they add up to EndAt. The first
	// two, which only the kernel knows, are 0 when it does not tell.
	Stages [StageCount]int64
	// TraceID is the id of the trace that the request belongs to (W3C Trace Context), zero for none.
	TraceID [16]byte
	// Spans is nil if none are to be exported.
	Spans *RequestSpans
	// SpansLost: it is sampled, but has none, because there was no room for them when it came.
	SpansLost bool

	// Attempts is the number of endpoints tried, 0 when RAUTA answered by itself.
	Attempts int
	// BytesIn and BytesOut are body bytes received from and sent to the client.
	BytesIn, BytesOut int64

	// ReceivedMethod, ReceivedTarget and ReceivedHost are the request as the client sent it.
	ReceivedMethod, ReceivedTarget, ReceivedHost []byte
	// EffectiveHost, EffectivePath and EffectiveQuery are the request after the filters; query without the "?".
	EffectiveHost, EffectivePath, EffectiveQuery []byte
	// Client is the address of the client, behind trusted proxies the one they reported.
	Client netip.Addr
	// ClientVerify is what the client's certificate was worth: "SUCCESS", "NONE", "FAILED:reason"; empty if none was asked
	// for, then it is not logged. ClientSubject and ClientFingerprint (SHA-256) name the certificate.
	ClientVerify, ClientSubject, ClientFingerprint string
	// UserAgent and RequestID are field values as they were received or made.
	UserAgent, RequestID []byte
	// Protocol is "HTTP/1.0", "HTTP/1.1" or "HTTP/2".
	Protocol string
	// RuleName names the rule of the route.
	RuleName string
	// EndpointAddr is the address of the last endpoint tried; when empty, Endpoint's is logged.
	EndpointAddr string

	cell    *routeCell    // where Begin has counted the exchange as under way
	attempt *endpointCell // where Attempt has counted the last attempt as under way
}

// failed reports whether the client got something else than the configuration wants. An answer of RAUTA below 400 is what it
// wants: a redirect, or permission to ask (CORS).
func (rec *Record) failed() bool {
	wanted := rec.Attempts == 0 && 0 < rec.Status && rec.Status < 400
	return rec.Reason != "" && !wanted
}
