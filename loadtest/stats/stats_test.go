package stats

import (
	"encoding/json"
	"math"
	"slices"
	"testing"
)

func TestTheMedianIsTheMiddleValueOrTheMeanOfTheTwoMiddleOnes(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{3}, 3},
		{[]float64{9, 1, 5}, 5},
		{[]float64{4, 1, 2, 100}, 3},
	} {
		before := slices.Clone(c.values)
		if got := Median(c.values); got != c.want {
			t.Errorf("Median(%v) = %v, want %v", c.values, got, c.want)
		}
		if !slices.Equal(before, c.values) {
			t.Errorf("Median reordered its argument to %v", c.values)
		}
	}
	if !math.IsNaN(Median(nil)) {
		t.Error("the median of nothing is a number")
	}
}

func TestTheIntervalHoldsTheMedianAndNarrowsWithMoreSamples(t *testing.T) {
	spread := func(count int) []float64 {
		var values []float64
		for i := range count {
			values = append(values, 0.9+0.2*float64(i)/float64(count-1))
		}
		return values
	}
	one := func(values []float64) [][]float64 { return [][]float64{values} }
	few, many := MedianInterval(one(spread(9)), 1), MedianInterval(one(spread(401)), 1)
	for _, interval := range []Interval{few, many} {
		if math.Abs(interval.Median-1) > 1e-9 || interval.Low >= 1 || interval.High <= 1 {
			t.Errorf("got %+v, want 1 inside the interval", interval)
		}
	}
	if few.High-few.Low <= many.High-many.Low {
		t.Errorf("9 samples give %+v, 401 give %+v: more samples must be narrower", few, many)
	}
	if again := MedianInterval(one(spread(9)), 1); again != few {
		t.Errorf("the same seed gives %+v and %+v", few, again)
	}
	if single := MedianInterval([][]float64{nil, {2}}, 1); single != (Interval{2, 2, 2}) {
		t.Errorf("one sample gives %+v", single)
	}
}

func TestGroupsThatDifferWidenTheInterval(t *testing.T) {
	apart := [][]float64{{1, 1, 1, 1}, {1.1, 1.1, 1.1, 1.1}, {1.2, 1.2, 1.2, 1.2}}
	grouped, flat := MedianInterval(apart, 1), MedianInterval([][]float64{slices.Concat(apart...)}, 1)
	if grouped.Median != flat.Median || grouped.High-grouped.Low <= 0.15 {
		t.Errorf("grouped %+v, flat %+v: the interval must span the groups", grouped, flat)
	}
}

func TestEachBucketBeginsWhereTheOneBeforeItEnds(t *testing.T) {
	for bucket := 1; bucket < buckets; bucket++ {
		low := lowest(bucket)
		if bucketOf(low) != bucket || bucketOf(low-1) != bucket-1 {
			t.Fatalf("bucket %d begins at %d, which lands in %d, and %d in %d", bucket, low, bucketOf(low), low-1, bucketOf(low-1))
		}
	}
	if bucketOf(math.MaxInt64) != buckets-1 || bucketOf(-5) != 0 {
		t.Error("values out of range do not land in the outermost buckets")
	}
}

func TestQuantilesAreWithinTheResolutionOfTheTruth(t *testing.T) {
	var h Histogram
	for value := int64(1); value <= 100_000; value++ {
		h.Record(value * 100)
	}
	for _, share := range []float64{0.5, 0.99, 0.999} {
		got, want := float64(h.Quantile(share)), share*100_000*100
		if math.Abs(got-want)/want > 0.008 {
			t.Errorf("quantile %v is %v, want %v within 0.8%%", share, got, want)
		}
	}
	var empty Histogram
	if empty.Quantile(0.99) != 0 {
		t.Error("an empty histogram has a quantile")
	}
}

func TestAHistogramSurvivesJSONAndMerging(t *testing.T) {
	var h, back Histogram
	for _, value := range []int64{0, 1, 5000, 5000, 1 << 39, 1 << 50} {
		h.Record(value)
	}
	text, err := json.Marshal(&h)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	if back != h {
		t.Errorf("%s reads back as something else", text)
	}
	back.Add(&h)
	if back.Count() != 12 || back.counts[bucketOf(5000)] != 4 {
		t.Errorf("merging gives %d values, %d of them 5000", back.Count(), back.counts[bucketOf(5000)])
	}
	if json.Unmarshal([]byte("[[999999,1]]"), &back) == nil {
		t.Error("a bucket beyond the end is accepted")
	}
}

func TestRecordingDoesNotAllocate(t *testing.T) {
	var h Histogram
	if allocations := testing.AllocsPerRun(100, func() { h.Record(123456) }); allocations != 0 {
		t.Errorf("%v allocations", allocations)
	}
}

func TestQuartilesAreThoseOfTheSortedValues(t *testing.T) {
	if got, want := Quartiles([]float64{9, 1, 5, 3, 7}), [5]float64{1, 3, 5, 7, 9}; got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if got, want := Quartiles([]float64{4, 2}), [5]float64{2, 2.5, 3, 3.5, 4}; got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := Quartiles(nil); !math.IsNaN(got[0]) || !math.IsNaN(got[4]) {
		t.Errorf("of nothing: %v", got)
	}
}

func TestAQuantileOfBucketsIsInterpolatedWithinItsBucket(t *testing.T) {
	inf := math.Inf(1)
	cumulative := map[float64]float64{1: 10, 2: 10, 4: 30, inf: 40}
	for share, want := range map[float64]float64{0.125: 0.5, 0.25: 1, 0.5: 3, 0.75: 4, 0.99: 4} {
		if got := BucketQuantile(cumulative, share); got != want {
			t.Errorf("%v of it lie below %v, want %v", share, got, want)
		}
	}
	for _, nothing := range []map[float64]float64{nil, {1: 0, inf: 0}} {
		if got := BucketQuantile(nothing, 0.5); !math.IsNaN(got) {
			t.Errorf("half of nothing lies below %v", got)
		}
	}
}
