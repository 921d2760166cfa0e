package snapshot

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strconv"

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

	bad      map[place]error // of config.Validate
	byName   map[string]int  // index in next.Routes, which is the precedence
	l4ByName map[string]int  // the same for next.L4Routes
	vanished bool            // a route of the last generation is gone
}

// compile never fails as a whole: what can't be used is left out and listed in Problems. vanished tells that a route of
// prev is gone.
func compile(opt *Options, prev *Snapshot, cfg *config.Config, digest config.Digest) (next *Snapshot, vanished bool) {
	own := &config.Config{
		Listeners: slices.Clone(cfg.Listeners),
		Routes:    slices.Clone(cfg.Routes),
		L4Routes:  slices.Clone(cfg.L4Routes),
		Clusters:  slices.Clone(cfg.Clusters),

		Certificates: slices.Clone(cfg.Certificates),
		TicketKeys:   slices.Clone(cfg.TicketKeys),

		TicketKeySets: slices.Clone(cfg.TicketKeySets),
	}
	c := &compiler{
		opt: opt, prev: prev,
		next: &Snapshot{
			Generation: prev.Generation + 1, Hash: digest.All, Config: own,
			Clusters: make(map[string]*upstream.Cluster, len(own.Clusters)),
			Routes:   make([]*Route, 0, len(own.Routes)),
			Problems: config.Validate(own),
		},
		bad:      map[place]error{},
		byName:   make(map[string]int, len(own.Routes)),
		l4ByName: make(map[string]int, len(own.L4Routes)),
	}
	for _, err := range c.next.Problems {
		if e, ok := errors.AsType[*config.Error](err); ok {
			c.bad[place{e.Part, e.Index, e.Sub, e.Item}] = e.Err
		}
	}
	c.certificates()
	c.clusters()
	c.routes(digest)
	c.l4Routes(digest)
	c.ports()
	return c.next, c.vanished
}

func (c *compiler) problem(err error) { c.next.Problems = append(c.next.Problems, err) }

func (c *compiler) clusters() {
	for i := range c.next.Config.Clusters {
		settings := &c.next.Config.Clusters[i]
		if c.bad[place{part: config.PartCluster, index: i}] != nil {
			continue
		}
		if settings.Protocol == config.BackendH2 && c.opt.WithoutBackendHTTP2 {
			c.problem(&config.Error{Part: config.PartCluster, Index: i, Path: fmt.Sprintf("clusters[%q].protocol", settings.Name),
				Err: errors.New("this engine does not speak HTTP/2 to back ends; run RAUTA with the loop engine")})
			continue
		}
		cluster := c.prev.Clusters[settings.Name]
		tls, err := c.clientOf(settings, cluster)
		if err != nil { // without it whoever refers to the cluster answers 500, and nothing is sent in plain text
			c.problem(&config.Error{Part: config.PartCluster, Index: i, Path: fmt.Sprintf("clusters[%q].tls", settings.Name), Err: err})
			continue
		}
		if cluster != nil && cluster.TLS() == tls && sameCluster(cluster.Config(), *settings) {
			*settings = cluster.Config() // equal, and shares its strings
		} else {
			cluster = upstream.NewCluster(*settings, c.opt.Registry, c.opt.workers(), cluster)
			cluster.SetTLS(tls)
		}
		c.next.Clusters[settings.Name] = cluster
	}
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
	before := make(map[string]*Route, len(c.prev.Routes))
	for _, r := range c.prev.Routes {
		before[r.Name] = r
	}
	defer func() { c.vanished = len(before) > 0 }()
	for i := range c.next.Config.Routes {
		cfg := &c.next.Config.Routes[i]
		if c.bad[place{part: config.PartRoute, index: i}] != nil {
			continue
		}
		r := before[cfg.Name]
		delete(before, cfg.Name)
		if r != nil && r.hash == digest.Routes[i] && c.sameClusters(r) {
			r.share(cfg)
		} else {
			r = c.route(i, cfg, digest.Routes[i])
		}
		c.next.Problems = append(c.next.Problems, r.problems...)
		c.byName[r.Name] = len(c.next.Routes)
		c.next.Routes = append(c.next.Routes, r)
	}
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
	r := &Route{Name: cfg.Name, config: cfg.Rules, hash: hash, Rules: make([]Rule, 0, len(cfg.Rules))}
	for i := range cfg.Rules {
		if c.bad[place{part: config.PartRule, index: index, sub: i}] != nil {
			continue
		}
		if err := checkMatches(&cfg.Rules[i]); err != nil {
			r.problems = append(r.problems, &config.Error{
				Part: config.PartRule, Index: index, Sub: i, Path: fmt.Sprintf("routes[%q].rules[%d].%s", r.Name, i, err.field), Err: err.err,
			})
			continue
		}
		r.Rules = append(r.Rules, c.rule(index, i, cfg))
	}
	return r
}

// share makes cfg, which equals what r was compiled from, use r's memory.
func (r *Route) share(cfg *config.Route) {
	cfg.Name, cfg.Rules = r.Name, r.config
	if len(r.Rules) > 0 {
		cfg.Source = r.Rules[0].Source
	}
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
		Name: cfg.Name, Route: r.Name, Source: r.Source, Index: index,
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

// socket is a port on its way.
type socket struct {
	addr      netip.AddrPort
	proxy     []netip.Prefix
	configs   []*config.Listener
	listeners []*Listener // by config
	parts     [][]part    // by listener
	first     *config.Listener
	tls       []certs.Listener // empty for plain text
	l4        [][]l4Part       // by listener
}

// tlsOf compiles the TLS side of a socket; nil for plain text.
func (c *compiler) tlsOf(s *socket, prev *Port) *certs.Table {
	if s.first.Protocol.Family() != config.ProtocolTLS {
		return nil
	}
	var before *certs.Table
	if prev != nil {
		before = prev.TLS
	}
	return certs.NewTable(before, c.next.certificates, s.tls, c.opt.NextProtos...)
}

func (c *compiler) ports() {
	before := make(map[netip.AddrPort]*Port, len(c.prev.Ports))
	for _, p := range c.prev.Ports {
		before[p.Addr] = p
	}
	sockets := c.sockets()
	addrs := slices.SortedFunc(maps.Keys(sockets), netip.AddrPort.Compare)
	for _, addr := range addrs {
		c.next.Ports = append(c.next.Ports, c.port(sockets[addr], before[addr]))
	}
}

func (c *compiler) sockets() map[netip.AddrPort]*socket {
	sockets := map[netip.AddrPort]*socket{}
	listenersBefore := map[string]*Listener{}
	for _, p := range c.prev.Ports {
		for _, l := range p.Listeners {
			listenersBefore[l.Name] = l
		}
	}
	for i := range c.next.Config.Listeners {
		cfg := &c.next.Config.Listeners[i]
		if c.bad[place{part: config.PartListener, index: i}] != nil || !c.opt.serves(cfg.Protocol) {
			continue
		}
		addr, err := c.opt.address(cfg.Address)
		if err != nil {
			c.problem(&config.Error{Part: config.PartListener, Index: i, Path: fmt.Sprintf("listeners[%q].address", cfg.Name), Err: err})
			continue
		}
		at := netip.AddrPortFrom(addr, cfg.Port)
		if cfg.Protocol == config.ProtocolUDP {
			c.udpPort(at, i)
			continue
		}
		s := sockets[at]
		if s == nil {
			s = &socket{addr: at, proxy: prefixes(cfg.ProxyProtocol), first: cfg}
			sockets[at] = s
		} else if s.first.Protocol.Family() != cfg.Protocol.Family() {
			c.problem(&config.Error{
				Part: config.PartListener, Index: i, Path: fmt.Sprintf("listeners[%q].protocol", cfg.Name),
				Err: fmt.Errorf("listener %q on %s has protocol %s; use another port", s.first.Name, at, s.first.Protocol),
			})
			continue
		} else if !slices.Equal(s.proxy, prefixes(cfg.ProxyProtocol)) {
			c.problem(&config.Error{
				Part: config.PartListener, Index: i, Path: fmt.Sprintf("listeners[%q].proxyProtocol", cfg.Name),
				Err: fmt.Errorf("listener %q on %s has another setting; make them equal", s.first.Name, at),
			})
			continue
		}
		if other := s.rival(cfg); other != nil {
			c.problem(&config.Error{
				Part: config.PartListener, Index: i, Path: fmt.Sprintf("listeners[%q].hostname", cfg.Name),
				Err: fmt.Errorf("listener %q on %s has the same hostname and does something else with it; use another", other.Name, at),
			})
			continue
		}
		l := &Listener{Name: cfg.Name, Hostname: cfg.Hostname, Port: cfg.Port}
		if old := listenersBefore[cfg.Name]; old != nil && *old == *l {
			l = old
		}
		if cfg.TLS != nil {
			s.tls = append(s.tls, certs.Listener{Hostname: cfg.Hostname, Socket: socketName(cfg), TLS: cfg.TLS, Opaque: cfg.Protocol == config.ProtocolTLS})
		}
		s.configs = append(s.configs, cfg)
		s.listeners = append(s.listeners, l)
		s.parts = append(s.parts, c.parts(i, l))
		s.l4 = append(s.l4, c.l4Parts(i))
	}
	return sockets
}

func prefixes(p *config.ProxyProtocol) []netip.Prefix {
	if p == nil {
		return nil
	}
	var out []netip.Prefix
	for _, text := range p.From {
		if prefix, err := netip.ParsePrefix(text); err == nil { // config.Validate has refused others
			out = append(out, prefix)
		}
	}
	return out
}

func (c *compiler) parts(index int, l *Listener) []part {
	cfg := &c.next.Config.Listeners[index]
	cfg.Attached = c.sharedAttachments(cfg)
	parts := make([]part, 0, len(cfg.Attached))
	for i := range cfg.Attached {
		a := &cfg.Attached[i]
		precedence, ok := c.byName[a.Route]
		if !ok || cfg.Protocol.L4() || c.bad[place{part: config.PartAttachment, index: index, sub: i}] != nil {
			continue
		}
		parts = append(parts, part{route: c.next.Routes[precedence], listener: l, hostnames: a.Hostnames, oneLabel: a.OneLabel, precedence: precedence})
	}
	return parts
}

// sharedAttachments returns the attachments of a listener with the memory of the last generation where they are equal:
// a table that is carried over keeps that memory anyway.
func (c *compiler) sharedAttachments(cfg *config.Listener) []config.Attachment {
	i := slices.IndexFunc(c.prev.Config.Listeners, func(l config.Listener) bool { return l.Name == cfg.Name })
	if i < 0 {
		return cfg.Attached
	}
	before := c.prev.Config.Listeners[i].Attached
	equal := func(a, b config.Attachment) bool {
		return a.Route == b.Route && a.OneLabel == b.OneLabel && slices.Equal(a.Hostnames, b.Hostnames)
	}
	if slices.EqualFunc(before, cfg.Attached, equal) {
		return before
	}
	own := slices.Clone(cfg.Attached)
	for i := range min(len(own), len(before)) {
		if equal(own[i], before[i]) {
			own[i] = before[i]
		}
	}
	return own
}

func (c *compiler) port(s *socket, prev *Port) *Port {
	p := &Port{Addr: s.addr, ProxyProtocolFrom: s.proxy, Listeners: s.listeners, TLS: c.tlsOf(s, prev)}
	s.forward(p)
	sitesBefore := map[string]*site{}
	if prev != nil {
		for _, old := range prev.sites {
			sitesBefore[old.hostname] = old
		}
	}
	var hostnames []string
	for _, l := range s.listeners {
		if !slices.Contains(hostnames, l.Hostname) {
			hostnames = append(hostnames, l.Hostname)
		}
	}
	for _, hostname := range hostnames {
		p.sites = append(p.sites, s.named(c.site(s, hostname, sitesBefore[hostname]), sitesBefore[hostname]))
	}
	if prev != nil && slices.Equal(p.sites, prev.sites) && slices.Equal(p.Listeners, prev.Listeners) &&
		slices.Equal(p.ProxyProtocolFrom, prev.ProxyProtocolFrom) && p.TLS == prev.TLS &&
		p.TCP == prev.TCP && p.L4 == prev.L4 && p.ByServerName == prev.ByServerName && p.Terminates == prev.Terminates {
		return prev
	}
	p.hosts = route.BuildHosts(hostnames)
	return p
}

func (c *compiler) site(s *socket, hostname string, prev *site) *site {
	var listeners []*Listener
	var parts []part
	for i, l := range s.listeners {
		if l.Hostname != hostname {
			continue
		}
		for j := range s.parts[i] {
			s.parts[i][j].position = int32(len(listeners))
		}
		if parts == nil {
			parts = s.parts[i]
		} else {
			parts = append(parts, s.parts[i]...)
		}
		listeners = append(listeners, l)
	}
	sortParts(parts)
	next, err := newSite(hostname, listeners, parts, prev)
	if err == nil {
		return next
	}
	c.problem(fmt.Errorf("listener %q serves nothing: %w", listeners[0].Name, err))
	next, _ = newSite(hostname, listeners, nil, nil) // an empty table always builds
	return next
}

// socketName is the same on every replica.
func socketName(cfg *config.Listener) string { return cfg.Address + ":" + strconv.Itoa(int(cfg.Port)) }
