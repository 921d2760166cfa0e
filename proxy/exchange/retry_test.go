package exchange

import (
	"testing"
	"time"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/upstream"
)

// retrying has a rule with a Retry; backoffs are 100 ms unless it says otherwise.
func retrying(t testing.TB, endpoints int, r config.Retry, change ...func(*config.Rule)) *sim {
	if r.Backoff == 0 {
		r.Backoff = config.Duration(100 * time.Millisecond)
	}
	return newSim(t, endpoints, rule(func(cfg *config.Rule) {
		cfg.Retry = &r
		for _, f := range change {
			f(cfg)
		}
	}))
}

// backoffMax is more than any backoff of retrying.
const backoffMax = 2 * time.Second

func TestAResponseWithAListedStatusIsReplacedByAnotherAttempt(t *testing.T) {
	for _, c := range []struct {
		name, request    string
		retry            config.Retry
		answers          []int // of the attempts
		status, attempts int
	}{
		{"it gets well", "GET /", config.Retry{Codes: []int{500}, Attempts: 3}, []int{500, 500, 200}, 200, 3},
		{"it does not", "GET /", config.Retry{Codes: []int{500}, Attempts: 3}, []int{500, 500, 500, 500}, 500, 4},
		{"another status", "GET /", config.Retry{Codes: []int{500}, Attempts: 3}, []int{503}, 503, 1},
		{"another status on the way", "GET /", config.Retry{Codes: []int{500, 502}, Attempts: 3}, []int{502, 404}, 404, 2},
		{"a 429", "GET /", config.Retry{Codes: []int{429}, Attempts: 1}, []int{429, 200}, 200, 2},
		{"no attempts", "GET /", config.Retry{Codes: []int{500}}, []int{500}, 500, 1},
		{"a refused POST", "POST /", config.Retry{Codes: []int{503}, Attempts: 1}, []int{503, 201}, 201, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := retrying(t, 1, c.retry)
			s.dialer.atOnce = true
			cl := s.request(c.request).start()
			for i, status := range c.answers {
				b := s.dialer.conns[0]
				if b.sink == nil {
					t.Fatalf("the back end did not get attempt %d", i+1)
				}
				b.answer(status, "body of "+c.request)
				if i < len(c.answers)-1 {
					if cl.status != 0 {
						t.Fatalf("the client has had %d", cl.status)
					}
					if s.advance(99 * time.Millisecond); b.sink != nil {
						t.Fatal("the next attempt came too early")
					}
					s.advance(backoffMax)
				}
			}
			if cl.status != c.status || !cl.over {
				t.Errorf("%d, want %d; %q", cl.status, c.status, cl.events)
			}
			if len(s.dialer.conns) != 1 {
				t.Errorf("%d connections: a response that is thrown away must not cost one", len(s.dialer.conns))
			}
			if e := s.one(); e.Attempts != c.attempts || e.Status != c.status || e.BackendStatus != c.status || e.Reason != "" {
				t.Errorf("logged %+v", e)
			}
		})
	}
}

func TestBackoffsGrowAndAreSpread(t *testing.T) {
	seen := map[time.Duration]bool{}
	s := retrying(t, 1, config.Retry{Codes: []int{500}, Attempts: 100})
	s.dialer.atOnce = true
	for range 20 {
		s.get()
		for _, least := range []time.Duration{100, 200, 400, 800, 800, 800} {
			least *= time.Millisecond
			b := s.dialer.conns[0]
			b.answer(500, "")
			wait := time.Duration(0)
			for ; b.sink == nil && wait < 2*least; wait += 10 * time.Millisecond {
				s.advance(10 * time.Millisecond)
			}
			if wait < least || wait > least*3/2+20*time.Millisecond {
				t.Fatalf("waited %s, want %s to half more", wait, least)
			}
			seen[wait] = true
		}
		s.dialer.conns[0].answer(200, "")
	}
	if len(seen) < 20 {
		t.Errorf("only %d different waits", len(seen))
	}
}

func TestTheBodyIsSentAgainToTheNextAttempt(t *testing.T) {
	s := retrying(t, 2, config.Retry{Codes: []int{503}, Attempts: 1})
	c := s.request("POST /").sized(6).start()
	b := s.dialer.connect()
	c.x.OnRequestData([]byte("abcdef"))
	c.x.OnRequestEnd(nil)
	b.answer(503, "sorry")
	s.advance(backoffMax)
	b = s.dialer.connect()
	if string(b.body) != "abcdef" || !b.ended {
		t.Errorf("the second attempt got %q", b.body)
	}
	b.answer(200, "")
	if c.status != 200 {
		t.Error(c.status)
	}
}

func TestAResponseInTheMiddleOfTheBodyGivesTheRestToTheNextAttempt(t *testing.T) {
	s := retrying(t, 2, config.Retry{Codes: []int{503}, Attempts: 1})
	c := s.request("POST /").sized(6).start()
	first := s.dialer.connect()
	c.x.OnRequestData([]byte("abc"))
	first.head(503)
	if !first.gone || !c.paused {
		t.Fatalf("cancelled %t, paused %t: the rest would go to nobody", first.gone, c.paused)
	}
	s.advance(backoffMax)
	b := s.dialer.connect()
	if c.paused {
		t.Fatal("the client is still held back")
	}
	c.x.OnRequestData([]byte("def"))
	c.x.OnRequestEnd(nil)
	if string(b.body) != "abcdef" || !b.ended {
		t.Errorf("the second attempt got %q", b.body)
	}
	b.answer(200, "")
	if c.status != 200 {
		t.Error(c.status)
	}
}

func TestABodyThatIsTooLargeToKeepIsNotSentAgain(t *testing.T) {
	s := retrying(t, 2, config.Retry{Codes: []int{503}, Attempts: 1})
	c := s.request("POST /").chunked().start()
	b := s.dialer.connect()
	c.x.OnRequestData(make([]byte, replayBytesMax+1))
	c.x.OnRequestEnd(nil)
	b.answer(503, "sorry")
	if c.status != 503 {
		t.Error(c.status)
	}
}

func TestALongErrorPageIsNotReadToItsEnd(t *testing.T) {
	s := retrying(t, 1, config.Retry{Codes: []int{500}, Attempts: 1})
	c := s.get()
	first := s.dialer.connect()
	first.head(500)
	first.data(string(make([]byte, drainBytesMax)))
	if first.paused {
		t.Fatal("paused at the limit")
	}
	first.data("x")
	if !first.paused {
		t.Fatal("still reading")
	}
	s.advance(backoffMax)
	if !first.gone {
		t.Fatal("the connection is still in use")
	}
	s.dialer.connect().answer(200, "ok")
	c.wants("head 200", "data ok", "end", "finished")
}

func TestWhatBecomesOfAReplacedResponseIsOfNoInterest(t *testing.T) {
	s := retrying(t, 1, config.Retry{Codes: []int{500}, Attempts: 1})
	c := s.get()
	b := s.dialer.connect()
	b.head(500)
	b.fail(upstream.StageBody, upstream.CauseReset)
	s.advance(backoffMax)
	s.dialer.connect().answer(200, "ok")
	c.wants("head 200", "data ok", "end", "finished")
}

func TestTimeoutsOfTheRequestGoOnWhileAnAttemptIsWaitedFor(t *testing.T) {
	s := retrying(t, 1, config.Retry{Codes: []int{500}, Attempts: 5, Backoff: config.Duration(time.Second)},
		func(r *config.Rule) { r.Timeouts.Request = config.Duration(500 * time.Millisecond) })
	c := s.get()
	s.dialer.connect().head(500)
	s.advance(600 * time.Millisecond)
	if c.status != 504 {
		t.Errorf("%d, want 504", c.status)
	}
	s.advance(backoffMax)
	if e := s.one(); e.Attempts != 1 || e.Reason != "request_timeout" {
		t.Errorf("%+v", e)
	}
}

func TestAnAttemptThatTakesTooLongIsFollowedByAnotherIfTheRuleSaysSo(t *testing.T) {
	for _, c := range []struct {
		request  string
		codes    []int
		attempts int
	}{
		{"GET /", []int{504}, 2}, {"PUT /", []int{504}, 2}, {"DELETE /", []int{504}, 2},
		{"POST /", []int{504}, 1}, {"PATCH /", []int{504}, 1}, {"GET /", []int{503}, 1},
	} {
		s := retrying(t, 2, config.Retry{Codes: c.codes, Attempts: 1},
			func(r *config.Rule) { r.Timeouts.BackendRequest = config.Duration(300 * time.Millisecond) })
		cl := s.request(c.request).start()
		s.dialer.connect()
		if s.advance(350 * time.Millisecond); c.attempts == 1 {
			if cl.status != 504 {
				t.Errorf("%s: %d, want 504", c.request, cl.status)
			}
			continue
		}
		s.advance(150 * time.Millisecond) // the backoff
		b := s.dialer.connect()
		if b.answer(200, ""); cl.status != 200 {
			t.Errorf("%s: %d, want 200", c.request, cl.status)
		}
	}
}

func TestAClientThatGoesWhileAnAttemptIsWaitedForEndsIt(t *testing.T) {
	s := retrying(t, 1, config.Retry{Codes: []int{500}, Attempts: 1})
	c := s.get()
	b := s.dialer.connect()
	b.head(500)
	c.over = true
	c.x.OnClientGone("client_reset")
	if !b.gone {
		t.Error("the response is still read")
	}
	s.advance(backoffMax)
	if e := s.one(); e.Status != statusGone || e.Attempts != 1 || s.w.Active() != 0 {
		t.Errorf("%+v, %d active", e, s.w.Active())
	}
}

func TestFailuresAreTriedAgainAsOftenAsTheRuleSays(t *testing.T) {
	s := retrying(t, 3, config.Retry{Attempts: 4})
	c := s.get()
	for i := range 4 {
		s.dialer.refuse(upstream.CauseConnectFailed)
		if len(s.dialer.pending) > 0 {
			t.Fatalf("attempt %d came at once", i+2)
		}
		s.advance(backoffMax)
	}
	s.dialer.connect().answer(200, "")
	if e := s.one(); c.status != 200 || e.Attempts != 5 {
		t.Errorf("%d, %+v", c.status, e)
	}
}

func TestWithoutABackoffTheFirstFailureIsTriedElsewhereAtOnce(t *testing.T) {
	s := newSim(t, 3, rule(func(r *config.Rule) { r.Retry = &config.Retry{Attempts: 2} }))
	c := s.get()
	s.dialer.refuse(upstream.CauseConnectFailed)
	s.dialer.refuse(upstream.CauseConnectFailed)
	if len(s.dialer.pending) > 0 {
		t.Fatal("so did the second")
	}
	s.advance(backoffMax)
	if s.dialer.connect().answer(200, ""); c.status != 200 {
		t.Error(c.status)
	}
}

func TestNoAttemptsMeansThatFailuresAreAnsweredToo(t *testing.T) {
	s := retrying(t, 3, config.Retry{})
	c := s.get()
	s.dialer.refuse(upstream.CauseConnectFailed)
	if c.status != 503 {
		t.Error(c.status)
	}
}

func TestWhatMayHaveBeenDoneIsOnlyRepeatedWhereThatIsTheSame(t *testing.T) {
	for _, c := range []struct {
		request string
		codes   []int
		retried bool
	}{
		{"PUT /", []int{502}, true}, {"PUT /", []int{503}, false}, {"POST /", []int{502}, false}, {"GET /", nil, true},
	} {
		s := retrying(t, 2, config.Retry{Codes: c.codes, Attempts: 1})
		cl := s.request(c.request).start()
		s.dialer.connect().fail(upstream.StageSent, upstream.CauseReset)
		s.advance(backoffMax)
		if retried := len(s.dialer.pending) == 1; retried != c.retried || !retried && cl.status != 502 {
			t.Errorf("%s with %v: tried again %t, status %d", c.request, c.codes, retried, cl.status)
		}
	}
}

func TestRetriesOfARuleAreWithinTheBudget(t *testing.T) {
	s := retrying(t, 1, config.Retry{Codes: []int{500}, Attempts: 1})
	for s.w.Upstream.AllowRetry() {
	}
	c := s.get()
	if s.dialer.connect().answer(500, ""); c.status != 500 {
		t.Error(c.status)
	}
}

func TestAGRPCServerThatIsUnavailableIsAskedAgain(t *testing.T) {
	s := retrying(t, 1, config.Retry{Attempts: 1})
	c := s.call().start()
	b := s.dialer.connect()
	c.x.OnRequestData([]byte("hello"))
	c.x.OnRequestEnd(nil)
	b.head(200, "grpc-status: 14")
	b.end()
	s.advance(backoffMax)
	if string(b.body) != "hello" {
		t.Fatalf("the next attempt got %q", b.body)
	}
	b.head(200)
	b.endWith(trailerFields("grpc-status: 0"))
	if e := s.one(); c.status != 200 || e.Attempts != 2 || e.GRPCStatus != "OK" {
		t.Errorf("%d %+v", c.status, e)
	}
}

func TestRetriesAreCountedWithWhatWasAnswered(t *testing.T) {
	s := retrying(t, 1, config.Retry{Codes: []int{500}, Attempts: 1})
	s.get()
	s.dialer.connect().answer(500, "")
	s.advance(backoffMax)
	s.dialer.conns[0].answer(200, "")
	for _, line := range []string{
		"rauta_retries_total 1",
		`rauta_backend_requests_total{cluster="ns/app:80",endpoint="10.0.0.1:80",code="2xx"} 1`,
		`rauta_backend_requests_total{cluster="ns/app:80",endpoint="10.0.0.1:80",code="5xx"} 1`,
	} {
		s.wantMetric(line)
	}
}
