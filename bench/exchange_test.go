package bench

import (
	"runtime"
	"strings"
	"testing"

	"rauta.io/rauta/proxy/server"
	"rauta.io/rauta/proxy/trace"
)

// TestOneExchangeAllocatesNothing runs whole exchanges through real sockets. Client and back end live in the same
// process and allocate nothing either, so the process's count is the proxy's.
func TestOneExchangeAllocatesNothing(t *testing.T) { exchangesAllocateNothing(t, "") }

// TestPropagationOfTracesAllocatesNothing: without export, whether the client is part of a trace or one begins here.
func TestPropagationOfTracesAllocatesNothing(t *testing.T) {
	for name, formats := range map[string][]trace.Format{
		"w3c": {trace.W3C}, "b3": {trace.B3}, "b3multi": {trace.B3Multi}, "all": {trace.W3C, trace.B3, trace.B3Multi},
	} {
		for client, fields := range map[string]string{"begun": "", "of W3C": tracedW3C, "of B3": tracedB3} {
			t.Run(name+" "+client, func(t *testing.T) {
				exchangesAllocateNothing(t, fields, func(o *server.Options) {
					o.Settings.Propagation = &trace.Propagation{Formats: formats, Share: trace.ShareMax / 2}
				})
			})
		}
	}
}

// exchangesAllocateNothing runs exchanges whose requests have more fields.
func exchangesAllocateNothing(t *testing.T, fields string, options ...func(*server.Options)) {
	if raceEnabled {
		t.Skip("the race detector allocates: runs without -race")
	}
	_, addr := startProxy(t, 1000, options...)
	c := newClient(t, addr)
	c.req = []byte(strings.TrimSuffix(request, "\r\n") + fields + "\r\n")
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
