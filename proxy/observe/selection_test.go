package observe

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
)

// asked is a page of some metrics, with counts left out, since some change between two pages.
func asked(r *Registry, names ...string) []string {
	var b bytes.Buffer
	r.WritePrometheus(&b, names...)
	return regexp.MustCompile(`(?m)^([^#].*) [^ \n]+$`).FindAllString(b.String(), -1)
}

func TestAPageOfOneMetricIsThatPartOfTheWhole(t *testing.T) {
	r := newTestRegistry(2)
	e := r.Endpoint("c", "10.0.0.1:80")
	rec := staged(r.Route("a"), map[Stage]int64{StageBackendTTFB: 30e6, StageProxy: 1e3})
	rec.Endpoint, rec.BackendStatus, rec.GRPCStatus = e, 200, 3
	r.Shard(0).Finish(rec)
	r.Shard(0).Connected(e, 1e6)
	r.Shard(0).ConnectFailed(e, "refused")
	r.Gauge("rauta_config_generation", func() float64 { return 1 })
	r.Durations("rauta_config_apply_seconds")
	whole := map[string][]string{}
	family := ""
	for line := range strings.Lines(exposed(r)) {
		switch word := strings.Fields(line); {
		case word[0] == "#" && word[1] == "TYPE":
			family = word[2]
		case word[0] != "#":
			whole[family] = append(whole[family], seriesOf(line))
		}
	}
	if len(whole) < 40 {
		t.Fatalf("the page has %d metrics", len(whole))
	}
	for name, want := range whole {
		var got []string
		for _, line := range asked(r, name, "unknown_total") {
			got = append(got, seriesOf(line))
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("page of %s:\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		var page bytes.Buffer
		r.WritePrometheus(&page, name)
		if types := strings.Count(page.String(), "# TYPE "); types != 1 {
			t.Errorf("page of %s has %d metrics", name, types)
		}
	}
	if got := asked(r, "unknown_total"); len(got) != 0 {
		t.Errorf("of a name that nothing has: %q", got)
	}
}

func seriesOf(line string) string { return line[:strings.LastIndexByte(strings.TrimSpace(line), ' ')] }

func TestAPartOfAHistogramIsHadAlone(t *testing.T) {
	r := newTestRegistry(1)
	r.Shard(0).Finish(staged(r.Route("a"), map[Stage]int64{StageBackendTTFB: 30e6}))
	for part, lines := range map[string]int{"_sum": 1, "_count": 1, "_bucket": boundsCount + 1} {
		got := asked(r, "rauta_request_duration_seconds"+part)
		if len(got) != lines {
			t.Errorf("%s: %q, want %d lines", part, got, lines)
		}
		for _, line := range got {
			if !strings.HasPrefix(line, "rauta_request_duration_seconds"+part+"{") {
				t.Errorf("%s: %s", part, line)
			}
		}
	}
	if got := asked(r, "rauta_request_duration_seconds_sum", "rauta_request_duration_seconds_count"); len(got) != 2 || !strings.HasSuffix(got[1], " 1") {
		t.Errorf("sum and count: %q", got)
	}
}
