package upstream

import (
	"testing"
	"time"

	"rauta.io/rauta/proxy/config"
)

// retries takes retries until the budget refuses.
func retries(w *testWorker) (n int) {
	for w.AllowRetry() {
		n++
	}
	return n
}

func TestAHundredRetriesPerSecondAreAllowedWithoutTraffic(t *testing.T) {
	w := newTestWorker(0)
	if n := retries(w); n != 100 {
		t.Fatalf("%d retries, want 100", n)
	}
	w.advance(900 * time.Millisecond)
	if n := retries(w); n != 0 {
		t.Fatalf("%d more within the window", n)
	}
	w.advance(100 * time.Millisecond)
	if n := retries(w); n != 100 {
		t.Fatalf("%d retries a second later, want 100", n)
	}
}

func TestWorkersShareTheMinimum(t *testing.T) {
	for workers, want := range map[int]int{1: 100, 4: 25, 500: 1} {
		c := newTestCluster(config.Cluster{}, workers, 1)
		w := newTestWorker(0)
		c.Pick(w.Worker, 0, nil).Pool(w.Worker)
		if n := retries(w); n != want {
			t.Errorf("%d workers: %d retries, want %d", workers, n, want)
		}
	}
}

func TestAFifthOfTheRequestsOfTheLastSecondMayBeRetries(t *testing.T) {
	w := newTestWorker(0)
	for range 10 {
		for range 1000 {
			w.CountRequest()
		}
		w.advance(100 * time.Millisecond)
	}
	// The first of the ten parts has left the window.
	if n := retries(w); n != 1800 {
		t.Fatalf("%d retries of 9000 requests, want 1800", n)
	}
	w.advance(time.Hour)
	if n := retries(w); n != 100 {
		t.Fatalf("%d retries after an hour of silence, want 100", n)
	}
}

func TestTheBudgetDoesNotAllocate(t *testing.T) {
	w := newTestWorker(0)
	if n := testing.AllocsPerRun(100, func() {
		w.CountRequest()
		w.AllowRetry()
		w.advance(50 * time.Millisecond)
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}
