package config

import (
	"errors"
	"fmt"
)

// L4Route is one TCPRoute, TLSRoute or UDPRoute: where connections and datagrams go that nobody looks into.
type L4Route struct {
	// Name is the identity and the metrics label: "tcproute/namespace/name", "tlsroute/..." or "udproute/...".
	Name   string `json:"name"`
	Source Source `json:"source"`
	// Created is the creation time of the object in Unix seconds; the older route wins a tie (Gateway API).
	Created int64 `json:"created,omitempty"`
	// Backends are picked by weight, for each connection or flow; they have no filters. An empty list, or one whose
	// weights sum to 0, refuses all, and what falls to one that is Invalid is refused.
	Backends []Backend `json:"backends,omitempty"`
	// IdleTimeout ends what has been silent in both directions for so long. 0 means the default of the data plane, a
	// negative value none at all.
	IdleTimeout Duration `json:"idleTimeout,omitempty"`
}

// L4 reports whether listeners with the protocol have L4Routes.
func (p Protocol) L4() bool { return p == ProtocolTLS || p == ProtocolTCP || p == ProtocolUDP }

// Family is what an address and port speak as a whole: only listeners of one family can share them.
func (p Protocol) Family() Protocol {
	if p == ProtocolHTTPS {
		return ProtocolTLS
	}
	return p
}

func (v *validator) l4Routes() {
	v.l4RouteNames = make(map[string]bool, len(v.config.L4Routes))
	for i := range v.config.L4Routes {
		r := &v.config.L4Routes[i]
		if err := checkUnique(v.l4RouteNames, r.Name); err != nil {
			v.report(Error{Part: PartL4Route, Index: i, Path: fmt.Sprintf("l4Routes[%d].name", i), Err: err})
			continue
		}
		v.backends(r.Backends, func(item int, field string, err error) {
			path := fmt.Sprintf("l4Routes[%q].backends[%d].%s", r.Name, item, field)
			v.report(Error{Part: PartL4Backend, Index: i, Sub: item, Path: path, Err: err})
		})
		for j := range r.Backends {
			if len(r.Backends[j].Filters) > 0 {
				v.report(Error{Part: PartL4Backend, Index: i, Sub: j, Path: fmt.Sprintf("l4Routes[%q].backends[%d].filters", r.Name, j),
					Err: errors.New("filters need HTTP; nobody looks into what this route forwards")})
			}
		}
	}
}

// checkL4 checks what only some protocols have.
func checkL4(l *Listener) (field string, err error) {
	switch {
	case l.Passthrough && l.Protocol != ProtocolTLS:
		return "passthrough", fmt.Errorf("only protocol %s has it", ProtocolTLS)
	case l.Hostname != "" && (l.Protocol == ProtocolTCP || l.Protocol == ProtocolUDP):
		return "hostname", fmt.Errorf("clients of protocol %s name no host", l.Protocol)
	case l.ProxyProtocol != nil && l.Protocol == ProtocolUDP:
		return "proxyProtocol", fmt.Errorf("protocol %s has no connections that could begin with a header", ProtocolUDP)
	}
	return "", nil
}
