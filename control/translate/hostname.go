package translate

import (
	"net/netip"
	"slices"
	"strings"

	"rauta.io/rauta/proxy/config"
)

// hostnameError says what is wrong with a host name as Gateway API and Ingress define it: lower-case DNS labels, no IP
// address, no port, with a leading "*." if wildcard is set.
func hostnameError(h string, wildcard bool) string {
	if _, err := netip.ParseAddr(h); err == nil {
		return "is an IP address"
	}
	if config.CheckHostname(h, wildcard) != nil || strings.Contains(h, "_") {
		return "is not a lower-case DNS name"
	}
	return ""
}

// meet returns the host names of a route that meet those of a listener, as the route has them, sorted; an empty list of the
// route means any. Only requests for the listener's hosts come to the route, so that nothing needs to be cut off, and what is
// written counts for precedence: of two routes that share a host through the listener, the one for that host alone comes
// first, not the one for a wildcard (Gateway API, GatewayRouteHostnameIntersectionPrecedence).
func meet(listener string, route []string) []string {
	if len(route) == 0 {
		return []string{""}
	}
	var out []string
	for _, h := range route {
		if len(intersect(listener, []string{h})) > 0 {
			out = append(out, h)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// intersect returns the host names under which a route is reachable on a listener, sorted; none if they don't meet.
// An empty listener or an empty list means any.
func intersect(listener string, route []string) []string {
	if len(route) == 0 {
		return []string{listener}
	}
	var out []string
	for _, h := range route {
		switch {
		case listener == "" || h == listener || covers(listener, h):
			out = append(out, h)
		case h == "" || covers(h, listener):
			out = append(out, listener)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// covers reports whether the wildcard takes every name that h stands for. "*.a.b" covers "x.a.b", "x.y.a.b" and
// "*.x.a.b", but not "a.b".
func covers(wildcard, h string) bool {
	suffix, ok := strings.CutPrefix(wildcard, "*")
	return ok && len(h) > len(suffix) && strings.HasSuffix(h, suffix) && h != wildcard
}
