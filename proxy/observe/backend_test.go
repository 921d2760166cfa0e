package observe

import (
	"fmt"
	"testing"
)

func TestABackEndIsCountedWithWhatItIs(t *testing.T) {
	r := newTestRegistry(2)
	e := r.Endpoint("a/svc:80", "10.0.0.1:80")
	e.Describe(Target{Pod: "svc-1", Namespace: "a", Node: "n1", Zone: "z1"})
	for worker, ms := range []int64{30, 4} {
		rec := record(r.Route("r"))
		rec.Endpoint, rec.SentAt, rec.FirstByteAt = e, 2e6, 2e6+ms*1e6
		r.Shard(worker).Finish(rec)
	}
	r.Shard(0).Connected(e, 3e6)
	r.Shard(1).ConnectFailed(e, "ECONNREFUSED")
	r.Shard(0).ConnectFailed(e, "ECONNREFUSED")
	const labels = `cluster="a/svc:80",endpoint="10.0.0.1:80",pod="svc-1",namespace="a",node="n1",zone="z1"`
	text := exposed(r)
	for _, line := range []string{
		`rauta_backend_ttfb_seconds_bucket{` + labels + `,le="0.005"} 1`,
		`rauta_backend_ttfb_seconds_bucket{` + labels + `,le="0.1"} 2`,
		`rauta_backend_ttfb_seconds_sum{` + labels + `} 0.034`,
		`rauta_backend_ttfb_seconds_count{` + labels + `} 2`,
		`rauta_backend_connect_seconds_count{` + labels + `} 1`,
		`rauta_backend_connect_failures_total{` + labels + `,reason="ECONNREFUSED"} 2`,
		`rauta_backend_requests_in_flight{` + labels + `} 0`,
		`rauta_backend_requests_total{cluster="a/svc:80",endpoint="10.0.0.1:80",code="2xx"} 2`, // as ever
	} {
		wantLine(t, text, line)
	}
}

func TestABackEndOfWhichNothingIsKnownHasNoEmptyLabels(t *testing.T) {
	r := newTestRegistry(1)
	r.Shard(0).Connected(r.Endpoint("c", "10.0.0.1:80"), 1)
	wantLine(t, exposed(r), `rauta_backend_connect_seconds_count{cluster="c",endpoint="10.0.0.1:80"} 1`)
}

func TestOnlyTheLastAttemptOfAnExchangeIsUnderWay(t *testing.T) {
	r := newTestRegistry(1)
	one, two := r.Endpoint("c", "10.0.0.1:80"), r.Endpoint("c", "10.0.0.2:80")
	inFlight := func(first, second int) {
		t.Helper()
		text := exposed(r)
		wantLine(t, text, fmt.Sprintf(`rauta_backend_requests_in_flight{cluster="c",endpoint="10.0.0.1:80"} %d`, first))
		wantLine(t, text, fmt.Sprintf(`rauta_backend_requests_in_flight{cluster="c",endpoint="10.0.0.2:80"} %d`, second))
	}
	r.Shard(0).Connected(two, 1)
	rec := record(nil)
	r.Shard(0).Attempt(rec, one)
	inFlight(1, 0)
	r.Shard(0).Attempt(rec, two)
	inFlight(0, 1)
	rec.Endpoint = two
	r.Shard(0).Finish(rec)
	inFlight(0, 0)
}

func TestReasonsOfFailedConnectsAreBounded(t *testing.T) {
	r := newTestRegistry(1)
	e := r.Endpoint("c", "10.0.0.1:80")
	for i := range 100 {
		r.Shard(0).ConnectFailed(e, fmt.Sprint("reason", i))
	}
	wantLine(t, exposed(r), fmt.Sprintf(
		`rauta_backend_connect_failures_total{cluster="c",endpoint="10.0.0.1:80",reason="other"} %d`, 100-(connectReasonsMax-1)))
}
