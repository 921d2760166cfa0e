package exchange

import (
	"testing"
	"time"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/upstream"
)

// wantStages compares where the time of the only exchange went, in milliseconds; what is not named must be nothing.
func (s *sim) wantStages(want map[observe.Stage]int64) {
	s.t.Helper()
	e, sum := s.one(), int64(0)
	for stage := observe.StageProxy; stage < observe.StageCount; stage++ {
		us := e.Stages[stage.String()]
		if us != want[stage]*1000 {
			s.t.Errorf("%v took %d us, want %d ms", stage, us, want[stage])
		}
		sum += us
	}
	if sum != e.Duration {
		s.t.Errorf("the stages add up to %d us, the exchange took %d us", sum, e.Duration)
	}
}

func (s *sim) pass(ms int) { s.advance(time.Duration(ms) * time.Millisecond) }

func TestEachMomentOfAnExchangeBelongsToOneStage(t *testing.T) {
	s := newSim(t, 1, nil)
	c := s.request("POST /").chunked().start()
	s.pass(100)
	b := s.dialer.connect()
	c.x.OnRequestData([]byte("a"))
	s.pass(200)
	c.x.OnRequestEnd(nil)
	s.pass(300)
	b.head(200)
	s.pass(400)
	c.full = true
	b.data("a")
	s.pass(500) // the client holds it back
	c.full = false
	c.x.OnClientWritable()
	s.pass(600)
	c.slow = true
	b.end()
	s.pass(700)
	c.x.OnTaken("")
	s.wantStages(map[observe.Stage]int64{
		observe.StageBackendConnect: 100, observe.StageRequestBody: 200, observe.StageBackendTTFB: 300,
		observe.StageBackendBody: 400 + 600, observe.StageClientWrite: 500 + 700,
	})
}

func TestAttemptsThatFailedCountInTheirStagesAndTheWaitBetweenThemAsOurs(t *testing.T) {
	s := retrying(t, 2, config.Retry{Codes: []int{503}, Attempts: 3})
	s.get()
	s.pass(100)
	s.dialer.refuse(upstream.CauseConnectFailed)
	s.pass(1000) // the wait before the second attempt
	s.pass(200)
	b := s.dialer.connect()
	s.pass(300)
	b.answer(200, "")
	e := s.one()
	connect, ours := e.Stages["backend_connect"], e.Stages["proxy"]
	if e.Attempts != 2 || connect+ours != 1_300_000 || connect < 300_000 || ours < 25_000 || e.Stages["backend_ttfb"] != 300_000 {
		t.Errorf("%+v", e)
	}
}

func TestAResponseThatOvertakesItsRequestWaitsInNoStageAfterIt(t *testing.T) {
	s := newSim(t, 1, nil)
	c := s.request("POST /").chunked().start()
	b := s.dialer.connect()
	s.pass(100)
	b.head(200)
	s.pass(200)
	c.x.OnRequestEnd(nil)
	s.pass(300)
	b.end()
	s.wantStages(map[observe.Stage]int64{observe.StageRequestBody: 100, observe.StageBackendBody: 500})
}

func TestAClientThatGoesBeforeItHasTakenAllIsSaidToBeGone(t *testing.T) {
	s := newSim(t, 1, nil)
	c := s.get()
	c.slow = true
	s.dialer.connect().answer(200, "abc")
	s.wantMetric(`rauta_requests_in_flight{route="r"} 1`)
	s.pass(100)
	c.x.OnTaken("client_reset")
	s.wantMetric(`rauta_requests_in_flight{route="r"} 0`)
	if e := s.one(); e.Reason != "client_reset" || e.Status != 200 || e.Stages["client_write"] != 100_000 {
		t.Errorf("%+v", e)
	}
	if n := s.w.Active(); n != 0 {
		t.Errorf("%d exchanges are under way", n)
	}
}

func TestAnAnswerOfOurOwnKeepsItsReasonWhileTheClientTakesIt(t *testing.T) {
	s := newSim(t, 0, nil)
	c := s.request("GET /")
	c.slow = true
	c.start()
	s.pass(70_000) // longer than any deadline of an exchange
	c.x.OnTaken("client_reset")
	if e := s.one(); e.Reason != "no_endpoint" || e.Status != 503 || e.Stages["client_write"] != 70_000_000 {
		t.Errorf("%+v", e)
	}
}
