package translate

import (
	"fmt"
	"net/netip"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// readAddresses reads spec.addresses: IP addresses are bound, other types have no meaning on a node. With a pool an address
// must be of it or of the node, which others would not be.
func (g *gateway) readAddresses(opt *Options) {
	for i, a := range g.object.Spec.Addresses {
		field := fmt.Sprintf("spec.addresses[%d]", i)
		if a.Type != nil && *a.Type != gatewayv1.IPAddressType {
			g.refuse(gatewayv1.GatewayReasonUnsupportedAddress, field+".type", "use type IPAddress or leave addresses out",
				fmt.Sprintf("addresses of type %q are not supported", *a.Type))
			continue
		}
		if a.Value == "" {
			continue // any address of this type: the default
		}
		ip, err := netip.ParseAddr(a.Value)
		if err != nil || ip.Zone() != "" {
			g.refuse(gatewayv1.GatewayReasonUnsupportedAddress, field+".value", "write an IPv4 or IPv6 address",
				fmt.Sprintf("%q is not an IP address", a.Value))
			continue
		}
		if len(opt.AddressPool) > 0 && !inPool(opt.AddressPool, ip.Unmap()) && !slices.Contains(opt.Addresses, a.Value) {
			g.unplace(gatewayv1.GatewayReasonAddressNotUsable, field+".value", "use an address of --gateway-address-pool, or leave addresses out",
				fmt.Sprintf("%s is neither in the pool of addresses for Gateways nor one of the node", a.Value))
			continue
		}
		g.addresses = append(g.addresses, a.Value)
	}
	slices.Sort(g.addresses)
	g.addresses = slices.Compact(g.addresses)
	if len(g.addresses) == 0 && g.unplaced == "" && len(opt.AddressPool) == 0 {
		g.addresses = []string{""}
	}
}

func (g *gateway) unplace(reason gatewayv1.GatewayConditionReason, field, hint, message string) {
	g.report.errorf(field, hint, "%s", message)
	if g.unplaced == "" {
		g.unplaced, g.unplacedMessage = reason, field+": "+message
	}
}

// assignAddresses gives Gateways that name no address one of their own, of each IP version in the pool. A Gateway keeps what
// its status says that it has, even against one that names it; then come those that name addresses, which may share them;
// then the others, the oldest first, then the first by name. So a Gateway that comes or goes never moves another one, and
// all replicas decide the same.
func (t *translator) assignAddresses(byAge []*gateway) {
	if len(t.opt.AddressPool) == 0 {
		return
	}
	p := newAddressPool(t.opt.AddressPool)
	var asking, naming []*gateway
	for _, g := range byAge {
		own := len(g.addresses) == 0 && g.unplaced == ""
		if p.keep(g, own); own {
			asking = append(asking, g)
		} else {
			naming = append(naming, g)
		}
	}
	for _, g := range naming {
		p.name(g)
	}
	for _, g := range asking {
		if g.refused != "" { // it would not use it, others might
			continue
		}
		p.assign(g)
		if len(g.addresses) == 0 {
			g.unplace(gatewayv1.GatewayReasonAddressNotAssigned, "spec.addresses", "enlarge --gateway-address-pool, or name an address of it to share",
				"all addresses of the pool belong to other Gateways; the Gateway is not served")
		}
	}
}

// addressPool is Options.AddressPool while it is handed out.
type addressPool struct {
	prefixes []netip.Prefix
	owners   map[netip.Addr]*gateway // that have the address to themselves
	named    map[netip.Addr]bool     // by spec.addresses
	free     [2]poolCursor           // by version
}

func newAddressPool(prefixes []netip.Prefix) *addressPool {
	return &addressPool{
		prefixes: prefixes, owners: map[netip.Addr]*gateway{}, named: map[netip.Addr]bool{},
		free: [2]poolCursor{{left: versionOf(prefixes, 0)}, {left: versionOf(prefixes, 1)}},
	}
}

// keep gives a Gateway what it has according to its status: to itself, or because it names it.
func (p *addressPool) keep(g *gateway, own bool) {
	for _, a := range g.object.Status.Addresses {
		ip, err := netip.ParseAddr(a.Value)
		if ip = ip.Unmap(); err != nil || !inPool(p.prefixes, ip) || p.owners[ip] != nil {
			continue
		}
		switch {
		case !own && slices.Contains(g.addresses, a.Value):
			p.named[ip] = true
		case own && !p.named[ip] && !g.has(version(ip)):
			p.owners[ip] = g
			g.addresses = append(g.addresses, ip.String())
		}
	}
}

// name takes the addresses from a Gateway that belong to another one.
func (p *addressPool) name(g *gateway) {
	g.addresses = slices.DeleteFunc(g.addresses, func(text string) bool {
		ip := netip.MustParseAddr(text).Unmap()
		owner := p.owners[ip]
		if owner != nil {
			g.unplace(gatewayv1.GatewayReasonAddressNotUsable, "spec.addresses", "use another address, or let both Gateways name this one",
				fmt.Sprintf("%s is assigned to Gateway %s/%s", text, owner.object.Namespace, owner.object.Name))
		}
		p.named[ip] = true
		return owner != nil
	})
}

// assign gives a Gateway what it lacks.
func (p *addressPool) assign(g *gateway) {
	for v := range p.free {
		if g.has(v) {
			continue
		}
		if ip := p.free[v].next(func(ip netip.Addr) bool { return p.owners[ip] != nil || p.named[ip] }); ip.IsValid() {
			p.owners[ip] = g
			g.addresses = append(g.addresses, ip.String())
		}
	}
}

// has reports whether the Gateway has an address of an IP version.
func (g *gateway) has(v int) bool {
	return slices.ContainsFunc(g.addresses, func(text string) bool { return version(netip.MustParseAddr(text)) == v })
}

// version is 0 for IPv4 and 1 for IPv6.
func version(ip netip.Addr) int {
	if ip.Is4() {
		return 0
	}
	return 1
}

// poolCursor hands out addresses, the lowest first.
type poolCursor struct {
	left []netip.Prefix
	at   netip.Addr // the next to look at; the zero value for the first of left
}

// next returns the lowest address that nobody has; the zero value if there is none.
func (p *poolCursor) next(taken func(netip.Addr) bool) netip.Addr {
	for len(p.left) > 0 {
		prefix := p.left[0]
		if !p.at.IsValid() {
			p.at = prefix.Addr()
		}
		for prefix.Contains(p.at) {
			ip := p.at
			p.at = ip.Next()
			if !taken(ip) && assignable(prefix, ip) {
				return ip
			}
		}
		p.left, p.at = p.left[1:], netip.Addr{}
	}
	return netip.Addr{}
}

// assignable leaves out what hosts can't have in a network: its own address and its broadcast address (RFC 1122 section
// 3.2.1.3; not in those of two hosts, RFC 3021), and the anycast address of its routers (RFC 4291 section 2.6.1).
func assignable(prefix netip.Prefix, ip netip.Addr) bool {
	if prefix.Bits() >= ip.BitLen()-1 {
		return true
	}
	return ip != prefix.Addr() && (ip.Is6() || prefix.Contains(ip.Next()))
}

func inPool(pool []netip.Prefix, ip netip.Addr) bool {
	return slices.ContainsFunc(pool, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// versionOf returns the prefixes of one IP version in order.
func versionOf(pool []netip.Prefix, v int) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range pool {
		if p = p.Masked(); version(p.Addr()) == v {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	return out
}

// statusAddressesMax is how many addresses the schema of Gateway.status takes; with more of them the API server would refuse
// the whole status.
const statusAddressesMax = 16

// statusAddresses are those of the Gateway, or else the published ones.
func (g *gateway) statusAddresses(published []string) []gatewayv1.GatewayStatusAddress {
	var out []gatewayv1.GatewayStatusAddress
	if !slices.Equal(g.addresses, []string{""}) {
		published = g.addresses
	}
	for _, a := range published[:min(len(published), statusAddressesMax)] {
		kind := gatewayv1.IPAddressType
		if _, err := netip.ParseAddr(a); err != nil {
			kind = gatewayv1.HostnameAddressType
		}
		out = append(out, gatewayv1.GatewayStatusAddress{Type: &kind, Value: a})
	}
	return out
}

// ingressAddresses is the same for an Ingress.
func ingressAddresses(published []string) []networkingv1.IngressLoadBalancerIngress {
	var out []networkingv1.IngressLoadBalancerIngress
	for _, a := range published {
		if _, err := netip.ParseAddr(a); err == nil {
			out = append(out, networkingv1.IngressLoadBalancerIngress{IP: a})
		} else {
			out = append(out, networkingv1.IngressLoadBalancerIngress{Hostname: a})
		}
	}
	return out
}
