package upstream

import (
	"rauta.io/rauta/proxy/clock"
	"rauta.io/rauta/proxy/config"
)

// cursor is one worker's position in a cluster's rotation, alone on its cache line because it is written per request.
type cursor struct {
	next    uint32
	started bool
	_       [56]byte
}

// rehashesMax is how often a Maglev key is hashed again to find an endpoint that may be used, before one is chosen at
// random. With half of the set ejected, which is the most, one key in 256 gets that far.
const rehashesMax = 8

// Pick chooses an endpoint for a request of w, or nil when the cluster has none. key is the hash of what a Maglev
// cluster balances on, from HashKey; 0 means that the request has no such key and is spread at random. exclude, if not
// nil, is the endpoint that just failed, and is only chosen again when there is no other.
//
// Distant endpoints are chosen only when nothing near is ready or most of that is ejected, terminating ones only when
// nothing else is ready, ejected ones only when more than half are ejected.
func (c *Cluster) Pick(w *Worker, key uint64, exclude *Endpoint) *Endpoint {
	s := c.set.Load()
	now := w.Clock.Now()
	v := s.view(c.shared, now)
	var e *Endpoint
	switch n := len(v.endpoints); {
	case n == 0:
		return nil
	case n == 1:
		if e = v.endpoints[0]; e == exclude {
			e = s.other(w, now, exclude)
		}
	default:
		e = c.choose(w, s, v, key, exclude, now)
	}
	if e.cluster.Load() != c {
		e.cluster.Store(c)
	}
	return e
}

// choose applies the policy to at least two endpoints.
func (c *Cluster) choose(w *Worker, s *Set, v *view, key uint64, exclude *Endpoint, now clock.Time) *Endpoint {
	switch c.policy {
	case config.PolicyRoundRobin:
		return c.rotate(w, v.endpoints, exclude)
	case config.PolicyRandom:
		return random(w, v.endpoints, exclude)
	case config.PolicyMaglev:
		if key == 0 || len(s.table.entries) == 0 { // no table: distant endpoints stand in for a single one
			return random(w, v.endpoints, exclude)
		}
		for range rehashesMax {
			e := s.candidates[s.table.at(key)]
			if e != exclude && !(v.filtered && e.ejected(now)) {
				return e
			}
			key = mix(key + 1)
		}
		return random(w, v.endpoints, exclude)
	default:
		return leastOfTwo(w, v.endpoints, exclude)
	}
}

// leastOfTwo draws two different endpoints and takes the one with less load of this worker; the first one on a tie, so
// that the start is random and workers do not move in step.
func leastOfTwo(w *Worker, list []*Endpoint, exclude *Endpoint) *Endpoint {
	i := w.random(len(list))
	j := w.random(len(list) - 1)
	if j >= i {
		j++
	}
	a, b := list[i], list[j]
	switch {
	case a == exclude:
		return b
	case b == exclude:
		return a
	case b.load(w) < a.load(w):
		return b
	}
	return a
}

// rotate takes the endpoint after the last one that this worker took.
func (c *Cluster) rotate(w *Worker, list []*Endpoint, exclude *Endpoint) *Endpoint {
	cur := &c.cursors[w.ID]
	n := uint32(len(list))
	if !cur.started {
		// A random start keeps workers from meeting at the same endpoint.
		cur.started, cur.next = true, uint32(w.random(len(list)))
	}
	at := cur.next % n
	if list[at] == exclude {
		at = (at + 1) % n
	}
	cur.next = at + 1
	return list[at]
}

func random(w *Worker, list []*Endpoint, exclude *Endpoint) *Endpoint {
	i := w.random(len(list))
	if list[i] == exclude {
		i = (i + 1 + w.random(len(list)-1)) % len(list)
	}
	return list[i]
}

// other finds something else than the only endpoint in view: a distant one, else a terminating one that still serves,
// else an ejected one, which failed longer ago than exclude did.
func (s *Set) other(w *Worker, now clock.Time, exclude *Endpoint) *Endpoint {
	found := exclude
	for _, part := range [...][]*Endpoint{s.endpoints[:s.ready], s.endpoints[s.ready:]} {
		if len(part) == 0 {
			continue
		}
		start := w.random(len(part))
		for i := range part {
			e := part[(start+i)%len(part)]
			if e == exclude {
				continue
			}
			if !e.ejected(now) {
				return e
			}
			if found == exclude {
				found = e
			}
		}
	}
	return found
}
