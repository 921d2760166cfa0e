package observe

import (
	"bytes"
	"net/netip"
	"sync"
	"sync/atomic"
)

const (
	// spanRingSlots is the number of spans that may wait for the exporter, per worker: a power of two. About 800 KiB.
	spanRingSlots = 1024
	// What of a request is kept, in bytes; the rest is cut off, and SpanText says so.
	spanMethodBytes, spanHostBytes, spanPathBytes, spanAgentBytes = 16, 128, 256, 128
)

// Span is what a sampled exchange leaves behind for the export of traces: of fixed size, and without views, so that it
// outlives the exchange. Times are those of Record.
type Span struct {
	TraceID          [16]byte
	SpanID, ParentID [8]byte

	ReceivedAt, StreamAt, SentAt, FirstByteAt, EndAt int64
	Stages                                           [StageCount]int64
	Status, BackendStatus, Attempts                  int
	BytesIn, BytesOut                                int64
	GRPCStatus                                       GRPCStatus
	Client                                           netip.Addr

	// Route is empty if none matched, Cluster and Endpoint if none was tried.
	Reason, Protocol, Route, Rule, Cluster, Endpoint string

	text   [spanMethodBytes + spanHostBytes + spanPathBytes + spanAgentBytes]byte
	method spanText
	host   spanText
	path   spanText
	agent  spanText
}

// spanText is a piece of Span.text.
type spanText struct{ from, to uint16 }

func (s *Span) of(t spanText) string { return string(s.text[t.from:t.to]) }

// Method is the method that the client sent, cut off after 16 bytes.
func (s *Span) Method() string { return s.of(s.method) }

// Host is the authority that the client sent, cut off after 128 bytes.
func (s *Span) Host() string { return s.of(s.host) }

// Path is the path that the client sent, without the query, cut off after 256 bytes.
func (s *Span) Path() string { return s.of(s.path) }

// UserAgent is cut off after 128 bytes.
func (s *Span) UserAgent() string { return s.of(s.agent) }

// fill overwrites all of a span.
func (s *Span) fill(rec *Record) {
	s.TraceID, s.SpanID, s.ParentID = rec.TraceID, rec.SpanID, rec.ParentSpanID
	s.ReceivedAt, s.StreamAt, s.SentAt, s.FirstByteAt, s.EndAt = rec.ReceivedAt, rec.StreamAt, rec.SentAt, rec.FirstByteAt, rec.EndAt
	s.Stages, s.GRPCStatus, s.Client = rec.Stages, rec.GRPCStatus, rec.Client
	s.Status, s.BackendStatus, s.Attempts = rec.Status, rec.BackendStatus, rec.Attempts
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
	path := rec.ReceivedTarget
	if len(path) == 0 || path[0] != '/' { // an absolute form, or "*"
		path = rec.EffectivePath
	}
	if i := bytes.IndexByte(path, '?'); i >= 0 { // queries have secrets more often than paths
		path = path[:i]
	}
	at := 0
	s.method = s.keep(&at, rec.ReceivedMethod, spanMethodBytes)
	s.host = s.keep(&at, rec.ReceivedHost, spanHostBytes)
	s.path = s.keep(&at, path, spanPathBytes)
	s.agent = s.keep(&at, rec.UserAgent, spanAgentBytes)
}

func (s *Span) keep(at *int, b []byte, most int) spanText {
	from := *at
	*at += copy(s.text[from:], b[:min(len(b), most)])
	return spanText{uint16(from), uint16(*at)}
}

// Spans holds the spans that wait for an exporter: a ring for each worker, which drops what does not fit.
type Spans struct {
	rings   []*spanRing
	urgent  chan struct{}
	dropped atomic.Uint64
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

// Dropped is the number of spans that did not fit.
func (c *Spans) Dropped() uint64 { return c.dropped.Load() }

// Take moves spans to dst, from as many workers as it has room for, and returns their number. One goroutine may call it.
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

	// atomic; both only grow, head <= tail <= head+len(slots)
	head atomic.Uint64 // stored by the consumer
	_    [56]byte      // head and tail are written by different cores
	tail atomic.Uint64 // stored by the producer
}

// put keeps the span of an exchange, or counts that there is no room for it.
func (r *spanRing) put(rec *Record) {
	if r.lock != nil {
		r.lock.Lock()
		defer r.lock.Unlock()
	}
	tail := r.tail.Load()
	used := tail - r.head.Load()
	if used >= spanRingSlots {
		r.spans.dropped.Add(1)
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
