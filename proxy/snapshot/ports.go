package snapshot

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"

	"rauta.io/rauta/proxy/certs"
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/route"
)

// socket is a port on its way.
type socket struct {
	addr      netip.AddrPort
	proxy     []netip.Prefix
	configs   []*config.Listener
	listeners []*Listener // by config
	parts     [][]part    // by listener; nil where it is carried
	indexes   []int       // by listener, in next.Config.Listeners
	carried   []bool      // by listener: see compiler.carries
	first     *config.Listener
	// byHostname has the first listener of each hostname; others with it agree about what becomes of connections.
	byHostname map[string]*config.Listener
	tls        []certs.Listener // empty for plain text
	l4         [][]l4Part       // by listener
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
	c.next.Config.Listeners = slices.Clone(c.next.Config.Listeners) // they get the memory of the last generation
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

// portsAgain makes the ports of the last generation lead to the routes of this one. It returns false if listeners or what
// they are attached to may be others, or if a table can't be built.
func (c *compiler) portsAgain() bool {
	if !c.again || !c.since.SameListeners || !c.since.SameSecrets || !slices.Equal(c.prev.L4Routes, c.next.L4Routes) {
		return false
	}
	ports := make([]*Port, len(c.prev.Ports))
	for i, p := range c.prev.Ports {
		ports[i] = p
		for j, s := range p.sites {
			next, err := s.with(c.changed, c.next.Routes)
			if err != nil { // which ports reports
				return false
			}
			if next != s && ports[i] == p {
				own := *p
				own.Generation, own.sites, ports[i] = c.next.Generation, slices.Clone(p.sites), &own
			}
			ports[i].sites[j] = next
		}
	}
	c.next.Config.Listeners, c.next.Ports, c.next.UDPPorts = c.prev.Config.Listeners, ports, c.prev.UDPPorts
	return true
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
			s = &socket{addr: at, proxy: prefixes(cfg.ProxyProtocol), first: cfg, byHostname: map[string]*config.Listener{}}
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
		if s.byHostname[cfg.Hostname] == nil {
			s.byHostname[cfg.Hostname] = cfg
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
		last := c.listenerBefore(i)
		cfg.Attached = sharedAttachments(cfg, last)
		carried := l == listenersBefore[cfg.Name] && c.carries(cfg, last)
		var parts []part
		if !carried {
			parts = c.parts(i, l)
		}
		s.indexes, s.carried, s.parts = append(s.indexes, i), append(s.carried, carried), append(s.parts, parts)
		s.l4 = append(s.l4, c.l4Parts(i))
	}
	return sockets
}

// turn is the lowest that a listener gives the socket.
func (s *socket) turn() int {
	turn := s.configs[0].Turn
	for _, l := range s.configs {
		turn = min(turn, l.Turn)
	}
	return turn
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
	parts := make([]part, 0, len(cfg.Attached))
	for i := range cfg.Attached {
		a := &cfg.Attached[i]
		precedence, ok := c.precedence(a.Route)
		if !ok || cfg.Protocol.L4() || c.bad[place{part: config.PartAttachment, index: index, sub: i}] != nil {
			continue
		}
		parts = append(parts, part{listener: l, hostnames: a.Hostnames, oneLabel: a.OneLabel, precedence: int32(precedence)})
	}
	return parts
}

// carries reports whether what is attached to a listener, and the places of these routes, are as in the last generation. Only
// the routes themselves may have changed.
func (c *compiler) carries(cfg, last *config.Listener) bool {
	if !c.steady || len(c.prev.Routes) != len(c.prev.Config.Routes) {
		return false
	}
	return last != nil && last.Protocol == cfg.Protocol && len(last.Attached) == len(cfg.Attached) &&
		(len(cfg.Attached) == 0 || &last.Attached[0] == &cfg.Attached[0])
}

// listenerBefore returns a listener of next.Config as the last generation has it, nil if there was none. Most are where they
// were.
func (c *compiler) listenerBefore(i int) *config.Listener {
	name, list := c.next.Config.Listeners[i].Name, c.prev.Config.Listeners
	if i >= len(list) || list[i].Name != name {
		i = slices.IndexFunc(list, func(l config.Listener) bool { return l.Name == name })
	}
	if i < 0 {
		return nil
	}
	return &list[i]
}

// sharedAttachments returns the attachments of a listener with the memory of the last generation where they are equal:
// a table that is carried over keeps that memory anyway.
func sharedAttachments(cfg, last *config.Listener) []config.Attachment {
	if last == nil {
		return cfg.Attached
	}
	before := last.Attached
	if config.SameAttached(before, cfg.Attached) {
		return before
	}
	own := slices.Clone(cfg.Attached)
	for i := range min(len(own), len(before)) {
		if own[i].Equal(&before[i]) {
			own[i] = before[i]
		}
	}
	return own
}

func (c *compiler) port(s *socket, prev *Port) *Port {
	p := &Port{Addr: s.addr, Generation: c.next.Generation, Turn: s.turn(), ProxyProtocolFrom: s.proxy, Listeners: s.listeners, TLS: c.tlsOf(s, prev)}
	s.forward(p)
	sitesBefore := map[string]*site{}
	if prev != nil {
		for _, old := range prev.sites {
			sitesBefore[old.hostname] = old
		}
	}
	var hostnames []string
	of := make(map[string][]int, len(s.listeners)) // by hostname, which of the listeners have it
	for i, l := range s.listeners {
		if of[l.Hostname] == nil {
			hostnames = append(hostnames, l.Hostname)
		}
		of[l.Hostname] = append(of[l.Hostname], i)
	}
	for _, hostname := range hostnames {
		last := sitesBefore[hostname]
		p.sites = append(p.sites, s.named(c.site(s, hostname, of[hostname], last), last, of[hostname]))
	}
	if prev != nil && slices.Equal(p.sites, prev.sites) && slices.Equal(p.Listeners, prev.Listeners) && p.Turn == prev.Turn &&
		slices.Equal(p.ProxyProtocolFrom, prev.ProxyProtocolFrom) && p.TLS == prev.TLS &&
		p.TCP == prev.TCP && p.L4 == prev.L4 && p.ByServerName == prev.ByServerName && p.Terminates == prev.Terminates {
		return prev
	}
	p.hosts = route.BuildHosts(hostnames)
	return p
}

// site compiles what the listeners of a hostname serve; of says which these are.
func (c *compiler) site(s *socket, hostname string, of []int, prev *site) *site {
	if c.carriedSite(s, of, prev) {
		if next, err := newSite(hostname, prev.listeners, slices.Clone(prev.parts), c.next.Routes, prev); err == nil {
			return next
		}
	}
	var listeners []*Listener
	var parts []part
	for _, i := range of {
		l := s.listeners[i]
		if s.carried[i] {
			s.parts[i] = c.parts(s.indexes[i], l)
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
	next, err := newSite(hostname, listeners, parts, c.next.Routes, prev)
	if err == nil {
		return next
	}
	c.problem(fmt.Errorf("listener %q serves nothing: %w", listeners[0].Name, err))
	next, _ = newSite(hostname, listeners, nil, nil, nil) // an empty table always builds
	next.broken = true
	return next
}

// carriedSite reports whether the listeners of a site are those of prev and all of them carried, so that its parts are those of
// prev, with the routes of this generation.
func (c *compiler) carriedSite(s *socket, of []int, prev *site) bool {
	if prev == nil || prev.broken || len(of) != len(prev.listeners) {
		return false
	}
	for n, i := range of {
		if !s.carried[i] || prev.listeners[n] != s.listeners[i] {
			return false
		}
	}
	return true
}

// socketName is the same on every replica.
func socketName(cfg *config.Listener) string { return cfg.Address + ":" + strconv.Itoa(int(cfg.Port)) }
