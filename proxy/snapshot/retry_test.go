package snapshot

import (
	"slices"
	"testing"

	"rauta.io/rauta/proxy/config"
)

func TestARetryHasTheStatusesThatItWasGiven(t *testing.T) {
	codes := []int{400, 429, 463, 464, 500, 503, 599}
	r := newRetry(&config.Retry{Codes: codes, Attempts: 2, Backoff: 3})
	if r.Attempts != 2 || r.Backoff != 3 {
		t.Errorf("%+v", r)
	}
	for status := range 1000 {
		if got := r.Has(status); got != slices.Contains(codes, status) {
			t.Errorf("%d: %t", status, got)
		}
	}
	if newRetry(nil) != nil {
		t.Error("the default is not nil")
	}
}
