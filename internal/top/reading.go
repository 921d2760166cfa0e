package top

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"time"

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

// Series of them that are read.
const (
	bucketsOfDuration = metricDuration + "_bucket"
	sumsOfStages      = metricStages + "_sum"
	bucketsOfTTFB     = metricBackendTTFB + "_bucket"
)

// asked returns what a node is asked for: of 10,000 routes that is a third of the page.
func asked() []string {
	return []string{metricRequests, bucketsOfDuration, sumsOfStages, metricInFlight, metricBackendRequests, metricBackendInFlight,
		bucketsOfTTFB, metricConnections, metricGeneration}
}

// Reading is what one node had counted at one moment.
type Reading struct {
	At          time.Time
	Connections float64
	Generation  float64
	// rows by view and name
	rows [viewCount]map[string]*counts

	// while it is read
	bounds [viewCount][]float64 // of the histograms of a view, which share them
	last   [viewCount]struct {  // the row that the last line was about, by its labels
		labels []byte
		row    *counts
	}
	key []byte
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
	reading := &Reading{At: at}
	for view := range reading.rows {
		reading.rows[view] = map[string]*counts{}
	}
	names := asked()
	wanted := func(name []byte) bool {
		return slices.ContainsFunc(names, func(n string) bool { return n == string(name) })
	}
	found := false
	err := eachSample(r, wanted, func(s *sample) {
		found = found || string(s.name) == metricGeneration || string(s.name) == metricRequests
		reading.add(s)
	})
	if err != nil && !errors.Is(err, errLine) {
		return nil, fmt.Errorf("read metrics: %w", err)
	}
	if !found {
		return nil, fmt.Errorf("the answer has no %s: is it the admin or metrics address of a RAUTA?", metricGeneration)
	}
	if err != nil {
		return nil, fmt.Errorf("parse metrics: %w", err)
	}
	return reading, nil
}

// add takes one line of the page.
func (r *Reading) add(s *sample) {
	switch string(s.name) {
	case metricConnections:
		r.Connections = s.value
	case metricGeneration:
		r.Generation = s.value
	case metricRequests:
		r.route(s).count(string(s.label("code")), s.value)
	case metricInFlight:
		r.route(s).inFlight = s.value
	case bucketsOfDuration:
		r.bucket(Routes, r.route(s), s)
	case sumsOfStages:
		row, name := r.route(s), s.label("stage")
		for stage := range observe.StageCount {
			if stage.String() == string(name) {
				row.stages[stage] = s.value
			}
		}
	case metricBackendRequests:
		r.backend(s).count(string(s.label("code")), s.value)
	case metricBackendInFlight:
		row := r.backend(s)
		row.inFlight, row.pod = s.value, text(s.label("pod"))
	case bucketsOfTTFB:
		r.bucket(Backends, r.backend(s), s)
	}
}

// route returns the row of the route of a line.
func (r *Reading) route(s *sample) *counts {
	name := s.label("route")
	last := &r.last[Routes]
	if last.row == nil || string(last.labels) != string(name) {
		last.labels = append(last.labels[:0], name...)
		last.row = r.row(Routes, text(name))
	}
	return last.row
}

// backend returns the row of the back end of a line.
func (r *Reading) backend(s *sample) *counts {
	cluster, endpoint := s.label("cluster"), s.label("endpoint")
	r.key = append(append(append(r.key[:0], cluster...), ' '), endpoint...)
	last := &r.last[Backends]
	if last.row == nil || string(last.labels) != string(r.key) {
		last.labels = append(last.labels[:0], r.key...)
		last.row = r.row(Backends, text(r.key))
		if last.row.endpoint == "" {
			last.row.cluster, last.row.endpoint = text(cluster), text(endpoint)
		}
	}
	return last.row
}

// bucket adds a bucket to the histogram of a row. The histograms of a view have the same bounds, and share them.
func (r *Reading) bucket(view View, row *counts, s *sample) {
	h, shared := &row.duration, r.bounds[view]
	i := len(h.counts)
	bound, err := strconv.ParseFloat(string(s.label("le")), 64)
	if err != nil {
		return
	}
	if h.counts == nil {
		h.counts = make([]float64, 0, len(shared))
	}
	h.counts = append(h.counts, s.value)
	shares := i == 0 || &h.bounds[0] == &shared[0]
	switch {
	case shares && i < len(shared) && shared[i] == bound:
		h.bounds = shared[:i+1]
	case shares && i == len(shared):
		r.bounds[view] = append(shared, bound)
		h.bounds = r.bounds[view]
	default: // another layout
		h.bounds = append(slices.Clip(h.bounds), bound)
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
