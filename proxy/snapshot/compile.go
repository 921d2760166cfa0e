package snapshot

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"rauta.io/rauta/proxy/certs"
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/filter"
	"rauta.io/rauta/proxy/route"
	"rauta.io/rauta/proxy/upstream"
)

// reasonInvalidFilter is in the access log of requests to a rule whose filters can't be used. Such a rule answers 500
// rather than being left out: what a filter was to keep away must not reach a back end, nor a less specific rule.
const reasonInvalidFilter = "invalid_filter"

// place is a config.Error without its text.
type place struct {
	part             config.Part
	index, sub, item int
}

// compiler makes one generation from a configuration and the generation before.
type compiler struct {
	opt  *Options
	prev *Snapshot
	next *Snapshot

	since    *config.Succession // from prev.Config to next.Config
	bad      map[place]error    // of config.Validate
	byName   map[string]int     // index in next.Routes, which is the precedence; nil before it is asked for
	l4ByName map[string]int     // the same for next.L4Routes
	vanished bool               // a route of the last generation is gone
	// steady: neither generation has a problem that config.Validate finds, and they have the same names in the same order.
	steady bool
	// sameClusterSet: the clusters are those of the last generation.
	sameClusterSet bool
	// whole: steady, and nothing of the last generation was left out, so that what is in the same memory needs no second look.
	whole bool
	// again: routes have their places of the last generation, and only those in the places that changed has, in order, are others.
	again   bool
	changed []int32
}

// compile never fails as a whole: what can't be used is left out and listed in Problems. vanished tells that a route of
// prev is gone. since says what cfg, its After, has in common with what prev was made from.
func compile(opt *Options, prev *Snapshot, since *config.Succession, digest config.Digest) (next *Snapshot, vanished bool) {
	cfg := since.After
	own := &config.Config{
		// Whoever changes a list clones it. Most lists are those of the last generation in the end.
		Listeners: cfg.Listeners, Routes: cfg.Routes, L4Routes: cfg.L4Routes, Clusters: cfg.Clusters,
		Certificates: cfg.Certificates, TicketKeys: cfg.TicketKeys, TicketKeySets: cfg.TicketKeySets,
	}
	c := &compiler{
		opt: opt, prev: prev, since: since,
		next: &Snapshot{
			Generation: prev.Generation + 1, Hash: digest.All, Config: own, hashes: digest.Others,
			Routes: make([]*Route, 0, len(own.Routes)),
		},
		bad:      map[place]error{},
		l4ByName: make(map[string]int, len(own.L4Routes)),
	}
	if prev.valid {
		c.next.Problems = since.Validate()
	} else {
		c.next.Problems = config.Validate(own)
	}
	c.next.valid = len(c.next.Problems) == 0
	c.steady = prev.valid && c.next.valid && since.SameNames
	c.whole = c.steady && len(prev.Problems) == 0
	for _, err := range c.next.Problems {
		if e, ok := errors.AsType[*config.Error](err); ok {
			c.bad[place{e.Part, e.Index, e.Sub, e.Item}] = e.Err
		}
	}
	c.certificates()
	c.clusters()
	c.routes(digest)
	c.l4Routes(digest)
	if !c.portsAgain() {
		c.ports()
	}
	return c.next, c.vanished
}

func (c *compiler) problem(err error) { c.next.Problems = append(c.next.Problems, err) }

func (c *compiler) clusters() {
	if c.whole && c.since.SameClusters && c.since.SameSecrets {
		c.sameClusterSet = true
		c.next.Config.Clusters, c.next.Clusters, c.next.clusters = c.prev.Config.Clusters, c.prev.Clusters, c.prev.clusters
		return
	}
	list := slices.Clone(c.next.Config.Clusters)
	c.next.Config.Clusters = list
	c.next.clusters = make([]*upstream.Cluster, len(list))
	c.sameClusterSet = c.steady && len(c.prev.clusters) == len(list)
	for i := range list {
		settings := &list[i]
		if c.bad[place{part: config.PartCluster, index: i}] != nil {
			continue
		}
		if settings.Protocol == config.BackendH2 && c.opt.WithoutBackendHTTP2 {
			c.problem(&config.Error{Part: config.PartCluster, Index: i, Path: fmt.Sprintf("clusters[%q].protocol", settings.Name),
				Err: errors.New("this engine does not speak HTTP/2 to back ends; run RAUTA with the loop engine")})
			c.sameClusterSet = c.sameClusterSet && c.prev.clusters[i] == nil
			continue
		}
		cluster := c.clusterBefore(i)
		tls, err := c.clientOf(settings, cluster)
		if err != nil { // without it whoever refers to the cluster answers 500, and nothing is sent in plain text
			c.problem(&config.Error{Part: config.PartCluster, Index: i, Path: fmt.Sprintf("clusters[%q].tls", settings.Name), Err: err})
			c.sameClusterSet = c.sameClusterSet && c.prev.clusters[i] == nil
			continue
		}
		if cluster != nil && cluster.TLS() == tls && sameCluster(cluster.Config(), *settings) {
			*settings = cluster.Config() // equal, and shares its strings
		} else {
			cluster = upstream.NewCluster(*settings, c.opt.Registry, c.opt.workers(), cluster)
			cluster.SetTLS(tls)
			c.sameClusterSet = false
		}
		c.next.clusters[i] = cluster
	}
	if c.sameClusterSet {
		c.next.Clusters, c.next.clusters = c.prev.Clusters, c.prev.clusters
		return
	}
	c.next.Clusters = make(map[string]*upstream.Cluster, len(list))
	for i, cluster := range c.next.clusters {
		if cluster != nil {
			c.next.Clusters[list[i].Name] = cluster
		}
	}
}

// clusterBefore returns the cluster of the last generation with the name of one of next.Config.Clusters, nil if there was
// none.
func (c *compiler) clusterBefore(i int) *upstream.Cluster {
	if c.steady && i < len(c.prev.clusters) {
		return c.prev.clusters[i]
	}
	return c.prev.Clusters[c.next.Config.Clusters[i].Name]
}

// clientOf compiles how connections to a cluster are secured; nil for plain text.
func (c *compiler) clientOf(settings *config.Cluster, prev *upstream.Cluster) (*certs.Client, error) {
	if settings.TLS == nil {
		return nil, nil
	}
	var before *certs.Client
	if prev != nil {
		before = prev.TLS()
	}
	return certs.NewClient(before, c.next.certificates, settings.TLS)
}

func sameCluster(a, b config.Cluster) bool {
	if (a.HashOn == nil) != (b.HashOn == nil) || a.HashOn != nil && *a.HashOn != *b.HashOn {
		return false
	}
	if !a.TLS.Equal(b.TLS) {
		return false
	}
	a.HashOn, b.HashOn, a.TLS, b.TLS = nil, nil, nil, nil
	return a == b
}

func (c *compiler) routes(digest config.Digest) {
	if c.whole && c.sameClusterSet {
		c.changedRoutes(digest)
		return
	}
	c.next.Config.Routes = slices.Clone(c.next.Config.Routes)
	var byName map[string]*Route // of prev, made when somebody asks
	before := func(i int, name string) *Route {
		if j := c.since.Routes[i]; j >= 0 && len(c.prev.Routes) == len(c.prev.Config.Routes) {
			return c.prev.Routes[j]
		}
		if byName == nil {
			byName = make(map[string]*Route, len(c.prev.Routes))
			for _, r := range c.prev.Routes {
				byName[r.Name] = r
			}
		}
		return byName[name]
	}
	left := len(c.prev.Routes)
	for i := range c.next.Config.Routes {
		cfg := c.next.Config.Routes[i]
		if c.bad[place{part: config.PartRoute, index: i}] != nil {
			continue
		}
		r := before(i, cfg.Name)
		if r != nil {
			left-- // names are unique
		}
		hash, ok := digest.Routes[i]
		if !ok {
			hash = r.hash
		}
		if r != nil && r.hash == hash && (c.sameClusterSet || c.sameClusters(r)) {
			c.next.Config.Routes[i] = r.config // equal, and the memory that it was compiled from
		} else {
			r = c.route(i, cfg, hash)
		}
		if r.problems != nil {
			c.next.Problems = append(c.next.Problems, *r.problems...)
		}
		c.next.Routes = append(c.next.Routes, r)
	}
	c.vanished = left > 0
}

// changedRoutes is routes where the last generation has the same ones by name, and their clusters.
func (c *compiler) changedRoutes(digest config.Digest) {
	given, own := c.next.Config.Routes, false
	c.again = true
	c.next.Routes = append(c.next.Routes, c.prev.Routes...)
	for i, cfg := range given {
		last := c.prev.Routes[i]
		if cfg == last.config {
			continue
		}
		hash, ok := digest.Routes[i]
		if !ok {
			continue // the publisher keeps this memory, too
		}
		if last.hash == hash {
			if !own {
				own, c.next.Config.Routes = true, slices.Clone(given)
			}
			c.next.Config.Routes[i] = last.config // equal, and the memory that it was compiled from
			continue
		}
		c.changed = append(c.changed, int32(i))
		c.next.Routes[i] = c.route(i, cfg, hash)
		if problems := c.next.Routes[i].problems; problems != nil {
			c.next.Problems = append(c.next.Problems, *problems...)
		}
	}
}

// precedence is the index in next.Routes of a route; false if there is none that can be used.
func (c *compiler) precedence(route string) (int, bool) {
	if c.byName == nil {
		c.byName = make(map[string]int, len(c.next.Routes))
		for i, r := range c.next.Routes {
			c.byName[r.Name] = i
		}
	}
	i, ok := c.byName[route]
	return i, ok
}

// sameClusters reports whether the back ends of a route of the last generation are still the right ones.
func (c *compiler) sameClusters(r *Route) bool {
	for i := range r.Rules {
		if !c.sameMirrors(r.Rules[i].Mirrors) {
			return false
		}
		for j := range r.Rules[i].Backends {
			if !c.sameMirrors(r.Rules[i].Backends[j].Mirrors) {
				return false
			}
			cfg := &r.Rules[i].config.Backends[j]
			if cfg.Invalid == "" && c.next.Clusters[cfg.Cluster] != r.Rules[i].Backends[j].target {
				return false
			}
		}
	}
	return true
}

func (c *compiler) route(index int, cfg *config.Route, hash [32]byte) *Route {
	r := &Route{Name: cfg.Name, config: cfg, hash: hash, Rules: make([]Rule, 0, len(cfg.Rules))}
	for i := range cfg.Rules {
		if c.bad[place{part: config.PartRule, index: index, sub: i}] != nil {
			continue
		}
		if err := checkMatches(&cfg.Rules[i]); err != nil {
			if r.problems == nil {
				r.problems = new([]error)
			}
			*r.problems = append(*r.problems, &config.Error{
				Part: config.PartRule, Index: index, Sub: i, Path: fmt.Sprintf("routes[%q].rules[%d].%s", r.Name, i, err.field), Err: err.err,
			})
			continue
		}
		r.Rules = append(r.Rules, c.rule(index, i, cfg))
	}
	return r
}

type matchError struct {
	field string
	err   error
}

func checkMatches(r *config.Rule) *matchError {
	for i := range r.Matches {
		if err := route.ValidateMatch(&r.Matches[i]); err != nil {
			return &matchError{fmt.Sprintf("matches[%d]", i), err}
		}
	}
	return nil
}

func (c *compiler) rule(routeIndex, index int, r *config.Route) Rule {
	cfg := &r.Rules[index]
	rule := Rule{
		Name: cfg.Name, Route: r.Name, Source: r.Source, Index: int32(index),
		RequestTimeout: int64(cfg.Timeouts.Request), BackendTimeout: int64(cfg.Timeouts.BackendRequest),
		ResponseTimeout: int64(cfg.Timeouts.Response), TunnelIdle: int64(cfg.Timeouts.TunnelIdle), BodyBytesMax: cfg.BodyBytesMax,
		Retry:    newRetry(cfg.Retry),
		Backends: make([]Backend, len(cfg.Backends)), config: cfg,
	}
	if c.opt.Registry != nil {
		rule.Stats = c.opt.Registry.Route(r.Name)
	}
	chain, err := filter.Compile(cfg.Filters)
	if err != nil { // reported by config.Validate
		chain = filter.Refuse(500, reasonInvalidFilter)
	}
	rule.Filters, rule.Mirrors = chain, c.mirrors(cfg.Filters)
	for i := range cfg.Backends {
		b := &rule.Backends[i]
		*b = c.backend(&cfg.Backends[i])
		if err := c.bad[place{config.PartBackend, routeIndex, index, i}]; err != nil && b.Invalid == "" {
			b.Cluster, b.Invalid = nil, err.Error()
		}
	}
	rule.weights = share(rule.Backends)
	return rule
}

// share lays the weights side by side and returns their sum, which never exceeds 32 bits.
func share(list []Backend) (sum uint32) {
	for i := range list {
		b := &list[i]
		b.Weight = min(b.Weight, math.MaxUint32-sum)
		sum += b.Weight
		b.upTo = sum
	}
	return sum
}

func (c *compiler) backend(cfg *config.Backend) Backend {
	b := Backend{Weight: cfg.Weight, Invalid: cfg.Invalid}
	if b.Invalid != "" {
		return b
	}
	b.target = c.next.Clusters[cfg.Cluster]
	chain, err := filter.Compile(cfg.Filters)
	switch {
	case b.target == nil:
		b.Invalid = fmt.Sprintf("cluster %q does not exist or can't be used", cfg.Cluster)
	case err != nil:
		b.Invalid = err.Error()
	default:
		b.Cluster, b.Filters, b.Mirrors = b.target, chain, c.mirrors(cfg.Filters)
	}
	return b
}
