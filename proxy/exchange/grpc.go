package exchange

import (
	"math"
	"strconv"

	"rauta.io/rauta/proxy/clock"
	"rauta.io/rauta/proxy/filter"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/upstream"
)

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

// grpcFailureCode is the gRPC status for an attempt that failed for good. What a back end says with RST_STREAM is told apart
// (gRPC over HTTP/2, "Errors").
func grpcFailureCode(f upstream.Failure) int {
	if f.Cause == upstream.CauseReset {
		switch f.Detail {
		case detailCancel:
			return grpcCancelled
		case "enhance_your_calm":
			return grpcResourceExhausted
		case "inadequate_security":
			return grpcPermissionDenied
		case "no_error", "protocol_error", "internal_error", "flow_control_error", "settings_timeout", "frame_size_error",
			"compression_error", "connect_error":
			return grpcInternal
		}
	}
	return grpcCode(failureStatus(f), failureReason(f))
}

// sendGRPCAnswer sends x.own as gRPC has it: 200 whatever happened, and the status in trailers. The message is the text of
// the HTTP status, which needs no percent-encoding. Metrics and logs keep the HTTP status.
func (x *Exchange) sendGRPCAnswer(code int, reason string) {
	status := x.own.Status
	x.rec.Status, x.rec.GRPCStatus = status, observe.GRPCCode(code)
	x.own.Status = 200
	if x.grpc.Web() {
		x.sendGRPCWebAnswer(code, StatusText(status))
	} else {
		x.sendTrailersOnly(code, StatusText(status))
	}
	x.complete(reason)
}

// sendTrailersOnly has everything in one header block (gRPC over HTTP/2, "Responses").
func (x *Exchange) sendTrailersOnly(code int, text string) {
	r := &x.own
	var digits [2]byte
	r.Add("Content-Type", "application/grpc", message.ContentType)
	r.AddBytes("Grpc-Status", strconv.AppendInt(digits[:0], int64(code), 10), message.GRPCStatus)
	r.Add("Grpc-Message", text, message.Unknown)
	r.Framing = message.Streamed // so that the head ends the stream
	x.down.SendHead(r)
	x.down.SendEnd(nil)
}

// sendGRPCWebAnswer has the trailers in the body.
func (x *Exchange) sendGRPCWebAnswer(code int, text string) {
	r := &x.own
	form := x.webAnswer
	contentType := "application/grpc-web"
	if form == message.GRPCWebText {
		contentType = "application/grpc-web-text"
	}
	r.Add("Content-Type", contentType, message.ContentType)
	var scratch [256]byte
	body := filter.AppendGRPCWebStatus(scratch[:0], code, text, form)
	r.Framing, r.Length = message.Sized, int64(len(body))
	x.rec.BytesOut += r.Length
	x.down.SendHead(r)
	x.down.SendData(body)
	x.down.SendEnd(nil)
}

// readGRPCStatus notes the status that a back end gives, in the head of a response of trailers only or in trailers. It
// returns the code, or -1 if there is none.
func (x *Exchange) readGRPCStatus(h *message.Head) int {
	if x.grpc == message.NotGRPC {
		return -1
	}
	code := grpcStatusIn(h)
	if code >= 0 {
		x.rec.GRPCStatus = observe.GRPCCode(code)
	}
	return code
}

// grpcStatusIn returns the status that a head or trailers have, -1 for none; h may be nil.
func grpcStatusIn(h *message.Head) int {
	if h == nil {
		return -1
	}
	value, ok := h.Get(message.GRPCStatus)
	if !ok {
		return -1
	}
	code, err := strconv.Atoi(message.String(value))
	if err != nil {
		return grpcUnknown
	}
	return code
}

// endGRPC notes what a client of gRPC makes of a response that ends without a status.
func (x *Exchange) endGRPC(reason string, cancelled bool) {
	code := grpcInternal
	switch {
	case x.grpc == message.NotGRPC || x.phase == phaseTunnel:
		return
	case reason == reasonGRPCTimeout:
		code = grpcDeadlineExceeded
	case cancelled:
		code = grpcCancelled
	}
	x.rec.GRPCStatus = observe.GRPCCode(code)
}

// detailCancel is upstream.Failure.Detail of a stream that the back end has reset with CANCEL.
const detailCancel = "cancel"

// detectGRPC must come before anything is answered, and before filters edit the content type.
func (x *Exchange) detectGRPC() {
	if x.grpc = message.GRPCOf(&x.Req); x.grpc.Web() {
		x.webAnswer = message.GRPCWebAnswer(&x.Req)
	}
}

// outOfTime reports whether a back end that has reset the call may have done so because of the client's deadline, which it
// knows too: our timer fires up to a tick late.
func (x *Exchange) outOfTime(f upstream.Failure) bool {
	return f.Cause == upstream.CauseReset && x.limits.asked != 0 && x.w.Clock.Now()+2*clock.Tick >= x.limits.asked
}

// Patient reports whether the request's body may pause for as long as it likes: the stream of a gRPC call that goes to a
// back end which speaks HTTP/2. The content type alone is not enough, since any client may write it.
func (x *Exchange) Patient() bool { return x.grpc == message.PlainGRPC && x.limits.patient }

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
