package top

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"

	"rauta.io/rauta/proxy/observe"
)

var update = flag.Bool("update", false, "write the golden screens")

// began is the moment of the first reading in tests.
var began = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// route is the exposition of one route that got n requests of which failed got 5xx, all of them within 1 ms to 2 ms.
func route(name string, n, failed int, ttfb, write float64) string {
	return fmt.Sprintf(`
rauta_requests_total{route=%[1]q,method="GET",code="2xx"} %[2]d
rauta_requests_total{route=%[1]q,method="GET",code="5xx"} %[3]d
rauta_request_duration_seconds_bucket{route=%[1]q,le="0.001"} 0
rauta_request_duration_seconds_bucket{route=%[1]q,le="0.002"} %[4]d
rauta_request_duration_seconds_bucket{route=%[1]q,le="+Inf"} %[4]d
rauta_request_duration_seconds_sum{route=%[1]q} 1
rauta_request_duration_seconds_count{route=%[1]q} %[4]d
rauta_request_stage_seconds_sum{route=%[1]q,stage="backend_ttfb"} %[5]g
rauta_request_stage_seconds_count{route=%[1]q,stage="backend_ttfb"} %[4]d
rauta_request_stage_seconds_sum{route=%[1]q,stage="client_write"} %[6]g
rauta_request_stage_seconds_count{route=%[1]q,stage="client_write"} %[4]d
rauta_requests_in_flight{route=%[1]q} 3
rauta_backend_requests_total{cluster="default/web:80",endpoint="10.0.0.1:80",code="2xx"} %[2]d
rauta_backend_requests_in_flight{cluster="default/web:80",endpoint="10.0.0.1:80",pod="web-1",namespace="default",node="n1"} 2
rauta_backend_ttfb_seconds_bucket{cluster="default/web:80",endpoint="10.0.0.1:80",pod="web-1",namespace="default",node="n1",le="0.001"} %[2]d
rauta_backend_ttfb_seconds_bucket{cluster="default/web:80",endpoint="10.0.0.1:80",pod="web-1",namespace="default",node="n1",le="+Inf"} %[2]d
rauta_backend_ttfb_seconds_sum{cluster="default/web:80",endpoint="10.0.0.1:80",pod="web-1",namespace="default",node="n1"} 1
rauta_backend_ttfb_seconds_count{cluster="default/web:80",endpoint="10.0.0.1:80",pod="web-1",namespace="default",node="n1"} %[2]d
`, name, n-failed, failed, n, ttfb, write)
}

const types = `# TYPE rauta_requests_total counter
# TYPE rauta_request_duration_seconds histogram
# TYPE rauta_request_stage_seconds histogram
# TYPE rauta_requests_in_flight gauge
# TYPE rauta_backend_requests_total counter
# TYPE rauta_backend_requests_in_flight gauge
# TYPE rauta_backend_ttfb_seconds histogram
# TYPE rauta_connections gauge
# TYPE rauta_config_generation gauge
rauta_connections 12
rauta_config_generation 7
`

func read(t *testing.T, after time.Duration, routes ...string) *Reading {
	t.Helper()
	r, err := Read(strings.NewReader(types+strings.Join(routes, "")), began.Add(after))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestMetricsThatAreShownExist(t *testing.T) {
	known := map[string]bool{}
	for _, m := range observe.Metrics() {
		known[m.Name] = true
	}
	for _, name := range []string{metricRequests, metricDuration, metricStages, metricInFlight, metricBackendRequests,
		metricBackendInFlight, metricBackendTTFB, metricConnections, metricGeneration} {
		if !known[name] {
			t.Errorf("observe has no %s", name)
		}
	}
	for stage, mark := range stageMarks {
		if mark.letter == "" {
			t.Errorf("stage %s has no letter", observe.Stage(stage))
		}
	}
}

func TestRowsAreWhatCameBetweenTwoReadings(t *testing.T) {
	before := read(t, 0, route("shop", 100, 0, 1, 1))
	after := read(t, 2*time.Second, route("shop", 300, 50, 1.4, 1.1))
	rows := Between(before, after, Routes)
	if len(rows) != 1 {
		t.Fatalf("rows: %+v", rows)
	}
	r := rows[0]
	near := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 1e-9 {
			t.Errorf("%s is %g, want %g", what, got, want)
		}
	}
	near("rate", r.Rate, 100)
	near("failed", r.Failed, 0.25)
	near("p50", r.P50, 0.0015)
	near("p99", r.P99, 0.00199)
	near("in flight", r.InFlight, 3)
	near("backend_ttfb", r.Stages["backend_ttfb"], 0.002)
	near("client_write", r.Stages["client_write"], 0.0005)

	backends := Between(before, after, Backends)
	if len(backends) != 1 || backends[0].Name != "default/web:80 10.0.0.1:80 web-1" {
		t.Fatalf("back ends: %+v", backends)
	}
	near("attempts", backends[0].Rate, 75)
	near("p50 to the head", backends[0].P50, 0.0005)
	near("attempts under way", backends[0].InFlight, 2)
}

func TestTotalsThatWentDownAreCountedFromZero(t *testing.T) {
	rows := Between(read(t, 0, route("shop", 1000, 0, 9, 9)), read(t, time.Second, route("shop", 10, 0, 1, 1)), Routes)
	if len(rows) != 1 || rows[0].Rate != 10 || rows[0].P50 == 0 {
		t.Errorf("after a restart: %+v", rows)
	}
}

func TestARouteThatDoesNothingHasNoRow(t *testing.T) {
	idle := strings.ReplaceAll(route("shop", 10, 0, 1, 1), `in_flight{route="shop"} 3`, `in_flight{route="shop"} 0`)
	if rows := Between(read(t, 0, idle), read(t, time.Second, idle), Routes); len(rows) != 0 {
		t.Errorf("rows: %+v", rows)
	}
}

func TestQuantilesAboveTheLastBoundAreSaidToBeAtIt(t *testing.T) {
	h := histogram{bounds: []float64{1, 2, math.Inf(1)}, counts: []float64{0, 0, 10}}
	if got := h.quantile(0.5, histogram{}); got != 2 {
		t.Errorf("p50 is %g, want 2", got)
	}
	if got := (histogram{}).quantile(0.5, histogram{}); !math.IsNaN(got) {
		t.Errorf("p50 of nothing is %g", got)
	}
}

func TestOtherPagesAreNotTakenForMetrics(t *testing.T) {
	for _, page := range []string{"", "RAUTA admin\n", "# TYPE up gauge\nup 1\n"} {
		if _, err := Read(strings.NewReader(page), began); err == nil {
			t.Errorf("%q was taken for the metrics of a RAUTA", page)
		}
	}
}

func TestABarIsAlwaysFull(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var stages [observe.StageCount]float64
		for i := range stages {
			if random.IntN(2) == 0 {
				stages[i] = random.ExpFloat64()
			}
		}
		stages[random.IntN(len(stages))] += 0.01
		width := 1 + random.IntN(60)
		if got := plain(split(stages, width)); len(got) != width {
			t.Fatalf("bar of %v is %q, want %d cells", stages, got, width)
		}
	}
	if got := split([observe.StageCount]float64{}, 10); got != strings.Repeat(" ", 10) {
		t.Errorf("bar of nothing is %q", got)
	}
}

func TestSortingAndFiltering(t *testing.T) {
	rows := []Row{{Name: "a", Rate: 1, P99: 3}, {Name: "B", Rate: 2, P99: 1}, {Name: "ab", Rate: 2, P99: 2}}
	for _, c := range []struct {
		contains string
		by       Sort
		reverse  bool
		want     string
	}{
		{"", ByRate, false, "B ab a"},
		{"", ByRate, true, "a B ab"},
		{"", ByP99, false, "a ab B"},
		{"", ByName, false, "B a ab"},
		{"b", ByRate, false, "B ab"},
		{"nothing", ByRate, false, ""},
	} {
		var names []string
		for _, r := range arrange(rows, c.contains, c.by, c.reverse) {
			names = append(names, r.Name)
		}
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}

func TestNamesCannotWriteToTheTerminal(t *testing.T) {
	got := line(80, Routes, Row{Name: "evil\x1b[2J\r\nroute"})
	if strings.ContainsAny(got, "\x1b\r\n") {
		t.Errorf("line is %q", got)
	}
}

var escapes = regexp.MustCompile(`\x1b\[[0-9;]*m`)

func plain(s string) string { return escapes.ReplaceAllString(s, "") }

// shown is a screen of a size with two readings.
func shown(t *testing.T, width, height int) *screen {
	t.Helper()
	s := &screen{name: "node-1:9090", interval: 2 * time.Second}
	var before, after []string
	for i := range 40 {
		name := fmt.Sprintf("httproute/default/route-%02d", i)
		before = append(before, route(name, 10, 0, 0.1, 0.1))
		after = append(after, route(name, 10+i*20, i, 0.1+float64(i)*0.02, 0.1+float64(i)*0.004))
	}
	s.Update(tea.WindowSizeMsg{Width: width, Height: height})
	s.Update(readMsg{reading: read(t, 0, before...)})
	s.Update(readMsg{reading: read(t, 2*time.Second, after...)})
	return s
}

func press(s *screen, keys ...string) {
	for _, k := range keys {
		msg := tea.KeyPressMsg{Code: rune(k[0]), Text: k}
		switch k {
		case "enter":
			msg = tea.KeyPressMsg{Code: tea.KeyEnter}
		case "esc":
			msg = tea.KeyPressMsg{Code: tea.KeyEscape}
		case "pgdown":
			msg = tea.KeyPressMsg{Code: tea.KeyPgDown}
		}
		s.Update(msg)
	}
}

func TestScreens(t *testing.T) {
	for _, c := range []struct {
		name          string
		width, height int
		keys          []string
	}{
		{"routes-80x24", 80, 24, nil},
		{"routes-120x40", 120, 40, nil},
		{"backends-80x24", 80, 24, []string{"b"}},
		{"filtered-100x12", 100, 12, []string{"/", "-", "0", "enter", "s", "r"}},
		{"scrolled-100x12", 100, 12, []string{"pgdown", "j"}},
		{"narrow-30x8", 30, 8, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := shown(t, c.width, c.height)
			press(s, c.keys...)
			got := plain(s.text())
			lines := strings.Split(got, "\n")
			if len(lines) != c.height {
				t.Errorf("%d lines on a screen of %d", len(lines), c.height)
			}
			for _, l := range lines {
				if n := len([]rune(l)); n > c.width {
					t.Errorf("line of %d cells on a screen of %d: %q", n, c.width, l)
				}
			}
			file := filepath.Join("testdata", c.name+".txt")
			if *update {
				if err := os.WriteFile(file, []byte(got+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got+"\n" != string(want) {
				t.Errorf("screen differs from %s (-update writes it):\n%s", file, got)
			}
		})
	}
}

func TestALegendAndHelpFitAnOrdinaryTerminal(t *testing.T) {
	for view := range viewCount {
		for what, text := range map[string]string{"legend": legend(80, view), "help": help(view)} {
			if n := len([]rune(plain(text))); n > 80 {
				t.Errorf("%s of %ss has %d cells: %s", what, viewNames[view], n, plain(text))
			}
		}
	}
}

func TestALineIsAsWideAsTheScreen(t *testing.T) {
	row := Row{Name: strings.Repeat("n", 300), Rate: 123456.7, Failed: 1, P50: 0.1234, P99: 0.1234, InFlight: 123456}
	row.stages[observe.StageProxy] = 0.1234
	for view := range viewCount {
		for width := nameMin + numbersLen; width < 200; width++ {
			if n := len([]rune(plain(line(width, view, row)))); n > width || view == Backends && n != width {
				t.Errorf("a line of %ss has %d cells at a width of %d", viewNames[view], n, width)
			}
			if got, want := len([]rune(plain(line(width, view, row)))), len([]rune(head(width, view, ByRate, false))); got != want {
				t.Errorf("at a width of %d a line has %d cells, its head %d", width, got, want)
			}
		}
	}
}

func TestTheMarkOfTheSortingIsNoPartOfTheTitle(t *testing.T) {
	if got := head(100, Routes, ByName, false); !strings.HasPrefix(got, "ROUTEv ") {
		t.Errorf("head is %q", got)
	}
}

func TestEscapeRemovesTheFilterAndStays(t *testing.T) {
	s := shown(t, 100, 12)
	press(s, "/", "3", "enter")
	if got := plain(s.text()); !strings.Contains(got, "filter: 3 (esc removes it)") {
		t.Fatalf("screen:\n%s", got)
	}
	for range 2 { // the second time there is none
		if _, cmd := s.Update(tea.KeyPressMsg{Code: tea.KeyEscape}); cmd != nil {
			t.Error("esc ended it")
		}
		if s.filter != "" {
			t.Errorf("the filter is still %q", s.filter)
		}
	}
}

func TestControlCEndsItWhileAFilterIsTyped(t *testing.T) {
	s := shown(t, 100, 12)
	press(s, "/", "x")
	if _, cmd := s.Update(tea.KeyPressMsg{Code: 'c', Mod: tea.ModCtrl}); cmd == nil {
		t.Fatal("it goes on")
	} else if _, quits := cmd().(tea.QuitMsg); !quits {
		t.Errorf("ctrl+c does %T", cmd())
	}
}

func TestAnEmptyScreenSaysWhy(t *testing.T) {
	s := shown(t, 100, 12)
	press(s, "/", "x", "x", "enter")
	if got := plain(s.text()); !strings.Contains(got, `no route of 40 has "xx" in its name`) {
		t.Errorf("screen:\n%s", got)
	}
	s = &screen{name: "node", interval: 2 * time.Second}
	s.Update(tea.WindowSizeMsg{Width: 100, Height: 12})
	for i := range 2 {
		s.Update(readMsg{reading: read(t, time.Duration(i)*time.Second)})
	}
	if got := plain(s.text()); !strings.Contains(got, "no requests within 2s") {
		t.Errorf("screen:\n%s", got)
	}
}

func TestAnotherOrderIsSeenFromItsBeginning(t *testing.T) {
	for _, key := range []string{"s", "S", "r", "b"} {
		s := shown(t, 100, 12)
		press(s, "G")
		s.text()
		if s.scrolled != 33 {
			t.Fatalf("G scrolls to row %d, want 33, so that the last 7 of 40 are seen", s.scrolled)
		}
		if press(s, key); s.scrolled != 0 {
			t.Errorf("after %s the screen begins with row %d", key, s.scrolled)
		}
	}
}

func TestANodeThatIsAwayLeavesItsLastFigures(t *testing.T) {
	s := shown(t, 100, 12)
	s.Update(readMsg{err: errors.New(`Get "http://` + strings.Repeat("long.", 30) + `example:9090/metrics": connection refused`)})
	got := plain(s.text())
	if !strings.Contains(got, "no answer since") || !strings.Contains(got, "connection refused") || !strings.Contains(got, "route-39") {
		t.Errorf("screen:\n%s", got)
	}
	s.rows = [viewCount][]Row{} // the last it said was that nothing came any more
	if got := plain(s.text()); strings.Contains(got, "no requests within") {
		t.Errorf("a node that does not answer is said to have no requests:\n%s", got)
	}
	if _, cmd := s.Update(readMsg{err: errors.New("again")}); cmd == nil {
		t.Error("it does not try again")
	}
}

func TestAPausedScreenStandsStill(t *testing.T) {
	s := shown(t, 100, 12)
	press(s, "p")
	before := s.text()
	other := read(t, 4*time.Second, route("only", 10, 0, 1, 1))
	other.Connections, other.Generation = 99, 99
	s.Update(readMsg{reading: other})
	if got := s.text(); got != before {
		t.Errorf("the screen changed:\n%s", plain(got))
	}
}

func TestOnce(t *testing.T) {
	n := 0
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n++
		fmt.Fprint(w, types+route("shop", 100*n, 0, float64(n), 0))
	}))
	defer node.Close()
	source := FromURL(node.Client(), metricsOf(t, node))

	var out bytes.Buffer
	if err := Once(context.Background(), source, time.Millisecond, Text, &out); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); strings.Contains(got, "\x1b") || !strings.Contains(got, "\nshop ") || !strings.Contains(got, "tttt") {
		t.Errorf("text:\n%q", got)
	}

	out.Reset()
	if err := Once(context.Background(), source, time.Millisecond, JSON, &out); err != nil {
		t.Fatal(err)
	}
	var got struct{ Routes, Backends []Row }
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Routes) != 1 || got.Routes[0].Name != "shop" || got.Routes[0].Rate <= 0 || len(got.Backends) != 1 {
		t.Errorf("json: %s", out.String())
	}
	if b := got.Backends[0]; b.Cluster != "default/web:80" || b.Endpoint != "10.0.0.1:80" || b.Pod != "web-1" || b.Name != "default/web:80 10.0.0.1:80 web-1" {
		t.Errorf("the back end is %+v", b)
	}
	if strings.Count(out.String(), `"cluster"`) != 1 {
		t.Errorf("a route has a cluster: %s", out.String())
	}
}

func metricsOf(t *testing.T, node *httptest.Server) *url.URL {
	t.Helper()
	u, err := url.Parse(node.URL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestANodeIsAskedForWhatIsShownOnly(t *testing.T) {
	var asked []string
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.Query()["name[]"]
		fmt.Fprint(w, types)
	}))
	defer node.Close()
	if _, err := FromURL(node.Client(), metricsOf(t, node))(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := strings.Join(asked, " ")
	for _, name := range []string{metricGeneration, metricRequests, metricStages + "_sum", metricBackendTTFB + "_bucket"} {
		if !strings.Contains(got, name) {
			t.Errorf("asked for %s, not for %s", got, name)
		}
	}
	if strings.Contains(got, metricStages+"_bucket") || len(asked) != 9 {
		t.Errorf("asked for %q", asked)
	}
}

func TestLabelsAreReadAsTheyAreWritten(t *testing.T) {
	r := observe.NewRegistry(observe.Options{Workers: 1})
	r.Gauge(metricGeneration, func() float64 { return 3 })
	name := `a\b"c}d,route="e` + "\nf\\"
	r.Shard(0).Finish(&observe.Record{Status: 200, Route: r.Route(name), EndAt: 3e6})
	var page bytes.Buffer
	r.WritePrometheus(&page, asked()...)
	got, err := Read(&page, began)
	if err != nil {
		t.Fatal(err)
	}
	row := got.rows[Routes][name]
	if row == nil || row.requests != 1 || got.Generation != 3 {
		t.Fatalf("rows: %v", got.rows[Routes])
	}
	if n := len(row.duration.counts); n == 0 || n != len(row.duration.bounds) || row.duration.counts[n-1] != 1 || !math.IsInf(row.duration.bounds[n-1], 1) {
		t.Errorf("durations: %+v", row.duration)
	}
}

func TestAPageThatBreaksOffIsToldOf(t *testing.T) {
	for _, end := range []string{"rauta_requests_total{route=\"a", "rauta_requests_total{route=\"a\"} x\n", "rauta_requests_total\n"} {
		if _, err := Read(strings.NewReader(types+end), began); err == nil || !strings.Contains(err.Error(), "parse metrics") {
			t.Errorf("%q: %v", end, err)
		}
	}
}

func TestHistogramsOfOtherBoundsKeepTheirOwn(t *testing.T) {
	other := strings.ReplaceAll(route("b", 10, 0, 1, 1), `le="0.002"`, `le="0.004"`)
	r := read(t, 0, route("a", 10, 0, 1, 1), other, route("c", 10, 0, 1, 1))
	for name, want := range map[string]float64{"a": 0.002, "b": 0.004, "c": 0.002} {
		if h := r.rows[Routes][name].duration; len(h.bounds) != 3 || len(h.counts) != 3 || h.bounds[1] != want {
			t.Errorf("%s: %+v", name, h)
		}
	}
}

func TestAnAnswerThatNeverComesEndsWithTheTime(t *testing.T) {
	silent := func(ctx context.Context) (*Reading, error) {
		if _, ok := ctx.Deadline(); !ok {
			t.Error("it may take for ever")
		}
		return nil, fmt.Errorf("read: %w", context.DeadlineExceeded)
	}
	if err := Once(t.Context(), silent, time.Second, Text, io.Discard); err == nil || !strings.Contains(err.Error(), "not come within 5s") {
		t.Errorf("error: %v", err)
	}
}

func TestOnceSaysThatNothingCame(t *testing.T) {
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, types) }))
	defer node.Close()
	var out bytes.Buffer
	if err := Once(t.Context(), FromURL(node.Client(), metricsOf(t, node)), time.Millisecond, Text, &out); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(out.String(), "no requests within 1ms"); got != 2 {
		t.Errorf("said %d times, want once of routes and once of back ends:\n%s", got, &out)
	}
}

// TestWhatAReadingCosts gates what BenchmarkAReadingOfTenThousandRoutes measures: lines cost nothing, rows do.
func TestWhatAReadingCosts(t *testing.T) {
	const rowsMax, allocationsMax = 20_000, 10
	page := tenThousandRoutes(asked()...)
	got := testing.AllocsPerRun(1, func() {
		if _, err := Read(bytes.NewReader(page), began); err != nil {
			t.Error(err)
		}
	})
	if got /= rowsMax; got > allocationsMax {
		t.Errorf("%.1f allocations for a row, at most %d", got, allocationsMax)
	}
}

func TestARefusalIsToldAsItIs(t *testing.T) {
	node := httptest.NewServer(http.NotFoundHandler())
	defer node.Close()
	_, err := FromURL(node.Client(), metricsOf(t, node))(context.Background())
	if err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("error: %v", err)
	}
}
