package snapshot

import (
	"cmp"
	"fmt"
	"slices"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/route"
)

// site is what the listeners with one hostname on one port serve together. Usually there is one such listener; an
// Ingress and a Gateway without hostname on port 80 are two, and then the routes of both are candidates.
type site struct {
	hostname  string
	listeners []*Listener
	table     *route.Table
	targets   []target // by route.Entry.Rule
	parts     []part
	broken    bool         // it serves nothing, because its table could not be built
	names     *serverNames // of listeners with config.ProtocolTLS, which have nothing else; nil for others
}

// target is what a table entry leads to.
type target struct {
	rule     *Rule
	listener *Listener
}

// part is one attachment: a route on a listener.
type part struct {
	route     *Route
	listener  *Listener
	hostnames []string

	precedence int   // of the route
	position   int32 // of the listener in the site
	oneLabel   bool  // of config.Attachment
}

// sortParts brings attachments into the order of precedence between equal matches.
func sortParts(parts []part) {
	slices.SortStableFunc(parts, func(a, b part) int {
		return cmp.Or(cmp.Compare(a.precedence, b.precedence), cmp.Compare(a.position, b.position))
	})
}

// newSite compiles parts, which are in order. It returns prev itself if nothing changed, and shares prev's table if only
// what rules do has changed: a shift of weights between back ends is the most frequent change, and building a table the
// most expensive step.
func newSite(hostname string, listeners []*Listener, parts []part, prev *site) (*site, error) {
	shape := prev != nil && len(prev.parts) == len(parts)
	same := shape && slices.Equal(prev.listeners, listeners)
	for i := 0; shape && i < len(parts); i++ {
		a, b := &prev.parts[i], &parts[i]
		shape = sameHostnames(a.hostnames, b.hostnames) && a.oneLabel == b.oneLabel && (a.route == b.route || sameMatches(a.route, b.route))
		same = same && a.route == b.route && a.listener == b.listener && a.precedence == b.precedence
	}
	if shape && same {
		return prev, nil
	}
	n := 0
	if shape {
		n = len(prev.targets)
	} else {
		for i := range parts {
			n += len(parts[i].route.Rules)
		}
	}
	s := &site{hostname: hostname, listeners: listeners, parts: parts, targets: make([]target, 0, n)}
	for i := range parts {
		for j := range parts[i].route.Rules {
			s.targets = append(s.targets, target{rule: &parts[i].route.Rules[j], listener: parts[i].listener})
		}
	}
	if shape {
		s.table = prev.table
		return s, nil
	}
	table, err := route.Build(s.entries())
	if err != nil {
		return nil, fmt.Errorf("build the routing table: %w", err)
	}
	s.table = table
	return s, nil
}

// sameHostnames is slices.Equal, which looks at the names even if the slices are one.
func sameHostnames(a, b []string) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0] || slices.Equal(a, b))
}

func (s *site) entries() []route.Entry {
	n := 0
	for i := range s.parts {
		for j := range s.parts[i].route.Rules {
			n += len(s.parts[i].route.Rules[j].config.Matches) * len(s.parts[i].hostnames)
		}
	}
	entries := make([]route.Entry, 0, n)
	order, index := 0, int32(0)
	for i := range s.parts {
		p := &s.parts[i]
		for j := range p.route.Rules {
			for _, m := range p.route.Rules[j].config.Matches {
				for _, hostname := range p.hostnames {
					entries = append(entries, route.Entry{Hostname: hostname, OneLabel: p.oneLabel, Match: m, Rule: index, Order: order})
				}
				order++
			}
			index++
		}
	}
	return entries
}

// sameMatches reports whether two versions of a route take the same requests, rule by rule.
func sameMatches(a, b *Route) bool {
	return slices.EqualFunc(a.Rules, b.Rules, func(x, y Rule) bool {
		return slices.EqualFunc(x.config.Matches, y.config.Matches, func(m, n config.Match) bool {
			return m.Path == n.Path && m.Method == n.Method &&
				slices.Equal(m.Headers, n.Headers) && slices.Equal(m.Query, n.Query)
		})
	})
}
