package top

import (
	"fmt"
	"io"
	"math"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"rauta.io/rauta/proxy/observe"
)

// Names of the metrics that are shown; a test checks that observe has them.
const (
	metricRequests        = "rauta_requests_total"
	metricDuration        = "rauta_request_duration_seconds"
	metricStages          = "rauta_request_stage_seconds"
	metricInFlight        = "rauta_requests_in_flight"
	metricBackendRequests = "rauta_backend_requests_total"
	metricBackendInFlight = "rauta_backend_requests_in_flight"
	metricBackendTTFB     = "rauta_backend_ttfb_seconds"
	metricConnections     = "rauta_connections"
	metricGeneration      = "rauta_config_generation"
)

// Reading is what one node had counted at one moment.
type Reading struct {
	At          time.Time
	Connections float64
	Generation  float64
	// rows by view and name
	rows [viewCount]map[string]*counts
}

// counts are the totals of one route or back end since the node started.
type counts struct {
	requests, failed float64
	inFlight         float64
	// duration is that of requests of a route; of a back end it is the time until the head of the response.
	duration histogram
	// cluster, endpoint and pod are those of a back end, the pod where it is known.
	cluster, endpoint, pod string

	stages [observe.StageCount]float64 // seconds
}

// histogram holds cumulative counts by upper bound.
type histogram struct {
	bounds, counts []float64
}

// quantile returns the bound below which a share q of what was added between two histograms lies, interpolated inside the
// bucket as Prometheus' histogram_quantile does, NaN when nothing was added. What lies above the last finite bound is said
// to be at it.
func (h histogram) quantile(q float64, before histogram) float64 {
	if len(before.counts) != len(h.counts) {
		before = histogram{counts: make([]float64, len(h.counts))}
	}
	total := 0.0
	if n := len(h.counts); n > 0 {
		total = h.counts[n-1] - before.counts[n-1]
	}
	if total <= 0 {
		return math.NaN()
	}
	rank, below, from := q*total, 0.0, 0.0
	for i, bound := range h.bounds {
		upTo := h.counts[i] - before.counts[i]
		if upTo >= rank && !math.IsInf(bound, 1) {
			if upTo == below {
				return bound
			}
			return from + (bound-from)*(rank-below)/(upTo-below)
		}
		if !math.IsInf(bound, 1) {
			below, from = upTo, bound
		}
	}
	return from
}

// Read parses the metrics of a node, in the Prometheus text format, as read at a moment.
func Read(r io.Reader, at time.Time) (*Reading, error) {
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(r)
	if err != nil {
		return nil, fmt.Errorf("parse metrics: %w", err)
	}
	if families[metricRequests] == nil && families[metricGeneration] == nil {
		return nil, fmt.Errorf("the answer has no %s: is it the admin or metrics address of a RAUTA?", metricGeneration)
	}
	reading := &Reading{At: at, Connections: single(families[metricConnections]), Generation: single(families[metricGeneration])}
	for view := range reading.rows {
		reading.rows[view] = map[string]*counts{}
	}
	reading.routes(families)
	reading.backends(families)
	return reading, nil
}

func (r *Reading) backends(families map[string]*dto.MetricFamily) {
	backend := func(m *dto.Metric) *counts {
		cluster, endpoint := label(m, "cluster"), label(m, "endpoint")
		row := r.row(Backends, cluster+" "+endpoint)
		row.cluster, row.endpoint = cluster, endpoint
		return row
	}
	for _, m := range families[metricBackendRequests].GetMetric() {
		backend(m).count(label(m, "code"), m.GetCounter().GetValue())
	}
	for _, m := range families[metricBackendInFlight].GetMetric() {
		backend(m).inFlight, backend(m).pod = m.GetGauge().GetValue(), label(m, "pod")
	}
	for _, m := range families[metricBackendTTFB].GetMetric() {
		backend(m).duration = cumulative(m.GetHistogram())
	}
}

func (r *Reading) routes(families map[string]*dto.MetricFamily) {
	for _, m := range families[metricRequests].GetMetric() {
		r.row(Routes, label(m, "route")).count(label(m, "code"), m.GetCounter().GetValue())
	}
	for _, m := range families[metricInFlight].GetMetric() {
		r.row(Routes, label(m, "route")).inFlight = m.GetGauge().GetValue()
	}
	for _, m := range families[metricDuration].GetMetric() {
		r.row(Routes, label(m, "route")).duration = cumulative(m.GetHistogram())
	}
	for _, m := range families[metricStages].GetMetric() {
		name, row := label(m, "stage"), r.row(Routes, label(m, "route"))
		for stage := range observe.StageCount {
			if stage.String() == name {
				row.stages[stage] = m.GetHistogram().GetSampleSum()
			}
		}
	}
}

// count adds what a code class has. A request that the client got no status for, and one that the server answered with
// 5xx, has failed.
func (c *counts) count(class string, n float64) {
	c.requests += n
	if class == "5xx" || class == "none" {
		c.failed += n
	}
}

func (r *Reading) row(view View, name string) *counts {
	row := r.rows[view][name]
	if row == nil {
		row = &counts{}
		r.rows[view][name] = row
	}
	return row
}

func cumulative(h *dto.Histogram) histogram {
	out := histogram{bounds: make([]float64, 0, len(h.GetBucket())), counts: make([]float64, 0, len(h.GetBucket()))}
	for _, b := range h.GetBucket() {
		out.bounds = append(out.bounds, b.GetUpperBound())
		out.counts = append(out.counts, float64(b.GetCumulativeCount()))
	}
	return out
}

func single(f *dto.MetricFamily) float64 {
	for _, m := range f.GetMetric() {
		return m.GetGauge().GetValue()
	}
	return 0
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}
