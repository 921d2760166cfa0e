// Package exchange is the pipeline: one Exchange takes one request from its head to the end of its response, whatever
// protocol either side speaks. Match, filter, pick, forward, retry, finish.
//
// It owns every decision about a request: which rule, which endpoint, what is added to the heads, when to give up,
// what RAUTA answers itself, and the one Record that is left behind. It does not own bytes on a connection (fastpath,
// h2), nor sockets and time: clock and timers are injected, so that it runs on a simulated loop in tests.
//
// Engines call New, fill Req, and call Start (or Refuse), OnRequestData, OnRequestEnd, OnClientWritable and OnClientGone;
// the exchange calls back through Downstream. Everything happens on the thread of one Worker.
package exchange

import (
	"net/netip"

	"rauta.io/rauta/proxy/clock"
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/filter"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/snapshot"
	"rauta.io/rauta/proxy/upstream"
)

// Downstream is the client's side of an exchange: one request on one connection. An engine implements it.
// None of its methods calls the exchange before it returns.
type Downstream interface {
	// SendHead sends an interim (1xx) or the final head. After a 101 head both directions are raw bytes.
	SendHead(resp *message.Response)
	// SendData sends a part of the body; p is only valid during the call. It reports whether more may follow at once;
	// after false the exchange waits for OnClientWritable.
	SendData(p []byte) (more bool)
	// SendEnd ends the response, or half-closes a tunnel. trailers are the fields that follow the body, nil for none; they
	// are only valid during the call, and dropped where the protocol does not carry them.
	SendEnd(trailers *message.Head)
	// PauseBody stops OnRequestData until ResumeBody.
	PauseBody()
	ResumeBody()
	// Abort makes the client see that the response is incomplete. The exchange is over. cancelled says that it was given up
	// rather than broken, for protocols that tell the two apart.
	Abort(cancelled bool)
	// Finished is the last call: the exchange is over and must not be used, unless it reports false. Then the client's
	// socket has not taken all of the response, and Exchange.OnTaken follows once, when it has, or never will. Tunnels do not
	// wait.
	Finished() (taken bool)
}

// phase is how far the response has come.
type phase uint8

const (
	phaseHead   phase = iota // no final response head has been sent to the client
	phaseBody                // the head has been sent
	phaseTunnel              // 101 has been sent
	phaseOver                // finished
	interimsMax = 32         // interim responses of one attempt; a peer that sends more is broken (attack row 34)
	statusGone  = 499        // nginx's code for "client closed the request", in logs and metrics only
)

// Exchange is one request and its response.
type Exchange struct {
	// Req is the request: the engine's parser fills it before Start; from then on it is the request being processed,
	// while what was received stays readable in Req.Received through received.
	Req message.Request

	// Set for the life of the exchange.
	w    *Worker
	down Downstream
	peer *Peer
	port uint16 // of the listener
	// client is the peer, or behind trusted proxies whom they named.
	client netip.Addr

	// The decision.
	rule    *snapshot.Rule
	backend *snapshot.Backend
	// crossOrigin is what CORS has to say about the response.
	crossOrigin filter.CrossOrigin

	// body changes both bodies, nil for none.
	body      filter.BodyFilter
	bodySpace filter.BodySpace

	// mirrors have not got the whole request yet.
	mirrors *mirror

	// The attempt under way.
	attempt attempt
	unsent  int // attempts that no back end has looked at

	phase        phase
	stage        observe.Stage // where time goes, since staged
	staged       clock.Time
	ended        string // why the exchange is over, while the client has not taken all of the response
	grpc         message.GRPC
	webAnswer    message.GRPC // the form of an answer to gRPC-Web
	requestEnded bool         // the request body has been passed on completely
	continueSent bool         // the client has had its 100
	tunnel       *tunnel      // nil before 101
	limits       deadlines
	received     received
	rec          observe.Record
	spans        *spans           // nil unless the request is sampled, and spans are exported
	own          message.Response // RAUTA's own answers
	trailers     *message.Head    // of the request, nil for none
	replay       replay
	head         []byte    // what Req.Received points to after Start
	next         *Exchange // free list
}

// attempt is one try at one endpoint.
type attempt struct {
	waiter   upstream.Waiter
	endpoint *upstream.Endpoint
	pool     *upstream.Pool
	stream   upstream.Stream
	waiting  bool // queued in pool
	retired  bool // another one follows when its time has come; what comes from this one is thrown away
	drained  int  // bytes of it
	interims uint8
}

// received keeps views of what filters and forwarding fields change.
type received struct {
	authority message.Span
}

// Start begins the exchange: the engine has filled Req, whose Received may be the engine's read buffer. Body bytes
// follow with OnRequestData when Req.Framing announces them.
func (x *Exchange) Start() {
	w := x.w
	x.head = append(x.head[:0], x.Req.Received...)
	x.Req.Received = x.head
	x.received.authority = x.Req.Authority
	x.rec.ReceivedAt = w.WallClock()
	x.limits.start = w.Clock.Now()
	x.beginStages()
	w.Upstream.CountRequest()

	x.client = x.peer.Client
	x.detectGRPC()
	if w.Shed >= ShedRequests {
		x.Answer(503, "memory_pressure")
		return
	}
	x.setForwardingFields()
	if x.peer.Identity != nil {
		x.addIdentity(x.peer.Identity)
	}
	path, status, reason := x.match()
	x.joinTrace(path)
	if status != 0 {
		x.Answer(status, reason)
		return
	}
	if x.grpc != message.NotGRPC && !x.grpcTimeout() {
		x.Answer(400, "bad_grpc_timeout")
		return
	}
	if x.tooLarge(x.Req.Length) && x.Req.Framing == message.Sized {
		x.Answer(413, "body_too_large")
		return
	}
	if x.filter() {
		x.pick(nil)
		if x.mirrors != nil { // and the exchange is not over already
			x.beginMirrors()
		}
	}
}

// match finds the rule, and which of its paths the request has; if there is none, it says what to answer.
func (x *Exchange) match() (path *config.PathMatch, status int, reason string) {
	port := x.peer.Port.Current(x.w.Live.Current())
	if port == nil {
		return nil, 404, "no_route"
	}
	x.port = port.Addr.Port()
	host := x.w.hostOf(x.Req.Bytes(x.Req.Authority))
	if x.peer.Scheme == message.SchemeHTTPS && x.peer.misdirected(port, host) {
		return nil, 421, "misdirected_request"
	}
	rule, _, result := port.Match(host, &x.Req)
	if rule == nil {
		return nil, 404, "no_route"
	}
	x.rule = rule
	x.w.Shard.Begin(&x.rec, rule.Stats)
	x.limits.prefix = result.Prefix
	return result.Path, 0, ""
}

// OnRequestData passes on a part of the request body, or raw bytes of a tunnel. p is only valid during the call.
func (x *Exchange) OnRequestData(p []byte) {
	x.rec.BytesIn += int64(len(p))
	x.limits.touched = x.w.Clock.Now()
	switch {
	case x.tunnel == nil:
		if x.tooLarge(x.rec.BytesIn) {
			x.fail(413, "body_too_large")
			return
		}
	case x.tunnel.closing == halvesEnded:
		return
	}
	if x.body != nil && x.phase != phaseTunnel {
		if p = x.filterRequest(p); len(p) == 0 {
			return
		}
	}
	x.keepBody(p)
	for m := x.mirrors; m != nil; m = m.next {
		m.data(p)
	}
	if x.attempt.stream != nil && !x.attempt.stream.SendData(p) {
		x.down.PauseBody()
	}
}

// OnRequestEnd: the request body is complete, or the client has closed its half of a tunnel. trailers followed the body,
// nil for none; they are only used, and edited, during the call.
func (x *Exchange) OnRequestEnd(trailers *message.Head) {
	if x.tunnel != nil {
		x.tunnel.endOfClient()
		return
	}
	if x.body != nil {
		if reason := x.body.RequestEnd(); reason != "" {
			x.fail(400, reason)
			return
		}
	}
	x.requestEnded = true
	trailers = passable(trailers, true)
	x.keepTrailers(trailers)
	if x.mirrors != nil {
		x.endMirrors(trailers)
	}
	if x.attempt.stream != nil {
		x.sent()
		x.attempt.stream.SendEnd(trailers)
	}
}

// OnClientWritable: the client takes bytes again after SendData had reported false.
func (x *Exchange) OnClientWritable() {
	if x.stage == observe.StageClientWrite {
		x.enter(observe.StageBackendBody)
	}
	if x.attempt.stream != nil {
		x.attempt.stream.ResumeBody()
	}
}

// OnClientGone: the client is gone, or broke the protocol in its body; nothing can be sent to it any more.
func (x *Exchange) OnClientGone(reason string) {
	x.dropAttempt()
	x.endGRPC(reason, true)
	if x.rec.Status == 0 {
		x.rec.Status = statusGone
	}
	if t := x.tunnel; t != nil && t.closing != notClosing {
		reason = t.reason // the client has taken the hint
	}
	x.finish(reason)
}

// OnBadRequestBody: the request body breaks the protocol. The attempt is dropped without ending its body, so that the back end
// sees it as incomplete; the client gets status unless a response has begun.
func (x *Exchange) OnBadRequestBody(status int, reason string) { x.fail(status, reason) }

// fail ends the exchange early: with an answer while that is possible, else by breaking the response off.
func (x *Exchange) fail(status int, reason string) {
	x.dropAttempt()
	if x.phase == phaseHead {
		x.Answer(status, reason)
		return
	}
	x.breakOff(reason, reason == reasonGRPCTimeout)
}

// breakOff ends an exchange whose response has begun.
func (x *Exchange) breakOff(reason string, cancelled bool) {
	x.endGRPC(reason, cancelled)
	x.down.Abort(cancelled)
	x.finish(reason)
}

// dropAttempt gives up what is under way towards the back end.
func (x *Exchange) dropAttempt() {
	a := &x.attempt
	if a.waiting {
		a.waiting = false
		a.pool.Forget(&a.waiter)
	}
	if a.stream != nil {
		a.stream.Cancel()
		a.stream = nil
	}
}

// sent marks that the whole request is on its way. A response that has begun before is not waited for.
func (x *Exchange) sent() {
	now := x.w.Clock.Now()
	x.rec.SentAt = x.since(now)
	if x.stage == observe.StageRequestBody {
		x.enter(observe.StageBackendTTFB)
	}
	if x.phase == phaseHead {
		x.limits.armResponse(x, now)
	}
}

// since is the age of the exchange in nanoseconds, at least 1, so that 0 can mean "did not happen".
func (x *Exchange) since(now clock.Time) int64 { return max(int64(now-x.limits.start), 1) }

// tooLarge reports whether n body bytes cross the limit of the rule.
func (x *Exchange) tooLarge(n int64) bool {
	return x.rule != nil && x.rule.BodyBytesMax > 0 && n > x.rule.BodyBytesMax
}

// complete ends an exchange whose response has been handed to the engine whole.
func (x *Exchange) complete(reason string) {
	x.enter(observe.StageClientWrite)
	if x.spans != nil {
		x.endAttemptSpan(reason)
	}
	if x.down.Finished() {
		x.finish(reason)
		return
	}
	x.limits.stop(x)
	x.ended = reason
	x.loseBody()
	if x.mirrors != nil {
		x.abandonMirrors()
	}
}

// OnTaken is the last call after Finished had reported false: the client's socket has taken all of the response, or the
// client was gone before, for the reason lost.
func (x *Exchange) OnTaken(lost string) {
	if x.ended != "" { // why RAUTA answered itself says more
		lost = x.ended
	}
	x.finish(lost)
}

// finish is the only exit: it fills the Record, tells the shard once and returns the exchange to its worker.
// The engine has been told, or tells us.
func (x *Exchange) finish(reason string) {
	x.limits.stop(x)
	if x.tunnel != nil {
		x.w.tunnels.Remove(&x.tunnel.place)
	}
	if x.mirrors != nil {
		x.abandonMirrors()
	}
	x.phase = phaseOver
	r := &x.rec
	r.Reason = reason
	r.EndAt = x.since(x.w.Clock.Now())
	x.endStages()
	r.Method = uint8(x.Req.MethodID)
	if x.rule != nil {
		r.Route = x.rule.Stats
		r.RuleName = x.rule.Name
	}
	if e := x.attempt.endpoint; e != nil {
		r.Endpoint = e.Stats
		r.EndpointAddr = e.Name
	}
	if x.spans != nil {
		x.endAttemptSpan(reason)
		x.spans.Scheme, x.spans.GRPC = x.Req.Scheme.String(), x.grpc != message.NotGRPC
	}
	if x.spans != nil || x.w.Shard.Logs(reason) {
		x.describe(r)
	}
	x.w.Shard.Finish(r)
	x.w.Shard.Flush()
	x.w.put(x)
}
