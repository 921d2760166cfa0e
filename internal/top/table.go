package top

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"

	"rauta.io/rauta/proxy/observe"
)

// View is what the rows are.
type View int

// Views.
const (
	Routes View = iota
	Backends
	viewCount
)

var viewNames = [viewCount]string{"route", "back end"}

// Row is what a route or back end did between two readings.
type Row struct {
	// Name is what the screen shows: that of the route, or cluster, endpoint and pod.
	Name string `json:"name"`
	// Cluster, Endpoint and Pod are those of a back end, the pod where it is known.
	Cluster  string `json:"cluster,omitempty"`
	Endpoint string `json:"endpoint,omitempty"`
	Pod      string `json:"pod,omitempty"`
	// Rate is in requests (of back ends: attempts) per second; Failed is the share of them, 0 to 1, that got 5xx or no
	// answer.
	Rate   float64 `json:"requestsPerSecond"`
	Failed float64 `json:"failedRatio"`
	// P50 and P99 are durations in seconds, 0 when unknown.
	P50 float64 `json:"p50Seconds"`
	P99 float64 `json:"p99Seconds"`
	// InFlight is the number of requests under way at the later reading.
	InFlight float64 `json:"inFlight"`
	// Stages is the time that a request spent in each stage on average, in seconds.
	Stages map[string]float64 `json:"stageSeconds,omitempty"`

	stages [observe.StageCount]float64
}

// Sort is the column that orders the rows.
type Sort int

// Columns to sort by. All but the name put the greatest first.
const (
	ByRate Sort = iota
	ByFailed
	ByP50
	ByP99
	ByInFlight
	ByName
	sortCount
)

// Between returns the rows of a view: what has come to each name between two readings. A name whose totals went down was
// counted anew (the node was started again, or the route left and came back), and is counted from zero. Names with nothing
// under way and nothing done are left out.
func Between(before, after *Reading, view View) []Row {
	seconds := max(after.At.Sub(before.At).Seconds(), time.Millisecond.Seconds())
	var rows []Row
	for name, now := range after.rows[view] {
		then := before.rows[view][name]
		if then == nil || then.requests > now.requests {
			then = &counts{}
		}
		requests := now.requests - then.requests
		if requests == 0 && now.inFlight == 0 {
			continue
		}
		row := Row{Name: strings.TrimSuffix(name+" "+now.pod, " "), Cluster: now.cluster, Endpoint: now.endpoint, Pod: now.pod, Rate: requests / seconds, InFlight: now.inFlight,
			P50: known(now.duration.quantile(0.5, then.duration)), P99: known(now.duration.quantile(0.99, then.duration))}
		if requests > 0 {
			row.Failed = max(now.failed-then.failed, 0) / requests
			row.split(now, then, requests)
		}
		rows = append(rows, row)
	}
	return rows
}

func (r *Row) split(now, then *counts, requests float64) {
	for stage := range observe.StageCount {
		if spent := now.stages[stage] - then.stages[stage]; spent > 0 {
			r.stages[stage] = spent / requests
			if r.Stages == nil {
				r.Stages = map[string]float64{}
			}
			r.Stages[stage.String()] = r.stages[stage]
		}
	}
}

func known(v float64) float64 {
	if math.IsNaN(v) {
		return 0
	}
	return v
}

// arrange keeps the rows whose names contain a text, upper and lower case alike, and sorts them; equals are in the order
// of their names, so that rows do not jump.
func arrange(rows []Row, contains string, by Sort, reverse bool) []Row {
	contains = strings.ToLower(contains)
	out := slices.DeleteFunc(slices.Clone(rows), func(r Row) bool { return !strings.Contains(strings.ToLower(r.Name), contains) })
	slices.SortFunc(out, func(a, b Row) int {
		order := cmp.Compare(by.key(b), by.key(a))
		if by == ByName {
			order = cmp.Compare(a.Name, b.Name)
		}
		if reverse {
			order = -order
		}
		return cmp.Or(order, cmp.Compare(a.Name, b.Name))
	})
	return out
}

func (s Sort) key(r Row) float64 {
	switch s {
	case ByFailed:
		return r.Failed
	case ByP50:
		return r.P50
	case ByP99:
		return r.P99
	case ByInFlight:
		return r.InFlight
	default:
		return r.Rate
	}
}
