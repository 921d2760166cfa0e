package exchange

import (
	"rauta.io/rauta/proxy/clock"
	"rauta.io/rauta/proxy/filter"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/snapshot"
	"rauta.io/rauta/proxy/upstream"
)

// Bounds of mirrors. Whatever crosses one of them costs the mirror and never the request.
const (
	// mirrorsMax bounds the mirrors of a worker that are under way to one cluster: with full bodies they hold 16 MiB.
	mirrorsMax = 256
	// mirrorBodyMax bounds the part of a body that a mirror has not taken yet, in bytes.
	mirrorBodyMax = 64 << 10
	// mirrorAnswerMax is the most of an answer that is read so that its connection can be used again, in bytes.
	mirrorAnswerMax = 256 << 10
	// mirrorTimeout is from the end of the request to the end of the answer, in nanoseconds: no client waits for it, and
	// what takes longer holds the place of others.
	mirrorTimeout = 10e9
)

// mirror is a copy of one request, sent to one endpoint once. It belongs to its exchange until the request is complete, and
// lives on by itself after that.
type mirror struct {
	w       *Worker
	cluster *upstream.Cluster
	req     message.Request // a copy
	timer   clock.Timer

	waiter   upstream.Waiter
	pool     *upstream.Pool
	endpoint *upstream.Endpoint
	stream   upstream.Stream
	waiting  bool // queued in pool

	attached bool          // the exchange refers to it
	over     bool          // counted; waits to be let go
	ended    bool          // the request is complete
	full     bool          // the stream takes no more for now
	body     []byte        // what it has not taken
	trailers *message.Head // nil for none
	status   int           // of the answer
	answered int           // bytes of it
	span     mirrorSpan
	next     *mirror // of the exchange, or free list
}

// mirrors is what a worker keeps for them.
type mirrors struct {
	free     *mirror
	frees    int
	underWay map[string]int   // by cluster
	space    filter.BodySpace // for edits of heads
	record   observe.Record   // of a mirror that ends, for its span
}

// mirrorTo copies the request for those mirrors that it is to go to. They begin with beginMirrors.
func (x *Exchange) mirrorTo(list []snapshot.Mirror) {
	if x.Req.Upgrade.Len > 0 {
		return // half a tunnel is none
	}
	for i := range list {
		if !list[i].Takes(uint32(x.w.rand() >> 32)) {
			continue
		}
		m := x.w.newMirror(list[i].Cluster)
		if m == nil {
			x.w.Shard.Mirrored(observe.MirrorDropped, nil, 0)
			continue
		}
		m.copy(&x.Req)
		if x.spans != nil {
			m.span.open(x)
		}
		m.next, x.mirrors = x.mirrors, m
	}
}

// editMirrors does to the heads of mirrors what a body filter has done to the request's: they get the same body.
func (x *Exchange) editMirrors(c *filter.Chain) {
	for m := x.mirrors; m != nil; m = m.next {
		c.Body(&m.req, &x.w.mirrors.space)
	}
}

// beginMirrors sends the copies.
func (x *Exchange) beginMirrors() {
	for m := x.mirrors; m != nil; m = m.next {
		m.begin()
	}
	if x.Req.Framing == message.NoBody {
		x.endMirrors(nil)
	}
}

// endMirrors: the request is complete.
func (x *Exchange) endMirrors(trailers *message.Head) {
	for m := x.mirrors; m != nil; m = m.next {
		m.end(trailers)
	}
	x.letGoMirrors()
}

// abandonMirrors: the rest of the request will not come.
func (x *Exchange) abandonMirrors() {
	for m := x.mirrors; m != nil; m = m.next {
		m.giveUp(observe.MirrorIncomplete)
	}
	x.letGoMirrors()
}

// dropMirrors: the request is not sent to anybody.
func (x *Exchange) dropMirrors() {
	for m := x.mirrors; m != nil; m = m.next {
		m.over = true
	}
	x.letGoMirrors()
}

func (x *Exchange) letGoMirrors() {
	for m := x.mirrors; m != nil; {
		next := m.next
		m.next, m.attached = nil, false
		if m.over {
			m.w.putMirror(m)
		}
		m = next
	}
	x.mirrors = nil
}

// newMirror returns a mirror with an empty body, nil if there are too many.
func (w *Worker) newMirror(c *upstream.Cluster) *mirror {
	p := &w.mirrors
	if p.underWay == nil {
		p.underWay = map[string]int{}
	}
	if p.underWay[c.Name()] >= mirrorsMax || w.Shed > ShedNothing {
		return nil
	}
	p.underWay[c.Name()]++
	m := p.free
	if m == nil {
		m = &mirror{w: w}
		m.timer.Fire = m.onDeadline
		m.waiter.Sink = m
	} else {
		p.free, m.next = m.next, nil
		p.frees--
	}
	m.cluster, m.attached = c, true
	return m
}

func (w *Worker) putMirror(m *mirror) {
	p := &w.mirrors
	if n := p.underWay[m.cluster.Name()] - 1; n > 0 {
		p.underWay[m.cluster.Name()] = n
	} else {
		delete(p.underWay, m.cluster.Name()) // of clusters that are gone nothing stays
	}
	m.span.close(m.w)
	m.cluster, m.pool, m.endpoint, m.stream, m.trailers = nil, nil, nil, nil, nil
	m.waiting, m.over, m.ended, m.full = false, false, false, false
	m.status, m.answered, m.body = 0, 0, m.body[:0]
	if cap(m.body) > headKeepMax || cap(m.req.Received) > headKeepMax {
		m.body, m.req = nil, message.Request{}
	}
	if p.frees < mirrorsMax {
		m.next, p.free = p.free, m
		p.frees++
		return
	}
	w.Clock.Remove(&m.timer)
}

func (m *mirror) copy(req *message.Request) {
	head := m.req.Head
	m.req = *req
	m.req.Head = head
	m.req.Head.Copy(&req.Head)
}

func (m *mirror) begin() {
	m.endpoint = m.cluster.Pick(m.w.Upstream, 0, nil)
	if m.endpoint == nil {
		m.finish(observe.MirrorFailed)
		return
	}
	m.pool = m.endpoint.PoolFor(m.w.Upstream, false)
	m.waiting = true
	if m.span.spans != nil {
		m.span.begin(m)
	}
	m.pool.Acquire(&m.waiter)
}

// data takes a part of the body.
func (m *mirror) data(p []byte) {
	switch {
	case m.over:
	case m.stream != nil && !m.full:
		m.full = !m.stream.SendData(p)
	case len(m.body)+len(p) > mirrorBodyMax:
		m.giveUp(observe.MirrorDropped)
	default:
		m.body = append(m.body, p...)
	}
}

// end takes the end of the request; trailers are valid during the call.
func (m *mirror) end(trailers *message.Head) {
	if m.over {
		return
	}
	m.ended = true
	m.w.Clock.Set(&m.timer, m.w.Clock.Now()+mirrorTimeout)
	switch {
	case m.req.Framing == message.NoBody:
	case m.stream != nil && len(m.body) == 0:
		m.stream.SendEnd(trailers)
		m.span.sent(m.w)
	case trailers != nil:
		m.trailers = new(message.Head)
		m.trailers.Copy(trailers)
	}
}

// flush sends what has waited.
func (m *mirror) flush() {
	if len(m.body) > 0 {
		m.full = !m.stream.SendData(m.body)
		m.body = m.body[:0]
	}
	if m.ended && m.req.Framing != message.NoBody {
		m.stream.SendEnd(m.trailers)
	}
	if m.ended {
		m.span.sent(m.w)
	}
}

// OnStream implements upstream.Sink.
func (m *mirror) OnStream(s upstream.Stream) {
	m.waiting, m.stream = false, s
	m.span.connected(m.w)
	s.SendHead(&m.req)
	m.flush()
}

// OnWritable implements upstream.Sink.
func (m *mirror) OnWritable() {
	m.full = false
	if len(m.body) > 0 {
		m.flush()
	}
}

// OnHead implements upstream.Sink.
func (m *mirror) OnHead(resp *message.Response) {
	m.span.answered(m.w, resp)
	if m.status = resp.Status; m.status == 101 { // nobody has asked for it
		m.giveUp(observe.MirrorFailed)
	}
}

// OnData implements upstream.Sink: nobody wants the answer, but its connection goes on after it.
func (m *mirror) OnData(p []byte) {
	if m.answered += len(p); m.answered > mirrorAnswerMax {
		m.stream.PauseBody()
		m.w.Clock.Set(&m.timer, m.w.Clock.Now())
	}
}

// OnEnd implements upstream.Sink.
func (m *mirror) OnEnd(trailers *message.Head) {
	m.span.ended(trailers)
	m.stream = nil
	m.finish(observe.MirrorAnswered)
}

// OnFailure implements upstream.Sink. There is no other attempt: a mirror that fails is no loss.
func (m *mirror) OnFailure(f upstream.Failure) {
	m.stream, m.waiting = nil, false
	m.span.failed(f)
	if f.Cause == upstream.CauseOverflow {
		m.finish(observe.MirrorDropped)
		return
	}
	m.finish(observe.MirrorFailed)
}

func (m *mirror) onDeadline(clock.Time) {
	if m.answered > mirrorAnswerMax {
		m.giveUp(observe.MirrorAnswered)
		return
	}
	m.giveUp(observe.MirrorTimeout)
}

// giveUp ends what is under way.
func (m *mirror) giveUp(result observe.MirrorResult) {
	if m.over {
		return
	}
	if m.waiting {
		m.waiting = false
		m.pool.Forget(&m.waiter)
	}
	if m.stream != nil {
		m.stream.Cancel()
		m.stream = nil
	}
	m.finish(result)
}

// finish counts the mirror, once. It does not say anything about the health of the endpoint: mirrors must not change where
// requests go.
func (m *mirror) finish(result observe.MirrorResult) {
	m.w.Clock.Set(&m.timer, 0)
	var e *observe.Endpoint
	if m.endpoint != nil {
		e = m.endpoint.Stats
	}
	m.w.Shard.Mirrored(result, e, m.status)
	if m.span.spans != nil {
		m.span.finish(m, result)
	}
	m.over = true
	if !m.attached {
		m.w.putMirror(m)
	}
}
