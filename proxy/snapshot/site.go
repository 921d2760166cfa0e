package snapshot

import (
	"cmp"
	"fmt"
	"slices"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/route"
)

// site is what the listeners with one hostname on one port serve together. Usually there is one such listener; an
// Ingress and a Gateway without hostname on port 80 are two, and then the routes of both are candidates. Generations share
// the lists of a site that are the same in both, and the lists that change with a route hold one pointer for each.
type site struct {
	hostname  string
	listeners []*Listener
	table     *route.Table
	parts     []part
	routes    []*Route     // by part
	rules     []*Rule      // by route.Entry.Rule
	owners    []*Listener  // of rules
	broken    bool         // it serves nothing, because its table could not be built
	names     *serverNames // of listeners with config.ProtocolTLS, which have nothing else; nil for others
}

// part is one attachment: a route on a listener.
type part struct {
	listener  *Listener
	hostnames []string

	precedence int32 // of the route
	first      int32 // of its rules in the site
	position   int32 // of the listener in the site
	oneLabel   bool  // of config.Attachment
}

// sortParts brings attachments into the order of precedence between equal matches.
func sortParts(parts []part) {
	slices.SortStableFunc(parts, func(a, b part) int {
		return cmp.Or(cmp.Compare(a.precedence, b.precedence), cmp.Compare(a.position, b.position))
	})
}

// newSite compiles parts, which are in order; routes has those of a generation, by precedence. It returns prev itself if
// nothing changed, and shares prev's table if only what rules do has changed: a shift of weights between back ends is the
// most frequent change, and building a table the most expensive step.
func newSite(hostname string, listeners []*Listener, parts []part, routes []*Route, prev *site) (*site, error) {
	shape := prev != nil && len(prev.parts) == len(parts)
	same := shape && slices.Equal(prev.listeners, listeners)
	for i := 0; shape && i < len(parts); i++ {
		a, b := &prev.parts[i], &parts[i]
		r := routes[b.precedence]
		shape = sameHostnames(a.hostnames, b.hostnames) && a.oneLabel == b.oneLabel && (prev.routes[i] == r || sameMatches(prev.routes[i], r))
		same = same && prev.routes[i] == r && a.listener == b.listener && a.precedence == b.precedence
	}
	if shape && same {
		return prev, nil
	}
	s := &site{hostname: hostname, listeners: listeners, parts: parts, routes: make([]*Route, len(parts))}
	n := 0
	for i := range parts {
		s.routes[i], parts[i].first = routes[parts[i].precedence], int32(n)
		n += len(s.routes[i].Rules)
	}
	s.rules, s.owners = make([]*Rule, 0, n), make([]*Listener, 0, n)
	for i, r := range s.routes {
		for j := range r.Rules {
			s.rules, s.owners = append(s.rules, &r.Rules[j]), append(s.owners, parts[i].listener)
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

// with returns the site with new states of some routes, which are in the places that changed says, in order; routes has those of a
// generation. It returns s itself if it has none of these routes.
func (s *site) with(changed []int32, routes []*Route) (*site, error) {
	next, rebuild := s, false
	var moved []int // parts whose matches are others
	for _, precedence := range changed {
		at, _ := slices.BinarySearchFunc(s.parts, precedence, func(p part, precedence int32) int { return cmp.Compare(p.precedence, precedence) })
		for ; at < len(s.parts) && s.parts[at].precedence == precedence; at++ {
			if next == s {
				own := *s
				own.routes, own.rules = slices.Clone(s.routes), slices.Clone(s.rules)
				next = &own
			}
			last, r := s.routes[at], routes[precedence]
			next.routes[at] = r
			if rebuild = rebuild || len(last.Rules) != len(r.Rules); rebuild {
				continue
			}
			if !sameMatches(last, r) {
				moved = append(moved, at)
			}
			for j := range r.Rules {
				next.rules[int(s.parts[at].first)+j] = &r.Rules[j]
			}
		}
	}
	if len(moved) > 0 && !rebuild {
		table, err := next.revisedTable(moved)
		if err != nil {
			return nil, err
		}
		if rebuild = table == nil; !rebuild {
			next.table = table
		}
	}
	if rebuild {
		fresh, err := newSite(s.hostname, s.listeners, slices.Clone(s.parts), routes, nil)
		if err == nil {
			fresh.names = s.names
		}
		return fresh, err
	}
	return next, nil
}

// sameHostnames is slices.Equal, which looks at the names even if the slices are one.
func sameHostnames(a, b []string) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0] || slices.Equal(a, b))
}

// revisedTable is the table with the entries that some parts have now, nil if it is to be built anew.
func (s *site) revisedTable(parts []int) (*route.Table, error) {
	gone := make(map[int32]bool, len(parts))
	var fresh []route.Entry
	for _, i := range parts {
		for j := range s.routes[i].Rules {
			gone[s.parts[i].first+int32(j)] = true
		}
		fresh = s.entriesOf(fresh, i)
	}
	table, err := s.table.Revise(func(rule int32) bool { return gone[rule] }, fresh)
	if err != nil {
		return nil, fmt.Errorf("revise the routing table: %w", err)
	}
	return table, nil
}

func (s *site) entries() []route.Entry {
	n := 0
	for i, r := range s.routes {
		for j := range r.Rules {
			n += len(r.Rules[j].config.Matches) * len(s.parts[i].hostnames)
		}
	}
	entries := make([]route.Entry, 0, n)
	for i := range s.parts {
		entries = s.entriesOf(entries, i)
	}
	return entries
}

// entriesOf appends the entries of a part. Their order is that of the rules, then that of their matches.
func (s *site) entriesOf(entries []route.Entry, i int) []route.Entry {
	p, r := &s.parts[i], s.routes[i]
	for j := range r.Rules {
		index := p.first + int32(j)
		for k, m := range r.Rules[j].config.Matches {
			for _, hostname := range p.hostnames {
				entries = append(entries, route.Entry{Hostname: hostname, OneLabel: p.oneLabel, Match: m, Rule: index, Order: int(index)<<matchBits | k})
			}
		}
	}
	return entries
}

// matchBits are those of route.Entry.Order that tell the matches of one rule apart.
const matchBits = 24

// sameMatches reports whether two versions of a route take the same requests, rule by rule.
func sameMatches(a, b *Route) bool {
	return slices.EqualFunc(a.Rules, b.Rules, func(x, y Rule) bool {
		return slices.EqualFunc(x.config.Matches, y.config.Matches, func(m, n config.Match) bool {
			return m.Path == n.Path && m.Method == n.Method &&
				slices.Equal(m.Headers, n.Headers) && slices.Equal(m.Query, n.Query)
		})
	})
}
