// Package stats turns samples into the figures of the result table.
//
// It owns medians, bootstrap intervals and the latency histogram. It does not own units: callers say what they put in.
package stats

import (
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
