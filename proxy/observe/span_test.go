package observe

import (
	"strings"
	"testing"
)

func spanRecord(n byte) *Record {
	return &Record{TraceID: [16]byte{n}, Spans: &RequestSpans{SpanID: [8]byte{n, 1}, ParentID: [8]byte{n, 2}}, Status: 200, EndAt: 5,
		ReceivedMethod: []byte("GET"), ReceivedTarget: []byte("/a?token=secret"), ReceivedHost: []byte("example.com"), UserAgent: []byte("curl")}
}

func TestASpanOutlivesItsExchange(t *testing.T) {
	r := NewRegistry(Options{})
	spans := r.CollectSpans()
	rec := spanRecord(7)
	r.Shard(0).Finish(rec)
	copy(rec.ReceivedHost, "XXXXXXXXXXX") // the buffer is used for something else
	r.Shard(0).Finish(&Record{TraceID: [16]byte{9}, Status: 200})
	got := make([]Span, 4)
	if n := spans.Take(got); n != 1 {
		t.Fatalf("%d spans, want that of the request that has one", n)
	}
	s := &got[0]
	if s.TraceID[0] != 7 || s.ParentID != [8]byte{7, 2} || s.Method() != "GET" || s.Path() != "/a" || s.Host() != "example.com" || s.UserAgent() != "curl" {
		t.Errorf("%+v: %q %q %q %q", s.SpanID, s.Method(), s.Path(), s.Host(), s.UserAgent())
	}
}

func TestLongTextsOfASpanAreCutOff(t *testing.T) {
	long := []byte("/" + strings.Repeat("x", 5000))
	var s Span
	s.fill(&Record{Spans: &RequestSpans{}, ReceivedMethod: long, ReceivedTarget: long, ReceivedHost: long, UserAgent: long})
	if len(s.Method()) != spanMethodBytes || len(s.Host()) != spanHostBytes || len(s.Path()) != spanPathBytes || len(s.UserAgent()) != spanAgentBytes {
		t.Errorf("%d %d %d %d", len(s.Method()), len(s.Host()), len(s.Path()), len(s.UserAgent()))
	}
}

func TestAFullRingDropsAndCounts(t *testing.T) {
	r := NewRegistry(Options{})
	spans := r.CollectSpans()
	rec := spanRecord(1)
	for range spanRingSlots + 3 {
		r.Shard(0).Finish(rec)
	}
	if got := spans.Dropped(); got != 3 {
		t.Errorf("%d dropped, want 3", got)
	}
	select {
	case <-spans.Urgent():
	default:
		t.Error("nobody was told that the ring fills up")
	}
	got := make([]Span, spanRingSlots+3)
	if n := spans.Take(got[:5]) + spans.Take(got); n != spanRingSlots {
		t.Errorf("%d taken, want %d", n, spanRingSlots)
	}
	r.Shard(0).Finish(rec)
	if n := spans.Take(got); n != 1 || spans.Dropped() != 3 {
		t.Errorf("%d taken after room was made, %d dropped", n, spans.Dropped())
	}
}

func TestKeepingASpanAllocatesNothing(t *testing.T) {
	r := NewRegistry(Options{})
	spans := r.CollectSpans()
	rec, shard := spanRecord(1), r.Shard(0)
	shard.Finish(rec)
	if n := testing.AllocsPerRun(2*spanRingSlots, func() { shard.Finish(rec) }); n != 0 {
		t.Errorf("%g allocations", n)
	}
	if spans.Dropped() == 0 {
		t.Error("the ring was never full")
	}
}

func BenchmarkFinishWithSpan(b *testing.B) {
	r := NewRegistry(Options{})
	spans := r.CollectSpans()
	rec, shard, dst := spanRecord(1), r.Shard(0), make([]Span, spanRingSlots)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		shard.Finish(rec)
		if i%512 == 511 {
			spans.Take(dst)
		}
	}
}
