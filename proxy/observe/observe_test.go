package observe

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"rauta.io/rauta/internal/testrig"
)

var update = flag.Bool("update", false, "write docs/metrics.md anew")

var methods = []string{"OTHER", "GET", "POST"}

func newTestRegistry(workers int) *Registry {
	r := NewRegistry(Options{Workers: workers, Methods: methods})
	r.SetParseReasons([]string{"ok", "bare_lf"})
	return r
}

func exposed(r *Registry) string {
	var b bytes.Buffer
	r.WritePrometheus(&b)
	return b.String()
}

func record(rt *Route) *Record {
	return &Record{Route: rt, Method: 1, Status: 200, StreamAt: 1e6, SentAt: 2e6, FirstByteAt: 3e6, EndAt: 4e6, Attempts: 1,
		BytesIn: 10, BytesOut: 20}
}

func wantLine(t *testing.T, text, line string) {
	t.Helper()
	if !strings.Contains(text, line+"\n") {
		name, _, _ := strings.Cut(line, "{")
		var near []string
		for l := range strings.SplitSeq(text, "\n") {
			if strings.HasPrefix(l, name) && !strings.Contains(l, "_bucket") {
				near = append(near, l)
			}
		}
		t.Errorf("no line %q; there are:\n%s", line, strings.Join(near, "\n"))
	}
}

func TestARecordBecomesCountersAndAHistogram(t *testing.T) {
	r := newTestRegistry(2)
	rt := r.Route("httproute/a/b")
	for worker := range 2 {
		rec := record(rt)
		rec.Endpoint = r.Endpoint("a/svc:80", "10.0.0.1:80")
		r.Shard(worker).Finish(rec)
	}
	r.Shard(0).Finish(&Record{Method: 2, Status: 404, Reason: "no_route", EndAt: 1})
	for _, code := range []int{0, 14, 14, 99} {
		rec := record(rt)
		rec.GRPCStatus = GRPCCode(code)
		r.Shard(code % 2).Finish(rec)
	}
	r.Shard(0).ParseError(1)
	r.Shard(1).Retry()
	r.Shard(0).Mirrored(MirrorAnswered, r.Endpoint("a/svc:80", "10.0.0.9:80"), 404)
	r.Shard(1).Mirrored(MirrorAnswered, nil, 0)
	r.Shard(1).Mirrored(MirrorIncomplete, nil, 0)
	r.Shard(0).ConnOpened()
	r.Shard(0).ConnOpened()
	r.Shard(1).ConnClosed()
	text := exposed(r)
	for _, line := range []string{
		`rauta_requests_total{route="httproute/a/b",method="GET",code="2xx"} 6`,
		`rauta_grpc_requests_total{route="httproute/a/b",code="OK"} 1`,
		`rauta_grpc_requests_total{route="httproute/a/b",code="UNAVAILABLE"} 2`,
		`rauta_grpc_requests_total{route="httproute/a/b",code="UNKNOWN"} 1`,
		`rauta_requests_total{route="none",method="POST",code="4xx"} 1`,
		`rauta_request_duration_seconds_bucket{route="httproute/a/b",le="+Inf"} 6`,
		`rauta_request_duration_seconds_count{route="httproute/a/b"} 6`,
		`rauta_backend_requests_total{cluster="a/svc:80",endpoint="10.0.0.1:80",code="2xx"} 2`,
		`rauta_exchange_reasons_total{reason="no_route"} 1`,
		`rauta_parse_errors_total{reason="bare_lf"} 1`,
		`rauta_bytes_total{direction="in"} 60`,
		`rauta_bytes_total{direction="out"} 120`,
		`rauta_retries_total 1`,
		`rauta_mirrored_requests_total{result="answered"} 2`,
		`rauta_mirrored_requests_total{result="incomplete"} 1`,
		`rauta_backend_requests_total{cluster="a/svc:80",endpoint="10.0.0.9:80",code="4xx"} 1`,
		`rauta_connections 1`,
		`rauta_connections_total 2`,
	} {
		wantLine(t, text, line)
	}
}

var (
	sampleLine = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\[\\"n])*",?)*\})? (\S+)$`)
	suffix     = regexp.MustCompile(`_(bucket|sum|count)$`)
)

func TestTheExpositionIsWellFormed(t *testing.T) {
	r := newTestRegistry(1)
	r.Shard(0).Finish(record(r.Route("evil\"\\\n{}")))
	r.Shard(0).Finish(record(r.Route("plain")))
	r.Gauge(`rauta_loop_sockets{worker="0"}`, func() float64 { return 1 })
	seen := map[string]bool{}
	family, kind := "", ""
	for line := range strings.SplitSeq(strings.TrimSuffix(exposed(r), "\n"), "\n") {
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			family, kind, _ = strings.Cut(rest, " ")
			if seen[family] {
				t.Errorf("family %s comes twice", family)
			}
			seen[family] = true
			continue
		}
		if strings.HasPrefix(line, "# HELP ") {
			continue
		}
		m := sampleLine.FindStringSubmatch(line)
		if m == nil {
			t.Errorf("malformed line %q", line)
			continue
		}
		name := m[1]
		if kind == "histogram" {
			name = suffix.ReplaceAllString(name, "")
		}
		if name != family {
			t.Errorf("%q stands in the family %s", line, family)
		}
	}
}

func TestEveryFamilyThatIsExposedIsDocumented(t *testing.T) {
	r := newTestRegistry(1)
	r.Shard(0).Finish(record(r.Route("plain")))
	documented := map[string]string{}
	for _, m := range Metrics() {
		documented[m.Name] = m.Type
	}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`).FindAllStringSubmatch(exposed(r), -1) {
		if documented[m[1]] != m[2] {
			t.Errorf("%s is exposed as a %s, documented as %q", m[1], m[2], documented[m[1]])
		}
	}
}

func TestTheDocumentIsGeneratedFromTheTable(t *testing.T) {
	const path = "../../docs/metrics.md"
	if *update {
		if err := os.WriteFile(path, []byte(MetricsMarkdown()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != MetricsMarkdown() {
		t.Errorf("docs/metrics.md is not what the table says (error %v): run go test ./proxy/observe -update", err)
	}
}

func series(text string) (n int) {
	for line := range strings.SplitSeq(text, "\n") {
		if line != "" && line[0] != '#' {
			n++
		}
	}
	return n
}

func TestIdleRoutesHaveNoSeries(t *testing.T) {
	r := newTestRegistry(2)
	for i := range 5000 {
		r.Route(fmt.Sprintf("httproute/ns/r%d", i))
	}
	if n := series(exposed(r)); n >= 600 {
		t.Errorf("%d series at 5,000 idle routes, want fewer than 600", n)
	}
}

func TestRoutesBeyondTheCapCountAsOther(t *testing.T) {
	r := NewRegistry(Options{Workers: 1, Methods: methods, SeriesRoutesMax: 3})
	for i := range 10 {
		r.Shard(0).Finish(record(r.Route(fmt.Sprint("r", i))))
	}
	wantLine(t, exposed(r), `rauta_requests_total{route="other",method="GET",code="2xx"} 7`)
}

func TestAHandleSurvivesGenerationsThatHaveItsRoute(t *testing.T) {
	r := newTestRegistry(1)
	a := r.Route("a")
	r.Retain([]string{"a"}, nil)
	if r.Route("a") != a {
		t.Error("a second handle for the same route")
	}
}

func TestAnAccessLogLineIsJSONWhateverTheClientSends(t *testing.T) {
	var out testrig.Buffer
	r := newTestRegistry(1)
	l := NewAccessLog(&out, AccessLogOptions{})
	r.SetAccessLog(l)
	hostile := "a\"b\\c\n\r\t\x00\x7f\xff\xc3\x28\u2028{}"
	rec := record(r.Route("r"))
	rec.ReceivedMethod, rec.ReceivedTarget, rec.ReceivedHost = []byte("GET"), []byte("/"+hostile), []byte(hostile)
	rec.UserAgent, rec.EffectivePath, rec.Reason = []byte(hostile), []byte(hostile), "client_gone"
	r.Shard(0).Finish(rec)
	r.Shard(0).Finish(rec)
	l.Close()
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines for two exchanges: %q", len(lines), out.String())
	}
	for _, line := range lines {
		var v map[string]any
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if v["status"] != float64(200) || v["reason"] != "client_gone" {
			t.Errorf("%v", v)
		}
	}
}

// stuck is a destination that takes nothing until it is released.
type stuck struct{ release chan struct{} }

func (s stuck) Write(p []byte) (int, error) { <-s.release; return len(p), nil }

func TestADestinationThatTakesNothingCostsLinesNotTime(t *testing.T) {
	r := newTestRegistry(1)
	dest := stuck{make(chan struct{})}
	l := NewAccessLog(dest, AccessLogOptions{})
	r.SetAccessLog(l)
	rec := record(r.Route("r"))
	rec.UserAgent = bytes.Repeat([]byte("x"), 1000)
	done := make(chan struct{})
	go func() {
		for range 50_000 {
			r.Shard(0).Finish(rec)
			r.Shard(0).Flush()
		}
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("Finish waits for the destination")
	}
	if strings.Contains(exposed(r), "rauta_access_log_dropped_total 0\n") {
		t.Error("50 MB went somewhere: no line was counted as dropped")
	}
	close(dest.release)
	l.Close()
}

func TestFinishAndALogLineAllocateNothing(t *testing.T) {
	var out testrig.Buffer
	r := newTestRegistry(1)
	rec := record(r.Route("r"))
	rec.Endpoint = r.Endpoint("c", "e")
	rec.ReceivedTarget, rec.UserAgent = []byte("/a"), []byte("agent")
	finish := func() { r.Shard(0).Finish(rec) }
	finish()
	if n := testing.AllocsPerRun(500, finish); n != 0 {
		t.Errorf("%v allocations without a log", n)
	}
	l := NewAccessLog(&out, AccessLogOptions{})
	r.SetAccessLog(l)
	defer l.Close()
	finish()
	// The writer's own buffer grows in the background: hence not exactly none.
	if n := testing.AllocsPerRun(500, finish); n > 0.1 {
		t.Errorf("%v allocations with a log", n)
	}
}

func TestScrapesAndGenerationsDoNotDisturbTheCount(t *testing.T) {
	const workers, each = 4, 2000
	r := newTestRegistry(workers)
	var wait sync.WaitGroup
	for w := range workers {
		wait.Go(func() {
			for i := range each {
				r.Shard(w).Finish(record(r.Route("kept")))
				if i%100 == 0 {
					r.Shard(w).Finish(record(r.Route(fmt.Sprint("fleeting", i))))
				}
			}
		})
	}
	stop := make(chan struct{})
	var scrapes sync.WaitGroup
	scrapes.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				exposed(r)
				r.Retain([]string{"kept"}, nil)
			}
		}
	})
	wait.Wait()
	close(stop)
	scrapes.Wait()
	wantLine(t, exposed(r), fmt.Sprintf(`rauta_requests_total{route="kept",method="GET",code="2xx"} %d`, workers*each))
}

func TestAScrapeOfTenThousandActiveRoutesIsBounded(t *testing.T) {
	r := NewRegistry(Options{Workers: 2, Methods: methods, SeriesRoutesMax: 20_000})
	for i := range 10_000 {
		r.Shard(i % 2).Finish(record(r.Route(fmt.Sprint("httproute/ns/route-", i))))
	}
	start := time.Now()
	size := len(exposed(r))
	t.Logf("%d bytes in %v", size, time.Since(start))
	if size < 10_000*100 || size > 64<<20 {
		t.Errorf("%d bytes", size)
	}
}
