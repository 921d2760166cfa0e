package observe

import "sync/atomic"

// boundsCount is the number of finite buckets of a duration histogram; one more catches what is above them.
const boundsCount = 19

// boundsNs are the upper bounds of the duration buckets in nanoseconds, inclusive as Prometheus' "le" is: from 50 µs,
// which a local back end beats only with an empty answer, to 60 s, the default request timeout.
var boundsNs = [boundsCount]int64{
	50e3, 100e3, 250e3, 500e3,
	1e6, 2.5e6, 5e6, 10e6, 25e6, 50e6, 100e6, 250e6, 500e6,
	1e9, 2.5e9, 5e9, 10e9, 30e9, 60e9,
}

// boundLabels are boundsNs in seconds, as the "le" label spells them.
var boundLabels = [boundsCount + 1]string{
	"5e-05", "0.0001", "0.00025", "0.0005",
	"0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5",
	"1", "2.5", "5", "10", "30", "60", "+Inf",
}

// histogram counts durations. Buckets hold their own count only; the exposition accumulates.
type histogram struct {
	buckets [boundsCount + 1]atomic.Uint64
	sumNs   atomic.Uint64
}

// add counts one duration.
func (h *histogram) add(ns int64) {
	if ns < 0 {
		ns = 0
	}
	h.buckets[bucketOf(boundsNs[:], ns)].Add(1)
	h.sumNs.Add(uint64(ns))
}

// bucketOf returns the index of the bucket of a duration, len(bounds) for what is above all of them. The scan is linear
// because most durations end within the first few bounds.
func bucketOf(bounds []int64, ns int64) int {
	i := 0
	for i < len(bounds) && ns > bounds[i] {
		i++
	}
	return i
}

// addBuckets adds what one worker has counted to a sum over all of them.
func addBuckets(sum []uint64, buckets []atomic.Uint64) {
	for i := range buckets {
		sum[i] += buckets[i].Load()
	}
}

// count is the number of durations.
func (h *histogram) count() (n uint64) {
	for i := range h.buckets {
		n += h.buckets[i].Load()
	}
	return n
}

// histogramSum is the sum of several workers' histograms, as read by a scrape.
type histogramSum struct {
	buckets [boundsCount + 1]uint64
	sumNs   uint64
}

func (s *histogramSum) include(h *histogram) {
	addBuckets(s.buckets[:], h.buckets[:])
	s.sumNs += h.sumNs.Load()
}
