package clients

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"rauta.io/rauta/internal/testrig"
)

// observability has the dashboard and the alerts that are tried with a Prometheus.
const observability = "../../deploy/observability"

// trafficPause is what a client waits after an answer.
const trafficPause = 20 * time.Millisecond

const scrapeInterval = time.Second

// elsewhere are beginnings of names of metrics that have no series here, with what they need.
var elsewhere = map[string]string{
	"rauta_change_":                       "a cluster",
	"rauta_events_":                       "a cluster",
	"rauta_leader":                        "a cluster",
	"rauta_state_":                        "a cluster",
	"rauta_status_":                       "a cluster",
	"rauta_watch_":                        "a cluster",
	"rauta_l4_":                           "a TLSRoute, TCPRoute or UDPRoute",
	"rauta_trace_":                        "a collector",
	"rauta_ocsp_":                         "a certificate with a staple",
	"rauta_backend_client_certificate_":   "a certificate towards back ends",
	"rauta_backend_connect_failures_":     "a back end that is away",
	"rauta_backend_tcp_connect_failures_": "a back end that is away",
	"rauta_backend_tcp_resets_":           "a back end that fails",
	"rauta_backend_tcp_retransmits_":      "a network that loses packets",
	"rauta_backend_tcp_timeouts_":         "a network that fails",
}

// fromKernel are beginnings of names of metrics that need eBPF, which may not be had here.
var fromKernel = []string{"rauta_accept_queue_", "rauta_backend_tcp_", "rauta_client_tcp_", "rauta_kernel_"}

func isElsewhere(expression string, kernel bool) bool {
	has := func(name string) bool { return strings.Contains(expression, name) }
	return slices.ContainsFunc(slices.Collect(maps.Keys(elsewhere)), has) || !kernel && slices.ContainsFunc(fromKernel, has)
}

// TestPrometheusAnswersEveryPanel has a Prometheus scrape RAUTA, which has traffic meanwhile, and asks it all that the
// dashboard and the alerts ask. Parsing alone, which internal/monitoring tests, would not see labels that do not match, or
// a rate of what is no counter.
func TestPrometheusAnswersEveryPanel(t *testing.T) {
	p := startPrometheus(t)
	makeTraffic(t)
	unanswered := panels(t)
	p.untilScraped(t)
	kernel := p.answers(t, "the tier", `rauta_ebpf_tier{tier="full"}`)
	for deadline := time.Now().Add(waitMax); len(unanswered) > 0 && time.Now().Before(deadline); time.Sleep(scrapeInterval) {
		for panel, expression := range unanswered {
			if p.answers(t, panel, expression) || isElsewhere(expression, kernel) {
				delete(unanswered, panel)
			}
		}
	}
	for _, panel := range slices.Sorted(maps.Keys(unanswered)) {
		t.Errorf("%s shows nothing: %s", panel, unanswered[panel])
	}
	p.wantHealthyRules(t)
}

// panels returns every expression of the dashboard by the title of its panel, with values in place of the variables.
func panels(t *testing.T) map[string]string {
	t.Helper()
	type panel struct {
		Title   string
		Targets []struct{ RefID, Expr string }
		Panels  []panel
	}
	var dashboard panel
	text, err := os.ReadFile(filepath.Join(observability, "dashboard.json"))
	if err == nil {
		err = json.Unmarshal(text, &dashboard)
	}
	if err != nil {
		t.Fatal(err)
	}
	values := strings.NewReplacer("$__rate_interval", "10s", "$instance", ".*", "$route", ".*", "$cluster", ".*")
	out := map[string]string{}
	for queue := dashboard.Panels; len(queue) > 0; queue = queue[1:] {
		queue = append(queue, queue[0].Panels...)
		for _, target := range queue[0].Targets {
			out[queue[0].Title+" "+target.RefID] = values.Replace(target.Expr)
		}
	}
	return out
}

// prometheus is one that scrapes RAUTA.
type prometheus struct{ address string }

func startPrometheus(t *testing.T) *prometheus {
	t.Helper()
	path := program(t, "prometheus", "", "apt-get install prometheus")
	rules, err := filepath.Abs(filepath.Join(observability, "rules.yml"))
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	file := filepath.Join(folder, "prometheus.yml")
	text := fmt.Sprintf(`global: {scrape_interval: %v, evaluation_interval: %[1]v}
rule_files: [%[2]q]
scrape_configs:
- job_name: rauta
  static_configs: [{targets: [%[3]q]}]
`, scrapeInterval, rules, serving.metrics)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &prometheus{address: fmt.Sprintf("127.0.0.1:%d", testrig.FreePort(t))}
	var log testrig.Buffer
	command := exec.Command(path, "--config.file", file, "--storage.tsdb.path", filepath.Join(folder, "data"), "--web.listen-address", p.address)
	command.Stderr = &log
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		command.Process.Kill()
		command.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	return p
}

// get asks Prometheus and reports whether it answered.
func (p *prometheus) get(t *testing.T, path string, answer any) bool {
	t.Helper()
	response, err := http.Get("http://" + p.address + path)
	if err != nil {
		return false // it has not begun to listen
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode == http.StatusServiceUnavailable {
		return false
	}
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%s from %s: %s", response.Status, path, text)
	}
	if err := json.Unmarshal(text, answer); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return true
}

// untilScraped waits for the first figures.
func (p *prometheus) untilScraped(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(waitMax); !p.answers(t, "the scrape", `up{job="rauta"} == 1`); time.Sleep(scrapeInterval) {
		if time.Now().After(deadline) {
			t.Fatal("Prometheus has not scraped RAUTA")
		}
	}
}

// answers reports whether an expression has a value now.
func (p *prometheus) answers(t *testing.T, panel, expression string) bool {
	t.Helper()
	var answer struct {
		Warnings, Infos []string
		Data            struct{ Result []any }
	}
	if !p.get(t, "/api/v1/query?query="+url.QueryEscape(expression), &answer) {
		return false
	}
	if said := append(answer.Warnings, answer.Infos...); len(said) > 0 {
		t.Errorf("%s: Prometheus says %q of %s", panel, said, expression)
	}
	return len(answer.Data.Result) > 0
}

// wantHealthyRules checks that every alert could be evaluated.
func (p *prometheus) wantHealthyRules(t *testing.T) {
	t.Helper()
	var answer struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError string }
			}
		}
	}
	if !p.get(t, "/api/v1/rules", &answer) {
		t.Fatal("Prometheus does not answer any more")
	}
	count := 0
	for _, group := range answer.Data.Groups {
		for _, rule := range group.Rules {
			count++
			if rule.Health != "ok" {
				t.Errorf("alert %s is %s: %s", rule.Name, rule.Health, rule.LastError)
			}
		}
	}
	if count < 20 {
		t.Errorf("only %d alerts were found", count)
	}
}

// makeTraffic has requests go on until the test ends: over HTTP/1.1 and HTTP/2, of gRPC, with and without TLS, and such as
// fail in different ways.
func makeTraffic(t *testing.T) {
	header := func(pairs ...string) http.Header {
		h := http.Header{}
		for i := 0; i < len(pairs); i += 2 {
			h.Set(pairs[i], pairs[i+1])
		}
		return h
	}
	for _, r := range []struct {
		method, url, host string
		header            http.Header
	}{
		{http.MethodGet, "http://" + serving.plain + "/hello", "shop.localhost", nil},
		{http.MethodPost, "http://" + serving.plain + "/orders", "shop.localhost", nil},
		{http.MethodGet, "https://" + serving.secure + "/hello", "shop.localhost", nil},
		{http.MethodPost, "https://" + serving.secure + "/demo.Echo/Say", "grpc.localhost", header("Content-Type", "application/grpc", "TE", "trailers")},
		{http.MethodGet, "http://" + serving.plain + "/slow", "shop.localhost", nil},
		{http.MethodGet, "http://" + serving.plain + "/", "nobody.localhost", nil},
		{http.MethodGet, "http://" + serving.plain + "/", "not a host", nil},
	} {
		client := &http.Client{Timeout: waitMax, Transport: &http.Transport{ForceAttemptHTTP2: true,
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: r.host}}}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for ; t.Context().Err() == nil; time.Sleep(trafficPause) {
				request, err := http.NewRequestWithContext(t.Context(), r.method, r.url, strings.NewReader("one=1"))
				if err != nil {
					t.Error(err)
					return
				}
				request.Host, request.Header = r.host, r.header.Clone()
				if response, err := client.Do(request); err == nil {
					io.Copy(io.Discard, response.Body)
					response.Body.Close()
				}
			}
		}()
		t.Cleanup(func() { <-done })
	}
}
