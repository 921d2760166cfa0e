package snapshot

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"weak"

	"rauta.io/rauta/proxy/certs"
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/upstream"
)

// Options are what compiling needs beside the configuration.
type Options struct {
	// Workers is the number of event loops; at least 1.
	Workers int
	// Registry gives routes and endpoints their metrics; nil for none.
	Registry *observe.Registry
	// DefaultAddress is the IP address of listeners that name none; "" means all addresses of the host.
	DefaultAddress string
	// NextProtos are the protocols of TLS ports (ALPN, RFC 7301), the most wanted first. With none TLS is not served:
	// listeners with config.ProtocolHTTPS have no port.
	NextProtos []string
	// WithoutL4: listeners with config.ProtocolTLS, ProtocolTCP and ProtocolUDP have no port either.
	WithoutL4 bool
	// WithoutBackendHTTP2: clusters that speak HTTP/2 can't be used; who refers to one answers 500.
	WithoutBackendHTTP2 bool
}

func (o *Options) workers() int { return max(o.Workers, 1) }

// serves reports whether listeners with a protocol get a port. Without TLS an HTTPS listener must not: its port would
// answer in plain text.
func (o *Options) serves(p config.Protocol) bool {
	if p.L4() {
		return !o.WithoutL4 && (p != config.ProtocolTLS || len(o.NextProtos) > 0)
	}
	return p == config.ProtocolHTTP || p == config.ProtocolHTTPS && len(o.NextProtos) > 0
}

// address resolves config.Listener.Address. All addresses is "::", on which Linux accepts IPv4 as well.
func (o *Options) address(text string) (netip.Addr, error) {
	if text == "" {
		text = o.DefaultAddress
	}
	if text == "" {
		return netip.IPv6Unspecified(), nil
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return addr, fmt.Errorf("parse the address %q: give an IP address", text)
	}
	return addr.Unmap(), nil
}

// Live holds the current generation. Publish and SetEndpoints may be called from any goroutine and wait for each other;
// Current never waits.
type Live struct {
	// Immutable.
	opt Options

	// publish is held while a generation is made.
	publish sync.Mutex
	// given is the configuration that was published last, as long as the publisher keeps it. The next one may have its memory:
	// that of the current generation may be older, because it is kept as long as what it says is the same. publish guards it.
	given weak.Pointer[config.Config]

	// Atomic.
	current atomic.Pointer[Snapshot]
}

// NewLive returns a holder whose current generation is empty.
func NewLive(opt Options) *Live {
	l := &Live{opt: opt}
	l.current.Store(&Snapshot{
		Config: &config.Config{}, Clusters: map[string]*upstream.Cluster{}, certificates: new(certs.Store),
	})
	return l
}

// Current returns the current generation, never nil.
func (l *Live) Current() *Snapshot { return l.current.Load() }

// Publish makes cfg, with the endpoints of each of its clusters, the current generation. The caller must not change
// either afterwards. If cfg equals what is current only the endpoints are set and changed is false. removed are
// endpoints that no cluster has any more: the caller has every worker retire them. err lists what was left out and why;
// the rest is served all the same.
func (l *Live) Publish(cfg *config.Config, eps config.Endpoints) (next *Snapshot, changed bool, removed []*upstream.Endpoint, err error) {
	l.publish.Lock()
	defer l.publish.Unlock()
	return l.follow(cfg, func(next *Snapshot) (removed []*upstream.Endpoint) { return next.setEndpoints(eps) })
}

// Revise is Publish where, since the last call, only the clusters in revised have got other endpoints that SetEndpoints has not
// set: among thousands of clusters those of one need not be looked for.
func (l *Live) Revise(cfg *config.Config, eps config.Endpoints, revised []string) (next *Snapshot, changed bool, removed []*upstream.Endpoint, err error) {
	l.publish.Lock()
	defer l.publish.Unlock()
	prev := l.current.Load()
	return l.follow(cfg, func(next *Snapshot) (removed []*upstream.Endpoint) {
		if !slices.Equal(prev.clusters, next.clusters) {
			return next.setEndpoints(eps)
		}
		for _, name := range revised {
			if cluster := next.Clusters[name]; cluster != nil {
				removed = append(removed, setEndpoints(cluster, eps[name])...)
			}
		}
		return removed
	})
}

// setEndpoints gives every cluster its endpoints.
func (s *Snapshot) setEndpoints(eps config.Endpoints) (removed []*upstream.Endpoint) {
	for i, cluster := range s.clusters {
		if cluster != nil {
			removed = append(removed, setEndpoints(cluster, eps[s.Config.Clusters[i].Name])...)
		}
	}
	return removed
}

// follow makes cfg the next generation; set gives its clusters their endpoints. l.publish is held.
func (l *Live) follow(cfg *config.Config, set func(next *Snapshot) (removed []*upstream.Endpoint)) (next *Snapshot, changed bool, removed []*upstream.Endpoint, err error) {
	prev := l.current.Load()
	since := config.Follow(l.before(prev), cfg)
	l.given = weak.Make(cfg)
	digest := since.Digest(prev.hashOf, prev.partHashes())
	next = prev
	vanished := false
	if changed = prev.Generation == 0 || digest.All != prev.Hash; changed {
		next, vanished = compile(&l.opt, prev, since, digest)
	}
	removed = set(next)
	if changed {
		l.current.Store(next)
		removed = append(removed, orphans(prev, next)...)
	}
	if vanished || len(removed) > 0 {
		l.retain(next)
	}
	return next, changed, removed, errors.Join(next.Problems...)
}

// orphans are the endpoints of clusters that are gone. Their sets stay as they are: exchanges that matched before the new
// generation was stored may still pick from them.
func orphans(prev, next *Snapshot) (removed []*upstream.Endpoint) {
	if slices.Equal(prev.clusters, next.clusters) {
		return nil
	}
	for name, cluster := range prev.Clusters {
		if next.Clusters[name] == nil {
			removed = append(removed, cluster.Set().Endpoints()...)
		}
	}
	return removed
}

// before returns a configuration that says the same as that of prev, part by part: the one that was published last if it
// is still there.
func (l *Live) before(prev *Snapshot) *config.Config {
	if given := l.given.Value(); given != nil {
		return given
	}
	return prev.Config
}

// retain tells the registry what still exists.
func (l *Live) retain(s *Snapshot) {
	if l.opt.Registry == nil {
		return
	}
	routes := make([]string, 0, len(s.Routes)+len(s.L4Routes))
	for _, r := range s.Routes {
		routes = append(routes, r.Name)
	}
	for _, r := range s.L4Routes {
		routes = append(routes, r.Name)
	}
	endpoints := make([]observe.EndpointKey, 0, len(s.Clusters))
	for name, c := range s.Clusters {
		for _, e := range c.Set().Endpoints() {
			endpoints = append(endpoints, observe.EndpointKey{Cluster: name, Address: e.Name})
		}
	}
	l.opt.Registry.Retain(routes, endpoints)
}

// SetEndpoints replaces the endpoints of one cluster, without a new generation. A cluster that the current generation
// doesn't have is ignored: the Publish that brings it brings its endpoints. removed is as for Publish.
func (l *Live) SetEndpoints(cluster string, eps []config.Endpoint) (removed []*upstream.Endpoint) {
	l.publish.Lock()
	defer l.publish.Unlock()
	c := l.current.Load().Clusters[cluster]
	if c == nil {
		return nil
	}
	removed = setEndpoints(c, eps)
	if len(removed) > 0 && l.opt.Registry != nil {
		l.opt.Registry.LeaveEndpoints(cluster, addressesLeft(removed, c.Set().Endpoints()))
	}
	return removed
}

// addressesLeft are the addresses of removed that present does not have: another pod may have taken one over.
func addressesLeft(removed, present []*upstream.Endpoint) []string {
	has := make(map[string]bool, len(present))
	for _, e := range present {
		has[e.Name] = true
	}
	var out []string
	for _, e := range removed {
		if !has[e.Name] {
			out = append(out, e.Name)
		}
	}
	return out
}

// setEndpoints skips a set that is as it should be, so that publishing 10,000 clusters of which one changed is cheap.
func setEndpoints(c *upstream.Cluster, eps []config.Endpoint) []*upstream.Endpoint {
	if c.Has(eps) {
		return nil
	}
	return c.SetEndpoints(eps)
}
