package exchange

import (
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/observe"
)

// describe fills in what only the access log shows. The views are valid until the exchange is reused.
func (x *Exchange) describe(r *observe.Record) {
	q := &x.Req
	r.Protocol = x.peer.Protocol
	r.Client = x.client
	r.ReceivedMethod = q.Bytes(q.Method)
	r.ReceivedTarget = q.Bytes(q.ReceivedTarget)
	r.ReceivedHost = q.Bytes(x.received.authority)
	r.EffectiveHost = q.Bytes(q.Authority)
	r.EffectivePath = q.Bytes(q.Path)
	r.EffectiveQuery = q.Bytes(q.Query)
	r.UserAgent, _ = q.Get(message.UserAgent)
	r.ClientVerify = ""
	if id := x.peer.Identity; id != nil && id.Verify != "" {
		r.ClientVerify, r.ClientSubject, r.ClientFingerprint = id.Verify, id.Subject, id.Fingerprint
	}
	r.RequestID, _ = q.Get(message.XRequestID)
}

// resetRecord empties the record but for what describe and finish overwrite in any case: clearing all of it costs as much
// as three fields of a head.
func (x *Exchange) resetRecord() {
	r := &x.rec
	r.Route, r.Endpoint = nil, nil
	r.Status, r.BackendStatus, r.GRPCStatus, r.Reason = 0, 0, 0, ""
	r.StreamAt, r.SentAt, r.FirstByteAt = 0, 0, 0
	r.Stages, r.TraceID = [observe.StageCount]int64{}, [16]byte{}
	r.Spans, r.SpansLost = nil, false
	r.Attempts, r.BytesIn, r.BytesOut = 0, 0, 0
	r.RuleName, r.EndpointAddr = "", ""
}
