package blackbox

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"rauta.io/rauta/internal/testrig"
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/server"
	"rauta.io/rauta/proxy/trace"
)

// bothLogs are the access log and the error log of a RAUTA that makes requests part of a trace.
type bothLogs struct{ access, errors testrig.Buffer }

// set is an option of a rig.
func (l *bothLogs) set(o *server.Options, _ *config.Config) {
	o.Registry.SetAccessLog(observe.NewAccessLog(&l.access, observe.AccessLogOptions{}))
	o.Registry.SetErrorLog(observe.NewAccessLog(&l.errors, observe.AccessLogOptions{}))
	o.Settings.Propagation = &trace.Propagation{Formats: []trace.Format{trace.W3C}}
}

// logLine is what the tests read of a line.
type logLine struct {
	Status   int              `json:"status"`
	Reason   string           `json:"reason"`
	Attempts int              `json:"attempts"`
	BytesIn  int              `json:"bytes_in"`
	Stages   map[string]int64 `json:"stages_us"`
	TraceID  string           `json:"trace_id"`
}

// line waits for the only line, which is in the error log, too, if it has a reason that is no redirect. The stages have to add up, and those that
// the request can't have had took no time; the parts have to be in it.
func (l *bothLogs) line(t *testing.T, parts ...string) (line logLine) {
	t.Helper()
	until(t, "the line of the access log", func() bool { return strings.Contains(l.access.String(), "\n") })
	text := l.access.String()
	stagesOf(t, text)
	if err := json.Unmarshal([]byte(text), &line); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	failed := line.Reason != "" && line.Reason != "redirect"
	if failed {
		until(t, "the line of the error log", func() bool { return strings.Contains(l.errors.String(), "\n") })
	}
	if errors := l.errors.String(); (errors != "") != failed || errors != "" && errors != text {
		t.Errorf("the error log says\n%s, the access log\n%s", errors, text)
	}
	for _, stage := range line.without(t) {
		if line.Stages[stage.String()] != 0 {
			t.Errorf("%v can't have taken time: %s", stage, text)
		}
	}
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("want %s in %s", part, text)
		}
	}
	return line
}

// without are the stages that no time can have been spent in.
func (line logLine) without(t *testing.T) (stages []observe.Stage) {
	if testrig.EBPF(t) != testrig.EBPFAll {
		stages = append(stages, observe.StageAcceptQueue, observe.StageSocketWait)
	}
	if line.BytesIn == 0 || line.Status == 101 || line.Attempts == 0 {
		stages = append(stages, observe.StageRequestBody)
	}
	if line.Attempts == 0 {
		stages = append(stages, observe.StageBackendConnect, observe.StageBackendTTFB, observe.StageBackendBody)
	}
	return stages
}

// spent: there was something to wait for in these stages.
func (line logLine) spent(t *testing.T, stages ...observe.Stage) {
	t.Helper()
	for _, stage := range stages {
		if line.Stages[stage.String()] == 0 {
			t.Errorf("no time is spent in %v: %v", stage, line.Stages)
		}
	}
}

var traceOf = regexp.MustCompile("(?i)traceparent: 00-([0-9a-f]{32})-[0-9a-f]{16}-")

// known: each of the requests that back ends got is said to belong to the trace of the line.
func (line logLine) known(t *testing.T, requests int, backends ...*backend) {
	t.Helper()
	var heads []string
	for _, b := range backends {
		heads = slices.Concat(heads, b.seen())
	}
	if len(heads) != requests {
		t.Errorf("back ends got %q", heads)
	}
	for _, head := range heads {
		if id := traceOf.FindStringSubmatch(head); id == nil || id[1] != line.TraceID {
			t.Errorf("the log has the trace %q, the back end got %q", line.TraceID, head)
		}
	}
}
