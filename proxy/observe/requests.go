package observe

import "sync/atomic"

// Requests has the kernel watch some of the requests that come on one worker's connections. A connection carries one
// request at a time. All methods are for the worker's thread; a connection costs some system calls when its requests begin to
// be watched, and a request none.
type Requests interface {
	// Watching reports whether requests are to be awaited now. While it does not, Leaves and Left need not be called for what
	// is TapIdle and not Armed.
	Watching() bool
	// Open begins with a connection. since is when it was there, on the clock of the loop; 0 if what it carried until now was
	// not a request. It awaits the first request if that is to be watched.
	Open(t *RequestTap, fd int, now, since int64)
	// Join is Open in the middle of what a connection carries: it awaits no request before the next response has left.
	Join(t *RequestTap)
	// Read returns how long the first byte of the awaited request has lain in the socket until now, at least 1 ns; 0 if that
	// is not known. t awaits one.
	Read(t *RequestTap, now int64) int64
	// Leaves is called before the bytes are sent that may complete the response: the next request can come at once. The route
	// is t.Route.
	Leaves(t *RequestTap, fd int, now int64)
	// Left is called when the response was sent: completely, or not yet. spoilt: the next request has come before that.
	Left(t *RequestTap, fd int, now int64, completely, spoilt bool)
	// Release ends the watch of a connection.
	Release(t *RequestTap)
}

// TapState says how far a request has come whose connection has a RequestTap.
type TapState uint8

const (
	// TapOff: nothing is watched on the connection.
	TapOff TapState = iota
	// TapIdle: the request that comes next or is under way is not watched.
	TapIdle
	// TapAwaiting: the next request is watched.
	TapAwaiting
	// TapUnderWay: the request under way is watched.
	TapUnderWay
)

// RequestTap is what a connection keeps for Requests. Its zero value is off.
type RequestTap struct {
	Slot    uint32 // 0: none yet
	Request uint32 // number of the last request that was awaited
	Left    uint32 // requests to pass before the next that is watched
	Epoch   uint32 // of the last window in which one was awaited
	State   TapState
	Armed   bool  // the request after Request is awaited too
	Since   int64 // when the first byte of the request came; 0: not known yet
	Ended   int64 // when its response was given to the kernel; 0: not yet
	Route   *Route
	// Bytes since the request was awaited, which the connection adds up whatever the state is.
	Received, Sent uint64
}

// KernelTally is where a Kernel keeps what it needs to find its counters of a route; 0 at first.
func (rt *Route) KernelTally() *atomic.Uint64 { return &rt.kernelTally }

// RouteForgotten reports whether a route has left the configuration for so long that it has no series any more.
func (r *Registry) RouteForgotten(rt *Route) bool {
	r.usedMu.Lock()
	defer r.usedMu.Unlock()
	return rt.forgotten
}

// RouteHasSeries reports whether a route that is in use has series of its own, as far as the cap on them allows.
func (r *Registry) RouteHasSeries(rt *Route) bool { return r.useRoute(rt) != r.other.cells.Load() }

// BoundedHistogram is a histogram of durations with bounds of its own. Buckets has one more, for what is above them.
type BoundedHistogram struct {
	Bounds  []string // in seconds, as the label "le" spells them, the last "+Inf"
	Buckets []uint64
	SumNs   uint64
}

// Histograms is Counters for histograms that have bounds of their own.
func (r *Registry) Histograms(name string, f func(emit func(h *BoundedHistogram, labels ...Label))) {
	r.register(hook{series: name, kind: "histogram", histograms: f})
}

// writeHistograms writes the histograms of a hook.
func (x *exposition) writeHistograms(h *hook) {
	h.histograms(func(b *BoundedHistogram, labels ...Label) {
		x.buckets(h.name, x.labels(labels), b.Bounds, b.Buckets, b.SumNs)
	})
}
