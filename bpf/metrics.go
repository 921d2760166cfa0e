//go:build linux && (amd64 || arm64)

package bpf

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"rauta.io/rauta/proxy/observe"
)

type emit = func(value float64, labels ...observe.Label)

// failureNames are those of enum failure in src/rauta.c.
func failureNames() [7]string {
	return [7]string{"ECONNREFUSED", "ETIMEDOUT", "EHOSTUNREACH", "ENETUNREACH", "ECONNRESET", "given_up", "other"}
}

// limitNames are what has limited the sending of a socket, as in struct cell of src/rauta.c.
func limitNames() [3]string { return [3]string{"network", "receive_window", "send_buffer"} }

// stateNames are the states of TCP by their numbers in the kernel.
func stateNames() [statesMax]string {
	return [statesMax]string{
		"", "established", "syn_sent", "syn_received", "fin_wait_1", "fin_wait_2", "time_wait", "closed", "close_wait", "last_ack",
		"", "closing", "new_syn_received",
	}
}

// register makes the numbers part of every scrape. A counter that is 0 has no series.
func (k *Kernel) register() {
	r := k.registry
	r.Counter("rauta_ebpf_failures_total", func() float64 { return float64(k.failures.Load()) })
	clients := &k.table.cells[cellClients]
	r.Counter("rauta_client_tcp_retransmits_total", func() float64 { return float64(atomic.LoadUint64(&clients.Retransmits)) })
	r.Counter("rauta_client_tcp_timeouts_total", func() float64 { return float64(atomic.LoadUint64(&clients.Timeouts)) })
	r.Counters("rauta_client_tcp_resets_total", func(emit emit) {
		emit(float64(atomic.LoadUint64(&clients.ResetsReceived)), received())
		emit(float64(atomic.LoadUint64(&clients.ResetsSent)), sent())
	})
	if k.loaded.folds() {
		k.registerFolded(clients)
	}
	r.Distributions("rauta_backend_tcp_connect_seconds", func(emit func(*observe.Distribution, ...observe.Label)) {
		k.table.each(func(_ int, c *kernelCell, labels []observe.Label) { emit(c.connects(), labels...) })
	})
	k.counter("rauta_backend_tcp_retransmits_total", func(c *kernelCell) *uint64 { return &c.Retransmits })
	k.counter("rauta_backend_tcp_timeouts_total", func(c *kernelCell) *uint64 { return &c.Timeouts })
	r.Counters("rauta_backend_tcp_resets_total", func(emit emit) {
		k.table.each(func(_ int, c *kernelCell, labels []observe.Label) {
			emitCount(emit, &c.ResetsReceived, 1, append(labels, received()))
			emitCount(emit, &c.ResetsSent, 1, append(labels, sent()))
		})
	})
	r.Counters("rauta_backend_tcp_connect_failures_total", func(emit emit) {
		k.table.each(func(_ int, c *kernelCell, labels []observe.Label) {
			for i, name := range failureNames() {
				emitCount(emit, &c.Failures[i], 1, append(labels, observe.Label{Name: "errno", Value: name}))
			}
		})
	})
	if k.loaded.sweep != nil {
		k.registerSights()
	}
}

// registerFolded registers what the sockets count themselves, and sweeps and their ends bring into the cells.
func (k *Kernel) registerFolded(clients *kernelCell) {
	tick := tickSeconds()
	r := k.registry
	r.Counters("rauta_client_tcp_bytes_total", func(emit emit) {
		emit(float64(atomic.LoadUint64(&clients.BytesReceived)), received())
		emit(float64(atomic.LoadUint64(&clients.BytesAcked)), sent())
	})
	r.Counters("rauta_client_tcp_send_seconds_total", func(emit emit) {
		for i, name := range limitNames() {
			emit(float64(atomic.LoadUint64(&clients.Sending[i]))*tick, limit(name))
		}
	})
	r.Counters("rauta_backend_tcp_bytes_total", func(emit emit) {
		k.table.each(func(_ int, c *kernelCell, labels []observe.Label) {
			emitCount(emit, &c.BytesReceived, 1, append(labels, received()))
			emitCount(emit, &c.BytesAcked, 1, append(labels, sent()))
		})
	})
	r.Counters("rauta_backend_tcp_send_seconds_total", func(emit emit) {
		k.table.each(func(_ int, c *kernelCell, labels []observe.Label) {
			for i, name := range limitNames() {
				emitCount(emit, &c.Sending[i], tick, append(labels, limit(name)))
			}
		})
	})
}

// tickSeconds is the length of the kernel's ticks, which are also the resolution of its coarse clock; 0 if it is not known.
func tickSeconds() float64 {
	var t unix.Timespec
	if err := unix.ClockGetres(unix.CLOCK_MONOTONIC_COARSE, &t); err != nil {
		return 0
	}
	return float64(t.Nano()) / 1e9
}

func limit(name string) observe.Label { return observe.Label{Name: "limit", Value: name} }

func received() observe.Label { return observe.Label{Name: "direction", Value: "received"} }
func sent() observe.Label     { return observe.Label{Name: "direction", Value: "sent"} }

// counter registers one number of every cell.
func (k *Kernel) counter(name string, of func(*kernelCell) *uint64) {
	k.registry.Counters(name, func(emit emit) {
		k.table.each(func(_ int, c *kernelCell, labels []observe.Label) { emitCount(emit, of(c), 1, labels) })
	})
}

// emitCount emits a counter that is not 0, in units of so much.
func emitCount(emit emit, counter *uint64, unit float64, labels []observe.Label) {
	if n := atomic.LoadUint64(counter); n > 0 {
		emit(float64(n)*unit, labels...)
	}
}

func (c *kernelCell) connects() *observe.Distribution {
	d := &observe.Distribution{SumNs: atomic.LoadUint64(&c.ConnectNs)}
	for i := range c.Connects {
		d.Buckets[i] = atomic.LoadUint64(&c.Connects[i])
	}
	return d
}

// registerSights registers what sweeps have seen.
func (k *Kernel) registerSights() {
	r := k.registry
	states := func(name string, of func(*sights) *[statesMax]int) {
		r.Gauges(name, func(emit emit) {
			n := of(k.sights.Load())
			for state, name := range stateNames() {
				if name != "" {
					emit(float64(n[state]), observe.Label{Name: "state", Value: name})
				}
			}
		})
	}
	states("rauta_client_tcp_connections", func(s *sights) *[statesMax]int { return &s.clients })
	states("rauta_backend_tcp_connections", func(s *sights) *[statesMax]int { return &s.backends })
	client := func(name string, of func(sight) float64) {
		r.Gauge(name, func() float64 { return of(k.sights.Load().byCell[cellClients]) })
	}
	backend := func(name string, of func(sight) float64) {
		r.Gauges(name, func(emit emit) {
			seen := k.sights.Load()
			k.table.each(func(number int, _ *kernelCell, labels []observe.Label) {
				if s, ok := seen.byCell[uint32(number)]; ok {
					emit(of(s), labels...)
				}
			})
		})
	}
	unread := func(s sight) float64 { return float64(s.unread) }
	unsent := func(s sight) float64 { return float64(s.unsent) }
	client("rauta_client_tcp_srtt_seconds", sight.srtt)
	client("rauta_client_tcp_unread_bytes", unread)
	client("rauta_client_tcp_unsent_bytes", unsent)
	backend("rauta_backend_tcp_srtt_seconds", sight.srtt)
	backend("rauta_backend_tcp_min_rtt_seconds", func(s sight) float64 { return float64(s.minRTTUs) / 1e6 })
	backend("rauta_backend_tcp_unread_bytes", unread)
	backend("rauta_backend_tcp_unsent_bytes", unsent)
}

// srtt is the mean of the smoothed round-trip times, in seconds.
func (s sight) srtt() float64 {
	if s.measured == 0 {
		return 0
	}
	return float64(s.srttUs) / float64(s.measured) / 1e6
}
