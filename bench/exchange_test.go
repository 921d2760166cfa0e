package bench

import (
	"runtime"
	"testing"
)

// TestOneExchangeAllocatesNothing runs whole exchanges through real sockets. Client and back end live in the same
// process and allocate nothing either, so the process's count is the proxy's.
func TestOneExchangeAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	_, addr := startProxy(t, 1000)
	c := newClient(t, addr)
	for range 200 {
		c.exchange(t)
	}
	const n = 2000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range n {
		c.exchange(t)
	}
	runtime.ReadMemStats(&after)
	// The runtime allocates a little on its own (timers of the scheduler, background workers): less than 1 in 20.
	if per := float64(after.Mallocs-before.Mallocs) / n; per > 0.05 {
		t.Errorf("%.3f allocations per exchange, want 0", per)
	}
}

func BenchmarkExchange(b *testing.B) {
	_, addr := startProxy(b, 1000)
	c := newClient(b, addr)
	c.exchange(b)
	b.ReportAllocs()
	for b.Loop() {
		c.exchange(b)
	}
}
