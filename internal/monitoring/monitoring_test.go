package monitoring

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"rauta.io/rauta/proxy/observe"
)

var update = flag.Bool("update", false, "write the derived files of deploy/observability anew")

const folder = "../../deploy/observability"

func read(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(folder, name))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func rules(t *testing.T) []Rule {
	t.Helper()
	r, err := ParseRules(read(t, "rules.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var out []Rule
	for _, g := range r.Groups {
		out = append(out, g.Rules...)
	}
	if len(out) < 20 {
		t.Fatalf("only %d alerts were found", len(out))
	}
	return out
}

func TestTheDerivedFilesAreWhatTheirSourcesMake(t *testing.T) {
	parsed, err := ParseRules(read(t, "rules.yml"))
	if err != nil {
		t.Fatal(err)
	}
	for name, make := range map[string]func() ([]byte, error){
		"dashboard.json":      Dashboard,
		"prometheusrule.yaml": func() ([]byte, error) { return PrometheusRule(parsed) },
	} {
		want, err := make()
		if err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.WriteFile(filepath.Join(folder, name), want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(read(t, name), want) {
			t.Errorf("%s is not what its source makes: run make golden", name)
		}
	}
}

// expressions returns every PromQL expression of the dashboard by the title of its panel.
func expressions(t *testing.T) map[string]string {
	t.Helper()
	var d grafanaDashboard
	if err := json.Unmarshal(read(t, "dashboard.json"), &d); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	panels := d.Panels
	for i := 0; i < len(panels); i++ {
		panels = append(panels, panels[i].Panels...)
		for _, target := range panels[i].Targets {
			out[fmt.Sprintf("%d %s %s", panels[i].ID, panels[i].Title, target.RefID)] = target.Expr
		}
	}
	if len(out) < 50 {
		t.Fatalf("only %d expressions were found", len(out))
	}
	return out
}

func TestTheFirstPanelIsTheSplitIntoStages(t *testing.T) {
	var d grafanaDashboard
	if err := json.Unmarshal(read(t, "dashboard.json"), &d); err != nil {
		t.Fatal(err)
	}
	first := d.Panels[0]
	if first.Type != "timeseries" || !strings.Contains(first.Targets[0].Expr, "rauta_request_stage_seconds_sum") || first.GridPos != (gridPos{H: panelHeight, W: gridWidth}) {
		t.Errorf("the first panel is %+v", first)
	}
}

func TestPanelsDoNotOverlap(t *testing.T) {
	var d grafanaDashboard
	if err := json.Unmarshal(read(t, "dashboard.json"), &d); err != nil {
		t.Fatal(err)
	}
	ids, taken := map[int]bool{}, map[[2]int]string{}
	var place func([]*grafanaPanel)
	place = func(panels []*grafanaPanel) {
		for _, p := range panels {
			if ids[p.ID] || p.ID == 0 {
				t.Errorf("%s has the id %d of another panel", p.Title, p.ID)
			}
			ids[p.ID] = true
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
					if other := taken[[2]int{x, y}]; other != "" || x >= gridWidth {
						t.Fatalf("%q lies upon %q at %d, %d", p.Title, other, x, y)
					}
					taken[[2]int{x, y}] = p.Title
				}
			}
			place(p.Panels)
		}
	}
	place(d.Panels)
}

// ours finds the names of RAUTA's metrics in PromQL.
var ours = regexp.MustCompile(`\b(?:rauta|go|process)_[a-z0-9_]+`)

// metricOf returns the metric that a name in PromQL belongs to: histograms have three names.
func metricOf(c catalogue, name string) (observe.Metric, bool) {
	if m, ok := c[name]; ok {
		return m, m.Type != "histogram"
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if base, ok := strings.CutSuffix(name, suffix); ok && c[base].Type == "histogram" {
			return c[base], true
		}
	}
	return observe.Metric{}, false
}

func TestEveryMetricOfTheDashboardExistsAndNoneIsMissing(t *testing.T) {
	c, seen := newCatalogue(), map[string]bool{}
	for panel, expression := range expressions(t) {
		for _, name := range ours.FindAllString(expression, -1) {
			m, ok := metricOf(c, name)
			if !ok {
				t.Errorf("panel %s names %s, which RAUTA does not have", panel, name)
			}
			seen[m.Name] = true
		}
	}
	for name := range c {
		if !seen[name] {
			t.Errorf("the dashboard does not show %s", name)
		}
	}
}

func TestEveryMetricOfTheAlertsExists(t *testing.T) {
	c := newCatalogue()
	for _, r := range rules(t) {
		for _, name := range ours.FindAllString(r.Expr, -1) {
			if _, ok := metricOf(c, name); !ok {
				t.Errorf("alert %s names %s, which RAUTA does not have", r.Alert, name)
			}
		}
	}
}

// TestEveryReasonOfTheAlertsIsKnown: a reason that is spelled wrong would make an alert that never fires.
func TestEveryReasonOfTheAlertsIsKnown(t *testing.T) {
	operations, err := os.ReadFile("../../docs/operations.md") // doctest keeps its list of reasons true
	if err != nil {
		t.Fatal(err)
	}
	quoted := regexp.MustCompile(`reason=~?"([^"]+)"`)
	found := 0
	for _, r := range rules(t) {
		for _, match := range quoted.FindAllStringSubmatch(r.Expr, -1) {
			for reason := range strings.SplitSeq(match[1], "|") {
				found++
				if !bytes.Contains(operations, []byte("`"+reason+"`")) {
					t.Errorf("alert %s names the reason %s, which is not in docs/operations.md", r.Alert, reason)
				}
			}
		}
	}
	if found == 0 {
		t.Error("no alert names a reason")
	}
}

func TestEveryAlertSaysWhatItIsAndWhatToDo(t *testing.T) {
	page, err := os.ReadFile("../../docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rules(t) {
		anchor, ok := strings.CutPrefix(r.Annotations["runbook"], "docs/observability.md#")
		if !ok || !regexp.MustCompile(`(?mi)^### `+regexp.QuoteMeta(anchor)+`$`).Match(page) {
			t.Errorf("alert %s: docs/observability.md has no part for its runbook %q", r.Alert, r.Annotations["runbook"])
		}
		if r.Annotations["summary"] == "" {
			t.Errorf("alert %s has no summary", r.Alert)
		}
		if !slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]) {
			t.Errorf("alert %s has the severity %q", r.Alert, r.Labels["severity"])
		}
	}
}

func TestEveryAlertHasATestThatRaisesIt(t *testing.T) {
	var file struct {
		Tests []struct {
			Name          string `json:"name"`
			AlertRuleTest []struct {
				Alertname string `json:"alertname"`
				ExpAlerts []any  `json:"exp_alerts"`
			} `json:"alert_rule_test"`
		} `json:"tests"`
	}
	if err := yaml.Unmarshal(read(t, "rules_test.yml"), &file); err != nil {
		t.Fatal(err)
	}
	raised, silent := map[string]bool{}, map[string]bool{}
	for _, test := range file.Tests {
		for _, a := range test.AlertRuleTest {
			if len(a.ExpAlerts) > 0 {
				raised[a.Alertname] = true
			} else {
				silent[a.Alertname] = true
			}
		}
	}
	for _, r := range rules(t) {
		if !raised[r.Alert] || !silent[r.Alert] {
			t.Errorf("rules_test.yml raises %s: %v, and has a time at which it is silent: %v", r.Alert, raised[r.Alert], silent[r.Alert])
		}
	}
}

func promtool(t *testing.T, args ...string) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed (Debian: package prometheus)")
	}
	if out, err := exec.Command(path, args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func TestPrometheusTakesConfigurationAndRules(t *testing.T) {
	// Debian's promtool is built without the discovery of Kubernetes: it gets everything else.
	text, file := string(read(t, "prometheus.yml")), filepath.Join(t.TempDir(), "prometheus.yml")
	discovery := "  kubernetes_sd_configs:\n  - role: pod\n    namespaces: {names: [rauta-system]}\n"
	if !strings.Contains(text, discovery) {
		t.Fatalf("prometheus.yml does not have\n%s", discovery)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(text, discovery, "", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(file), "rules.yml"), read(t, "rules.yml"), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "config", file)
	promtool(t, "test", "rules", filepath.Join(folder, "rules_test.yml"))
}

// TestPrometheusParsesTheDashboard has promtool parse the expressions as if they were recording rules, with values in
// place of Grafana's variables.
func TestPrometheusParsesTheDashboard(t *testing.T) {
	values := strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*", "$route", ".*", "$cluster", ".*")
	var recorded []map[string]string
	for _, expression := range expressions(t) {
		if strings.Contains(values.Replace(expression), "$") {
			t.Errorf("%s has a variable that the dashboard does not have", expression)
		}
		recorded = append(recorded, map[string]string{"record": fmt.Sprintf("panel:%d", len(recorded)), "expr": values.Replace(expression)})
	}
	text, err := yaml.Marshal(map[string]any{"groups": []map[string]any{{"name": "dashboard", "rules": recorded}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "dashboard.yml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", file)
}
