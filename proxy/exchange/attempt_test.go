package exchange

import (
	"strings"
	"testing"
	"time"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/upstream"
)

func TestWhatMayBeRetried(t *testing.T) {
	for _, c := range []struct {
		name, request string
		body          bool // announced
		sent          bool // a part of it was passed on
		stage         upstream.Stage
		cause         upstream.Cause
		retried       bool
		status        int
		reason        string
	}{
		{"GET, connect", "GET /", false, false, upstream.StageConnect, upstream.CauseConnectFailed, true, 503, "connect_failed"},
		{"GET, certificate", "GET /", false, false, upstream.StageConnect, upstream.CauseTLS, true, 502, "tls_handshake_failed"},
		{"POST, connect", "POST /", true, false, upstream.StageConnect, upstream.CauseConnectTimeout, true, 503, "connect_timeout"},
		{"GET, unsent", "GET /", false, false, upstream.StageUnsent, upstream.CauseReset, true, 502, "upstream_closed"},
		{"POST, unsent", "POST /", false, false, upstream.StageUnsent, upstream.CauseEOF, true, 502, "upstream_closed"},
		{"POST with body, unsent", "POST /", true, false, upstream.StageUnsent, upstream.CauseReset, true, 502, "upstream_closed"},
		{"POST with body passed on, unsent", "POST /", true, true, upstream.StageUnsent, upstream.CauseReset, true, 502, "upstream_closed"},
		{"GET, sent", "GET /", false, false, upstream.StageSent, upstream.CauseEOF, true, 502, "upstream_closed"},
		{"HEAD, sent", "HEAD /", false, false, upstream.StageSent, upstream.CauseReset, true, 502, "upstream_closed"},
		{"OPTIONS, sent", "OPTIONS /", false, false, upstream.StageSent, upstream.CauseReset, true, 502, "upstream_closed"},
		{"GET with body, sent", "GET /", true, false, upstream.StageSent, upstream.CauseReset, false, 502, "upstream_closed"},
		{"POST, sent", "POST /", false, false, upstream.StageSent, upstream.CauseEOF, false, 502, "upstream_closed"},
		{"PUT, sent", "PUT /", false, false, upstream.StageSent, upstream.CauseReset, false, 502, "upstream_closed"},
		{"DELETE, sent", "DELETE /", false, false, upstream.StageSent, upstream.CauseReset, false, 502, "upstream_closed"},
		{"other method, sent", "PURGE /", false, false, upstream.StageSent, upstream.CauseReset, false, 502, "upstream_closed"},
		{"GET, sent, refused in TLS", "GET /", false, false, upstream.StageSent, upstream.CauseTLS, true, 502, "tls_handshake_failed"},
		{"GET, sent, protocol error", "GET /", false, false, upstream.StageSent, upstream.CauseProtocol, false, 502, "upstream_protocol_error"},
		{"GET, in the head", "GET /", false, false, upstream.StageHead, upstream.CauseEOF, false, 502, "upstream_closed"},
		{"GET, bad head", "GET /", false, false, upstream.StageHead, upstream.CauseProtocol, false, 502, "upstream_protocol_error"},
		{"GET, timeout", "GET /", false, false, upstream.StageSent, upstream.CauseTimeout, false, 504, "upstream_timeout"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSim(t, 3, nil)
			cl := s.request(c.request)
			if c.body {
				cl.sized(3)
			}
			cl.start()
			fail := func() {
				if c.stage == upstream.StageConnect {
					s.dialer.refuse(c.cause)
					return
				}
				b := s.dialer.connect()
				if c.sent && s.dialer.dials == 1 { // it is kept for the others
					cl.x.OnRequestData([]byte("abc"))
				}
				b.fail(c.stage, c.cause)
			}
			fail()
			attempts, most := 1, 1
			switch {
			case c.retried && c.stage == upstream.StageUnsent:
				most = unsentMax
			case c.retried:
				most = attemptsMax
			}
			for ; attempts < most; attempts++ {
				if cl.over {
					t.Fatalf("no attempt after %d", attempts)
				}
				fail()
			}
			if !cl.over || cl.status != c.status {
				t.Fatalf("over=%v, status %d, want %d", cl.over, cl.status, c.status)
			}
			e := s.one()
			if e.Attempts != attempts || e.Reason != c.reason || e.Status != c.status {
				t.Errorf("%+v, want %d attempts, %d %s", e, attempts, c.status, c.reason)
			}
		})
	}
}

func TestABodyThatWasPassedOnIsSentAgain(t *testing.T) {
	for _, ended := range []bool{false, true} {
		s := newSim(t, 2, nil)
		c := s.request("POST /").chunked().start()
		b := s.dialer.connect()
		c.x.OnRequestData([]byte("a"))
		c.x.OnRequestData([]byte("b"))
		if ended {
			c.x.OnRequestEnd(trailerFields("x: y"))
		}
		b.fail(upstream.StageUnsent, upstream.CauseReset)
		if !c.paused {
			t.Error("the client sends although there is no back end")
		}
		b = s.dialer.connect()
		if !ended {
			c.x.OnRequestData([]byte("c"))
			c.x.OnRequestEnd(trailerFields("x: y"))
			b.wants("head POST /", "data ab", "data c", "end x=y")
		} else {
			b.wants("head POST /", "data ab", "end x=y")
		}
		b.answer(200, "")
		if e := s.one(); e.Attempts != 2 || e.Status != 200 {
			t.Errorf("%+v", e)
		}
	}
}

func TestASecondBackEndThatTakesNoMoreHoldsTheClientBack(t *testing.T) {
	s := newSim(t, 2, nil)
	c := s.request("POST /").chunked().start()
	b := s.dialer.connect()
	c.x.OnRequestData([]byte("a"))
	b.fail(upstream.StageUnsent, upstream.CauseReset)
	s.dialer.takesNothing = true
	b = s.dialer.connect()
	if !c.paused {
		t.Error("the client goes on")
	}
	b.sink.OnWritable()
	if c.paused {
		t.Error("the client is not resumed")
	}
}

func TestARetryGoesToAnotherEndpoint(t *testing.T) {
	for range 20 {
		s := newSim(t, 2, nil)
		c := s.get()
		first := s.dialer.pending[0].Endpoint()
		s.dialer.refuse(upstream.CauseConnectFailed)
		if s.dialer.pending[0].Endpoint() == first {
			t.Fatal("the retry goes to the endpoint that just failed")
		}
		s.dialer.connect().answer(200, "x")
		c.wants("head 200", "data x", "end", "finished")
		if e := s.one(); e.Attempts != 2 || e.Status != 200 || e.Reason != "" {
			t.Errorf("%+v", e)
		}
	}
}

// TestRetriesHaveABudget: when everything fails, retries add a share to the load; they do not double it.
func TestRetriesHaveABudget(t *testing.T) {
	s := newSim(t, 1, nil)
	const requests = 2000
	for range requests {
		s.get()
		for len(s.dialer.pending) > 0 {
			s.dialer.refuse(upstream.CauseConnectFailed)
		}
	}
	// All in one second: 20% of the requests.
	if retries := s.dialer.dials - requests; retries < requests/10 || retries > requests/5+100 {
		t.Errorf("%d retries of %d requests", retries, requests)
	}
}

// TestAnEmptyBodyEndsAtTheBackEndToo: its end may come before there is a connection, or before the first one breaks.
func TestAnEmptyBodyEndsAtTheBackEndToo(t *testing.T) {
	s := newSim(t, 2, nil)
	c := s.request("POST /").sized(0).start()
	c.x.OnRequestEnd(nil)
	b := s.dialer.connect()
	b.wants("head POST /", "end")
	b.answer(200, "x")
	if b.gone {
		t.Error("the connection is not used again")
	}

	s = newSim(t, 2, nil)
	c = s.request("POST /").chunked().start()
	b = s.dialer.connect()
	c.x.OnRequestEnd(nil)
	b.wants("head POST /", "end")
	b.fail(upstream.StageUnsent, upstream.CauseReset)
	b = s.dialer.connect()
	b.wants("head POST /", "end")
}

func TestAClientThatWaitsFor100GetsItOnceWhicheverAttemptSucceeds(t *testing.T) {
	s := newSim(t, 2, nil)
	c := s.request("POST /").sized(3)
	c.x.Req.ExpectContinue = true
	c.start()
	c.wants("pause")
	s.dialer.refuse(upstream.CauseConnectFailed)
	c.wants("pause", "pause") // nobody takes the body yet
	b := s.dialer.connect()
	c.wants("pause", "pause", "head 100", "resume")
	b.fail(upstream.StageSent, upstream.CauseReset)
	if c.status != 502 { // two attempts were made
		t.Fatal(c.status)
	}

	s = newSim(t, 2, nil)
	c = s.request("POST /").sized(3)
	c.x.Req.ExpectContinue = true
	c.start()
	s.dialer.connect().fail(upstream.StageUnsent, upstream.CauseReset)
	s.dialer.connect()
	c.wants("pause", "head 100", "resume", "pause", "resume")
}

func TestA100OfTheBackEndIsNotPassedOn(t *testing.T) {
	s := newSim(t, 1, nil)
	c := s.get()
	b := s.dialer.connect()
	b.head(100)
	b.head(103, "Link: </a>")
	b.answer(200, "x")
	c.wants("head 103", "head 200", "data x", "end", "finished")
}

func TestTooManyInterimResponsesAreABrokenBackEnd(t *testing.T) {
	s := newSim(t, 1, nil)
	c := s.get()
	b := s.dialer.connect()
	for i := range interimsMax {
		b.head(102)
		if c.over {
			t.Fatalf("given up after %d", i+1)
		}
	}
	b.head(102)
	if c.status != 502 || !b.gone || s.one().Reason != "too_many_interim_responses" {
		t.Errorf("%d, back end gone: %v", c.status, b.gone)
	}
}

func TestTheRequestBodyWaitsForAConnection(t *testing.T) {
	s := newSim(t, 1, nil)
	c := s.request("POST /").sized(6).start()
	if !c.paused {
		t.Fatal("nothing can take the body yet")
	}
	b := s.dialer.connect()
	if c.paused {
		t.Fatal("the body is held back although there is a connection")
	}
	c.x.OnRequestData([]byte("abc"))
	c.x.OnRequestData([]byte("def"))
	c.x.OnRequestEnd(nil)
	b.wants("head POST /", "data abc", "data def", "end")
}

func TestASlowBackEndPausesTheClient(t *testing.T) {
	s := newSim(t, 1, nil)
	c := s.request("POST /").chunked().start()
	b := s.dialer.connect()
	b.full = true
	c.x.OnRequestData([]byte("abc"))
	if !c.paused {
		t.Error("the client goes on")
	}
	b.full = false
	b.sink.OnWritable()
	if c.paused {
		t.Error("the client stays paused")
	}
}

func TestASlowClientPausesTheBackEnd(t *testing.T) {
	s := newSim(t, 1, nil)
	c := s.get()
	b := s.dialer.connect()
	b.head(200)
	c.full = true
	b.data("abc")
	if !b.paused {
		t.Error("the back end goes on")
	}
	c.full = false
	c.x.OnClientWritable()
	if b.paused {
		t.Error("the back end stays paused")
	}
	b.end()
	c.wants("head 200", "data abc", "end", "finished")
}

func TestWhenTheClientGoesNothingIsSentToIt(t *testing.T) {
	for name, stage := range map[string]func(s *sim, c *fakeClient) *fakeConn{
		"waiting": func(*sim, *fakeClient) *fakeConn { return nil },
		"sent":    func(s *sim, _ *fakeClient) *fakeConn { return s.dialer.connect() },
		"in the body": func(s *sim, _ *fakeClient) *fakeConn {
			b := s.dialer.connect()
			b.head(200)
			b.data("x")
			return b
		},
		"in a tunnel": func(s *sim, _ *fakeClient) *fakeConn {
			b := s.dialer.connect()
			b.head(101, "Upgrade: websocket")
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSim(t, 1, nil)
			c := s.request("GET /")
			c.x.Req.Upgrade = c.x.Req.StoreString("websocket")
			c.start()
			b := stage(s, c)
			c.over = true // the engine's connection is closed: any call fails the test
			c.x.OnClientGone("client_reset")
			if b == nil {
				if b := s.dialer.connect(); b.heads > 0 {
					t.Error("a request without a client was sent")
				}
			} else if !b.gone {
				t.Error("the attempt goes on")
			}
			e := s.one()
			if e.Reason != "client_reset" || e.Status == 200 && name == "sent" {
				t.Errorf("%+v", e)
			}
			if (name == "waiting" || name == "sent") && e.Status != 499 {
				t.Errorf("status %d, want 499", e.Status)
			}
			if s.w.Active() != 0 {
				t.Error("the exchange is still active")
			}
		})
	}
}

func TestASwitchNeedsTheWholeRequest(t *testing.T) {
	s := newSim(t, 1, nil)
	c := s.request("POST /").sized(5)
	c.x.Req.Upgrade = c.x.Req.StoreString("websocket")
	c.start()
	b := s.dialer.connect()
	c.x.OnRequestData([]byte("ab"))
	b.head(101, "Upgrade: websocket")
	if c.status != 502 || !b.gone || s.one().Reason != "unexpected_switching_protocols" {
		t.Errorf("%d", c.status)
	}
}

func TestABrokenTunnelIsNotAnOrderlyEnd(t *testing.T) {
	s := newSim(t, 1, nil)
	c := s.request("GET /")
	c.x.Req.Upgrade = c.x.Req.StoreString("websocket")
	c.start()
	b := s.dialer.connect()
	b.head(101, "Upgrade: WebSocket") // protocol names compare without case
	b.data("x")
	b.fail(upstream.StageBody, upstream.CauseReset)
	c.wants("head 101", "data x", "abort")
	if e := s.one(); e.Reason != "upstream_truncated" || e.Status != 101 {
		t.Errorf("%+v", e)
	}
}

func TestWhatRautaAnswersItself(t *testing.T) {
	for _, c := range []struct {
		name      string
		endpoints int
		change    func(*config.Config)
		status    int
		reason    string
	}{
		{"no endpoint", 0, nil, 503, "no_endpoint"},
		{"no route", 1, func(c *config.Config) { c.Listeners[0].Attached[0].Hostnames[0] = "other.example" }, 404, "no_route"},
		{"no back end", 1, rule(func(r *config.Rule) { r.Backends = nil }), 500, "no_backend"},
		{"back end with weight 0", 1, rule(func(r *config.Rule) { r.Backends[0].Weight = 0 }), 500, "no_backend"},
		{"back end that does not resolve", 1, rule(func(r *config.Rule) {
			r.Backends[0] = config.Backend{Weight: 1, Invalid: "not found"}
		}), 500, "invalid_backend"},
		{"filter that answers", 1, rule(func(r *config.Rule) {
			r.Filters = []config.Filter{{Answer: &config.Answer{Status: 403, Reason: "denied"}}}
		}), 403, "denied"},
		{"body too large", 1, rule(func(r *config.Rule) { r.BodyBytesMax = 2 }), 413, "body_too_large"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSim(t, c.endpoints, c.change)
			cl := s.request("POST /").sized(3).start()
			if cl.status != c.status || !cl.over || s.dialer.dials > 0 {
				t.Fatalf("status %d, over %v, %d dials", cl.status, cl.over, s.dialer.dials)
			}
			if cl.fields["date"] == "" || cl.fields["server"] != "rauta" {
				t.Errorf("fields %v", cl.fields)
			}
			if e := s.one(); e.Reason != c.reason || e.Status != c.status || e.BackendStatus != 0 || e.Attempts != 0 {
				t.Errorf("%+v", e)
			}
		})
	}
}

func TestABodyThatGrowsOverTheLimitEndsTheAttempt(t *testing.T) {
	s := newSim(t, 1, rule(func(r *config.Rule) { r.BodyBytesMax = 4 }))
	c := s.request("POST /").chunked().start()
	b := s.dialer.connect()
	c.x.OnRequestData([]byte("abcd"))
	if c.over {
		t.Fatal("the limit itself is allowed")
	}
	c.x.OnRequestData([]byte("e"))
	if c.status != 413 || !b.gone || b.sent > 4 {
		t.Errorf("status %d, %d bytes passed on", c.status, b.sent)
	}
}

func TestTooManyWaitingRequestsOverflow(t *testing.T) {
	s := newSim(t, 1, func(c *config.Config) {
		c.Clusters[0].ConnectionsMax, c.Clusters[0].PendingMax = 1, 2
	})
	clients := []*fakeClient{s.get()}
	b := s.dialer.connect()
	for range 3 {
		clients = append(clients, s.get())
	}
	if c := clients[3]; !c.over || c.status != 503 {
		t.Errorf("the fourth waits too: %q", c.events)
	}
	if c := clients[2]; c.over {
		t.Errorf("the third was refused: %q", c.events)
	}
	b.answer(200, "1")
	b.answer(200, "2")
	if !clients[0].over || !clients[1].over || clients[0].status+clients[1].status != 400 {
		t.Error("those who waited were not served in turn")
	}
	if s.dialer.dials > 1 {
		t.Errorf("%d dials, 1 is allowed", s.dialer.dials)
	}
}

func TestDrainingClosesEveryConnectionAfterItsResponse(t *testing.T) {
	s := newSim(t, 1, nil)
	c := s.get()
	b := s.dialer.connect()
	s.w.Draining = true
	b.answer(200, "x")
	if !c.closes {
		t.Error("a response does not close")
	}
	s2 := newSim(t, 0, nil)
	s2.w.Draining = true
	if c := s2.get(); !c.closes {
		t.Error("an answer of our own does not close")
	}
}

func TestARefusedHeadLeavesARecord(t *testing.T) {
	s := newSim(t, 1, nil)
	c := s.request("GET /")
	c.x.Refuse(431, "head_too_large")
	if c.status != 431 || !c.closes || !c.over {
		t.Errorf("%q", c.events)
	}
	if e := s.one(); e.Reason != "head_too_large" || e.Status != 431 {
		t.Errorf("%+v", e)
	}
}

func TestTheLogTellsTheBackEndsStatusFromOurs(t *testing.T) {
	s := newSim(t, 1, nil)
	s.get()
	b := s.dialer.connect()
	b.head(200)
	b.fail(upstream.StageBody, upstream.CauseEOF)
	if e := s.one(); e.BackendStatus != 200 || e.Reason != "upstream_truncated" || e.Endpoint != "10.0.0.1:80" {
		t.Errorf("%+v", e)
	}
}

func TestABadRequestBodyIsNotEndedAtTheBackEnd(t *testing.T) {
	s := newSim(t, 1, nil)
	c := s.request("POST /").chunked().start()
	b := s.dialer.connect()
	c.x.OnRequestData([]byte("abc"))
	c.x.OnBadRequestBody(400, "bad_chunk_size")
	b.wants("head POST /", "data abc", "cancel")
	if c.status != 400 || !c.over {
		t.Errorf("%q", c.events)
	}
	if got := strings.Join(c.events, ","); strings.Contains(got, "bad_chunk_size") {
		t.Error("the answer tells what is inside")
	}
	s.advance(time.Hour)
}

func TestAFailedHandshakeIsNamedByItsProblem(t *testing.T) {
	f := upstream.Failure{Stage: upstream.StageConnect, Cause: upstream.CauseTLS, Detail: "tls_certificate_expired"}
	if reason, status := failureReason(f), failureStatus(f); reason != f.Detail || status != 502 {
		t.Errorf("%d %s", status, reason)
	}
}
