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

// MedianInterval is the median with a 95% percentile-bootstrap interval. The same seed gives the same interval.
func MedianInterval(values []float64, seed uint64) Interval {
	if len(values) == 0 {
		return Interval{math.NaN(), math.NaN(), math.NaN()}
	}
	random := rand.New(rand.NewPCG(seed, uint64(len(values))))
	draw := make([]float64, len(values))
	medians := make([]float64, bootstrapDraws)
	for i := range medians {
		for j := range draw {
			draw[j] = values[random.IntN(len(values))]
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
