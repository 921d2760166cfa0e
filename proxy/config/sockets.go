package config

import (
	"fmt"
	"slices"
)

// socket is what listeners on one address and port share.
type socket struct {
	address  string
	port     uint16
	datagram bool // UDP has ports of its own
}

// serverName is a hostname of a socket whose listeners clients tell apart in the TLS handshake.
type serverName struct {
	socket
	hostname string
}

// sockets reports listeners that can't share an address and port: another protocol, or another PROXY protocol setting,
// which is read before any host is known. The same hostname is no conflict: the data plane merges such listeners, if they
// do the same with a TLS connection.
func (v *validator) sockets() {
	first := make(map[socket]*Listener)
	owners := make(map[serverName]*Listener)
	for i := range v.config.Listeners {
		l := &v.config.Listeners[i]
		place := socket{address: l.Address, port: l.Port, datagram: l.Protocol == ProtocolUDP}
		leader := first[place]
		if leader == nil {
			first[place], leader = l, l
		}
		report := func(field string, err error) {
			v.report(Error{Part: PartListener, Index: i, Path: fmt.Sprintf("listeners[%q].%s", l.Name, field), Err: err})
		}
		if l.Protocol.Family() != leader.Protocol.Family() {
			report("protocol", fmt.Errorf("listener %q on the same address and port has protocol %s", leader.Name, leader.Protocol))
			continue
		}
		if !sameProxyProtocol(l.ProxyProtocol, leader.ProxyProtocol) {
			report("proxyProtocol", fmt.Errorf("listener %q on the same address and port has another setting; make them equal", leader.Name))
		}
		if l.Protocol.Family() != ProtocolTLS {
			continue
		}
		owner := owners[serverName{place, l.Hostname}]
		if owner == nil {
			owners[serverName{place, l.Hostname}] = l
		} else if owner.Protocol != l.Protocol || owner.Passthrough != l.Passthrough {
			report("hostname", fmt.Errorf("listener %q has the same hostname on the same port, and does something else with it", owner.Name))
		}
	}
}

func sameProxyProtocol(a, b *ProxyProtocol) bool {
	if a == nil || b == nil {
		return a == b
	}
	return slices.Equal(a.From, b.From)
}
