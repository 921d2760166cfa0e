package bench

import (
	"bytes"
	"regexp"
	"strconv"
	"sync"
	"testing"

	"rauta.io/rauta/proxy/observe"
)

// counted reads a counter of the only loop from the metrics, as a user would.
func counted(t *testing.T, r *observe.Registry, name string) float64 {
	t.Helper()
	var b bytes.Buffer
	r.WritePrometheus(&b)
	m := regexp.MustCompile(name + `\{worker="0"\} (\S+)`).FindSubmatch(b.Bytes())
	if m == nil {
		t.Fatalf("no %s in the metrics", name)
	}
	v, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestAKeepAliveRequestCostsFourSystemCalls: receive and send on either side, and a wait for events that many requests
// share when there is load.
func TestAKeepAliveRequestCostsFourSystemCalls(t *testing.T) {
	s, addr := startProxy(t, 10)
	const clients, each = 64, 200
	run := func(c *client) {
		for range each {
			c.exchange(t)
		}
	}
	var all []*client
	for range clients {
		c := newClient(t, addr)
		c.exchange(t)
		all = append(all, c)
	}
	transfers, waits := counted(t, s.Registry(), "rauta_loop_transfers_total"), counted(t, s.Registry(), "rauta_loop_waits_total")
	var wait sync.WaitGroup
	for _, c := range all {
		wait.Go(func() { run(c) })
	}
	wait.Wait()
	transfers = (counted(t, s.Registry(), "rauta_loop_transfers_total") - transfers) / (clients * each)
	waits = (counted(t, s.Registry(), "rauta_loop_waits_total") - waits) / (clients * each)
	t.Logf("%.3f receives and sends, %.3f waits per request", transfers, waits)
	// The counter is published at the end of a turn, so the last request may be missing a part.
	if transfers < 3.99 || transfers > 4.05 {
		t.Errorf("%.3f receives and sends per request, want 4", transfers)
	}
	// How many requests meet in one turn depends on the machine. At worst both sides of each have a turn of their own,
	// with a look and a sleep.
	if waits > 4.05 {
		t.Errorf("%.3f waits per request, want 4 at the very most", waits)
	}
}
