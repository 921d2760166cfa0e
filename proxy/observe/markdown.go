package observe

import (
	"fmt"
	"strings"
)

// MetricsMarkdown renders Metrics as docs/metrics.md.
func MetricsMarkdown() string {
	var b strings.Builder
	b.WriteString("# Metrics\n\n<!-- Generated from proxy/observe/table.go by `go test ./proxy/observe -update`. -->\n\n" +
		"Served at `/metrics` of the metrics address (`--metrics`, default `:9091`) in the Prometheus text format.\n\n" +
		"A route or endpoint has series from its first request on. " +
		fmt.Sprintf("%d routes (`--metrics-routes`) and %d endpoints (`--metrics-endpoints`)", SeriesDefault, SeriesDefault) +
		" have series of their own, the others are counted together as `other`.\n\n" +
		"| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n")
	for _, m := range Metrics() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.Name, m.Type, strings.Join(m.Labels, ", "), strings.ReplaceAll(m.Help, "|", `\|`))
	}
	return b.String()
}
