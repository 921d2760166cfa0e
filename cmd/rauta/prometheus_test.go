package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"

	"rauta.io/rauta/internal/monitoring"
	"rauta.io/rauta/internal/testrig"
)

const observability = "../../deploy/observability"

// prometheus is a running Prometheus with the configuration and the rules of deploy/observability.
type prometheus struct {
	t       *testing.T
	address string
}

// startPrometheus has it read the metrics of target each second; the discovery of pods is replaced by that.
func startPrometheus(t *testing.T, target string) *prometheus {
	t.Helper()
	program, err := exec.LookPath("prometheus")
	if err != nil {
		t.Skip("prometheus is not installed (Debian: package prometheus)")
	}
	text, err := os.ReadFile(filepath.Join(observability, "prometheus.yml"))
	if err != nil {
		t.Fatal(err)
	}
	job, _, found := strings.Cut(string(text), "  scrape_interval:")
	if !found {
		t.Fatalf("prometheus.yml has no interval:\n%s", text)
	}
	dir := t.TempDir()
	rules, err := os.ReadFile(filepath.Join(observability, "rules.yml"))
	if err != nil {
		t.Fatal(err)
	}
	config := "global: {evaluation_interval: 1s}\n" + job + fmt.Sprintf("  scrape_interval: 1s\n  static_configs: [{targets: ['%s']}]\n", target)
	for name, text := range map[string]string{"prometheus.yml": config, "rules.yml": string(rules)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := &prometheus{t: t, address: fmt.Sprintf("127.0.0.1:%d", testrig.FreePort(t))}
	log := &testrig.Buffer{}
	cmd := exec.Command(program, "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+p.address)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("prometheus wrote:\n%s", log)
		}
	})
	return p
}

// ask calls the API of Prometheus; false is that it has not succeeded, and why.
func (p *prometheus) ask(path string, values url.Values, data any) (problem string, ok bool) {
	resp, err := http.Get("http://" + p.address + path + "?" + values.Encode())
	if err != nil {
		return err.Error(), false
	}
	defer resp.Body.Close()
	var answer struct {
		Status, Error string
		Data          json.RawMessage
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return err.Error(), false
	}
	if answer.Status != "success" {
		return answer.Error, false
	}
	if err := json.Unmarshal(answer.Data, data); err != nil {
		return err.Error(), false
	}
	return "", true
}

// series are the values that a query has now.
func (p *prometheus) series(query string) (values []string, problem string, ok bool) {
	var data struct{ Result []struct{ Value [2]any } }
	problem, ok = p.ask("/api/v1/query", url.Values{"query": {query}}, &data)
	for _, r := range data.Result {
		values = append(values, fmt.Sprint(r.Value[1]))
	}
	return values, problem, ok
}

// expressionsIn appends the queries that a part of a dashboard has.
func expressionsIn(part any, to []string) []string {
	switch part := part.(type) {
	case map[string]any:
		for name, value := range part {
			if text, ok := value.(string); ok && name == "expr" {
				to = append(to, text)
			}
			to = expressionsIn(value, to)
		}
	case []any:
		for _, value := range part {
			to = expressionsIn(value, to)
		}
	}
	return to
}

// TestPrometheusFindsWhatTheDashboardAndTheAlertsAskFor: every query gets an answer, and data if RAUTA shows the metric.
func TestPrometheusFindsWhatTheDashboardAndTheAlertsAskFor(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(observability, "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var dashboard any
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	x := startTraced(t, "--trace-sampling", "100")
	p := startPrometheus(t, x.metrics)
	scrapes := func() float64 {
		values, _, _ := p.series(`count_over_time(rauta_build_info{job="rauta"}[10m])`)
		n := 0.0
		if len(values) == 1 {
			fmt.Sscan(values[0], &n)
		}
		return n
	}
	work := x.everythingOnce()
	work() // what is counted for the first time has a rate only from the second scrape on
	x.until("scrapes by Prometheus", func() bool { return scrapes() >= 1 })
	for seen := scrapes(); scrapes() < seen+4; time.Sleep(50 * time.Millisecond) {
		work()
	}
	shown := x.get(x.metrics, "/metrics")
	values := strings.NewReplacer("$__rate_interval", "10m", "$instance", ".*", "$route", ".*", "$cluster", ".*")
	names, empty := regexp.MustCompile(`\b(?:rauta|process|go)_[a-z0-9_]+`), 0
	for _, expression := range expressionsIn(dashboard, nil) {
		query := values.Replace(expression)
		got, problem, ok := p.series(query)
		if !ok {
			t.Errorf("%s\nis answered %s", query, problem)
			continue
		}
		expected := true
		for _, name := range names.FindAllString(query, -1) {
			expected = expected && strings.Contains(shown, "\n"+name)
		}
		if expected && len(got) == 0 {
			t.Errorf("%s\nhas no data, though RAUTA shows the metric", query)
		}
		if !expected {
			empty++
		}
	}
	if all := len(expressionsIn(dashboard, nil)); empty > all/2 {
		t.Errorf("%d of %d queries ask for what a RAUTA under load does not show", empty, all)
	}
	p.wantSplit()
	p.wantRules()
}

// wantSplit checks the first panel: the mean time in each stage, whose sum is near the mean duration.
func (p *prometheus) wantSplit() {
	p.t.Helper()
	const stages = `sum(rate(rauta_request_stage_seconds_sum{job="rauta",stage!~"accept_queue|socket_wait"}[10m]))`
	got, problem, ok := p.series(stages + ` / sum(rate(rauta_request_duration_seconds_sum{job="rauta"}[10m]))`)
	share := 0.0
	if ok && len(got) == 1 {
		fmt.Sscan(got[0], &share)
	}
	if share < 0.9 || share > 1.1 { // both are of the same requests, but not all series began at the same scrape
		p.t.Errorf("the stages add up to %v of the duration (%s)", got, problem)
	}
}

// wantRules checks that Prometheus has evaluated every alert.
func (p *prometheus) wantRules() {
	p.t.Helper()
	text, err := os.ReadFile(filepath.Join(observability, "rules.yml"))
	if err != nil {
		p.t.Fatal(err)
	}
	want, err := monitoring.ParseRules(text)
	if err != nil {
		p.t.Fatal(err)
	}
	alerts := 0
	for _, g := range want.Groups {
		alerts += len(g.Rules)
	}
	var data struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError, State string }
		}
	}
	if problem, ok := p.ask("/api/v1/rules", nil, &data); !ok {
		p.t.Fatal(problem)
	}
	for _, g := range data.Groups {
		for _, r := range g.Rules {
			alerts--
			if r.Health != "ok" {
				p.t.Errorf("alert %s is %s: %s", r.Name, r.Health, r.LastError)
			}
		}
	}
	if alerts != 0 {
		p.t.Errorf("Prometheus has another number of alerts than rules.yml, by %d", alerts)
	}
}

// everythingOnce returns what makes requests of each kind once: answered, refused, failed, repeated, mirrored, calls.
func (x *traced) everythingOnce() func() {
	x.t.Helper()
	conn, err := grpc.NewClient(fmt.Sprint("passthrough:///127.0.0.1:", x.calls), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(func() { conn.Close() })
	return func() {
		for _, path := range []string{"/one", "/broken", "/mirrored", "/flaky", "/sampled"} {
			x.do(http.DefaultClient, path, nil)
		}
		if resp, err := http.Post(x.url("/upload"), "text/plain", strings.NewReader(strings.Repeat("x", 10_000))); err == nil {
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		grpc_health_v1.NewHealthClient(conn).Check(x.t.Context(), &grpc_health_v1.HealthCheckRequest{}, grpc.WaitForReady(true))
	}
}
