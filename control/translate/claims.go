package translate

import "strings"

// claim is a route that a listener serves for some hostnames.
type claim struct {
	kind, name string
	hostnames  []string
}

// claims are those of one listener, the oldest first. HTTPRoutes and GRPCRoutes can't share a hostname on one listener,
// because their order of precedence is not the same (Gateway API, GRPCRouteSpec.hostnames).
type claims struct{ kinds []*kindClaims }

// kindClaims are those of one kind. A listener may have thousands of them, nearly all with names of their own.
type kindClaims struct {
	kind  string
	all   []*claim
	exact map[string]*claim // by hostname, the oldest
	loose []*claim          // those with a wildcard, or for every name
}

func (c *claims) add(kind, name string, hostnames []string) {
	one := &claim{kind: kind, name: name, hostnames: hostnames}
	var of *kindClaims
	for _, k := range c.kinds {
		if k.kind == kind {
			of = k
		}
	}
	if of == nil {
		of = &kindClaims{kind: kind, exact: map[string]*claim{}}
		c.kinds = append(c.kinds, of)
	}
	of.all = append(of.all, one)
	isLoose := false
	for _, h := range hostnames {
		switch {
		case loose(h):
			isLoose = true
		case of.exact[h] == nil:
			of.exact[h] = one
		}
	}
	if isLoose {
		of.loose = append(of.loose, one)
	}
}

func loose(hostname string) bool { return hostname == "" || strings.HasPrefix(hostname, "*") }

// against returns an older claim of another kind that keeps hostnames from a route, or nil.
func (c *claims) against(kind string, hostnames []string) *claim {
	for _, other := range c.kinds {
		if other.kind == kind {
			continue
		}
		for _, h := range hostnames {
			if found := other.meets(h); found != nil {
				return found
			}
		}
	}
	return nil
}

// meets returns the first claim for a name that hostname stands for too.
func (k *kindClaims) meets(hostname string) *claim {
	candidates := k.all
	if !loose(hostname) {
		if found := k.exact[hostname]; found != nil {
			return found
		}
		candidates = k.loose
	}
	for _, one := range candidates {
		if len(intersect(hostname, one.hostnames)) > 0 {
			return one
		}
	}
	return nil
}
