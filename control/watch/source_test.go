package watch

import (
	"testing"
	"time"
)

// TestAnAPIServerThatIsBackIsFoundWithinFiveSeconds, however long it was away: that is what the wait before an attempt may
// be. How long it takes from there on is seen in test/cluster.
func TestAnAPIServerThatIsBackIsFoundWithinFiveSeconds(t *testing.T) {
	const foundMax = 4 * time.Second // one is for reading everything
	backoff, longest := retries(), time.Duration(0)
	for range 1000 {
		longest = max(longest, backoff.Step())
	}
	if longest > foundMax || longest < retryTimeMax {
		t.Errorf("the longest wait is %s, want %s to %s", longest, retryTimeMax, foundMax)
	}
}
