package observe

import (
	"bytes"
	"net/netip"
	"sync"
	"sync/atomic"
)

const (
	// spanRingSlots is the number of requests whose spans may wait for the exporter, per worker: a power of two. About 2.3 MB.
	spanRingSlots = 1024
	// What of a request is kept, in bytes; the rest is cut off.
	spanMethodBytes, spanHostBytes, spanPathBytes, spanQueryBytes, spanAgentBytes = 16, 128, 256, 256, 128
	spanTextBytes                                                                 = spanMethodBytes + spanHostBytes + 2*(spanPathBytes+spanQueryBytes) + spanAgentBytes
)

// Span is what a sampled exchange leaves behind for the export of traces, its attempts included: of fixed size, and without
// views, so that it outlives the exchange. Times are those of Record.
type Span struct {
	RequestSpans
	TraceID [16]byte

	ReceivedAt, StreamAt, SentAt, FirstByteAt, EndAt int64
	Stages                                           [StageCount]int64
	Status, BackendStatus, AttemptCount              int
	BytesIn, BytesOut                                int64
	GRPCStatus                                       GRPCStatus
	Client                                           netip.Addr

	// Route is empty if none matched, Cluster and Endpoint if none was tried.
	Reason, Protocol, Route, Rule, Cluster, Endpoint string

	text            [spanTextBytes]byte
	method, host    spanText
	path, query     spanText
	sent, sentQuery spanText
	agent           spanText
}

// spanText is a piece of Span.text.
type spanText struct{ from, to uint16 }

func (s *Span) of(t spanText) string { return string(s.text[t.from:t.to]) }

// Method is the method that the client sent, cut off after 16 bytes.
func (s *Span) Method() string { return s.of(s.method) }

// Host is the authority that the client sent, cut off after 128 bytes.
func (s *Span) Host() string { return s.of(s.host) }

// Path is the path that the client sent, and Query what followed it after "?", each cut off after 256 bytes.
func (s *Span) Path() string { return s.of(s.path) }

// Query may hold secrets.
func (s *Span) Query() string { return s.of(s.query) }

// SentPath and SentQuery are those that back ends got, cut off likewise.
func (s *Span) SentPath() string { return s.of(s.sent) }

// SentQuery may hold secrets.
func (s *Span) SentQuery() string { return s.of(s.sentQuery) }

// UserAgent is cut off after 128 bytes.
func (s *Span) UserAgent() string { return s.of(s.agent) }

// fill overwrites all of a span.
func (s *Span) fill(rec *Record) {
	s.RequestSpans.copy(rec.Spans)
	s.TraceID = rec.TraceID
	s.ReceivedAt, s.StreamAt, s.SentAt, s.FirstByteAt, s.EndAt = rec.ReceivedAt, rec.StreamAt, rec.SentAt, rec.FirstByteAt, rec.EndAt
	s.Stages, s.GRPCStatus, s.Client = rec.Stages, rec.GRPCStatus, rec.Client
	s.Status, s.BackendStatus, s.AttemptCount = rec.Status, rec.BackendStatus, rec.Attempts
	s.BytesIn, s.BytesOut = rec.BytesIn, rec.BytesOut
	s.Reason, s.Protocol, s.Rule = rec.Reason, rec.Protocol, rec.RuleName
	s.Route, s.Cluster, s.Endpoint = "", "", rec.EndpointAddr
	if rec.Route != nil {
		s.Route = rec.Route.name
	}
	if rec.Endpoint != nil {
		s.Cluster = rec.Endpoint.key.Cluster
		if s.Endpoint == "" {
			s.Endpoint = rec.Endpoint.key.Address
		}
	}
	path, query := rec.ReceivedTarget, []byte(nil)
	if len(path) == 0 || path[0] != '/' { // an absolute form, or "*"
		path, query = rec.EffectivePath, rec.EffectiveQuery
	} else if i := bytes.IndexByte(path, '?'); i >= 0 {
		path, query = path[:i], path[i+1:]
	}
	at := 0
	s.method = s.keep(&at, rec.ReceivedMethod, spanMethodBytes)
	s.host = s.keep(&at, rec.ReceivedHost, spanHostBytes)
	s.path = s.keep(&at, path, spanPathBytes)
	s.query = s.keep(&at, query, spanQueryBytes)
	s.sent = s.keep(&at, rec.EffectivePath, spanPathBytes)
	s.sentQuery = s.keep(&at, rec.EffectiveQuery, spanQueryBytes)
	s.agent = s.keep(&at, rec.UserAgent, spanAgentBytes)
}

// copy overwrites s, without the attempts that there are not.
func (s *RequestSpans) copy(from *RequestSpans) {
	s.SpanID, s.ParentID, s.Mirror, s.PathRule, s.PathBelow = from.SpanID, from.ParentID, from.Mirror, from.PathRule, from.PathBelow
	s.Scheme, s.GRPC, s.Peer, s.begun = from.Scheme, from.GRPC, from.Peer, from.begun
	copy(s.attempts[:], from.Attempts())
}

func (s *Span) keep(at *int, b []byte, most int) spanText {
	from := *at
	*at += copy(s.text[from:], b[:min(len(b), most)])
	return spanText{uint16(from), uint16(*at)}
}

// Spans holds the spans that wait for an exporter: a ring for each worker, which drops what does not fit, a request with its
// attempts as a whole.
type Spans struct {
	rings  []*spanRing
	urgent chan struct{}
}

// CollectSpans makes every shard keep the spans of exchanges that have one. It is called once, before there is traffic.
func (r *Registry) CollectSpans() *Spans {
	c := &Spans{urgent: make(chan struct{}, 1)}
	for _, s := range r.shards {
		ring := &spanRing{spans: c, slots: make([]Span, spanRingSlots)}
		if r.sharedShards {
			ring.lock = new(sync.Mutex)
		}
		c.rings = append(c.rings, ring)
		s.spans.Store(ring)
	}
	return c
}

// Urgent has a token when a ring has become half full.
func (c *Spans) Urgent() <-chan struct{} { return c.urgent }

// Dropped is the number of spans that did not fit, those of attempts included.
func (c *Spans) Dropped() (n uint64) {
	for _, ring := range c.rings {
		n += ring.lost.Load()
	}
	return n
}

// TakesSpans reports whether there is room for the spans of another request now; where none are kept, there is.
func (s *Shard) TakesSpans() bool {
	ring := s.spans.Load()
	return ring == nil || ring.tail.Load()-ring.head.Load() < spanRingSlots
}

// Take moves the spans of requests to dst, from as many workers as it has room for, and returns the number of requests. One goroutine may call it.
func (c *Spans) Take(dst []Span) int {
	n := 0
	for _, ring := range c.rings {
		n += ring.take(dst[n:])
	}
	return n
}

// spanRing has one producer and one consumer.
type spanRing struct {
	// immutable
	spans *Spans
	slots []Span
	lock  *sync.Mutex // for producers, nil if there is one
	// lost counts those of this worker, which it alone writes where it is alone.
	lost atomic.Uint64

	// atomic; both only grow, head <= tail <= head+len(slots)
	head atomic.Uint64 // stored by the consumer
	_    [56]byte      // head and tail are written by different cores
	tail atomic.Uint64 // stored by the producer
}

// put keeps the spans of an exchange, or counts that there is no room for them.
func (r *spanRing) put(rec *Record) {
	if rec.Spans == nil { // there was no room when the request came: that is decided, as back ends have been told
		r.lost.Add(uint64(1 + min(rec.Attempts, spanAttemptsMax)))
		return
	}
	if r.lock != nil {
		r.lock.Lock()
		defer r.lock.Unlock()
	}
	tail := r.tail.Load()
	used := tail - r.head.Load()
	if used >= spanRingSlots {
		r.lost.Add(uint64(rec.Spans.count()))
		return
	}
	r.slots[tail%spanRingSlots].fill(rec)
	r.tail.Store(tail + 1)
	if used == spanRingSlots/2 {
		signal(r.spans.urgent)
	}
}

func (r *spanRing) take(dst []Span) int {
	head := r.head.Load()
	n := int(min(r.tail.Load()-head, uint64(len(dst))))
	for i := range n {
		dst[i] = r.slots[(head+uint64(i))%spanRingSlots]
	}
	r.head.Store(head + uint64(n))
	return n
}
