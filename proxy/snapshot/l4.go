package snapshot

import (
	"net/netip"
	"slices"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/route"
)

// L4Route is one config.L4Route, compiled. Generations between which it did not change share it.
type L4Route struct {
	// Name and Source are those of config.L4Route.
	Name   string
	Source config.Source
	// Stats is nil without a registry.
	Stats    *observe.Route
	Backends []Backend
	// IdleTimeout is in nanoseconds (config.L4Route); 0 means the default, below 0 none.
	IdleTimeout int64

	weights uint32 // the sum over Backends
	config  *config.L4Route
	hash    [32]byte
}

// Pick is Rule.Pick: it returns nil when the weights sum to 0.
func (r *L4Route) Pick(random uint32) *Backend { return pick(r.Backends, r.weights, random) }

// UDPPort is one address for datagrams.
type UDPPort struct {
	// Addr is where to receive; its address is unspecified for all addresses of the host.
	Addr netip.AddrPort
	// Turn is the lowest config.Listener.Turn of its listeners.
	Turn int
	// Listeners in the order of the configuration.
	Listeners []string
	// Route gets all flows; nil if none is attached.
	Route *L4Route

	precedence int
}

// Handling says what becomes of a connection on a port whose listeners are told apart by server name.
type Handling uint8

// Handlings.
const (
	// Refuse: no listener has the name, or no route of the listener does.
	Refuse Handling = iota
	// Terminate: the TLS handshake is ours; requests are inside, or bytes for a route.
	Terminate
	// PassThrough: the connection goes to a route as it is.
	PassThrough
)

// Hello decides by the server name of a ClientHello, in lower case and empty if there is none. The listener with the most
// specific hostname has the name, whatever it does with it, and of its routes the one with the most specific hostname. r is
// nil for what is refused, and for HTTPS.
func (p *Port) Hello(serverName []byte) (h Handling, r *L4Route) {
	i := p.hosts.Lookup(serverName)
	if i < 0 {
		return Refuse, nil
	}
	n := p.sites[i].names
	if n == nil {
		return Terminate, nil
	}
	j := n.hosts.Lookup(serverName)
	switch {
	case j < 0:
		return Refuse, nil
	case n.passthrough:
		return PassThrough, n.parts[j].route
	}
	return Terminate, n.parts[j].route
}

// serverNames are the routes of the listeners with config.ProtocolTLS and one hostname.
type serverNames struct {
	passthrough bool
	parts       []namePart
	hosts       *route.Hosts // the index in parts
}

// namePart leads from one hostname to a route.
type namePart struct {
	hostname string
	route    *L4Route
}

// l4Part is one attachment.
type l4Part struct {
	route      *L4Route
	hostnames  []string
	precedence int // of the route
}

func (c *compiler) l4Routes(digest config.Digest) {
	c.next.Config.L4Routes = slices.Clone(c.next.Config.L4Routes)
	before := make(map[string]*L4Route, len(c.prev.L4Routes))
	for _, r := range c.prev.L4Routes {
		before[r.Name] = r
	}
	for i := range c.next.Config.L4Routes {
		cfg := &c.next.Config.L4Routes[i]
		if c.bad[place{part: config.PartL4Route, index: i}] != nil {
			continue
		}
		r := before[cfg.Name]
		delete(before, cfg.Name)
		if r != nil && r.hash == digest.L4Routes[i] && c.sameL4Clusters(r) {
			*cfg = *r.config // equal, and shares its memory
		} else {
			r = c.l4Route(i, cfg, digest.L4Routes[i])
		}
		c.l4ByName[r.Name] = len(c.next.L4Routes)
		c.next.L4Routes = append(c.next.L4Routes, r)
	}
	c.vanished = c.vanished || len(before) > 0
}

// sameL4Clusters reports whether the back ends of a route of the last generation are still the right ones.
func (c *compiler) sameL4Clusters(r *L4Route) bool {
	for i := range r.Backends {
		if cfg := &r.config.Backends[i]; cfg.Invalid == "" && c.next.Clusters[cfg.Cluster] != r.Backends[i].target {
			return false
		}
	}
	return true
}

func (c *compiler) l4Route(index int, cfg *config.L4Route, hash [32]byte) *L4Route {
	r := &L4Route{
		Name: cfg.Name, Source: cfg.Source, IdleTimeout: int64(cfg.IdleTimeout), Backends: make([]Backend, len(cfg.Backends)),
		config: cfg, hash: hash,
	}
	if c.opt.Registry != nil {
		r.Stats = c.opt.Registry.Route(r.Name)
	}
	for i := range cfg.Backends {
		b := &r.Backends[i]
		*b = c.backend(&cfg.Backends[i])
		if err := c.bad[place{part: config.PartL4Backend, index: index, sub: i}]; err != nil && b.Invalid == "" {
			b.Cluster, b.Invalid = nil, err.Error()
		}
	}
	r.weights = share(r.Backends)
	return r
}

// l4Parts are the attachments of a listener that can be used.
func (c *compiler) l4Parts(index int) []l4Part {
	cfg := &c.next.Config.Listeners[index]
	if !cfg.Protocol.L4() {
		return nil
	}
	var parts []l4Part
	for i := range cfg.Attached {
		a := &cfg.Attached[i]
		precedence, ok := c.l4ByName[a.Route]
		if ok && c.bad[place{part: config.PartAttachment, index: index, sub: i}] == nil {
			parts = append(parts, l4Part{route: c.next.L4Routes[precedence], hostnames: a.Hostnames, precedence: precedence})
		}
	}
	return parts
}

// first returns the part that wins where nothing tells them apart, nil if there is none.
func first(parts []l4Part) *l4Part {
	var won *l4Part
	for i := range parts {
		if won == nil || parts[i].precedence < won.precedence {
			won = &parts[i]
		}
	}
	return won
}

// udpPort adds a listener to the port for datagrams at an address.
func (c *compiler) udpPort(at netip.AddrPort, index int) {
	i, known := slices.BinarySearchFunc(c.next.UDPPorts, at, func(p *UDPPort, at netip.AddrPort) int { return p.Addr.Compare(at) })
	if !known {
		c.next.UDPPorts = slices.Insert(c.next.UDPPorts, i, &UDPPort{Addr: at, Turn: c.next.Config.Listeners[index].Turn})
	}
	p := c.next.UDPPorts[i]
	p.Listeners = append(p.Listeners, c.next.Config.Listeners[index].Name)
	p.Turn = min(p.Turn, c.next.Config.Listeners[index].Turn)
	if won := first(c.l4Parts(index)); won != nil && (p.Route == nil || won.precedence < p.precedence) {
		p.Route, p.precedence = won.route, won.precedence
	}
}

// rival returns a listener of the socket that does something else with the TLS connections of the same hostname.
func (s *socket) rival(cfg *config.Listener) *config.Listener {
	if cfg.Protocol.Family() != config.ProtocolTLS {
		return nil
	}
	if l := s.byHostname[cfg.Hostname]; l != nil && (l.Protocol != cfg.Protocol || l.Passthrough != cfg.Passthrough) {
		return l
	}
	return nil
}

// forward fills in what a port does with connections that it does not look into.
func (s *socket) forward(p *Port) {
	p.TCP = s.first.Protocol == config.ProtocolTCP
	if !p.TCP {
		p.Terminates = len(s.tls) > 0
		p.ByServerName = slices.ContainsFunc(s.configs, func(l *config.Listener) bool { return l.Protocol == config.ProtocolTLS })
		return
	}
	if won := first(slices.Concat(s.l4...)); won != nil {
		p.L4 = won.route
	}
}

// named gives a site the server names of its listeners, if they have config.ProtocolTLS; of says which these are. It returns prev
// if nothing changed.
func (s *socket) named(to, prev *site, of []int) *site {
	var parts []l4Part
	names := &serverNames{}
	found := false
	for _, i := range of {
		if l := s.configs[i]; l.Protocol == config.ProtocolTLS {
			found, names.passthrough = true, l.Passthrough
			parts = append(parts, s.l4[i]...)
		}
	}
	if !found {
		if to.names != nil { // prev, whose listeners had another protocol
			own := *to
			own.names = nil
			return &own
		}
		return to
	}
	slices.SortStableFunc(parts, func(a, b l4Part) int { return a.precedence - b.precedence })
	var patterns []string
	for _, p := range parts {
		for _, hostname := range p.hostnames {
			names.parts = append(names.parts, namePart{hostname, p.route})
			patterns = append(patterns, hostname)
		}
	}
	if to == prev && to.names != nil && to.names.passthrough == names.passthrough && slices.Equal(to.names.parts, names.parts) {
		return prev
	}
	names.hosts = route.BuildHosts(patterns)
	own := *to
	own.names = names
	return &own
}
