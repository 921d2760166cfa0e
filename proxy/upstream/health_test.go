package upstream

import (
	"testing"

	"rauta.io/rauta/proxy/clock"
	"rauta.io/rauta/proxy/config"
)

// ejectNow reports failures until e is ejected, or would be.
func ejectNow(e *Endpoint, w *Worker) {
	for range failuresMax {
		e.Report(w, false)
	}
}

func TestFiveFailuresInARowEjectAndFourDoNot(t *testing.T) {
	c, w := newTestCluster(config.Cluster{}, 1, 4), newTestWorker(0).Worker
	e := c.Set().Endpoints()[0]
	for range 4 {
		e.Report(w, false)
	}
	e.Report(w, true)
	for range 4 {
		e.Report(w, false)
	}
	if e.Ejected(w.Clock.Now()) {
		t.Fatal("ejected, though a success came between")
	}
	e.Report(w, false)
	if !e.Ejected(w.Clock.Now()) {
		t.Fatal("not ejected after five failures in a row")
	}
	if counts := spread(c, w, 5000, nil); counts[e] != 0 || len(counts) != 3 {
		t.Fatalf("the ejected endpoint was picked %d times, %d endpoints in all", counts[e], len(counts))
	}
}

func TestEjectionAppliesToEveryPolicyAndEveryWorker(t *testing.T) {
	for _, policy := range policies {
		c := newTestCluster(config.Cluster{Policy: policy}, 2, 4)
		e := c.Set().Endpoints()[2]
		a, b := newTestWorker(0).Worker, newTestWorker(1).Worker
		spread(c, b, 10, nil)
		ejectNow(e, a)
		if counts := spread(c, b, 5000, nil); counts[e] != 0 || len(counts) != 3 {
			t.Errorf("%s: picked %d times by another worker, %d endpoints in all", policy, counts[e], len(counts))
		}
	}
}

func TestAnEjectionEndsAndEachFurtherOneLastsTwiceAsLong(t *testing.T) {
	c, w := newTestCluster(config.Cluster{}, 1, 4), newTestWorker(0).Worker
	e := c.Set().Endpoints()[0]
	ejectNow(e, w)
	want := ejectionBase
	for i := range 8 {
		now := w.Clock.Now()
		if got := clock.Time(e.health.until.Load()) - now; got != want {
			t.Fatalf("ejection %d lasts %d ns, want %d", i, got, want)
		}
		w.Clock.Advance(now + want)
		if counts := spread(c, w, 5000, nil); counts[e] == 0 {
			t.Fatalf("not picked after ejection %d", i)
		}
		e.Report(w, false) // still failing: once is enough now
		want = min(2*want, ejectionMax)
	}
}

func TestSuccessAfterAnEjectionClearsTheCountAndInTimeTheBackOff(t *testing.T) {
	c, w := newTestCluster(config.Cluster{}, 1, 4), newTestWorker(0).Worker
	e := c.Set().Endpoints()[0]
	ejectNow(e, w)
	e.Report(w, true) // from before the ejection
	if !e.Ejected(w.Clock.Now()) || e.health.failures.Load() == 0 {
		t.Fatal("a late success ended the ejection")
	}
	w.Clock.Advance(w.Clock.Now() + ejectionBase)
	e.Report(w, true)
	e.Report(w, false)
	if e.Ejected(w.Clock.Now()) {
		t.Fatal("ejected by one failure after a success")
	}
	ejectNow(e, w)
	if got := clock.Time(e.health.until.Load()) - w.Clock.Now(); got != 2*ejectionBase {
		t.Fatalf("the second ejection lasts %d ns", got)
	}
	w.Clock.Advance(w.Clock.Now() + 2*ejectionBase + ejectionForgotten + 1)
	e.Report(w, true)
	if e.health.marked.Load() {
		t.Fatal("an endpoint that is well again is still marked")
	}
	ejectNow(e, w)
	if got := clock.Time(e.health.until.Load()) - w.Clock.Now(); got != ejectionBase {
		t.Fatalf("an ejection long after the last one lasts %d ns", got)
	}
}

func TestNeverMoreThanHalfOfTheSetIsEjected(t *testing.T) {
	for n, most := range map[int]int{1: 0, 2: 1, 3: 1, 4: 2, 9: 4} {
		c, w := newTestCluster(config.Cluster{}, 1, n), newTestWorker(0).Worker
		ejected := 0
		for _, e := range c.Set().Endpoints() {
			ejectNow(e, w)
			if e.Ejected(w.Clock.Now()) {
				ejected++
			}
		}
		if ejected != most {
			t.Errorf("%d of %d were ejected, want %d", ejected, n, most)
		}
		if counts := spread(c, w, 5000, nil); len(counts) != n-most {
			t.Errorf("%d of %d are picked, want %d", len(counts), n, n-most)
		}
	}
}

func TestEjectionIsIgnoredWhenTheSetShrinksToMostlyEjectedOnes(t *testing.T) {
	for _, policy := range policies {
		c, w := newTestCluster(config.Cluster{Policy: policy}, 1, 6), newTestWorker(0).Worker
		for _, e := range c.Set().Endpoints()[:3] {
			ejectNow(e, w)
		}
		if counts := spread(c, w, 5000, nil); len(counts) != 3 {
			t.Fatalf("%s: %d of 6 picked, want 3", policy, len(counts))
		}
		c.SetEndpoints(addresses(4)) // three of four are ejected
		if counts := spread(c, w, 5000, nil); len(counts) != 4 {
			t.Errorf("%s: %d of 4 picked, want all: the panic threshold is crossed", policy, len(counts))
		}
	}
}

func TestFailedDialsEject(t *testing.T) {
	c, w := newTestCluster(config.Cluster{}, 1, 2), newTestWorker(0)
	w.dialer.failure = &Failure{Stage: StageConnect, Cause: CauseConnectFailed}
	e := c.Set().Endpoints()[1]
	for range failuresMax {
		acquire(e.Pool(w.Worker))
	}
	if !e.Ejected(w.Clock.Now()) {
		t.Fatal("not ejected")
	}
}

func TestARetryPrefersAnEjectedEndpointToTheOneThatJustFailed(t *testing.T) {
	c, w := newTestCluster(config.Cluster{}, 1, 2), newTestWorker(0).Worker
	eps := c.Set().Endpoints()
	ejectNow(eps[0], w)
	if e := c.Pick(w, 0, nil); e != eps[1] {
		t.Fatalf("picked %s", e.Name)
	}
	if e := c.Pick(w, 0, eps[1]); e != eps[0] {
		t.Fatalf("picked %s", e.Name)
	}
}

func TestAReportOfSuccessWritesNothingWhenAllIsWell(t *testing.T) {
	c, w := newTestCluster(config.Cluster{}, 1, 2), newTestWorker(0).Worker
	e := c.Set().Endpoints()[0]
	e.health.failures.Store(-1) // would be reset by a write
	e.Report(w, true)
	if e.health.failures.Load() != -1 {
		t.Fatal("health was written")
	}
}
