package exchange

import (
	"testing"
	"time"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/trace"
	"rauta.io/rauta/proxy/upstream"
)

// tracing makes the requests of a simulation part of traces whose spans are collected.
func tracing(s *sim) *observe.Spans {
	s.w.Settings.Propagation = &trace.Propagation{Formats: []trace.Format{trace.W3C, trace.B3}, Spans: true}
	return s.reg.CollectSpans()
}

// onlySpan returns the span of the only request.
func onlySpan(t *testing.T, spans *observe.Spans) *observe.Span {
	t.Helper()
	got := make([]observe.Span, 2)
	if n := spans.Take(got); n != 1 {
		t.Fatalf("spans of %d requests, want 1", n)
	}
	return &got[0]
}

// parentSeen is the id of the span that a back end takes for its parent.
func parentSeen(c *fakeConn) string { return c.fields["traceparent"][0][36:52] }

func TestEachAttemptHasASpanThatTheBackEndSeesAsItsParent(t *testing.T) {
	s := retrying(t, 1, config.Retry{Codes: []int{503}, Attempts: 5}, func(r *config.Rule) {
		r.Matches = []config.Match{{Path: config.PathMatch{Kind: config.PathPrefix, Value: "/shop"}}}
	})
	spans := tracing(s)
	client := s.request("GET /shop/cart?key=1", "traceparent: "+traceParent)
	client.x.Req.Path, client.x.Req.Query = client.x.Req.StoreString("/shop/cart"), client.x.Req.StoreString("key=1")
	client.start()
	b := s.dialer.connect()
	seen := []string{parentSeen(b)}
	s.advance(5 * time.Millisecond)
	b.answer(503, "later")
	s.advance(backoffMax)
	seen = append(seen, parentSeen(b))
	b.fail(upstream.StageSent, upstream.CauseReset)
	s.advance(backoffMax)
	b = s.dialer.connect()
	seen = append(seen, parentSeen(b))
	s.advance(7 * time.Millisecond)
	b.head(200)
	s.advance(9 * time.Millisecond)
	b.end()
	if client.status != 200 {
		t.Fatalf("the client got %d", client.status)
	}

	got := onlySpan(t, spans)
	if hexOf(got.ParentID[:]) != traceParent[36:52] || hexOf(got.TraceID[:]) != traceParent[3:35] || got.PathRule != "/shop" || !got.PathBelow || got.Scheme != "http" {
		t.Errorf("the request has %x in trace %x below %x, rule %q", got.SpanID, got.TraceID, got.ParentID, got.PathRule)
	}
	attempts := got.Attempts()
	if len(attempts) != 3 {
		t.Fatalf("%d attempts have a span, want 3", len(attempts))
	}
	for i, want := range []struct {
		status int
		reason string
	}{{503, ""}, {0, "upstream_closed"}, {200, ""}} {
		a := &attempts[i]
		if hexOf(a.ID[:]) != seen[i] || a.ID == got.SpanID {
			t.Errorf("attempt %d has the id %x, the back end got %s", i, a.ID, seen[i])
		}
		if a.Status != want.status || a.Reason != want.reason || a.Resend != i {
			t.Errorf("attempt %d: %d %q, resend %d; want %+v", i, a.Status, a.Reason, a.Resend, want)
		}
		if a.StreamAt < a.BeganAt || a.SentAt < a.StreamAt || (a.FirstByteAt == 0) != (want.status == 0) || a.Address != "10.0.0.1:80" {
			t.Errorf("attempt %d: %+v", i, a)
		}
	}
	if first := attempts[0]; first.EndAt != 5e6 || attempts[1].BeganAt < first.EndAt+100e6 { // what is waited belongs to neither
		t.Errorf("the first one ends at %d, the second begins at %d", first.EndAt, attempts[1].BeganAt)
	}
	if last := attempts[2]; last.FirstByteAt-last.SentAt < 7e6 || last.EndAt-last.FirstByteAt != 9e6 {
		t.Errorf("%+v", last)
	}
	if v := attempts[2].Version; v != "1.1" {
		t.Errorf("version %q", v)
	}
	if got.SentPath() != "/shop/cart" || got.Query() != "key=1" {
		t.Errorf("sent %q, query %q", got.SentPath(), got.Query())
	}
}

func TestTheLastAttemptKeepsItsSpanWhateverTheirNumber(t *testing.T) {
	s := retrying(t, 1, config.Retry{Codes: []int{503}, Attempts: 9})
	spans := tracing(s)
	s.request("GET /", "traceparent: "+traceParent).start()
	b := s.dialer.connect()
	for range 9 {
		b.answer(503, "later")
		s.advance(backoffMax)
	}
	last := parentSeen(b)
	b.answer(200, "ok")
	got := onlySpan(t, spans)
	attempts := got.Attempts()
	a := &attempts[len(attempts)-1]
	if len(attempts) != 4 || got.AttemptCount != 10 || hexOf(a.ID[:]) != last || a.Status != 200 || a.Resend != 9 || attempts[2].Resend != 2 {
		t.Errorf("%d of %d attempts; the last %+v", len(attempts), got.AttemptCount, a)
	}
}

func TestAttemptsThatFailSayWhy(t *testing.T) {
	for reason, c := range map[string]struct {
		change func(*config.Rule)
		do     func(*sim, *fakeClient)
	}{
		"connect_failed": {nil, func(s *sim, _ *fakeClient) {
			s.dialer.refuse(upstream.CauseConnectFailed)
			s.dialer.refuse(upstream.CauseConnectFailed)
		}},
		"response_timeout": {func(r *config.Rule) { r.Timeouts.Response = config.Duration(time.Second) }, func(s *sim, _ *fakeClient) {
			s.dialer.connect()
			s.advance(2 * time.Second)
		}},
		"upstream_truncated": {nil, func(s *sim, _ *fakeClient) {
			b := s.dialer.connect()
			b.head(200)
			b.fail(upstream.StageBody, upstream.CauseReset)
		}},
		"client_gone": {nil, func(s *sim, c *fakeClient) {
			s.dialer.connect()
			c.x.OnClientGone("client_gone")
		}},
	} {
		t.Run(reason, func(t *testing.T) {
			s := newSim(t, 1, rule(func(r *config.Rule) {
				if c.change != nil {
					c.change(r)
				}
			}))
			spans := tracing(s)
			c.do(s, s.request("GET /", "traceparent: "+traceParent).start())
			got := onlySpan(t, spans)
			attempts := got.Attempts()
			if a := attempts[len(attempts)-1]; a.Reason != reason || got.Reason != reason || a.EndAt == 0 || len(attempts) != got.AttemptCount {
				t.Errorf("the attempt says %q, the request %q: %+v", a.Reason, got.Reason, a)
			}
		})
	}
}

func TestTheAttemptIsOverBeforeASlowClientHasItsAnswer(t *testing.T) {
	s := newSim(t, 1, nil)
	spans := tracing(s)
	client := s.request("GET /", "traceparent: "+traceParent)
	client.slow = true
	client.start()
	b := s.dialer.connect()
	s.advance(time.Second)
	b.answer(200, "ok")
	s.advance(time.Second)
	client.x.OnTaken("")
	got := onlySpan(t, spans)
	if a := got.Attempts()[0]; a.EndAt != 1e9 || got.EndAt != 2e9 || a.Reason != "" {
		t.Errorf("the attempt ends at %d, %q, the request at %d", a.EndAt, a.Reason, got.EndAt)
	}
}

func TestATunnelHasASpanUntilItCloses(t *testing.T) {
	s := newSim(t, 1, nil)
	spans := tracing(s)
	client := s.request("GET /", "traceparent: "+traceParent)
	client.x.Req.Upgrade = client.x.Req.StoreString("websocket")
	client.start()
	b := s.dialer.connect()
	b.head(101, "Upgrade: websocket")
	s.advance(time.Second)
	client.x.OnRequestEnd(nil)
	b.sink.OnEnd(nil)
	got := onlySpan(t, spans)
	if a := got.Attempts()[0]; a.Status != 101 || a.EndAt != 1e9 || hexOf(a.ID[:]) != parentSeen(b) {
		t.Errorf("%+v", a)
	}
}

func TestAMirrorIsAChildOfTheRequestWithASpanOfItsOwn(t *testing.T) {
	s := mirroring(t, 1, nil)
	spans := tracing(s)
	s.request("GET /", "traceparent: "+traceParent).start()
	b, m := s.app(), s.mirror(0)
	mirrored, sent := parentSeen(m), parentSeen(b)
	s.advance(3 * time.Millisecond)
	b.answer(200, "ok")
	got := onlySpan(t, spans)
	if a := got.Attempts(); got.Mirror || len(a) != 1 || sent != hexOf(a[0].ID[:]) {
		t.Errorf("the back end has the parent %s, the attempts are %+v", sent, a)
	}
	s.advance(4 * time.Millisecond) // it outlives the request
	m.answer(404, "no")
	copied := onlySpan(t, spans)
	a := copied.Attempts()
	if !copied.Mirror || copied.SpanID != got.SpanID || copied.TraceID != got.TraceID || len(a) != 1 {
		t.Fatalf("%+v", copied)
	}
	if a[0].ID == got.Attempts()[0].ID || mirrored != hexOf(a[0].ID[:]) || a[0].Status != 404 || a[0].Reason != "" ||
		a[0].Address != "10.0.1.1:80" || a[0].Version != "1.1" {
		t.Errorf("the mirror has the parent %s, its span is %+v", mirrored, a[0])
	}
	if a[0].FirstByteAt < 7e6 || a[0].EndAt < a[0].FirstByteAt || a[0].SentAt < a[0].StreamAt || a[0].StreamAt < a[0].BeganAt {
		t.Errorf("%+v", a[0])
	}
}

func TestMirrorsThatFailSayWhyInTheirSpans(t *testing.T) {
	for _, c := range []struct {
		reason string
		fail   func(s *sim)
	}{
		{"connect_failed", func(s *sim) { s.dialer.refuse(upstream.CauseConnectFailed) }},
		{"mirror_timeout", func(s *sim) { s.mirror(0); s.advance(mirrorTimeout + time.Second) }},
	} {
		t.Run(c.reason, func(t *testing.T) {
			s := mirroring(t, 1, nil)
			spans := tracing(s)
			s.request("GET /", "traceparent: "+traceParent).start()
			s.app().answer(200, "ok")
			onlySpan(t, spans)
			c.fail(s)
			if a := onlySpan(t, spans).Attempts(); len(a) != 1 || a[0].Reason != c.reason || a[0].Status != 0 || a[0].EndAt == 0 {
				t.Errorf("%+v", a)
			}
		})
	}
}

func TestAMirrorOfARequestThatIsNotSampledHasNoSpan(t *testing.T) {
	s := mirroring(t, 1, nil)
	spans := tracing(s)
	s.request("GET /", "traceparent: "+traceParent[:53]+"00").start()
	s.app().answer(200, "ok")
	s.mirror(0).answer(200, "ok")
	if n := spans.Take(make([]observe.Span, 2)); n != 0 {
		t.Errorf("%d", n)
	}
}

func TestARuleSaysHowManyTracesAreSampled(t *testing.T) {
	all, none := 100.0, 0.0
	for _, c := range []struct {
		name    string
		process uint64
		rule    *float64
		parent  string
		want    bool
	}{
		{"the process's", trace.ShareMax, nil, "", true},
		{"none of the rule's", trace.ShareMax, &none, "", false},
		{"all of the rule's", 0, &all, "", true},
		{"the client has decided for it", 0, &none, traceParent, true},
		{"the client has decided against it", 0, &all, traceParent[:53] + "00", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSim(t, 1, rule(func(r *config.Rule) { r.TraceSampling = c.rule }))
			spans := tracing(s)
			s.w.Settings.Propagation.Share = c.process
			lines := []string{}
			if c.parent != "" {
				lines = append(lines, "traceparent: "+c.parent)
			}
			s.request("GET /", lines...).start()
			b := s.dialer.connect()
			flags := b.fields["traceparent"][0][53:]
			b.answer(200, "ok")
			if n := spans.Take(make([]observe.Span, 1)); (n == 1) != c.want || (flags == "01") != c.want {
				t.Errorf("%d spans, flags %s", n, flags)
			}
		})
	}
}

// TestSpansForWhichThereIsNoRoomAreNotMade: back ends see the client's span as their parent then, since there is no other.
func TestSpansForWhichThereIsNoRoomAreNotMade(t *testing.T) {
	s := newSim(t, 1, nil)
	spans := tracing(s)
	s.reg.SetAccessLog(nil)
	once := s.repeatedly(s.w.Settings.Propagation, "traceparent: "+traceParent)
	for spans.Dropped() == 0 {
		once()
	}
	if n := spans.Dropped(); n != 2 { // that of the request, and of its attempt
		t.Fatalf("%d spans of a request were dropped, want 2", n)
	}
	s.dialer.conns[0].silent = false // for its head
	once()
	if n := s.w.freeSpansCount; n != 1 || spans.Dropped() != 4 {
		t.Errorf("%d spans are kept for reuse, %d were dropped", n, spans.Dropped())
	}
	if parent := s.dialer.conns[0].fields["traceparent"][0]; parent != traceParent {
		t.Errorf("the back end got %s", parent)
	}
	spans.Take(make([]observe.Span, 1))
	once()
	if n := spans.Dropped(); n != 4 {
		t.Errorf("%d were dropped although there is room again", n)
	}
}

func TestWhatMatchesNoRuleHasASpanWithoutAttempts(t *testing.T) {
	s := newSim(t, 1, rule(func(r *config.Rule) { r.Matches[0].Path.Value = "/a" }))
	spans := tracing(s)
	s.request("GET /b", "traceparent: "+traceParent).start()
	if got := onlySpan(t, spans); got.Status != 404 || len(got.Attempts()) != 0 || got.PathRule != "" {
		t.Errorf("%+v", got)
	}
}

func TestASampledExchangeAllocatesNothingOnceItHasRun(t *testing.T) {
	p := &trace.Propagation{Formats: []trace.Format{trace.W3C, trace.B3, trace.B3Multi}, Spans: true}
	wholeExchange(t, p, "traceparent: "+traceParent)
}

func TestExchangesKeepNoMoreSpansThanExchanges(t *testing.T) {
	w := &Worker{}
	for range freeMax + 5 {
		w.putSpans(new(spans))
	}
	if w.freeSpansCount != freeMax {
		t.Errorf("%d", w.freeSpansCount)
	}
}
