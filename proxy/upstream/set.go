package upstream

import (
	"cmp"
	"net/netip"
	"slices"
	"sync/atomic"

	"rauta.io/rauta/proxy/config"
)

// Set is the endpoints of a cluster at one time. It is immutable but for the view, which follows passive health.
type Set struct {
	endpoints  []*Endpoint       // near and ready, distant and ready, terminating; each part in order of address
	infos      []config.Endpoint // of endpoints, by index
	rejected   []string
	ready      int         // how many of endpoints are not terminating
	candidates []*Endpoint // the near ones, or all that are ready when none is near, or all when none is ready
	table      maglev      // over candidates; only with PolicyMaglev and several candidates

	current atomic.Pointer[view]
}

// Len is the number of endpoints, terminating ones included.
func (s *Set) Len() int { return len(s.endpoints) }

// Ready is the number of endpoints that are not terminating.
func (s *Set) Ready() int { return s.ready }

// Endpoints returns the endpoints, the ready ones first. The caller must not change the slice.
func (s *Set) Endpoints() []*Endpoint { return s.endpoints }

// Infos returns how the configuration describes each of Endpoints now, by index. The caller must not change the slice.
func (s *Set) Infos() []config.Endpoint { return s.infos }

// Rejected returns the addresses that were left out because they are not "ip:port".
func (s *Set) Rejected() []string { return s.rejected }

// member is an endpoint on its way into a set.
type member struct {
	addr netip.AddrPort
	info config.Endpoint
}

// rank orders the endpoints of a set by how much they are wanted.
func rank(info *config.Endpoint) int {
	switch {
	case info.Terminating:
		return 2
	case info.Distant:
		return 1
	}
	return 0
}

// members parses, sorts and deduplicates eps: by rank, then by address. An address that is given both as ready and as
// terminating (two EndpointSlices may overlap for a moment) is ready.
func members(eps []config.Endpoint) (list []member, rejected []string) {
	list = make([]member, 0, len(eps))
	for _, info := range eps {
		addr, err := netip.ParseAddrPort(info.Address)
		if err != nil || addr.Port() == 0 {
			rejected = append(rejected, info.Address)
			continue
		}
		list = append(list, member{netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()), info})
	}
	slices.SortStableFunc(list, func(a, b member) int {
		return cmp.Or(cmp.Compare(rank(&a.info), rank(&b.info)), a.addr.Compare(b.addr))
	})
	seen := make(map[netip.AddrPort]struct{}, len(list))
	list = slices.DeleteFunc(list, func(m member) bool {
		_, twice := seen[m.addr]
		seen[m.addr] = struct{}{}
		return twice
	})
	return list, rejected
}

// newSet builds the set of eps for c and carries over what old already has.
func newSet(c *Cluster, eps []config.Endpoint, old *Set) *Set {
	list, rejected := members(eps)
	known := make(map[netip.AddrPort]*Endpoint, old.Len())
	for _, e := range old.endpoints {
		known[e.Addr] = e
	}
	s := &Set{
		endpoints: make([]*Endpoint, 0, len(list)),
		infos:     make([]config.Endpoint, 0, len(list)),
		rejected:  rejected,
	}
	for _, m := range list {
		e := known[m.addr]
		if e == nil || !e.sameTarget(m.info) || !e.sameTransport(c) {
			e = newEndpoint(c, m.addr, m.info)
		}
		s.endpoints = append(s.endpoints, e)
		s.infos = append(s.infos, m.info)
		if !m.info.Terminating {
			s.ready++
		}
	}
	if slices.Equal(s.infos, eps) { // as nearly always: two copies of what 100,000 endpoints are take 7 MB
		s.infos = eps
	}
	s.finish(c, old)
	return s
}

// finish derives what the pickers use.
func (s *Set) finish(c *Cluster, old *Set) {
	near := slices.IndexFunc(s.infos, func(info config.Endpoint) bool { return rank(&info) > 0 })
	switch {
	case near > 0:
		s.candidates = s.endpoints[:near]
	case near == 0 && s.ready > 0:
		s.candidates = s.endpoints[:s.ready]
	default:
		s.candidates = s.endpoints
	}
	if c.policy == config.PolicyMaglev && len(s.candidates) > 1 {
		if len(old.table.entries) > 0 && slices.Equal(s.candidates, old.candidates) {
			s.table = old.table
		} else {
			s.table = newMaglev(s.candidates)
		}
	}
	// The first pick makes a view with its time; the count that never occurs makes it do so.
	s.current.Store(&view{endpoints: s.candidates, ejections: ^uint64(0)})
}
