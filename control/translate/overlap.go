package translate

import (
	"iter"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// findOverlaps marks listeners with TLS whose hostnames meet those of others on their port: clients may reuse connections for
// hosts that another listener has (Gateway API, ListenerConditionOverlappingTLSConfig).
func (g *gateway) findOverlaps() {
	type place struct {
		port     gatewayv1.PortNumber
		hostname string
	}
	at := map[place]*listener{}
	for l := range g.all() {
		if l.valid() && l.tls != nil {
			at[place{l.spec.Port, l.hostname}] = l
		}
	}
	for p, l := range at {
		for wider := range widerHostnames(p.hostname) {
			if other := at[place{p.port, wider}]; other != nil {
				l.overlaps, other.overlaps = true, true
			}
		}
	}
}

// widerHostnames yields the wildcards that cover a hostname, and the empty one.
func widerHostnames(hostname string) iter.Seq[string] {
	return func(yield func(string) bool) {
		if hostname == "" {
			return
		}
		name, more := strings.TrimPrefix(hostname, "*."), true
		for {
			if _, name, more = strings.Cut(name, "."); !more {
				break
			}
			if !yield("*." + name) {
				return
			}
		}
		yield("")
	}
}
