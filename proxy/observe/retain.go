package observe

import "time"

// Retain tells what the current configuration has. Handles of anything else keep their counters for 5 minutes, unless
// they are asked for again, and are then forgotten: their series vanish, and exchanges that still hold one count as
// "other". Endpoints that have no series are forgotten at once. nil endpoints leaves endpoints alone. Call it after
// publishing.
func (r *Registry) Retain(routes []string, endpoints []EndpointKey) {
	now := r.now()
	currentRoutes := setOf(routes)
	currentEndpoints := setOf(endpoints)

	r.handlesMu.Lock()
	defer r.handlesMu.Unlock()
	for name, rt := range r.routes {
		_, current := currentRoutes[name]
		r.mark(&rt.life, current, now)
	}
	if endpoints != nil {
		for key, e := range r.endpoints {
			if _, current := currentEndpoints[key]; current || !r.discard(e) {
				r.mark(&e.life, current, now)
			}
		}
	}
	r.sweep(now)
}

// LeaveEndpoints tells which endpoints a cluster does not have any more, as Retain does for all clusters. It looks at no others.
func (r *Registry) LeaveEndpoints(cluster string, addresses []string) {
	now := r.now()
	r.handlesMu.Lock()
	defer r.handlesMu.Unlock()
	for _, address := range addresses {
		if e := r.endpoints[EndpointKey{Cluster: cluster, Address: address}]; e != nil && !r.discard(e) {
			r.mark(&e.life, false, now)
		}
	}
	r.sweep(now)
}

// discard forgets an endpoint that has no series of its own, which there is no reason to wait for; false if it has some.
// Where thousands of pods come and go most have none. handlesMu is held.
func (r *Registry) discard(e *Endpoint) bool {
	if e.permanent {
		return false
	}
	r.usedMu.Lock()
	defer r.usedMu.Unlock()
	cells, l4 := r.otherEP.cells.Load(), r.otherEP.l4.Load()
	if c := e.cells.Load(); c != nil && c != cells {
		return false
	}
	if c := e.l4.Load(); c != nil && c != l4 || e.kernelCell.Load() != 0 {
		return false
	}
	// A request that picked it a moment ago may still count.
	e.forgotten = true
	e.cells.Store(cells)
	e.l4.Store(l4)
	delete(r.endpoints, e.key)
	return true
}

func setOf[K comparable](keys []K) map[K]struct{} {
	set := make(map[K]struct{}, len(keys))
	for _, k := range keys {
		set[k] = struct{}{}
	}
	return set
}

// mark notes since when a handle is missing. handlesMu is held.
func (r *Registry) mark(l *life, current bool, now time.Time) {
	switch {
	case current:
		l.missingSince = time.Time{}
	case !l.permanent:
		if l.missingSince.IsZero() {
			l.missingSince = now
		}
		if r.sweepAt.IsZero() {
			r.sweepAt = l.missingSince.Add(retainGrace)
		}
	}
}

func (l *life) expired(now time.Time) bool {
	return !l.missingSince.IsZero() && now.Sub(l.missingSince) >= retainGrace
}

// sweep forgets what has been missing for the grace, and lets what was counted as "other" try again for the places
// that became free. handlesMu is held.
func (r *Registry) sweep(now time.Time) {
	if r.sweepAt.IsZero() || now.Before(r.sweepAt) {
		return
	}
	r.sweepAt = time.Time{}
	waits := func(l *life) {
		if l.missingSince.IsZero() {
			return
		}
		at := l.missingSince.Add(retainGrace)
		if soonest := now.Add(sweepPause); at.Before(soonest) {
			at = soonest
		}
		if r.sweepAt.IsZero() || at.Before(r.sweepAt) {
			r.sweepAt = at
		}
	}
	goneRoutes, goneEndpoints := map[*Route]struct{}{}, map[*Endpoint]struct{}{}
	for name, rt := range r.routes {
		if rt.expired(now) {
			delete(r.routes, name)
			goneRoutes[rt] = struct{}{}
		} else {
			waits(&rt.life)
		}
	}
	for _, e := range r.endpoints {
		if e.expired(now) {
			delete(r.endpoints, e.key)
			goneEndpoints[e] = struct{}{}
		} else {
			waits(&e.life)
		}
	}
	r.forget(goneRoutes, goneEndpoints)
}

// forget takes the series of handles away. handlesMu is held.
func (r *Registry) forget(routes map[*Route]struct{}, endpoints map[*Endpoint]struct{}) {
	if len(routes) == 0 && len(endpoints) == 0 {
		return
	}
	otherRoute, otherEndpoint := r.other.cells.Load(), r.otherEP.cells.Load()
	otherRouteL4, otherEndpointL4 := r.other.l4.Load(), r.otherEP.l4.Load()
	r.usedMu.Lock()
	defer r.usedMu.Unlock()
	for rt := range routes {
		rt.forgotten = true
		rt.cells.Store(otherRoute)
		rt.l4.Store(otherRouteL4)
	}
	for e := range endpoints {
		e.forgotten = true
		e.cells.Store(otherEndpoint)
		e.l4.Store(otherEndpointL4)
	}
	r.usedRoutes.list = without(r.usedRoutes.list, routes)
	r.usedEndpoints.list = without(r.usedEndpoints.list, endpoints)
	if len(routes) > 0 && len(r.usedRoutes.list) < r.usedRoutes.max {
		for _, rt := range r.routes {
			if !rt.permanent {
				rt.cells.CompareAndSwap(otherRoute, nil)
				rt.l4.CompareAndSwap(otherRouteL4, nil)
			}
		}
	}
	if len(endpoints) > 0 && len(r.usedEndpoints.list) < r.usedEndpoints.max {
		for _, e := range r.endpoints {
			if !e.permanent {
				e.cells.CompareAndSwap(otherEndpoint, nil)
				e.l4.CompareAndSwap(otherEndpointL4, nil)
			}
		}
	}
}

// without returns a new slice: a scrape may be reading the old one.
func without[H comparable](list []H, gone map[H]struct{}) []H {
	kept := make([]H, 0, len(list))
	for _, h := range list {
		if _, ok := gone[h]; !ok {
			kept = append(kept, h)
		}
	}
	return kept
}
