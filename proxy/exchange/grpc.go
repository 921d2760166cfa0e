package exchange

import (
	"math"
	"strconv"

	"rauta.io/rauta/proxy/clock"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/observe"
)

// grpcKind is how a request says that it is gRPC, by its content type.
type grpcKind uint8

const (
	notGRPC     grpcKind = iota
	plainGRPC            // application/grpc on HTTP/2
	webGRPC              // application/grpc-web: a browser, on any protocol
	webTextGRPC          // application/grpc-web-text: the same in base64
)

// grpcContentTypes are those of RAUTA's own answers.
var grpcContentTypes = [...]string{
	plainGRPC: "application/grpc", webGRPC: "application/grpc-web", webTextGRPC: "application/grpc-web-text",
}

// gRPC status codes that RAUTA answers itself.
const (
	grpcCancelled         = 1
	grpcUnknown           = 2
	grpcDeadlineExceeded  = 4
	grpcPermissionDenied  = 7
	grpcResourceExhausted = 8
	grpcUnimplemented     = 12
	grpcInternal          = 13
	grpcUnavailable       = 14
	grpcUnauthenticated   = 16
)

// grpcKindOf reads the content type. Parameters and the name of the message format play no part.
func grpcKindOf(r *message.Request) grpcKind {
	if r.MethodID != message.MethodPost { // gRPC over HTTP/2, "Requests"
		return notGRPC
	}
	value, _ := r.Get(message.ContentType)
	const prefix = "application/grpc"
	if len(value) < len(prefix) || !message.EqualFold(value[:len(prefix)], prefix) {
		return notGRPC
	}
	rest := value[len(prefix):]
	end := 0
	for end < len(rest) && rest[end] != '+' && rest[end] != ';' && rest[end] != ' ' {
		end++
	}
	switch suffix := rest[:end]; {
	case len(suffix) == 0 && r.Version == message.HTTP2:
		return plainGRPC
	case message.EqualFold(suffix, "-web"):
		return webGRPC
	case message.EqualFold(suffix, "-web-text"):
		return webTextGRPC
	}
	return notGRPC
}

// grpcCode is the gRPC status for what RAUTA would answer in HTTP. Where nothing else is more exact it is that which a
// client derives from the HTTP status ("HTTP to gRPC status code mapping").
func grpcCode(status int, reason string) int {
	switch status {
	case 400:
		return grpcInternal
	case 401:
		return grpcUnauthenticated
	case 403:
		return grpcPermissionDenied
	case 404, 405:
		return grpcUnimplemented
	case 408, 504:
		return grpcDeadlineExceeded
	case 413, 414, 429, 431:
		return grpcResourceExhausted
	case 500:
		if reason == reasonNoBackend || reason == reasonInvalidBackend { // Gateway API, GRPCRouteRule.backendRefs
			return grpcUnavailable
		}
	case 502, 503:
		return grpcUnavailable
	}
	return grpcUnknown
}

// sendGRPCAnswer sends x.own as a response of trailers only: 200 whatever happened, and the status in the same header block
// (gRPC over HTTP/2, "Responses"). The message is the text of the HTTP status, which needs no percent-encoding. Metrics and
// logs keep the HTTP status.
func (x *Exchange) sendGRPCAnswer(reason string) {
	r := &x.own
	status := r.Status
	code := grpcCode(status, reason)
	x.rec.Status, x.rec.GRPCStatus = status, observe.GRPCCode(code)
	r.Status = 200
	var digits [2]byte
	r.Add("Content-Type", grpcContentTypes[x.grpc], message.ContentType)
	r.AddBytes("Grpc-Status", strconv.AppendInt(digits[:0], int64(code), 10), message.GRPCStatus)
	r.Add("Grpc-Message", StatusText(status), message.Unknown)
	r.Framing = message.Streamed // so that the head ends the stream
	if x.Req.Version < message.HTTP2 {
		r.Framing, r.Length = message.Sized, 0
	}
	x.down.SendHead(r)
	x.down.SendEnd(nil)
	x.down.Finished()
	x.finish(reason)
}

// readGRPCStatus notes the status that a back end gives, in the head of a response of trailers only or in trailers. It
// returns the code, or -1 if there is none.
func (x *Exchange) readGRPCStatus(h *message.Head) int {
	if x.grpc == notGRPC || h == nil {
		return -1
	}
	value, ok := h.Get(message.GRPCStatus)
	if !ok {
		return -1
	}
	code, err := strconv.Atoi(message.String(value))
	if err != nil {
		code = grpcUnknown
	}
	x.rec.GRPCStatus = observe.GRPCCode(code)
	return code
}

// brokenOff notes what a client of gRPC makes of a response that ends without a status.
func (x *Exchange) brokenOff(code int) {
	if x.grpc != notGRPC && x.phase != phaseTunnel {
		x.rec.GRPCStatus = observe.GRPCCode(code)
	}
}

// Patient reports whether the request's body may pause for as long as it likes: the stream of a gRPC call that goes to a
// back end which speaks HTTP/2. The content type alone is not enough, since any client may write it.
func (x *Exchange) Patient() bool { return x.grpc == plainGRPC && x.limits.patient }

// grpcTimeout reads how much time the client gives the call. A route's timeout caps it, also for the back end. It reports
// whether the field is valid.
func (x *Exchange) grpcTimeout() bool {
	value, ok := x.Req.Get(message.GRPCTimeout)
	if !ok {
		return true
	}
	asked, ok := parseGRPCTimeout(value)
	if !ok {
		return false
	}
	x.limits.asked = x.limits.start + clock.Time(min(asked, math.MaxInt64-int64(x.limits.start)))
	if most := x.rule.RequestTimeout; most > 0 && asked > most {
		x.Req.Remove(message.GRPCTimeout)
		r := &x.Req
		r.Append(r.StoreString("grpc-timeout"), r.StoreFunc(func(b []byte) []byte { return appendGRPCTimeout(b, most) }), message.GRPCTimeout)
	}
	return true
}

// grpcTimeoutDigitsMax bounds the number in grpc-timeout (gRPC over HTTP/2, "Requests": TimeoutValue).
const grpcTimeoutDigitsMax = 8

// grpcUnits are the units of grpc-timeout in nanoseconds, the smallest first.
var grpcUnits = [...]struct {
	name byte
	ns   int64
}{{'n', 1}, {'u', 1e3}, {'m', 1e6}, {'S', 1e9}, {'M', 60e9}, {'H', 3600e9}}

// parseGRPCTimeout returns nanoseconds, at least 1.
func parseGRPCTimeout(value []byte) (ns int64, ok bool) {
	last := len(value) - 1
	if last < 1 || last > grpcTimeoutDigitsMax {
		return 0, false
	}
	for _, c := range value[:last] {
		if c < '0' || c > '9' {
			return 0, false
		}
		ns = ns*10 + int64(c-'0')
	}
	for _, u := range grpcUnits {
		if u.name == value[last] {
			if ns > math.MaxInt64/u.ns {
				return math.MaxInt64, true
			}
			return max(ns*u.ns, 1), true
		}
	}
	return 0, false
}

// appendGRPCTimeout writes ns in the smallest unit that it fits into, rounded up.
func appendGRPCTimeout(b []byte, ns int64) []byte {
	const most = 1e8 - 1 // grpcTimeoutDigitsMax nines
	for _, u := range grpcUnits {
		if n := (ns-1)/u.ns + 1; n <= most {
			return append(strconv.AppendInt(b, n, 10), u.name)
		}
	}
	return append(b, "99999999H"...)
}
