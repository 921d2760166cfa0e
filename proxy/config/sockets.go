package config

import (
	"fmt"
	"slices"
)

// socket is what listeners on one address and port share.
type socket struct {
	address string
	port    uint16
}

// sockets reports listeners that can't share an address and port: another protocol, or another PROXY protocol setting,
// which is read before any host is known. The same hostname is no conflict: the data plane merges such listeners.
func (v *validator) sockets() {
	first := make(map[socket]*Listener)
	for i := range v.config.Listeners {
		l := &v.config.Listeners[i]
		place := socket{address: l.Address, port: l.Port}
		leader := first[place]
		if leader == nil {
			first[place], leader = l, l
		}
		report := func(field string, err error) {
			v.report(Error{Part: PartListener, Index: i, Path: fmt.Sprintf("listeners[%q].%s", l.Name, field), Err: err})
		}
		if l.Protocol != leader.Protocol {
			report("protocol", fmt.Errorf("listener %q on the same address and port has protocol %s", leader.Name, leader.Protocol))
			continue
		}
		if !sameProxyProtocol(l.ProxyProtocol, leader.ProxyProtocol) {
			report("proxyProtocol", fmt.Errorf("listener %q on the same address and port has another setting; make them equal", leader.Name))
		}
	}
}

func sameProxyProtocol(a, b *ProxyProtocol) bool {
	if a == nil || b == nil {
		return a == b
	}
	return slices.Equal(a.From, b.From)
}
