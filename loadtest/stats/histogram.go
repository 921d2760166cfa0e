package stats

import (
	"encoding/json"
	"fmt"
	"math/bits"
)

const (
	// subBits sets the histogram's resolution: 2^7 buckets per power of two, an error below 0.8%.
	subBits = 7
	// valueBits bounds recorded values: 2^40 ns is 18 minutes, longer than any run; larger ones land in the last bucket.
	valueBits = 40
	buckets   = (valueBits - subBits + 1) << subBits
)

// Histogram counts values with a bounded relative error in constant memory. The zero value is empty. Record does not
// allocate.
type Histogram struct {
	counts [buckets]uint32
	total  uint64
}

// Record counts one value, in nanoseconds by convention. Negative values count as zero.
func (h *Histogram) Record(value int64) {
	h.counts[bucketOf(value)]++
	h.total++
}

func bucketOf(value int64) int {
	if value < 1<<subBits {
		return int(max(value, 0))
	}
	shift := bits.Len64(uint64(value)) - subBits - 1
	return min((shift+1)<<subBits|int(value>>shift)&(1<<subBits-1), buckets-1)
}

// lowest is the smallest value that lands in the bucket.
func lowest(bucket int) int64 {
	if bucket < 1<<subBits {
		return int64(bucket)
	}
	shift := bucket>>subBits - 1
	return int64(1<<subBits|bucket&(1<<subBits-1)) << shift
}

// Count is the number of recorded values.
func (h *Histogram) Count() uint64 { return h.total }

// Quantile is the value below or at which the given share (0 to 1) of the recorded values lies; 0 when empty.
func (h *Histogram) Quantile(share float64) int64 {
	rank := uint64(share * float64(h.total))
	var seen uint64
	for bucket, count := range h.counts {
		seen += uint64(count)
		if count > 0 && (seen > rank || seen == h.total) {
			return lowest(bucket)
		}
	}
	return 0
}

// Add merges another histogram into this one.
func (h *Histogram) Add(other *Histogram) {
	for bucket, count := range other.counts {
		h.counts[bucket] += count
	}
	h.total += other.total
}

// MarshalJSON writes the occupied buckets as [bucket, count] pairs.
func (h *Histogram) MarshalJSON() ([]byte, error) {
	pairs := [][2]uint64{}
	for bucket, count := range h.counts {
		if count > 0 {
			pairs = append(pairs, [2]uint64{uint64(bucket), uint64(count)})
		}
	}
	return json.Marshal(pairs)
}

// UnmarshalJSON replaces the content.
func (h *Histogram) UnmarshalJSON(text []byte) error {
	var pairs [][2]uint64
	if err := json.Unmarshal(text, &pairs); err != nil {
		return fmt.Errorf("reading a histogram: %w", err)
	}
	*h = Histogram{}
	for _, pair := range pairs {
		if pair[0] >= buckets {
			return fmt.Errorf("reading a histogram: bucket %d is beyond %d", pair[0], buckets-1)
		}
		h.counts[pair[0]] += uint32(pair[1])
		h.total += pair[1]
	}
	return nil
}
