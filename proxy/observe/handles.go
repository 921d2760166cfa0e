package observe

import (
	"sync/atomic"
	"time"
)

// statusClasses is the number of code classes: none, 1xx to 5xx.
const statusClasses = 6

// classLabels are the values of the label "code".
var classLabels = [statusClasses]string{nameNone, "1xx", "2xx", "3xx", "4xx", "5xx"}

// statusClass returns the index in classLabels of a status code.
func statusClass(status int) int {
	if status < 100 || status > 599 {
		return 0
	}
	return status / 100
}

// classCounts counts per code class. The padding makes one a cache line, so that two workers never share one.
type classCounts struct {
	n [statusClasses]atomic.Uint64
	_ [2]uint64
}

// routeCell is what one worker counts for one route: 384 bytes, six cache lines.
type routeCell struct {
	duration histogram
	stages   stageCells
	inFlight atomic.Int64
	methods  [methodsMax]atomic.Pointer[classCounts] // made at the first request with that method
	grpc     atomic.Pointer[grpcCounts]              // made at the first gRPC request
	_        [1]uint64
}

func (c *routeCell) counts(method uint8) *classCounts {
	if n := c.methods[method].Load(); n != nil {
		return n
	}
	c.methods[method].CompareAndSwap(nil, new(classCounts))
	return c.methods[method].Load()
}

// cells holds one pointer per worker to what that worker counts, made at the worker's first use.
type cells[C any] struct {
	byWorker []atomic.Pointer[C]
}

func newCells[C any](workers int) *cells[C] {
	return &cells[C]{byWorker: make([]atomic.Pointer[C], workers)}
}

func (c *cells[C]) of(worker int) *C {
	if cell := c.byWorker[worker].Load(); cell != nil {
		return cell
	}
	c.byWorker[worker].CompareAndSwap(nil, new(C))
	return c.byWorker[worker].Load()
}

// life is what routes and endpoints share: whether the configuration still has them.
type life struct {
	missingSince time.Time // zero while the configuration has it; guarded by Registry.handlesMu
	permanent    bool      // immutable
	forgotten    bool      // guarded by Registry.usedMu
}

// Route is the handle of one route's metrics. One that never served costs its name and 100 bytes.
type Route struct {
	name  string
	cells atomic.Pointer[cells[routeCell]]  // nil until first used; those of "other" beyond the cap
	l4    atomic.Pointer[cells[L4Counters]] // likewise
	life

	kernelTally atomic.Uint64
}

// Name returns the name that the handle was asked for with.
func (rt *Route) Name() string { return rt.name }

// EndpointKey names one endpoint of one cluster.
type EndpointKey struct{ Cluster, Address string }

// Endpoint is the handle of one endpoint's metrics.
type Endpoint struct {
	key    EndpointKey
	cells  atomic.Pointer[cells[endpointCell]]
	l4     atomic.Pointer[cells[L4Counters]]
	target atomic.Pointer[Target] // nil: nothing is known
	life

	kernelCell atomic.Uint64
}

// Cluster returns the name of the cluster.
func (e *Endpoint) Cluster() string { return e.key.Cluster }

// Address returns the address of the endpoint.
func (e *Endpoint) Address() string { return e.key.Address }

func newPermanentRoute(name string, workers int) *Route {
	rt := &Route{name: name}
	rt.permanent = true
	rt.cells.Store(newCells[routeCell](workers))
	rt.l4.Store(newCells[L4Counters](workers))
	return rt
}

func newPermanentEndpoint(key EndpointKey, workers int) *Endpoint {
	e := &Endpoint{key: key}
	e.permanent = true
	e.cells.Store(newCells[endpointCell](workers))
	e.l4.Store(newCells[L4Counters](workers))
	return e
}

// Route returns the handle for a name, always the same one while the name is in use. The names "none" and "other" are
// the registry's own.
func (r *Registry) Route(name string) *Route {
	r.handlesMu.Lock()
	defer r.handlesMu.Unlock()
	rt := r.routes[name]
	if rt == nil {
		rt = &Route{name: name}
		r.routes[name] = rt
	}
	rt.missingSince = time.Time{}
	return rt
}

// Endpoint returns the handle for an endpoint of a cluster, always the same one while it is in use.
func (r *Registry) Endpoint(cluster, address string) *Endpoint {
	key := EndpointKey{Cluster: cluster, Address: address}
	r.handlesMu.Lock()
	defer r.handlesMu.Unlock()
	e := r.endpoints[key]
	if e == nil {
		e = &Endpoint{key: key}
		r.endpoints[key] = e
	}
	e.missingSince = time.Time{}
	return e
}

// useRoute returns the cells of a route that serves for the first time, and gives it series if the cap allows.
func (r *Registry) useRoute(rt *Route) *cells[routeCell] {
	r.usedMu.Lock()
	defer r.usedMu.Unlock()
	if c := rt.cells.Load(); c != nil {
		return c
	}
	c := r.other.cells.Load()
	if !rt.forgotten && len(r.usedRoutes.list) < r.usedRoutes.max {
		c = newCells[routeCell](len(r.shards))
		r.usedRoutes.list = append(r.usedRoutes.list, rt)
	}
	rt.cells.Store(c)
	return c
}

// useEndpoint is useRoute for endpoints.
func (r *Registry) useEndpoint(e *Endpoint) *cells[endpointCell] {
	r.usedMu.Lock()
	defer r.usedMu.Unlock()
	if c := e.cells.Load(); c != nil {
		return c
	}
	c := r.otherEP.cells.Load()
	if !e.forgotten && len(r.usedEndpoints.list) < r.usedEndpoints.max {
		c = newCells[endpointCell](len(r.shards))
		r.usedEndpoints.list = append(r.usedEndpoints.list, e)
	}
	e.cells.Store(c)
	return c
}
