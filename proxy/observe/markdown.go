package observe

import (
	"fmt"
	"strconv"
	"strings"
)

// MetricsMarkdown renders Metrics as docs/metrics.md.
func MetricsMarkdown() string {
	var b strings.Builder
	b.WriteString("# Metrics\n\n<!-- Generated from proxy/observe/table.go by `go test ./proxy/observe -update`. -->\n\n" +
		"Served at `/metrics` of the metrics address (`--metrics`, default `:9091`) in the Prometheus text format.\n" +
		"`?name[]=rauta_connections`, as often as you like, leaves out all others; of a histogram also only its series that end\n" +
		"in `_bucket`, `_sum` or `_count`: `?name[]=rauta_request_stage_seconds_sum`.\n\n" +
		"A route or endpoint has series from its first request on. " +
		fmt.Sprintf("%d routes (`--metrics-routes`) and %d endpoints (`--metrics-endpoints`)", SeriesDefault, SeriesDefault) +
		" have series of their own, the others are counted together as `other`.\n\n" +
		"| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n")
	for _, m := range Metrics() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m.Name, m.Type, strings.Join(m.Labels, ", "), strings.ReplaceAll(m.Help, "|", `\|`))
	}
	writeBuckets(&b)
	return b.String()
}

// writeBuckets says which bounds histograms have, and how much a quantile is worth.
func writeBuckets(b *strings.Builder) {
	b.WriteString("\n## Buckets\n\n" +
		"Histograms have fixed upper bounds, from 50 µs, below which an event loop's clock tells little, to 60 s, the default\n" +
		"request timeout. In seconds:\n\n| histograms | `le` |\n| --- | --- |\n")
	var few []string
	for _, name := range fewBuckets {
		few = append(few, "`"+name+"`")
	}
	fmt.Fprintf(b, "| %s | %s |\n", strings.Join(few, ", "), strings.Join(stageBoundLabels[:], ", "))
	fmt.Fprintf(b, "| `rauta_kernel_request_seconds` | powers of two of nanoseconds |\n")
	fmt.Fprintf(b, "| all others | %s |\n", strings.Join(boundLabels[:], ", "))
	fmt.Fprintf(b, "\nA quantile is known to lie within its bucket: above 50 µs it differs from what `histogram_quantile` says by a factor of %s\n"+
		"at most, with the fewer bounds of %s. What has many series has fewer bounds; each of them is one of the longer list, so\n"+
		"that they can be compared. Averages are exact: they come from `_sum` and `_count`.\n\n"+
		"These are classic histograms, because the text format has no others: exponential native histograms need the protobuf\n"+
		"format. A Prometheus from 3.0 on can store them as native histograms with these bounds, one series in place of one for\n"+
		"each bound: `convert_classic_histograms_to_nhcb: true` in the scrape configuration, with native histograms enabled.\n"+
		"Dashboard and alerts of `deploy/observability` ask for `_bucket` series, which are then gone unless\n"+
		"`always_scrape_classic_histograms: true` keeps them.\n", factor(widest(boundsNs[:])), factor(widest(stageBoundsNs[:])))
}

// widest returns the greatest ratio of a bound to the one before.
func widest(bounds []int64) (ratio float64) {
	for i := 1; i < len(bounds); i++ {
		ratio = max(ratio, float64(bounds[i])/float64(bounds[i-1]))
	}
	return ratio
}

func factor(ratio float64) string { return strconv.FormatFloat(ratio, 'g', 3, 64) }
