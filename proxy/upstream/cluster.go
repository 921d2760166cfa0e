package upstream

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rauta.io/rauta/proxy/certs"
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/observe"
)

const (
	// connectTimeoutDefault: longer than one lost SYN (retransmitted after 1 s and 3 s), short enough to retry.
	connectTimeoutDefault = 5 * time.Second
	// pendingDefault bounds the requests of one worker that wait for a connection to one endpoint.
	pendingDefault = 1024
)

// Limits bound the idle connections to each endpoint of a cluster.
type Limits struct {
	// IdleMax is the number of idle connections to one endpoint over all workers; each worker keeps its share, at
	// least 1. What is above that is closed after surplusTime.
	IdleMax int
	// IdleTimeout closes a connection that has not been used for so long.
	IdleTimeout time.Duration
	// AgeMax closes a connection when it becomes idle after so long; 0 means never.
	AgeMax time.Duration
}

// DefaultLimits keeps 256 idle connections to an endpoint for 60 s. That is below the 75 s after which common servers
// close, so that a request rarely meets a connection that is being closed at the other end. There is no maximal age: a
// Service's address is resolved by us, so an old connection never leads to a target that has left its set.
func DefaultLimits() Limits {
	return Limits{IdleMax: 256, IdleTimeout: 60 * time.Second}
}

// Cluster is one Service port: immutable settings, and an atomic pointer to its endpoints.
type Cluster struct {
	// Immutable.
	settings       config.Cluster
	policy         config.Policy
	tls            *certs.Client // nil: plain text
	connectTimeout int64         // ns
	connectionsMax int64         // 0: no limit
	pendingMax     int
	limits         Limits
	workers        int
	registry       *observe.Registry
	shared         *shared
	cursors        []cursor // by worker, which owns its own; only with PolicyRoundRobin

	// set is swapped by publishers, which hold publish, and read by everybody.
	set     atomic.Pointer[Set]
	publish sync.Mutex
}

// shared is what successive settings of one cluster have in common.
type shared struct {
	ejections atomic.Uint64 // counts ejections; views made at an earlier count are out of date
}

// NewCluster makes a cluster with the settings c for the given number of workers. prev, if not nil, is the cluster of
// the same name with earlier settings: its endpoints are carried over with their pools, to which the new settings
// apply as soon as a worker picks through the new cluster. If another protocol is to be spoken, or it is to be secured
// in another way, they are made anew by the SetEndpoints that must follow before a worker uses the cluster. reg may be
// nil.
func NewCluster(c config.Cluster, reg *observe.Registry, workers int, prev *Cluster) *Cluster {
	n := &Cluster{
		settings:       c,
		policy:         c.Policy,
		connectTimeout: int64(c.ConnectTimeout),
		connectionsMax: int64(max(0, c.ConnectionsMax)),
		pendingMax:     c.PendingMax,
		limits:         DefaultLimits(),
		workers:        workers,
		registry:       reg,
	}
	if n.policy == "" {
		n.policy = config.PolicyP2C
	}
	if n.connectTimeout <= 0 {
		n.connectTimeout = int64(connectTimeoutDefault)
	}
	if n.pendingMax <= 0 {
		n.pendingMax = pendingDefault
	}
	if n.policy == config.PolicyRoundRobin {
		n.cursors = make([]cursor, workers)
	}
	if prev != nil && prev.workers == workers {
		n.limits = prev.limits
		n.shared = prev.shared
		old := prev.Set()
		s := &Set{endpoints: old.endpoints, infos: old.infos, rejected: old.rejected, ready: old.ready}
		s.finish(n, old)
		n.set.Store(s)
		return n
	}
	n.shared = &shared{}
	s := &Set{}
	s.finish(n, s)
	n.set.Store(s)
	return n
}

// SetLimits replaces DefaultLimits. It must be called before a worker uses the cluster.
func (c *Cluster) SetLimits(l Limits) { c.limits = l }

// SetTLS makes connections to the endpoints secure. It must be called before SetEndpoints; a cluster whose settings have
// TLS must not be used without.
func (c *Cluster) SetTLS(client *certs.Client) { c.tls = client }

// TLS is how connections to the endpoints are secured; nil for plain text.
func (c *Cluster) TLS() *certs.Client { return c.tls }

// Name is config.Cluster.Name.
func (c *Cluster) Name() string { return c.settings.Name }

// Config returns the settings as they were given, without defaults.
func (c *Cluster) Config() config.Cluster { return c.settings }

// HashOn is the key of PolicyMaglev, nil for other policies.
func (c *Cluster) HashOn() *config.HashOn { return c.settings.HashOn }

// ConnectTimeout is in nanoseconds.
func (c *Cluster) ConnectTimeout() int64 { return c.connectTimeout }

// Set returns the current endpoints.
func (c *Cluster) Set() *Set { return c.set.Load() }

// Has reports whether the endpoints of c are as eps says, so that SetEndpoints would change nothing.
func (c *Cluster) Has(eps []config.Endpoint) bool {
	s := c.Set()
	return len(s.rejected) == 0 && slices.Equal(s.infos, eps) &&
		!slices.ContainsFunc(s.endpoints, func(e *Endpoint) bool { return !e.sameTransport(c) })
}

// SetEndpoints replaces the endpoints of c, which keeps eps, and returns those that are no longer part of it; the caller has every
// worker Retire them, and tells the registry what is left. What is expensive (the Maglev table) happens before the
// swap, on the caller's goroutine.
func (c *Cluster) SetEndpoints(eps []config.Endpoint) (removed []*Endpoint) {
	c.publish.Lock()
	defer c.publish.Unlock()
	old := c.Set()
	s := newSet(c, eps, old)
	c.set.Store(s)
	kept := make(map[*Endpoint]struct{}, s.Len())
	for _, e := range s.endpoints {
		kept[e] = struct{}{}
	}
	for _, e := range old.endpoints {
		if _, ok := kept[e]; !ok {
			removed = append(removed, e)
		}
	}
	return removed
}
