package exchange

import (
	"testing"
	"time"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/upstream"
)

// aBit is more than the resolution of the clock.
const aBit = 50 * time.Millisecond

func TestARequestTimeoutCountsFromTheHeadThroughAllAttempts(t *testing.T) {
	s := newSim(t, 1, rule(func(r *config.Rule) { r.Timeouts.Request = config.Duration(time.Second) }))
	c := s.get()
	s.advance(500 * time.Millisecond)
	b := s.dialer.connect()
	s.advance(500*time.Millisecond - aBit)
	if c.over {
		t.Fatal("it fires early")
	}
	s.advance(2 * aBit)
	c.wants("head 504", "data 504 Gateway Timeout\n", "end", "finished")
	if !b.gone {
		t.Error("the attempt goes on")
	}
	if e := s.one(); e.Reason != "request_timeout" || e.Status != 504 {
		t.Errorf("%+v", e)
	}
}

func TestARequestTimeoutCutsOffAResponseUnderWay(t *testing.T) {
	s := newSim(t, 1, rule(func(r *config.Rule) { r.Timeouts.Request = config.Duration(time.Second) }))
	c := s.get()
	b := s.dialer.connect()
	b.head(200)
	b.data("x")
	s.advance(time.Second + aBit)
	c.wants("head 200", "data x", "abort")
	if e := s.one(); e.Reason != "request_timeout" || e.Status != 200 || !b.gone {
		t.Errorf("%+v, back end gone: %v", e, b.gone)
	}
}

func TestABackendRequestTimeoutStartsAnewWithEachAttempt(t *testing.T) {
	s := newSim(t, 2, rule(func(r *config.Rule) { r.Timeouts.BackendRequest = config.Duration(time.Second) }))
	c := s.get()
	s.advance(800 * time.Millisecond)
	s.dialer.refuse(upstream.CauseConnectFailed)
	s.advance(800 * time.Millisecond)
	if c.over {
		t.Fatal("the time of the first attempt counts for the second")
	}
	s.advance(200*time.Millisecond + aBit)
	if e := s.one(); e.Reason != "backend_request_timeout" || e.Status != 504 || e.Attempts != 2 {
		t.Errorf("%+v", e)
	}
}

func TestTheResponseTimeoutWaitsForTheWholeRequest(t *testing.T) {
	s := newSim(t, 1, nil)
	c := s.request("POST /").sized(10).start()
	s.dialer.connect()
	for range 10 {
		s.advance(20 * time.Second) // a slow upload is the engine's to judge
		c.x.OnRequestData([]byte("x"))
	}
	c.x.OnRequestEnd(nil)
	s.advance(60*time.Second - aBit)
	if c.over {
		t.Fatal("it fires early")
	}
	s.advance(2 * aBit)
	if e := s.one(); e.Reason != "response_timeout" || e.Status != 504 {
		t.Errorf("%+v", e)
	}
}

func TestWaitingForAConnectionIsBoundedByTheResponseTimeout(t *testing.T) {
	s := newSim(t, 1, rule(func(r *config.Rule) { r.Timeouts.Response = config.Duration(3 * time.Second) }))
	c := s.get()
	s.advance(3*time.Second + aBit)
	c.wants("head 504", "data 504 Gateway Timeout\n", "end", "finished")
	b := s.dialer.connect() // comes too late: nobody waits
	if b.heads != 0 || s.one().Reason != "response_timeout" {
		t.Error("a request that was given up was sent")
	}
}

// TestAResponseThatOvertakesItsRequestIsNotWaitedFor: once the head has come, the end of the request must not start the
// wait for it.
func TestAResponseThatOvertakesItsRequestIsNotWaitedFor(t *testing.T) {
	s := newSim(t, 1, nil)
	c := s.request("POST /").chunked().start()
	b := s.dialer.connect()
	c.x.OnRequestData([]byte("a"))
	b.head(200)
	b.data("A")
	c.x.OnRequestEnd(nil)
	for range 10 {
		s.advance(50 * time.Second)
		b.data("B")
	}
	b.end()
	if e := s.one(); e.Reason != "" || e.Status != 200 || e.BytesOut != 11 {
		t.Errorf("%+v", e)
	}
}

func TestABodyThatStallsIsCutOffAfterFiveMinutes(t *testing.T) {
	s := newSim(t, 1, nil)
	c := s.get()
	b := s.dialer.connect()
	b.head(200)
	for range 3 {
		s.advance(299 * time.Second)
		b.data("x")
	}
	s.advance(300*time.Second - aBit)
	if c.over {
		t.Fatal("it fires early")
	}
	s.advance(2 * aBit)
	if e := s.one(); e.Reason != "stream_idle_timeout" || e.Status != 200 || !b.gone {
		t.Errorf("%+v", e)
	}
}

func TestATunnelHasNoDeadline(t *testing.T) {
	s := newSim(t, 1, rule(func(r *config.Rule) {
		r.Timeouts.Request, r.Timeouts.BackendRequest = config.Duration(time.Second), config.Duration(time.Second)
	}))
	c := s.request("GET /")
	c.x.Req.Upgrade = c.x.Req.StoreString("websocket")
	c.start()
	b := s.dialer.connect()
	b.head(101, "Upgrade: websocket")
	s.advance(24 * time.Hour)
	if c.over {
		t.Fatalf("the tunnel was closed: %q", c.events)
	}
	c.x.OnRequestData([]byte("hi"))
	c.x.OnRequestEnd(nil)
	b.sink.OnEnd(nil)
	c.wants("head 101", "end", "finished")
	if e := s.one(); e.Reason != "" || e.Status != 101 || e.BytesIn != 2 {
		t.Errorf("%+v", e)
	}
}

func TestNoTimeoutMeansNone(t *testing.T) {
	s := newSim(t, 1, rule(func(r *config.Rule) {
		r.Timeouts = config.Timeouts{Request: config.NoTimeout, BackendRequest: config.NoTimeout, Response: config.NoTimeout}
	}))
	c := s.get()
	b := s.dialer.connect()
	s.advance(299 * time.Second) // idleness still counts
	if c.over {
		t.Fatalf("%q", c.events)
	}
	b.answer(200, "x")
	c.wants("head 200", "data x", "end", "finished")
}

// TestSlowClientsDoNotGetAnEndpointEjected: a request timeout during the upload says nothing about the back end.
func TestSlowClientsDoNotGetAnEndpointEjected(t *testing.T) {
	s := newSim(t, 2, rule(func(r *config.Rule) { r.Timeouts.Request = config.Duration(time.Second) }))
	s.dialer.atOnce = true
	for range 50 {
		c := s.request("POST /").sized(10).start()
		c.x.OnRequestData([]byte("x"))
		s.advance(time.Second + aBit)
		if c.status != 504 {
			t.Fatal(c.status)
		}
	}
	for _, e := range s.w.Live.Current().Clusters[clusterName].Set().Endpoints() {
		if e.Ejected(s.w.Clock.Now()) {
			t.Errorf("%s was ejected", e.Name)
		}
	}
}

func TestAnEndpointThatDoesNotAnswerIsEjected(t *testing.T) {
	s := newSim(t, 2, rule(func(r *config.Rule) { r.Timeouts.Request = config.Duration(time.Second) }))
	s.dialer.atOnce = true
	ejected := 0
	for range 20 {
		s.get()
		s.advance(time.Second + aBit)
		for _, e := range s.w.Live.Current().Clusters[clusterName].Set().Endpoints() {
			if e.Ejected(s.w.Clock.Now()) {
				ejected++
			}
		}
	}
	if ejected == 0 {
		t.Error("no endpoint was ejected although none answers")
	}
}

func TestATunnelEndsWhenOneHalfIsClosedAndTheOtherStaysSilent(t *testing.T) {
	s := newSim(t, 1, nil)
	c := s.request("GET /")
	c.x.Req.Upgrade = c.x.Req.StoreString("websocket")
	c.start()
	b := s.dialer.connect()
	b.head(101, "Upgrade: websocket")
	s.advance(2 * time.Hour)
	if c.over {
		t.Fatal("a tunnel may be silent while both of its ends are open")
	}
	c.x.OnRequestEnd(nil)
	for range 3 {
		s.advance(streamIdleTimeout - aBit)
		b.data("x")
	}
	if c.over {
		t.Fatal("the half that is open may go on")
	}
	s.advance(streamIdleTimeout + aBit)
	if e := s.one(); !c.over || !b.gone || e.Reason != "stream_idle_timeout" || e.Status != 101 {
		t.Errorf("%+v", e)
	}
}

// TestAConnectionThatCarriedManyRequestsFailsOnce: each of them fails, but an endpoint is not ejected for one reset.
func TestAConnectionThatCarriedManyRequestsFailsOnce(t *testing.T) {
	s := newSim(t, 2, nil)
	for i := range 20 {
		s.request("POST /").start()
		b := s.dialer.connect()
		sink := b.sink
		b.sink, b.gone = nil, true
		b.pool.Closed(b)
		sink.OnFailure(upstream.Failure{Stage: upstream.StageSent, Cause: upstream.CauseReset, Shared: i > 0})
	}
	for _, e := range s.w.Live.Current().Clusters[clusterName].Set().Endpoints() {
		if e.Ejected(s.w.Clock.Now()) {
			t.Errorf("%s was ejected", e.Name)
		}
	}
}
