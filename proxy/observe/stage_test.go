package observe

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"rauta.io/rauta/internal/testrig"
)

func staged(rt *Route, ns map[Stage]int64) *Record {
	rec := &Record{Route: rt, Method: 1, Status: 200}
	for stage, n := range ns {
		rec.Stages[stage] = n
		if stage >= kernelStages {
			rec.EndAt += n
		}
	}
	return rec
}

func TestStagesAreCountedForEachRequestAndThoseOfTheKernelForThoseItTellsOf(t *testing.T) {
	r := newTestRegistry(2)
	rt := r.Route("a")
	r.Shard(0).Finish(staged(rt, map[Stage]int64{StageBackendTTFB: 30e6, StageProxy: 1e3}))
	r.Shard(1).Finish(staged(rt, map[Stage]int64{StageBackendTTFB: 1e6, StageSocketWait: 2e9}))
	r.Shard(1).Finish(staged(rt, nil))
	text := exposed(r)
	for _, line := range []string{
		`rauta_request_stage_seconds_bucket{route="a",stage="backend_ttfb",le="5e-05"} 1`,
		`rauta_request_stage_seconds_bucket{route="a",stage="backend_ttfb",le="0.00025"} 1`,
		`rauta_request_stage_seconds_bucket{route="a",stage="backend_ttfb",le="0.001"} 2`,
		`rauta_request_stage_seconds_bucket{route="a",stage="backend_ttfb",le="0.025"} 2`,
		`rauta_request_stage_seconds_bucket{route="a",stage="backend_ttfb",le="0.1"} 3`,
		`rauta_request_stage_seconds_bucket{route="a",stage="backend_ttfb",le="+Inf"} 3`,
		`rauta_request_stage_seconds_sum{route="a",stage="backend_ttfb"} 0.031`,
		`rauta_request_stage_seconds_count{route="a",stage="backend_ttfb"} 3`,
		`rauta_request_stage_seconds_count{route="a",stage="proxy"} 3`,
		`rauta_request_stage_seconds_count{route="a",stage="socket_wait"} 1`,
		`rauta_request_stage_seconds_sum{route="a",stage="socket_wait"} 2`,
	} {
		wantLine(t, text, line)
	}
	if strings.Contains(text, `stage="client_write"`) {
		t.Error("a stage in which no request spent time has series")
	}
}

func TestStageBoundsAreBoundsOfTheDurationToo(t *testing.T) {
	have := map[int64]string{}
	for i, ns := range boundsNs {
		have[ns] = boundLabels[i]
	}
	for i, ns := range stageBoundsNs {
		if have[ns] == "" || have[ns] != stageBoundLabels[i] {
			t.Errorf("%d ns is called %q here and %q there", ns, stageBoundLabels[i], have[ns])
		}
	}
}

func TestBucketsGoFrom50MicrosecondsTo60Seconds(t *testing.T) {
	for what, c := range map[string]struct {
		bounds []int64
		ratio  float64 // of neighbours, at most
	}{"durations": {boundsNs[:], 3}, "stages": {stageBoundsNs[:], 6}} {
		if first, last := c.bounds[0], c.bounds[len(c.bounds)-1]; first != 50_000 || last != 60_000_000_000 {
			t.Errorf("%s: bounds from %d to %d ns", what, first, last)
		}
		if !slices.IsSorted(c.bounds) || widest(c.bounds) > c.ratio {
			t.Errorf("%s: bounds %v: want them to grow by %g times at most", what, c.bounds, c.ratio)
		}
	}
	for i, ns := range boundsNs {
		if want := strconv.FormatFloat(float64(ns)/1e9, 'g', -1, 64); boundLabels[i] != want {
			t.Errorf("%d ns is called %q, want %q", ns, boundLabels[i], want)
		}
	}
}

// What docs/metrics.md says of bounds is what a scrape has.
func TestHistogramsHaveTheBoundsThatAreDocumented(t *testing.T) {
	r := newTestRegistry(1)
	shard := r.Shard(0)
	e := r.Endpoint("c", "10.0.0.1:80")
	shard.Connected(e, 3e6)
	rec := record(r.Route("a"))
	rec.Endpoint, rec.SentAt, rec.FirstByteAt = e, 1e6, 5e6
	rec.Stages[StageBackendTTFB] = 4e6
	shard.Finish(rec)
	bounds := map[string][]string{}
	for _, m := range regexp.MustCompile(`(?m)^(\w+)_bucket\{.*le="([^"]+)"\}`).FindAllStringSubmatch(exposed(r), -1) {
		if !slices.Contains(bounds[m[1]], m[2]) {
			bounds[m[1]] = append(bounds[m[1]], m[2])
		}
	}
	if len(bounds) < len(fewBuckets)+2 {
		t.Fatalf("only these histograms are exposed: %v", bounds)
	}
	for _, name := range fewBuckets {
		if bounds[name] == nil {
			t.Errorf("%s is not exposed", name)
		}
	}
	for name, got := range bounds {
		want := boundLabels[:]
		if slices.Contains(fewBuckets, name) {
			want = stageBoundLabels[:]
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s has bounds %v, documented are %v", name, got, want)
		}
	}
}

func TestRequestsUnderWayAreCountedWhereTheyBeganWhateverBecomesOfTheirRoute(t *testing.T) {
	r := newTestRegistry(2)
	rt := r.Route("a")
	one, two := staged(rt, nil), staged(rt, nil)
	r.Shard(0).Begin(one, rt)
	r.Shard(1).Begin(two, rt)
	wantLine(t, exposed(r), `rauta_requests_in_flight{route="a"} 2`)
	r.Shard(1).Finish(two)
	wantLine(t, exposed(r), `rauta_requests_in_flight{route="a"} 1`)
	r.forget(map[*Route]struct{}{rt: {}}, nil)
	r.Shard(0).Finish(one)
	wantLine(t, exposed(r), `rauta_requests_in_flight{route="other"} 0`)
}

func TestALineTellsTheStagesAndTheTrace(t *testing.T) {
	var clock clockText
	parse := func(rec *Record) (got struct {
		Stages map[string]int64 `json:"stages_us"`
		Trace  string           `json:"trace_id"`
	}) {
		if err := json.Unmarshal(appendLine(nil, rec, &clock), &got); err != nil {
			t.Fatal(err)
		}
		return got
	}
	got := parse(&Record{})
	if _, ok := got.Stages["socket_wait"]; ok || len(got.Stages) != int(StageCount-kernelStages) || got.Trace != "" {
		t.Errorf("of a record of nothing: %+v", got)
	}
	rec := staged(nil, map[Stage]int64{StageSocketWait: 7e6, StageBackendBody: 9e6})
	rec.TraceID[15] = 0xa1
	got = parse(rec)
	if got.Stages["socket_wait"] != 7000 || got.Stages["backend_body"] != 9000 || got.Trace != strings.Repeat("0", 30)+"a1" {
		t.Errorf("%+v", got)
	}
}

func TestAScrapeIsStreamedInPiecesOfABoundedSize(t *testing.T) {
	r := NewRegistry(Options{Workers: 2, Methods: methods, SeriesRoutesMax: 2000})
	for i := range 2000 {
		r.Shard(i % 2).Finish(staged(r.Route(fmt.Sprint("httproute/ns/route-", i)), map[Stage]int64{StageBackendTTFB: 1e6}))
	}
	w := &largest{}
	r.WritePrometheus(w)
	if w.total < 2000*1000 || w.piece > expositionBytes+4096 {
		t.Errorf("%d bytes, the largest piece of %d", w.total, w.piece)
	}
}

type largest struct{ piece, total int }

func (l *largest) Write(p []byte) (int, error) {
	l.piece, l.total = max(l.piece, len(p)), l.total+len(p)
	return len(p), nil
}

// slowReader is a reader of a scrape that takes nothing until it is let go.
type slowReader struct{ began, release chan struct{} }

func (s slowReader) Write(p []byte) (int, error) {
	select {
	case s.began <- struct{}{}:
	default:
	}
	<-s.release
	return len(p), nil
}

// TestNobodyWaitsForASlowScrape: neither workers that count, also for routes and endpoints that are new, nor those who
// publish a configuration, nor another scrape.
func TestNobodyWaitsForASlowScrape(t *testing.T) {
	r := NewRegistry(Options{Workers: 2, Methods: methods})
	for i := range 1000 {
		r.Shard(0).Finish(staged(r.Route(fmt.Sprint("httproute/ns/route-", i)), map[Stage]int64{StageBackendTTFB: 1e6}))
	}
	slow := slowReader{make(chan struct{}, 1), make(chan struct{})}
	over := make(chan struct{})
	go func() { r.WritePrometheus(slow); close(over) }()
	<-slow.began
	done := make(chan string)
	go func() {
		for i := range 100 {
			rec := staged(r.Route(fmt.Sprint("httproute/ns/new-", i)), map[Stage]int64{StageBackendTTFB: 1e6})
			rec.Endpoint = r.Endpoint("c", fmt.Sprint("10.0.0.1:", i))
			r.Shard(1).Begin(rec, rec.Route)
			r.Shard(1).Connected(rec.Endpoint, 1e6)
			r.Shard(1).Finish(rec)
		}
		done <- exposed(r)
	}()
	select {
	case text := <-done:
		if !strings.Contains(text, `rauta_requests_in_flight{route="httproute/ns/new-99"}`) {
			t.Error("the other scrape does not have what came meanwhile")
		}
	case <-time.After(20 * time.Second):
		t.Error("somebody waits")
	}
	close(slow.release)
	<-over
}

// TestWhatAScrapeCostsForARoute gates what BenchmarkScrapeOfTenThousandRoutes measures: no line may cost an allocation.
func TestWhatAScrapeCostsForARoute(t *testing.T) {
	const routes, allocationsMax = 500, 16
	r := NewRegistry(Options{Workers: 2, Methods: methods})
	for i := range routes {
		r.Shard(i % 2).Finish(staged(r.Route(fmt.Sprint("httproute/ns/route-", i)),
			map[Stage]int64{StageBackendConnect: 1e6, StageBackendTTFB: 9e6, StageBackendBody: 1e5}))
	}
	if got := testing.AllocsPerRun(3, func() { r.WritePrometheus(&largest{}) }) / routes; got > allocationsMax {
		t.Errorf("%.1f allocations for a route, at most %d", got, allocationsMax)
	}
}

// BenchmarkScrapeOfTenThousandRoutes has routes whose requests spent time in three stages, as those of a cluster do.
func BenchmarkScrapeOfTenThousandRoutes(b *testing.B) {
	r := NewRegistry(Options{Workers: 4, Methods: methods, SeriesRoutesMax: 20_000})
	for i := range 10_000 {
		rt := r.Route(fmt.Sprint("httproute/namespace/route-", i))
		for w := range 4 {
			r.Shard(w).Finish(staged(rt, map[Stage]int64{StageBackendConnect: 1e6, StageBackendTTFB: 9e6, StageBackendBody: 1e5}))
		}
	}
	var out largest
	for b.Loop() {
		out = largest{}
		r.WritePrometheus(&out)
	}
	b.ReportMetric(float64(out.total), "bytes/scrape")
}

func TestTheErrorLogHasWhatFailedOnly(t *testing.T) {
	var all, failed testrig.Buffer
	r := newTestRegistry(1)
	access, errors := NewAccessLog(&all, AccessLogOptions{}), NewAccessLog(&failed, AccessLogOptions{})
	r.SetAccessLog(access)
	r.SetErrorLog(errors)
	s := r.Shard(0)
	if !s.Logs("") || !s.Logs("no_route") {
		t.Error("there are logs")
	}
	s.Finish(&Record{Status: 200, Route: r.Route("well")})
	s.Finish(&Record{Status: 301, Route: r.Route("redirect"), Reason: "redirect"})
	s.Finish(&Record{Status: 200, Route: r.Route("broken off"), Reason: "upstream_closed", Attempts: 1})
	s.Finish(&Record{Status: 0, Route: r.Route("given up"), Reason: "drained"})
	s.Finish(&Record{Status: 503, Route: r.Route("ill"), Reason: "no_endpoint"})
	s.LogL4(&L4Record{Route: r.Route("l4/well"), Reason: reasonClosed})
	s.LogL4(&L4Record{Route: r.Route("l4/ill"), Reason: "backend_reset"})
	access.Close()
	errors.Close()
	routes := func(text string) (out []string) {
		for line := range strings.Lines(text) {
			var got struct{ Route string }
			if err := json.Unmarshal([]byte(line), &got); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			out = append(out, got.Route)
		}
		return out
	}
	if got := fmt.Sprint(routes(all.String())); got != "[well redirect broken off given up ill l4/well l4/ill]" {
		t.Errorf("the access log has %s", got)
	}
	if got := fmt.Sprint(routes(failed.String())); got != "[broken off given up ill l4/ill]" {
		t.Errorf("the error log has %s", got)
	}
	r.SetAccessLog(nil)
	if s.Logs("") || !s.Logs("no_route") {
		t.Error("the error log alone wants what failed, and nothing else")
	}
}
