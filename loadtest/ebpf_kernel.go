package main

import (
	"bufio"
	"context"
	"fmt"
	"strconv"
	"strings"

	"rauta.io/rauta/loadtest/stats"
)

// kernelSum is what the kernel says of the requests that it watched, of all routes together.
type kernelSum struct {
	Interval float64            `json:"interval,omitempty"` // one in so many is watched; 0: none
	Buckets  map[string]float64 `json:"buckets,omitempty"`  // cumulative, by upper bound in seconds
}

// scrapeWatched reads it from the metrics of RAUTA, outside of everything measured.
func (e *entered) scrapeWatched(ctx context.Context) (sum kernelSum, err error) {
	err = e.scrapePage(ctx, func(lines *bufio.Scanner) (err error) {
		sum, err = parseWatched(lines)
		return err
	})
	return sum, err
}

func parseWatched(lines *bufio.Scanner) (sum kernelSum, err error) {
	sum.Buckets = map[string]float64{}
	for lines.Scan() {
		name, rest, _ := strings.Cut(lines.Text(), "{")
		labels, text, ok := strings.Cut(rest, "} ")
		if !ok || name != "rauta_kernel_request_interval" && name != "rauta_kernel_request_seconds_bucket" {
			continue
		}
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return sum, fmt.Errorf("metric %s: %w", name, err)
		}
		if name == "rauta_kernel_request_interval" {
			sum.Interval = max(sum.Interval, value) // there is one worker
			continue
		}
		_, bound, _ := strings.Cut(labels, `le="`)
		bound, _, _ = strings.Cut(bound, `"`)
		sum.Buckets[bound] += value
	}
	return sum, lines.Err()
}

// since is what came after an earlier sum.
func (k kernelSum) since(earlier kernelSum) kernelSum {
	difference := kernelSum{Interval: k.Interval, Buckets: map[string]float64{}}
	for bound, n := range k.Buckets {
		difference.Buckets[bound] = n - earlier.Buckets[bound]
	}
	return difference
}

func (k kernelSum) count() float64 { return k.Buckets["+Inf"] }

// quantile estimates as Prometheus does.
func (k kernelSum) quantile(share float64) (seconds float64) {
	buckets := map[float64]float64{}
	for bound, n := range k.Buckets {
		if upper, err := strconv.ParseFloat(bound, 64); err == nil {
			buckets[upper] = n
		}
	}
	return stats.BucketQuantile(buckets, share)
}
