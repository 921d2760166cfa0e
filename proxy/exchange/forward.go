package exchange

import (
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/filter"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/upstream"
)

// Reasons that are told apart by more than logs and metrics.
const (
	reasonNoBackend      = "no_backend"
	reasonInvalidBackend = "invalid_backend"
	reasonGRPCTimeout    = "grpc_timeout"
)

// filter runs the rule's filters, picks the back end by weight and runs its filters. It reports whether the request is
// to be forwarded; if not, it has been answered.
func (x *Exchange) filter() bool {
	ctx := filter.Context{PrefixLen: x.limits.prefix, ListenerPort: x.port, Scheme: x.Req.Scheme}
	a := x.rule.Filters.Request(&x.Req, &ctx)
	x.crossOrigin = ctx.CrossOrigin
	if a != nil {
		x.answerFilter(a)
		return false
	}
	b := x.rule.Pick(uint32(x.w.rand() >> 32))
	if b == nil {
		x.Answer(500, reasonNoBackend)
		return false
	}
	if b.Cluster == nil {
		x.Answer(500, reasonInvalidBackend)
		return false
	}
	if len(x.rule.Mirrors) > 0 {
		x.mirrorTo(x.rule.Mirrors)
	}
	a = b.Filters.Request(&x.Req, &ctx)
	x.crossOrigin = ctx.CrossOrigin
	if a != nil {
		x.dropMirrors()
		x.answerFilter(a)
		return false
	}
	x.backend = b
	if len(b.Mirrors) > 0 {
		x.mirrorTo(b.Mirrors)
	}
	chain := x.rule.Filters
	if x.body = chain.Body(&x.Req, &x.bodySpace); x.body == nil {
		chain = b.Filters
		x.body = chain.Body(&x.Req, &x.bodySpace)
	}
	if x.body != nil && x.mirrors != nil {
		x.editMirrors(chain)
	}
	return true
}

// filterRequest returns what a body filter makes of a part of the request body; empty also if it ended the exchange.
func (x *Exchange) filterRequest(p []byte) []byte {
	out, reason := x.body.RequestData(&x.w.scratch, p)
	if reason != "" {
		x.fail(400, reason)
		return nil
	}
	return out
}

// pick begins an attempt: it chooses an endpoint, if possible another than failed, and asks its pool for a stream.
func (x *Exchange) pick(failed *upstream.Endpoint) {
	a := &x.attempt
	a.endpoint = x.backend.Cluster.Pick(x.w.Upstream, x.hashKey(), failed)
	if a.endpoint == nil {
		x.Answer(503, "no_endpoint")
		return
	}
	x.rec.Attempts++
	x.rec.StreamAt, x.rec.SentAt = 0, 0 // of the attempt before
	x.w.Shard.Attempt(&x.rec, a.endpoint.Stats)
	x.enter(observe.StageBackendConnect)
	x.limits.patient = x.grpc != message.NotGRPC && a.endpoint.Protocol == config.BackendH2
	a.interims, a.retired = 0, false
	a.pool = a.endpoint.PoolFor(x.w.Upstream, x.Req.Upgrade.Len > 0)
	x.limits.armAttempt(x)
	if x.spans != nil {
		x.beginAttemptSpan(a.endpoint)
	}
	if x.Req.Framing != message.NoBody {
		x.down.PauseBody() // until there is somewhere to put it
	}
	a.waiting = true
	a.pool.Acquire(&a.waiter)
}

// hashKey is the key of consistent hashing, 0 if the cluster has none or the request lacks it.
func (x *Exchange) hashKey() uint64 {
	on := x.backend.Cluster.HashOn()
	if on == nil {
		return 0
	}
	var key []byte
	switch on.Kind {
	case config.HashSourceIP:
		a := x.client.As16()
		return upstream.HashKey(a[:])
	case config.HashPath:
		key = x.Req.Bytes(x.Req.Path)
	case config.HashHeader:
		if i := x.Req.Lookup(on.Name, message.LookupIDString(on.Name), 0); i >= 0 {
			key = x.Req.Bytes(x.Req.Fields[i].Value)
		}
	case config.HashCookie:
		key = x.cookie(on.Name)
	}
	if len(key) == 0 {
		return 0
	}
	return upstream.HashKey(key)
}

// cookie returns the value of the named cookie (RFC 6265 section 4.2).
func (x *Exchange) cookie(name string) []byte {
	for i := x.Req.Lookup("cookie", message.Cookie, 0); i >= 0; i = x.Req.Lookup("cookie", message.Cookie, i+1) {
		v := x.Req.Bytes(x.Req.Fields[i].Value)
		for len(v) > 0 {
			end := 0
			for end < len(v) && v[end] != ';' {
				end++
			}
			pair := v[:end]
			v = v[min(end+1, len(v)):]
			for len(pair) > 0 && pair[0] == ' ' {
				pair = pair[1:]
			}
			if len(pair) > len(name) && pair[len(name)] == '=' && string(pair[:len(name)]) == name {
				return pair[len(name)+1:]
			}
		}
	}
	return nil
}

// OnStream implements upstream.Sink.
func (x *Exchange) OnStream(s upstream.Stream) {
	a := &x.attempt
	a.waiting, a.stream = false, s
	now := x.w.Clock.Now()
	x.rec.StreamAt = x.since(now)
	x.enter(observe.StageRequestBody)
	s.SendHead(&x.Req)
	more := len(x.replay.data) == 0 || s.SendData(x.replay.data) // which the attempt before has been sent
	if x.Req.Framing == message.NoBody || x.requestEnded {
		if x.requestEnded { // before there was a stream, or on the attempt before
			s.SendEnd(x.trailers)
		}
		x.requestEnded = true
		x.sent()
		return
	}
	if x.Req.ExpectContinue && !x.continueSent {
		x.continueSent = true
		// RAUTA forwards no Expect field: it asks for the body itself, once there is a back end to take it
		// (RFC 9110 section 10.1.1).
		x.own.Reset()
		x.own.Status = 100
		x.down.SendHead(&x.own)
	}
	x.limits.armUpload(x, now)
	if more {
		x.down.ResumeBody()
	}
}

// OnHead implements upstream.Sink.
func (x *Exchange) OnHead(resp *message.Response) {
	switch {
	case resp.Status == 101:
		x.onSwitch(resp)
		return
	case resp.Status < 200:
		x.onInterim(resp)
		return
	}
	now := x.w.Clock.Now()
	x.rec.FirstByteAt = x.since(now)
	x.enter(observe.StageBackendBody)
	x.rec.BackendStatus = resp.Status
	if x.spans != nil {
		x.spans.answeredIn(resp.Version)
	}
	x.limits.touched = now
	x.limits.headArrived(x)
	code := x.readGRPCStatus(&resp.Head)
	x.attempt.endpoint.Report(x.w.Upstream, !unavailable(resp.Status) && code != grpcUnavailable)
	if x.rule.Retry != nil && x.retryAfterResponse(resp, code) {
		return
	}
	if x.Req.ExtendedConnect() && resp.Status < 300 { // it would open a tunnel to a back end that has not agreed to one
		x.fail(502, "upgrade_ignored")
		return
	}
	x.crossOrigin.Response(&x.Req, &resp.Head)
	x.rule.Filters.Response(resp)
	x.backend.Filters.Response(resp)
	x.addHSTS(&resp.Head)
	if !resp.Has(message.Date) {
		resp.AddBytes("Date", x.w.HTTPDate(), message.Date) // RFC 9110 section 6.6.1
	}
	if x.w.closes() || x.Req.Upgrade.Len > 0 {
		resp.Close = true
	}
	if x.body != nil {
		x.body.ResponseHead(resp)
	}
	x.rec.Status = resp.Status
	x.phase = phaseBody
	x.loseBody()
	x.down.SendHead(resp)
}

// unavailable statuses say that the back end can't serve at all; another 5xx may be the fault of one URL, and must not
// get a healthy endpoint ejected.
func unavailable(status int) bool { return status == 502 || status == 503 || status == 504 }

// onInterim passes a 1xx head on to clients that know them. 100 is swallowed: the client has had ours.
func (x *Exchange) onInterim(resp *message.Response) {
	x.attempt.interims++
	if x.attempt.interims > interimsMax {
		x.fail(502, "too_many_interim_responses")
		return
	}
	if resp.Status != 100 && x.Req.Version >= message.HTTP11 {
		x.down.SendHead(resp)
	}
}

// OnData implements upstream.Sink.
func (x *Exchange) OnData(p []byte) {
	if x.attempt.retired {
		x.drain(p)
		return
	}
	x.limits.touched = x.w.Clock.Now()
	if x.tunnel != nil {
		x.tunnel.fromBackend(p)
		return
	}
	if x.body != nil {
		p = x.body.ResponseData(&x.w.scratch, p)
	}
	x.rec.BytesOut += int64(len(p))
	if !x.down.SendData(p) {
		x.enter(observe.StageClientWrite)
		x.attempt.stream.PauseBody()
	}
}

// OnEnd implements upstream.Sink.
func (x *Exchange) OnEnd(trailers *message.Head) {
	if x.tunnel != nil {
		x.tunnel.endOfBackend()
		return
	}
	x.attempt.stream = nil
	if x.attempt.retired {
		return
	}
	x.readGRPCStatus(trailers)
	trailers = passable(trailers, false)
	if x.body != nil {
		var last []byte
		if last, trailers = x.body.ResponseEnd(&x.w.scratch, trailers); len(last) > 0 {
			x.rec.BytesOut += int64(len(last))
			x.down.SendData(last)
		}
	}
	x.down.SendEnd(trailers)
	x.complete("")
}

// OnWritable implements upstream.Sink: the back end takes request bytes again.
func (x *Exchange) OnWritable() { x.down.ResumeBody() }

// OnFailure implements upstream.Sink.
func (x *Exchange) OnFailure(f upstream.Failure) {
	a := &x.attempt
	a.stream, a.waiting = nil, false
	if a.retired {
		return
	}
	if x.outOfTime(f) {
		x.fail(504, reasonGRPCTimeout)
		return
	}
	switch f.Stage {
	case upstream.StageSent, upstream.StageHead, upstream.StageBody: // the pool has reported failed connects itself
		if !f.Shared {
			a.endpoint.Report(x.w.Upstream, false)
		}
	}
	if x.phase != phaseHead {
		x.breakOff(failureReason(f), f.Cause == upstream.CauseReset && f.Detail == detailCancel)
		return
	}
	if x.retryAfterFailure(f) {
		return
	}
	if x.grpc != message.NotGRPC {
		x.prepareAnswer(failureStatus(f))
		x.sendGRPCAnswer(grpcFailureCode(f), failureReason(f))
		return
	}
	x.Answer(failureStatus(f), failureReason(f))
}

// failureStatus is the answer to a request whose attempt failed for good.
func failureStatus(f upstream.Failure) int {
	switch f.Cause {
	case upstream.CauseNoEndpoint, upstream.CauseOverflow, upstream.CauseConnectFailed, upstream.CauseConnectTimeout,
		upstream.CauseShutdown:
		return 503
	case upstream.CauseTimeout:
		return 504
	case upstream.CauseHeadLimit: // as the back end itself would answer (RFC 6585 section 5)
		return 431
	}
	return 502
}

// failureReason is the token that logs and metrics show.
func failureReason(f upstream.Failure) string {
	switch f.Cause {
	case upstream.CauseReset, upstream.CauseEOF:
		if f.Stage == upstream.StageBody {
			return "upstream_truncated"
		}
		return "upstream_closed"
	case upstream.CauseProtocol:
		return "upstream_protocol_error"
	case upstream.CauseTimeout:
		return "upstream_timeout"
	case upstream.CauseTLS:
		if f.Detail != "" {
			return f.Detail
		}
	}
	return f.Cause.String()
}

// addHSTS tells browsers to use HTTPS only; over plain HTTP anybody could (RFC 6797 section 7.2).
func (x *Exchange) addHSTS(h *message.Head) {
	if x.rule == nil || x.Req.Scheme != message.SchemeHTTPS {
		return
	}
	if value := x.rule.Filters.HSTS(); value != "" {
		h.Set("Strict-Transport-Security", value, message.Unknown)
	}
}
