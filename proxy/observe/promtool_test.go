package observe

import (
	"os/exec"
	"strings"
	"testing"
)

// TestPromtoolFindsNothingToSay has Prometheus' own checker look at names, units and help texts.
func TestPromtoolFindsNothingToSay(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed (Debian: package prometheus)")
	}
	r := newTestRegistry(1)
	rec := record(r.Route("a"))
	rec.Endpoint = r.Endpoint("c", "10.0.0.1:80")
	rec.Stages[StageBackendTTFB], rec.Stages[StageSocketWait] = 1e6, 1e6
	r.Shard(0).Begin(rec, rec.Route)
	r.Shard(0).Connected(rec.Endpoint, 1e6)
	r.Shard(0).ConnectFailed(rec.Endpoint, "ECONNREFUSED")
	r.Shard(0).Finish(rec)
	check := exec.Command(promtool, "check", "metrics")
	check.Stdin = strings.NewReader(exposed(r))
	if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool says (%v):\n%s", err, out)
	}
}
