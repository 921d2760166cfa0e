// Package stats turns samples into the figures of the result table.
//
// It owns medians, bootstrap intervals and the latency histogram. It does not own units: callers say what they put in.
package stats

import (
	"maps"
	"math"
	"math/rand/v2"
	"slices"
)

// Median is the middle of the values, the mean of the two middle ones for an even count, NaN for none.
func Median(values []float64) float64 {
	return medianOf(slices.Clone(values))
}

// medianOf sorts its argument.
func medianOf(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	slices.Sort(values)
	middle := len(values) / 2
	if len(values)%2 == 1 {
		return values[middle]
	}
	return (values[middle-1] + values[middle]) / 2
}

// Quartiles are the least of the values, the three quartiles, and the largest; between two values they are interpolated, and
// for none they are NaN.
func Quartiles(values []float64) (q [5]float64) {
	sorted := slices.Sorted(slices.Values(values))
	for i := range q {
		if len(sorted) == 0 {
			q[i] = math.NaN()
			continue
		}
		position := float64(i) / 4 * float64(len(sorted)-1)
		below := int(position)
		above := min(below+1, len(sorted)-1)
		q[i] = sorted[below] + (sorted[above]-sorted[below])*(position-float64(below))
	}
	return q
}

// BucketQuantile is the value below which the given share (0 to 1) lies of what a histogram has counted, by the cumulative
// counts of its upper bounds: evenly within a bucket, as histogram_quantile of Prometheus has it. What is above the last
// finite bound counts as that bound. NaN when there is nothing.
func BucketQuantile(cumulative map[float64]float64, share float64) float64 {
	bounds := slices.Sorted(maps.Keys(cumulative))
	if len(bounds) == 0 || cumulative[bounds[len(bounds)-1]] == 0 {
		return math.NaN()
	}
	rank := share * cumulative[bounds[len(bounds)-1]]
	from, below := 0.0, 0.0
	for _, bound := range bounds {
		upTo := cumulative[bound]
		switch {
		case math.IsInf(bound, 1):
			return from
		case upTo >= rank && upTo > below:
			return from + (bound-from)*(rank-below)/(upTo-below)
		}
		from, below = bound, upTo
	}
	return from
}

// Interval is a median with its confidence interval.
type Interval struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
}

// bootstrapDraws is the number of resamples: the ends of a 95% interval then rest on 25 values each.
const bootstrapDraws = 1000

// MedianInterval is the median of all values with a 95% percentile-bootstrap interval. Values of one group resemble
// each other (they come from one start of the programs), so groups are drawn first and values within them second: drawing
// from all values alike would promise more than was measured. The same seed gives the same interval.
func MedianInterval(groups [][]float64, seed uint64) Interval {
	groups = slices.DeleteFunc(slices.Clone(groups), func(group []float64) bool { return len(group) == 0 })
	values := slices.Concat(groups...)
	if len(values) == 0 {
		return Interval{math.NaN(), math.NaN(), math.NaN()}
	}
	random := rand.New(rand.NewPCG(seed, uint64(len(values))))
	medians := make([]float64, bootstrapDraws)
	var draw []float64
	for i := range medians {
		draw = draw[:0]
		for range groups {
			group := groups[random.IntN(len(groups))]
			for range group {
				draw = append(draw, group[random.IntN(len(group))])
			}
		}
		medians[i] = medianOf(draw)
	}
	slices.Sort(medians)
	return Interval{
		Median: Median(values),
		Low:    medians[bootstrapDraws*25/1000],
		High:   medians[bootstrapDraws*975/1000-1],
	}
}
