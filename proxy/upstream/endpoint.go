package upstream

import (
	"net/netip"
	"strings"
	"sync/atomic"

	"rauta.io/rauta/proxy/certs"
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/observe"
)

// Endpoint is one address of a cluster. All workers share it, and consecutive endpoint sets of a cluster carry it over
// by pointer, so that its pools, counters and health survive. An address that comes back with another pod behind it,
// or after it had been removed, is a new Endpoint.
type Endpoint struct {
	// Immutable.

	// Addr is where to connect; IPv4-mapped addresses are unmapped.
	Addr netip.AddrPort
	// Name is Addr as text.
	Name string
	// Protocol is what is spoken to it, and TLS how; nil is plain text. With another one it is another Endpoint, whose
	// connections are new.
	Protocol config.BackendProtocol
	TLS      *certs.Client
	// Pod is the one behind it, empty where that is not known. What else is said of it may change while it lives: Set.Infos
	// has that.
	Pod string
	// Stats is nil when the cluster was made without a registry.
	Stats *observe.Endpoint
	// upgrades is the same address for requests that ask for another protocol: see PoolFor. nil where it is not needed.
	upgrades *Endpoint
	// main is the endpoint whose upgrades this is.
	main *Endpoint

	// Each element is owned by the worker with that ID.
	pools []*Pool

	// Atomic. cluster is the one that last picked this endpoint: its settings apply to the pools.
	cluster     atomic.Pointer[Cluster]
	connections atomic.Int64 // open and being opened, over all workers
	starving    atomic.Int32 // pools with waiters, without a connection, that were kept from dialling by the limit
	health      health
}

func newEndpoint(c *Cluster, addr netip.AddrPort, info config.Endpoint) *Endpoint {
	e := &Endpoint{
		Addr: addr, Name: addr.String(), Protocol: c.settings.Protocol, TLS: c.tls, Pod: info.Pod,
		pools: make([]*Pool, c.workers),
	}
	if e.Name == info.Address {
		e.Name = info.Address // one text in memory, not two
	}
	e.cluster.Store(c)
	if c.registry != nil {
		e.Stats = c.registry.Endpoint(c.settings.Name, e.Name)
		e.Stats.Describe(targetOf(c.settings.Name, &info))
	}
	if e.negotiates() {
		e.upgrades = &Endpoint{
			Addr: e.Addr, Name: e.Name, Protocol: config.BackendHTTP1, TLS: e.TLS, Pod: e.Pod, Stats: e.Stats, main: e,
			pools: make([]*Pool, c.workers),
		}
		e.upgrades.cluster.Store(c)
	}
	return e
}

// targetOf is what metrics say about an endpoint of a cluster. A cluster of a Service is called "namespace/name:port", and
// the pods behind a Service are of its namespace.
func targetOf(cluster string, info *config.Endpoint) observe.Target {
	t := observe.Target{Pod: info.Pod, Node: info.Node, Zone: info.Zone}
	if t.Pod != "" {
		t.Namespace, _, _ = strings.Cut(cluster, "/")
	}
	return t
}

// negotiates reports whether the handshake decides what is spoken.
func (e *Endpoint) negotiates() bool { return e.Protocol == "" && e.TLS != nil }

// PoolFor is Pool for a request that asks for an upgrade, or not. Where the handshake decides what is spoken, upgrades have
// connections of their own with HTTP/1.1: most servers would choose HTTP/2, but can do WebSockets over HTTP/1.1 only, since
// extended CONNECT (RFC 8441) is rare. The limit on connections holds for both kinds apart.
func (e *Endpoint) PoolFor(w *Worker, upgrade bool) *Pool {
	if !upgrade || e.upgrades == nil {
		return e.Pool(w)
	}
	if c := e.cluster.Load(); e.upgrades.cluster.Load() != c {
		e.upgrades.cluster.Store(c)
	}
	return e.upgrades.Pool(w)
}

// Pool returns w's pool of connections to e; it is made on first use.
func (e *Endpoint) Pool(w *Worker) *Pool {
	if p := e.pools[w.ID]; p != nil {
		return p
	}
	p := newPool(e, w)
	e.pools[w.ID] = p
	w.addPool(p)
	return p
}

// Connections is the number of connections to e over all workers, those being opened included. Any goroutine may call
// it.
func (e *Endpoint) Connections() int64 {
	n := e.connections.Load()
	if e.upgrades != nil {
		n += e.upgrades.connections.Load()
	}
	return n
}

// ClusterName is the name of the cluster that it is in.
func (e *Endpoint) ClusterName() string { return e.cluster.Load().Name() }

// load is what w has under way at e: streams and requests that wait for one.
func (e *Endpoint) load(w *Worker) int {
	n := 0
	if p := e.pools[w.ID]; p != nil {
		n = p.active + p.Waiting()
	}
	if e.upgrades != nil {
		n += e.upgrades.load(w)
	}
	return n
}

// streamsAssumed is how many streams a connection to e is taken to carry before it is there.
func (e *Endpoint) streamsAssumed() int {
	if e.Protocol == config.BackendH2 || e.negotiates() { // which may choose it
		return streamsAssumed
	}
	return 1
}

// sameTransport reports whether connections to e are made as c wants them.
func (e *Endpoint) sameTransport(c *Cluster) bool {
	return len(e.pools) == c.workers && e.Protocol == c.settings.Protocol && e.TLS == c.tls
}

// sameTarget reports whether info describes what e was made for; the address is known to be equal.
func (e *Endpoint) sameTarget(info config.Endpoint) bool {
	return e.Pod == info.Pod || e.Pod == "" || info.Pod == ""
}
