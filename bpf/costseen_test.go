//go:build linux && (amd64 || arm64)

package bpf_test

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"rauta.io/rauta/loadtest/stats"
)

// seenBy is what the kernel has counted while requests were watched in one way.
type seenBy struct {
	requests uint64
	buckets  map[float64]float64 // cumulative, by upper bound in seconds
}

// countedBefore begins with a slice, if what is seen in its arm is of interest. The result is called behind it.
func (m *meter) countedBefore(arm string) func(requests uint64) {
	arm = strings.TrimSuffix(arm, " again")
	seen := m.seen[arm]
	if seen == nil {
		return func(uint64) {}
	}
	before := m.buckets()
	return func(requests uint64) {
		seen.requests += requests
		if seen.buckets == nil {
			seen.buckets = map[float64]float64{}
		}
		for bound, n := range m.buckets() {
			seen.buckets[bound] += n - before[bound]
		}
	}
}

// buckets are those of all routes together.
func (m *meter) buckets() map[float64]float64 {
	m.t.Helper()
	sum := map[float64]float64{}
	for line := range strings.Lines(page(m.plane.registry)) {
		rest, found := strings.CutPrefix(strings.TrimSpace(line), "rauta_kernel_request_seconds_bucket{")
		if !found {
			continue
		}
		labels, number, _ := strings.Cut(rest, "} ")
		_, bound, _ := strings.Cut(labels, `le="`)
		bound, _, _ = strings.Cut(bound, `"`)
		upper, err1 := strconv.ParseFloat(bound, 64)
		n, err2 := strconv.ParseFloat(number, 64)
		if err1 != nil || err2 != nil {
			m.t.Fatal(line, err1, err2)
		}
		sum[upper] += n
	}
	return sum
}

func (s *seenBy) String() string {
	counted := s.buckets[math.Inf(1)]
	return fmt.Sprintf("%d | %.0f | %.4f | %.1f | %.1f | %.1f", s.requests, counted, counted/float64(s.requests),
		1e6*stats.BucketQuantile(s.buckets, 0.5), 1e6*stats.BucketQuantile(s.buckets, 0.9), 1e6*stats.BucketQuantile(s.buckets, 0.99))
}
