package exchange

import (
	"strconv"

	"rauta.io/rauta/proxy/filter"
	"rauta.io/rauta/proxy/message"
)

// Answer replies to the client in RAUTA's own name and ends the exchange. The reason is a token for logs and metrics;
// the client sees the status only, so that nothing about the inside leaks.
func (x *Exchange) Answer(status int, reason string) {
	x.prepareAnswer(status)
	x.sendAnswer(reason)
}

// Refuse answers a request whose head could not be accepted, instead of Start. Req is what could be parsed; the
// connection closes after the answer.
func (x *Exchange) Refuse(status int, reason string) {
	x.head = append(x.head[:0], x.Req.Received...)
	x.Req.Received = x.head
	x.received.authority = x.Req.Authority
	x.rec.ReceivedAt = x.w.WallClock()
	x.limits.start = x.w.Clock.Now()
	x.beginStages()
	x.client = x.peer.Client
	x.detectGRPC()
	x.prepareAnswer(status)
	x.own.Close = true
	x.sendAnswer(reason)
}

// answerFilter sends what a filter decided.
func (x *Exchange) answerFilter(a *filter.Answer) {
	x.prepareAnswer(a.Status)
	if len(a.Location) > 0 && x.grpc == message.NotGRPC {
		x.own.AddBytes("Location", a.Location, message.Location)
	}
	if a.Preflight {
		x.crossOrigin.Preflight(&x.Req, &x.own.Head)
	}
	x.sendAnswer(a.Reason)
}

func (x *Exchange) prepareAnswer(status int) {
	r := &x.own
	r.Reset()
	r.Status = status
	r.Add("Server", "rauta", message.Server)
	r.AddBytes("Date", x.w.HTTPDate(), message.Date)
	x.addHSTS(&r.Head)
	x.crossOrigin.Response(&x.Req, &r.Head)
	if status == 405 || status == 503 {
		x.addRequiredField(status)
	}
	r.Close = x.w.closes() || x.peer.outdated
}

// addRequiredField: 405 must say what is allowed (RFC 9110 section 15.5.6), 503 may say when to come back (15.6.4).
func (x *Exchange) addRequiredField(status int) {
	if status == 405 {
		x.own.Add("Allow", "GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH", message.Unknown)
		return
	}
	x.own.Add("Retry-After", "1", message.Unknown)
}

// sendAnswer sends x.own with a short text body, or in the way of gRPC.
func (x *Exchange) sendAnswer(reason string) {
	if x.grpc != message.NotGRPC {
		x.sendGRPCAnswer(grpcCode(x.own.Status, reason), reason)
		return
	}
	r := &x.own
	var scratch [96]byte
	var body []byte
	if r.Status != 204 { // RFC 9110 section 15.3.5: it has none
		body = append(strconv.AppendInt(scratch[:0], int64(r.Status), 10), ' ')
		body = append(body, StatusText(r.Status)...)
		body = append(body, '\n')
		r.Add("Content-Type", "text/plain; charset=utf-8", message.ContentType)
		r.Length = int64(len(body))
		r.Framing = message.Sized
	}
	if x.Req.MethodID == message.MethodHead {
		r.Framing = message.NoBody
	}
	if x.Req.Upgrade.Len > 0 {
		r.Close = true // the client may have sent bytes of the other protocol already
	}
	x.rec.Status = r.Status
	x.down.SendHead(r)
	if r.Framing == message.Sized {
		x.rec.BytesOut += int64(len(body))
		x.down.SendData(body)
	}
	x.down.SendEnd(nil)
	x.complete(reason)
}
