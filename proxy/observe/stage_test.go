package observe

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
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

// BenchmarkScrapeOfTenThousandRoutes has routes whose requests spent time in three stages, as those of a cluster do.
func BenchmarkScrapeOfTenThousandRoutes(b *testing.B) {
	r := NewRegistry(Options{Workers: 4, Methods: methods, SeriesRoutesMax: 20_000})
	for i := range 10_000 {
		rt := r.Route(fmt.Sprint("httproute/namespace/route-", i))
		for w := range 4 {
			r.Shard(w).Finish(staged(rt, map[Stage]int64{StageBackendConnect: 1e6, StageBackendTTFB: 9e6, StageBackendBody: 1e5}))
		}
	}
	var out bytes.Buffer
	for b.Loop() {
		out.Reset()
		r.WritePrometheus(&out)
	}
	b.ReportMetric(float64(out.Len()), "bytes/scrape")
}

func TestTheErrorLogHasWhatFailedOnly(t *testing.T) {
	var all, failed lockedBuffer
	r := newTestRegistry(1)
	access, errors := NewAccessLog(&all, AccessLogOptions{}), NewAccessLog(&failed, AccessLogOptions{})
	r.SetAccessLog(access)
	r.SetErrorLog(errors)
	s := r.Shard(0)
	if !s.Logs("") || !s.Logs("no_route") {
		t.Error("there are logs")
	}
	s.Finish(&Record{Status: 200, Route: r.Route("well")})
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
	if got := fmt.Sprint(routes(all.String())); got != "[well ill l4/well l4/ill]" {
		t.Errorf("the access log has %s", got)
	}
	if got := fmt.Sprint(routes(failed.String())); got != "[ill l4/ill]" {
		t.Errorf("the error log has %s", got)
	}
	r.SetAccessLog(nil)
	if s.Logs("") || !s.Logs("no_route") {
		t.Error("the error log alone wants what failed, and nothing else")
	}
}
