package translate

import (
	"net/netip"
	"slices"
	"strings"
)

const (
	// hostnameBytesMax and labelBytesMax are the limits of a DNS name (RFC 1035 section 2.3.4).
	hostnameBytesMax = 253
	labelBytesMax    = 63
)

// hostnameError says what is wrong with a host name as Gateway API and Ingress define it: lower-case DNS labels, no IP
// address, no port, with a leading "*." if wildcard is set.
func hostnameError(h string, wildcard bool) string {
	name := h
	if wildcard {
		name = strings.TrimPrefix(h, "*.")
	}
	if len(h) > hostnameBytesMax {
		return "is longer than 253 bytes"
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return "is an IP address"
	}
	for label := range strings.SplitSeq(name, ".") {
		if !validLabel(label) {
			return "is not a lower-case DNS name"
		}
	}
	return ""
}

func validLabel(label string) bool {
	if label == "" || len(label) > labelBytesMax || label[0] == '-' || label[len(label)-1] == '-' {
		return false
	}
	for i := range len(label) {
		c := label[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
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
