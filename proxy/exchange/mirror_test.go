package exchange

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/upstream"
)

// mirrorName is the n-th cluster that mirrors go to.
func mirrorName(n int) string { return fmt.Sprintf("ns/mirror-%d:80", n) }

// mirroring has a rule whose requests go to n mirrors, too; change may edit it.
func mirroring(t testing.TB, n int, change func(*config.Rule)) *sim {
	s := newSim(t, 1, func(c *config.Config) {
		r := &c.Routes[0].Rules[0]
		for i := range n {
			c.Clusters = append(c.Clusters, config.Cluster{Name: mirrorName(i)})
			r.Filters = append(r.Filters, config.Filter{Mirror: &config.Mirror{Cluster: mirrorName(i)}})
		}
		if change != nil {
			change(r)
		}
	})
	for i := range n {
		s.w.Live.SetEndpoints(mirrorName(i), []config.Endpoint{{Address: fmt.Sprintf("10.0.1.%d:80", i+1)}})
	}
	return s
}

// dialled answers the dial to an address with a connection.
func (s *sim) dialled(address string) *fakeConn {
	s.t.Helper()
	for i, p := range s.dialer.pending {
		if p.Endpoint().Name == address {
			s.dialer.pending = append(s.dialer.pending[:i:i], s.dialer.pending[i+1:]...)
			return s.dialer.ready(p)
		}
	}
	s.t.Fatalf("nobody has dialled %s", address)
	return nil
}

func (s *sim) app() *fakeConn         { return s.dialled("10.0.0.1:80") }
func (s *sim) mirror(n int) *fakeConn { return s.dialled(fmt.Sprintf("10.0.1.%d:80", n+1)) }

func (s *sim) wantMirrored(result observe.MirrorResult, n int) {
	s.t.Helper()
	name := []string{"answered", "failed", "timeout", "dropped", "incomplete"}[result]
	s.wantMetric(fmt.Sprintf(`rauta_mirrored_requests_total{result="%s"} %d`, name, n))
	if n := len(s.w.mirrors.underWay); n != 0 {
		s.t.Errorf("still under way: %v", s.w.mirrors.underWay)
	}
}

func TestARequestWithoutBodyGoesToEveryMirror(t *testing.T) {
	s := mirroring(t, 2, func(r *config.Rule) {
		r.Filters = append(r.Filters, config.Filter{RequestHeaders: &config.HeaderEdit{Set: []config.Header{{Name: "X-Rule", Value: "1"}}}})
		r.Backends[0].Filters = []config.Filter{
			{RequestHeaders: &config.HeaderEdit{Set: []config.Header{{Name: "X-Back-End", Value: "1"}}}},
			{Rewrite: &config.Rewrite{Hostname: "only.the.back.end"}},
		}
	})
	c := s.request("GET /path", "X-Request-Id: abc").start()
	b := s.app()
	for n := range 2 {
		m := s.mirror(n)
		if m.path != "/path" || m.host != "a.example" || m.fields["x-rule"] == nil || m.fields["x-back-end"] != nil || !m.ended {
			t.Errorf("mirror %d got %s%s %v, complete %t", n, m.host, m.path, m.fields, m.ended)
		}
		if fmt.Sprint(m.fields["x-request-id"]) != fmt.Sprint(b.fields["x-request-id"]) {
			t.Error("the copy has another id")
		}
		m.answer(500, "of no interest")
	}
	if c.status != 0 {
		t.Fatalf("the client got the answer of a mirror: %q", c.events)
	}
	b.answer(200, "ok")
	c.wants("head 200", "data ok", "end", "finished")
	s.wantMirrored(observe.MirrorAnswered, 2)
	s.wantMetric(`rauta_backend_requests_total{cluster="ns/mirror-0:80",endpoint="10.0.1.1:80",code="5xx"} 1`)
}

func TestAMirrorOfABackEndGetsWhatTheBackEndGets(t *testing.T) {
	s := mirroring(t, 1, func(r *config.Rule) {
		r.Backends[0].Filters = append(r.Filters, config.Filter{Rewrite: &config.Rewrite{Hostname: "b.example"}})
		r.Filters = nil
	})
	s.get()
	if m := s.mirror(0); m.host != "b.example" {
		t.Errorf("the mirror got a request for %s", m.host)
	}
}

func TestTheBodyGoesToTheMirrorAsItComes(t *testing.T) {
	for _, late := range []bool{false, true} {
		s := mirroring(t, 1, nil)
		c := s.request("POST /").chunked().start()
		b := s.app()
		var m *fakeConn
		if !late {
			m = s.mirror(0)
		}
		c.x.OnRequestData([]byte("abc"))
		c.x.OnRequestData([]byte("def"))
		c.x.OnRequestEnd(trailerFields("x-sum: 1"))
		b.answer(200, "")
		if late { // the request is over by now
			m = s.mirror(0)
			m.wants("head POST /", "data abcdef", "end x-sum=1")
		} else {
			m.wants("head POST /", "data abc", "data def", "end x-sum=1")
		}
		m.answer(200, "")
		if !c.over || c.status != 200 {
			t.Errorf("%q", c.events)
		}
		s.wantMirrored(observe.MirrorAnswered, 1)
	}
}

func TestAMirrorThatTakesNoMoreIsDroppedAtALimitAndHoldsNobodyBack(t *testing.T) {
	for _, connected := range []bool{false, true} {
		s := mirroring(t, 1, nil)
		c := s.request("POST /").chunked().start()
		b := s.app()
		var m *fakeConn
		if connected {
			m = s.mirror(0)
			m.full = true
			c.x.OnRequestData([]byte("x")) // now it is known that it is full
		}
		piece := make([]byte, mirrorBodyMax/4)
		for range 4 {
			c.x.OnRequestData(piece)
		}
		if connected && m.gone {
			t.Fatal("dropped at the limit")
		}
		c.x.OnRequestData(piece[:1])
		if connected && !m.gone {
			t.Error("still there beyond the limit")
		}
		if c.paused {
			t.Error("the client is held back")
		}
		c.x.OnRequestEnd(nil)
		b.answer(200, "")
		if c.status != 200 {
			t.Error(c.status)
		}
		s.wantMirrored(observe.MirrorDropped, 1)
	}
}

func TestAMirrorGoesOnWhenItTakesBytesAgain(t *testing.T) {
	s := mirroring(t, 1, nil)
	c := s.request("POST /").chunked().start()
	s.app()
	m := s.mirror(0)
	m.full = true
	for _, part := range []string{"a", "b", "c"} {
		c.x.OnRequestData([]byte(part))
	}
	m.full = false
	m.sink.OnWritable()
	c.x.OnRequestData([]byte("d"))
	m.full = true
	c.x.OnRequestData([]byte("e"))
	c.x.OnRequestData([]byte("f"))
	c.x.OnRequestEnd(nil)
	if m.ended {
		t.Fatal("ended before its body")
	}
	m.sink.OnWritable()
	m.wants("head POST /", "data a", "data bc", "data d", "data e", "data f", "end")
}

func TestADeadMirrorCostsTheRequestNothing(t *testing.T) {
	s := mirroring(t, 2, nil)
	s.w.Live.SetEndpoints(mirrorName(1), nil)
	c := s.get()
	b := s.app()
	s.dialer.refuse(upstream.CauseConnectFailed)
	if len(s.dialer.pending) > 0 {
		t.Error("a mirror was tried again")
	}
	b.answer(200, "ok")
	c.wants("head 200", "data ok", "end", "finished")
	s.wantMirrored(observe.MirrorFailed, 2)
	if e := s.one(); e.Attempts != 1 || e.Endpoint != "10.0.0.1:80" {
		t.Errorf("%+v", e)
	}
}

func TestAMirrorThatDoesNotAnswerIsGivenUp(t *testing.T) {
	s := mirroring(t, 1, nil)
	s.get()
	s.app().answer(200, "")
	m := s.mirror(0)
	s.advance(9 * time.Second)
	if m.gone {
		t.Fatal("too early")
	}
	s.advance(2 * time.Second)
	if !m.gone {
		t.Fatal("still waited for")
	}
	s.wantMirrored(observe.MirrorTimeout, 1)
}

func TestALongAnswerOfAMirrorIsGivenUp(t *testing.T) {
	s := mirroring(t, 1, nil)
	s.get()
	m := s.mirror(0)
	m.head(200)
	m.data(string(make([]byte, mirrorAnswerMax)))
	if m.paused {
		t.Fatal("at the limit")
	}
	m.data("x")
	s.advance(50 * time.Millisecond)
	if !m.gone {
		t.Fatal("still read")
	}
	s.wantMirrored(observe.MirrorAnswered, 1)
}

func TestARequestThatIsGivenUpTakesItsMirrorAlong(t *testing.T) {
	s := mirroring(t, 1, nil)
	c := s.request("POST /").sized(6).start()
	s.app()
	m := s.mirror(0)
	c.x.OnRequestData([]byte("abc"))
	c.over = true
	c.x.OnClientGone("client_reset")
	if !m.gone {
		t.Error("the mirror would take half a body for the whole")
	}
	s.wantMirrored(observe.MirrorIncomplete, 1)
}

func TestMirrorsUnderWayAreBoundedByCluster(t *testing.T) {
	s := mirroring(t, 1, nil)
	s.dialer.atOnce = true
	for range mirrorsMax + 3 {
		c := s.request("GET /")
		c.silent = true
		c.start()
	}
	s.wantMetric(`rauta_mirrored_requests_total{result="dropped"} 3`)
	for _, b := range s.dialer.conns {
		if b.pool.Endpoint().Name == "10.0.1.1:80" {
			b.answer(200, "")
		}
	}
	s.wantMirrored(observe.MirrorAnswered, mirrorsMax)
	s.get()
	s.wantMetric(`rauta_mirrored_requests_total{result="dropped"} 3`)
}

func TestAShareOfTheRequestsIsMirrored(t *testing.T) {
	for _, share := range []struct{ n, of uint32 }{{0, 100}, {20, 100}, {1, 2}, {1, 1}} {
		s := mirroring(t, 1, func(r *config.Rule) {
			r.Filters[0].Mirror.Numerator, r.Filters[0].Mirror.Denominator = share.n, share.of
		})
		s.dialer.atOnce = true
		const requests = 2000
		got := 0
		for range requests {
			c := s.request("GET /")
			c.silent = true
			c.start()
			for _, b := range s.dialer.conns {
				if b.sink != nil {
					if b.pool.Endpoint().Name == "10.0.1.1:80" {
						got++
					}
					b.silent = true
					b.answer(200, "")
				}
			}
		}
		want := float64(requests) * float64(share.n) / float64(share.of)
		if d := float64(got) - want; d < -100 || d > 100 || (share.n == 0 || share.n == share.of) && d != 0 { // five standard deviations
			t.Errorf("%d of %d are mirrored, want about %.0f", got, requests, want)
		}
	}
}

func TestWhatIsNotForwardedIsNotMirrored(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*config.Rule)
		lines  []string
	}{
		"a redirect of a back end": {change: func(r *config.Rule) {
			r.Backends[0].Filters = []config.Filter{{Redirect: &config.Redirect{Hostname: "b.example", Status: 302}}}
		}},
		"a reference that can't be used": {change: func(r *config.Rule) { r.Backends[0] = config.Backend{Invalid: "gone", Weight: 1} }},
	} {
		s := mirroring(t, 1, c.change)
		if cl := s.get(); !cl.over || len(s.dialer.pending) > 0 {
			t.Errorf("%s: %q, %d dials", name, cl.events, len(s.dialer.pending))
		}
		s.wantMirrored(observe.MirrorAnswered, 0)
	}
	s := mirroring(t, 1, nil)
	c := s.request("GET /")
	c.x.Req.Upgrade = c.x.Req.StoreString("websocket")
	c.start()
	if len(s.dialer.pending) != 1 {
		t.Error("a tunnel is mirrored")
	}
	s = mirroring(t, 1, nil)
	s.w.Live.SetEndpoints(clusterName, nil)
	if c := s.get(); c.status != 503 || len(s.dialer.pending) > 0 {
		t.Error("what has no endpoint is mirrored")
	}
}

func TestARetryIsNotMirroredAgain(t *testing.T) {
	s := mirroring(t, 1, func(r *config.Rule) { r.Retry = &config.Retry{Attempts: 1, Codes: []int{500}} })
	c := s.request("POST /").sized(3).start()
	b := s.app()
	m := s.mirror(0)
	c.x.OnRequestData([]byte("abc"))
	c.x.OnRequestEnd(nil)
	b.answer(500, "")
	s.advance(time.Second)
	if string(b.body) != "abc" {
		t.Errorf("the second attempt got %q", b.body)
	}
	m.wants("head POST /", "data abc", "end")
}

func TestGRPCWebIsMirroredAsTheGRPCThatItBecomes(t *testing.T) {
	s := mirroring(t, 1, func(r *config.Rule) { r.Backends[0].Filters = []config.Filter{{GRPCWeb: &config.GRPCWeb{}}} })
	c := s.request("POST /p.S/M", "content-type: application/grpc-web-text+proto").sized(8).start()
	b, m := s.app(), s.mirror(0)
	c.x.OnRequestData([]byte("AAAAAAA="))
	c.x.OnRequestEnd(nil)
	for _, conn := range []*fakeConn{b, m} {
		if got := conn.fields["content-type"]; len(got) != 1 || got[0] != "application/grpc+proto" || string(conn.body) != "\x00\x00\x00\x00\x00" {
			t.Errorf("%s got %q %q", conn.pool.Endpoint().Name, got, conn.body)
		}
	}
}

func TestMirrorsAreTheFirstToGoWhenMemoryIsShort(t *testing.T) {
	s := mirroring(t, 1, nil)
	s.w.Shed = ShedKeepAlive
	s.get()
	s.app().answer(200, "")
	s.wantMirrored(observe.MirrorDropped, 1)
}

func TestAMirrorThatSwitchesProtocolsUnaskedIsGivenUp(t *testing.T) {
	s := mirroring(t, 1, nil)
	s.get()
	m := s.mirror(0)
	m.head(101, "Upgrade: x")
	if !m.gone {
		t.Error("a tunnel stays")
	}
	s.wantMirrored(observe.MirrorFailed, 1)
}

func TestAMirrorAllocatesNothing(t *testing.T) {
	t.Run("plain", func(t *testing.T) { mirrorWithoutAllocations(t, mirroring(t, 1, nil), "user-agent: test") })
	t.Run("sampled", func(t *testing.T) {
		s := mirroring(t, 1, nil)
		spans, taken, total := tracing(s), make([]observe.Span, 64), 0
		mirrorWithoutAllocations(t, s, "user-agent: test", "traceparent: "+traceParent)
		for n := spans.Take(taken); n > 0; n = spans.Take(taken) {
			total += n
		}
		if total < 1000 {
			t.Errorf("%d spans were kept", total)
		}
	})
}

func mirrorWithoutAllocations(t *testing.T, s *sim, lines ...string) {
	s.dialer.atOnce = true
	c := &fakeClient{s: s, silent: true}
	c.peer = s.w.NewPeer(s.request("GET /").peer.Client, message.SchemeHTTP, s.port)
	resp := &message.Response{}
	resp.Fields = make([]message.Field, 0, 32)
	target, body := "POST "+strings.Repeat("/x", 100), []byte("abc")
	once := func() {
		c.status, c.over, c.data = 0, false, 0
		s.fill(c, target, lines...)
		c.sized(3)
		c.x.Start()
		c.x.OnRequestData(body)
		c.x.OnRequestEnd(nil)
		for _, b := range s.dialer.conns {
			b.silent = true
			resp.Reset()
			resp.Status, resp.Version, resp.Framing = 200, message.HTTP11, message.Streamed
			b.sink.OnHead(resp)
			b.end()
		}
		if c.status != 200 || len(s.dialer.conns) != 2 {
			t.Fatal("the exchange went wrong")
		}
	}
	for range 10 {
		once()
	}
	if n := testing.AllocsPerRun(1000, once); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
