package exchange

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/upstream"
)

// call makes a gRPC request that is not started yet.
func (s *sim) call(lines ...string) *fakeClient {
	c := s.request("POST /p.Service/Method", append([]string{"content-type: application/grpc"}, lines...)...).chunked()
	c.x.Req.Version = message.HTTP2
	return c
}

// overH2 has the cluster speak HTTP/2.
func overH2(change func(*config.Rule)) func(*config.Config) {
	return func(c *config.Config) {
		c.Clusters[0].Protocol = config.BackendH2
		if change != nil {
			change(&c.Routes[0].Rules[0])
		}
	}
}

func (c *fakeClient) wantsStatus(code string) {
	c.s.t.Helper()
	if c.status != 200 || c.fields["grpc-status"] != code || c.fields["content-type"] != "application/grpc" {
		c.s.t.Errorf("answered %d with %v, want grpc-status %s", c.status, c.fields, code)
	}
}

// TestAnswersToGRPCAreTrailersOnly: one header block without a body, whatever went wrong.
func TestAnswersToGRPCAreTrailersOnly(t *testing.T) {
	for _, test := range []struct {
		name      string
		endpoints int
		change    func(*config.Rule)
		after     func(*sim, *fakeClient)
		code      string
		message   string
		status    int
		logged    string
		reason    string
	}{
		{name: "no route", change: func(r *config.Rule) { r.Matches[0].Path.Value = "/q.Other" }, code: "12", message: "Not Found",
			status: 404, logged: "UNIMPLEMENTED", reason: "no_route"},
		{name: "no endpoint", code: "14", message: "Service Unavailable", status: 503, logged: "UNAVAILABLE", reason: "no_endpoint"},
		{name: "no back end", endpoints: 1, change: func(r *config.Rule) { r.Backends = nil }, code: "14", message: "Internal Server Error",
			status: 500, logged: "UNAVAILABLE", reason: "no_backend"},
		{name: "invalid back end", endpoints: 1, change: func(r *config.Rule) {
			r.Backends[0] = config.Backend{Weight: 1, Invalid: "backend_not_found"}
		}, code: "14", message: "Internal Server Error", status: 500, logged: "UNAVAILABLE", reason: "invalid_backend"},
		{name: "closed rule", endpoints: 1, change: func(r *config.Rule) {
			r.Filters = []config.Filter{{Answer: &config.Answer{Status: 500, Reason: "unsupported_filter"}}}
		}, code: "2", message: "Internal Server Error", status: 500, logged: "UNKNOWN", reason: "unsupported_filter"},
		{name: "redirect", endpoints: 1, change: func(r *config.Rule) {
			r.Filters = []config.Filter{{Redirect: &config.Redirect{Scheme: "https", Status: 301}}}
		}, code: "2", message: "Moved Permanently", status: 301, logged: "UNKNOWN", reason: "redirect"},
		{name: "connect failed", endpoints: 1, after: func(s *sim, _ *fakeClient) {
			s.dialer.refuse(upstream.CauseConnectFailed)
			s.dialer.refuse(upstream.CauseConnectFailed)
		}, code: "14", message: "Service Unavailable", status: 503, logged: "UNAVAILABLE", reason: "connect_failed"},
		{name: "broken before the head", endpoints: 1, after: func(s *sim, _ *fakeClient) {
			s.dialer.connect().fail(upstream.StageSent, upstream.CauseReset)
		}, code: "14", message: "Bad Gateway", status: 502, logged: "UNAVAILABLE", reason: "upstream_closed"},
		{name: "reset with CANCEL", endpoints: 1, after: func(s *sim, _ *fakeClient) {
			s.dialer.connect().failWith(upstream.StageSent, upstream.CauseReset, "cancel")
		}, code: "1", message: "Bad Gateway", status: 502, logged: "CANCELLED", reason: "upstream_closed"},
		{name: "reset with ENHANCE_YOUR_CALM", endpoints: 1, after: func(s *sim, _ *fakeClient) {
			s.dialer.connect().failWith(upstream.StageSent, upstream.CauseReset, "enhance_your_calm")
		}, code: "8", message: "Bad Gateway", status: 502, logged: "RESOURCE_EXHAUSTED", reason: "upstream_closed"},
		{name: "reset with INTERNAL_ERROR", endpoints: 1, after: func(s *sim, _ *fakeClient) {
			s.dialer.connect().failWith(upstream.StageSent, upstream.CauseReset, "internal_error")
		}, code: "13", message: "Bad Gateway", status: 502, logged: "INTERNAL", reason: "upstream_closed"},
		{name: "route's timeout", endpoints: 1, change: func(r *config.Rule) { r.Timeouts.Request = config.Duration(time.Second) },
			after: func(s *sim, _ *fakeClient) { s.dialer.connect(); s.advance(time.Second + aBit) },
			code:  "4", message: "Gateway Timeout", status: 504, logged: "DEADLINE_EXCEEDED", reason: "request_timeout"},
		{name: "too much", endpoints: 1, change: func(r *config.Rule) { r.BodyBytesMax = 4 },
			after: func(s *sim, c *fakeClient) { s.dialer.connect(); c.x.OnRequestData([]byte("12345")) },
			code:  "8", message: "Request Entity Too Large", status: 413, logged: "RESOURCE_EXHAUSTED", reason: "body_too_large"},
		{name: "bad body", endpoints: 1, after: func(s *sim, c *fakeClient) { s.dialer.connect(); c.x.OnBadRequestBody(400, "bad_chunk") },
			code: "13", message: "Bad Request", status: 400, logged: "INTERNAL", reason: "bad_chunk"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSim(t, test.endpoints, overH2(test.change))
			c := s.call().start()
			if test.after != nil {
				test.after(s, c)
			}
			var last []string
			for _, e := range c.events {
				if e != "pause" && e != "resume" {
					last = append(last, e)
				}
			}
			if got := strings.Join(last, ", "); got != "head 200, end, finished" {
				t.Errorf("the client saw %s", got)
			}
			c.wantsStatus(test.code)
			if c.fields["grpc-message"] != test.message || c.fields["location"] != "" {
				t.Errorf("%v", c.fields)
			}
			if e := s.one(); e.Status != test.status || e.GRPCStatus != test.logged || e.Reason != test.reason {
				t.Errorf("%+v", e)
			}
		})
	}
}

func TestARefusedHeadOfAGRPCRequestIsAnsweredInItsWay(t *testing.T) {
	s := newSim(t, 1, nil)
	c := s.call()
	c.x.Refuse(431, "head_too_large")
	c.wantsStatus("8")
	s.w.Shed = ShedRequests
	s.call().start().wantsStatus("14")
}

func TestNoTextOfAnAnswerNeedsEncodingInGRPC(t *testing.T) {
	for status := 200; status < 600; status++ {
		for _, c := range []byte(StatusText(status)) { // gRPC over HTTP/2, Percent-Byte-Unencoded
			if c < 0x20 || c > 0x7e || c == '%' {
				t.Errorf("%q", StatusText(status))
			}
		}
	}
}

func TestGRPCTimeoutsAreReadAndWritten(t *testing.T) {
	for value, want := range map[string]int64{
		"1H": 3600e9, "2M": 120e9, "3S": 3e9, "4m": 4e6, "5u": 5e3, "6n": 6, "0S": 1, "00000001S": 1e9,
		"99999999H": math.MaxInt64, "99999999M": 99999999 * 60e9, "99999999n": 99999999,
	} {
		if got, ok := parseGRPCTimeout([]byte(value)); !ok || got != want {
			t.Errorf("%s: %d %v, want %d", value, got, ok, want)
		}
	}
	for _, value := range []string{"", "1", "S", "-1S", "+1S", "1s", "1.5S", "1 S", "123456789S", "1SS", " 1S"} {
		if got, ok := parseGRPCTimeout([]byte(value)); ok {
			t.Errorf("%q: %d", value, got)
		}
	}
	for ns, want := range map[int64]string{
		1: "1n", 99999999: "99999999n", 1e8: "100000u", 1e9: "1000000u", 3600e9: "3600000m", 1e8*1e6 + 1: "100001S",
		math.MaxInt64: "2562048H",
	} {
		got := string(appendGRPCTimeout(nil, ns))
		if back, ok := parseGRPCTimeout([]byte(got)); got != want || !ok || back < ns {
			t.Errorf("%d becomes %s, which is %d; want %s", ns, got, back, want)
		}
	}
}

func TestTheTimeoutOfACallIsHonoured(t *testing.T) {
	s := newSim(t, 1, overH2(nil))
	c := s.call("grpc-timeout: 2S").start()
	b := s.dialer.connect()
	c.x.OnRequestEnd(nil)
	if got := b.fields["grpc-timeout"]; len(got) != 1 || got[0] != "2S" {
		t.Errorf("the back end is told %q", got)
	}
	s.advance(2*time.Second - aBit)
	if c.over {
		t.Fatal("it fires early")
	}
	s.advance(2 * aBit)
	c.wantsStatus("4")
	if !b.gone {
		t.Error("the attempt goes on")
	}
	if e := s.one(); e.Reason != "grpc_timeout" || e.Status != 504 {
		t.Errorf("%+v", e)
	}
}

func TestTheTimeoutOfARouteCapsThatOfACall(t *testing.T) {
	s := newSim(t, 1, overH2(func(r *config.Rule) { r.Timeouts.Request = config.Duration(time.Second) }))
	c := s.call("grpc-timeout: 1H").start()
	b := s.dialer.connect()
	if got := b.fields["grpc-timeout"]; len(got) != 1 || got[0] != "1000000u" {
		t.Errorf("the back end is told %q", got)
	}
	s.advance(time.Second + aBit)
	c.wantsStatus("4")
	if e := s.one(); e.Reason != "request_timeout" {
		t.Errorf("%+v", e)
	}
}

func TestATimeoutThatCannotBeReadIsRefused(t *testing.T) {
	s := newSim(t, 1, overH2(nil))
	s.call("grpc-timeout: soon").start().wantsStatus("13")
	if e := s.one(); e.Reason != "bad_grpc_timeout" || e.Status != 400 || s.dialer.dials != 0 {
		t.Errorf("%+v, %d dials", e, s.dialer.dials)
	}
}

// TestAnImpatientClientDoesNotGetAnEndpointEjected: five failures would. Back ends know the deadline too, and may be faster
// than we to reset the call.
func TestAnImpatientClientDoesNotGetAnEndpointEjected(t *testing.T) {
	s := newSim(t, 2, overH2(nil))
	s.dialer.atOnce = true
	for i := range 40 {
		c := s.call("grpc-timeout: 30m").start()
		c.x.OnRequestEnd(nil)
		if i%2 == 0 {
			s.advance(aBit)
		} else {
			s.advance(25 * time.Millisecond)
			b := s.dialer.conns[slices.IndexFunc(s.dialer.conns, func(b *fakeConn) bool { return b.sink != nil })]
			b.failWith(upstream.StageSent, upstream.CauseReset, "cancel")
		}
		c.wantsStatus("4")
	}
	for _, e := range s.w.Live.Current().Clusters[clusterName].Set().Endpoints() {
		if e.Ejected(s.w.Clock.Now()) {
			t.Error("an endpoint was ejected")
		}
	}
}

// TestAnEndpointThatSaysUnavailableIsEjected, as one that answers 503 is.
func TestAnEndpointThatSaysUnavailableIsEjected(t *testing.T) {
	s := newSim(t, 2, overH2(nil))
	s.dialer.atOnce = true
	for range 20 {
		c := s.call().start()
		c.x.OnRequestEnd(nil)
		b := s.dialer.conns[slices.IndexFunc(s.dialer.conns, func(b *fakeConn) bool { return b.sink != nil })]
		b.head(200, "content-type: application/grpc", "grpc-status: 14")
		b.end()
	}
	ejected := 0
	for _, e := range s.w.Live.Current().Clusters[clusterName].Set().Endpoints() {
		if e.Ejected(s.w.Clock.Now()) {
			ejected++
		}
	}
	if ejected != 1 { // half of the cluster stays
		t.Errorf("%d endpoints are ejected", ejected)
	}
}

func TestACallMayBeSilentForAsLongAsItLikes(t *testing.T) {
	s := newSim(t, 1, overH2(nil))
	c := s.call().start()
	b := s.dialer.connect()
	if !c.x.Patient() {
		t.Error("the engine would give the body a deadline")
	}
	c.x.OnRequestData([]byte("x"))
	s.advance(time.Hour)
	c.x.OnRequestEnd(nil)
	s.advance(time.Hour)
	b.head(200)
	b.data("y")
	s.advance(time.Hour)
	b.endWith(trailerFields("grpc-status: 0"))
	c.wants("pause", "resume", "head 200", "data y", "end grpc-status=0", "finished")
}

// TestOnlyCallsToBackEndsThatSpeakHTTP2AreTrustedToBeStreams: any client can write the content type.
func TestOnlyCallsToBackEndsThatSpeakHTTP2AreTrustedToBeStreams(t *testing.T) {
	s := newSim(t, 1, nil)
	c := s.call().start()
	s.dialer.connect()
	if c.x.Patient() {
		t.Error("the body of a request to an HTTP/1.1 back end has no deadline")
	}
	c.x.OnRequestEnd(nil)
	s.advance(responseTimeout + aBit)
	c.wantsStatus("4")
}

func TestAnExplicitResponseTimeoutHoldsForCallsToo(t *testing.T) {
	s := newSim(t, 1, overH2(func(r *config.Rule) { r.Timeouts.Response = config.Duration(time.Second) }))
	c := s.call().start()
	s.dialer.connect()
	c.x.OnRequestEnd(nil)
	s.advance(time.Second + aBit)
	c.wantsStatus("4")
}

func TestTheLogHasTheStatusOfACall(t *testing.T) {
	for _, test := range []struct {
		name string
		play func(*fakeClient, *fakeConn)
		want string
	}{
		{"trailers", func(_ *fakeClient, b *fakeConn) { b.head(200); b.endWith(trailerFields("grpc-status: 5")) }, "NOT_FOUND"},
		{"trailers only", func(_ *fakeClient, b *fakeConn) { b.head(200, "grpc-status: 16"); b.end() }, "UNAUTHENTICATED"},
		{"unknown code", func(_ *fakeClient, b *fakeConn) { b.head(200, "grpc-status: 77"); b.end() }, "UNKNOWN"},
		{"nonsense", func(_ *fakeClient, b *fakeConn) { b.head(200, "grpc-status: x"); b.end() }, "UNKNOWN"},
		{"none", func(_ *fakeClient, b *fakeConn) { b.head(200); b.end() }, ""},
		{"client gone", func(c *fakeClient, b *fakeConn) { b.head(200); c.x.OnClientGone("client_reset") }, "CANCELLED"},
		{"broken off", func(c *fakeClient, b *fakeConn) {
			b.head(200)
			b.fail(upstream.StageBody, upstream.CauseReset)
			c.wants("pause", "resume", "head 200", "abort")
		}, "INTERNAL"},
		{"cancelled by the back end", func(c *fakeClient, b *fakeConn) {
			b.head(200)
			b.failWith(upstream.StageBody, upstream.CauseReset, "cancel")
			c.wants("pause", "resume", "head 200", "cancel")
		}, "CANCELLED"},
		{"deadline in the middle", func(c *fakeClient, b *fakeConn) {
			b.head(200)
			c.s.advance(time.Minute + aBit)
			c.wants("pause", "resume", "head 200", "cancel")
		}, "DEADLINE_EXCEEDED"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSim(t, 1, overH2(nil))
			c := s.call("grpc-timeout: 1M").start()
			test.play(c, s.dialer.connect())
			if e := s.one(); e.GRPCStatus != test.want || e.Status != 200 {
				t.Errorf("%+v, want %s", e, test.want)
			}
		})
	}
	s := newSim(t, 1, nil)
	s.get()
	s.dialer.connect().head(200, "grpc-status: 5")
	s.dialer.conns[0].end()
	if e := s.one(); e.GRPCStatus != "" {
		t.Errorf("an exchange that is no call has the status %s", e.GRPCStatus)
	}
}
