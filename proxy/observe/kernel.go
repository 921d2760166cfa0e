package observe

import "sync/atomic"

// Kernel is told of the sockets of the data plane, so that the kernel's side of them can be counted. Its methods are for
// any goroutine, do not wait, and cannot fail: what they can't do is left out of the numbers. nil stands for none.
type Kernel interface {
	// Listening is called for a socket before it listens: what is accepted from it is a client.
	Listening(fd int)
	// Accepted returns when the handshake of an accepted socket was complete, in nanoseconds of CLOCK_MONOTONIC; 0 if that
	// is not known. From then on it has waited to be accepted.
	Accepted(fd int) int64
	// Connecting is called for a socket before it connects. e may be nil.
	Connecting(fd int, e *Endpoint)
	// WhenThere has f called, from some goroutine, when the Kernel comes to count: it has not been told of sockets before.
	// f is never called by a Kernel that is there already.
	WhenThere(f func())
	// Found is Accepted or Connecting for an open socket that the Kernel may not have been told of. since is when it was
	// accepted or began to connect, in nanoseconds of CLOCK_MONOTONIC.
	Found(fd int, accepted bool, e *Endpoint, since int64)
	// Queued counts how long a connection has waited to be accepted, in nanoseconds.
	Queued(ns int64)
	// Requests returns what watches requests on one worker's connections; nil: nothing does.
	Requests(worker int) Requests
}

// KernelCell is where a Kernel keeps what it needs to find its counters of an endpoint; 0 at first.
func (e *Endpoint) KernelCell() *atomic.Uint64 { return &e.kernelCell }

// Forgotten reports whether the endpoint has left the configuration for so long that it has no series any more.
func (r *Registry) Forgotten(e *Endpoint) bool {
	r.usedMu.Lock()
	defer r.usedMu.Unlock()
	return e.forgotten
}

// HasSeries reports whether an endpoint that is in use has series of its own, as far as the cap on them allows.
func (r *Registry) HasSeries(e *Endpoint) bool { return r.useEndpoint(e) != r.otherEP.cells.Load() }

// Bounds are the upper bounds, inclusive, of the buckets of every duration histogram, in nanoseconds.
func Bounds() [boundsCount]int64 { return boundsNs }

// Distribution is a duration histogram that something else has counted, in buckets of Bounds and one for what is above.
type Distribution struct {
	Buckets [boundsCount + 1]uint64
	SumNs   uint64
}

// Counters registers a counter with as many series as each scrape finds: f calls emit once for each of them. f must not
// block.
func (r *Registry) Counters(name string, f func(emit func(value float64, labels ...Label))) {
	r.register(hook{series: name, kind: "counter", each: f})
}

// Distributions is Counters for histograms. One that has counted nothing is left out.
func (r *Registry) Distributions(name string, f func(emit func(d *Distribution, labels ...Label))) {
	r.register(hook{series: name, kind: "histogram", distributions: f})
}

// writeDistributions writes the histograms of a hook.
func (x *exposition) writeDistributions(h *hook) {
	h.distributions(func(d *Distribution, labels ...Label) {
		x.histogram(h.name, x.labels(labels), &histogramSum{buckets: d.Buckets, sumNs: d.SumNs}, true)
	})
}
