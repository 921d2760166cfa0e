package translate

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"rauta.io/rauta/proxy/config"
)

// Where a route attaches depends on its surroundings, on the Gateways that there are with their listeners, and on the
// namespaces. As long as these are the same, a route that has not changed has the place and the status of the last run,
// unless other routes have kept it from a listener then, or would now.

// placing is what placements rest on beside surroundings.
type placing struct {
	classes    []*gatewayv1.GatewayClass
	namespaces []*corev1.Namespace
}

func (t *translator) placing() *placing {
	return &placing{classes: t.in.classes, namespaces: t.in.namespaceList}
}

func (p *placing) equal(other *placing) bool {
	return other != nil && slices.EqualFunc(p.classes, other.classes, sameGeneration) && slices.Equal(p.namespaces, other.namespaces)
}

// placement is what attaching a route has led to.
type placement struct {
	around       *placing
	run          uint64 // the last that had it
	again        bool   // it holds as long as no older route claims its hostnames
	compilations []*compilation
	spots        []spot
	served       []*compiledRoute
	uses         []gatewayUse
	problems     []Problem    // those of compilations among them
	status       *RouteStatus // nil if no parent is ours
}

// spot is a listener that takes a route.
type spot struct {
	listener             int // index in translator.all
	counts               bool
	servable, programmed bool
	route                string // config.Route.Name; empty if it is not served here
	hostnames            []string
}

// gatewayUse says that routes of a Gateway lead to ports of Services.
type gatewayUse struct {
	namespace, name string
	ports           []servicePort
}

// attachAgain attaches a route where it was in the last run; false if that can't be known without looking.
func (t *translator) attachAgain(o *routeObject) bool {
	p := o.known.placement
	if p == nil || !p.again || p.around != t.routesKnown.placing {
		return false
	}
	for i := range p.spots {
		one := &p.spots[i]
		l := t.all[one.listener]
		if l.servable() != one.servable || l.programmed() != one.programmed || l.claims.against(o.kind, one.hostnames) != nil {
			return false
		}
	}
	p.run = t.routesKnown.run
	t.problems = append(t.problems, p.problems...)
	for _, c := range p.compilations {
		t.restore(c)
	}
	for i := range p.spots {
		t.occupy(o, &p.spots[i])
	}
	if len(t.allPolicies) > 0 {
		for _, u := range p.uses {
			t.use(t.gatewayOf(key{u.namespace, u.name}), u.ports)
		}
	}
	t.serve(p)
	return true
}

func (t *translator) gatewayOf(k key) *gateway {
	return t.gateways[slices.IndexFunc(t.gateways, func(g *gateway) bool { return keyOf(g.object) == k })]
}

// occupy gives a route its place at a listener. Nobody but routes of another kind asks who claims a hostname.
func (t *translator) occupy(o *routeObject, one *spot) {
	l := t.all[one.listener]
	if one.counts {
		l.attached++
	}
	if one.route != "" && len(t.in.httpRoutes) > 0 && len(t.in.grpcRoutes) > 0 {
		l.claims.add(o.kind, o.order.name, one.hostnames)
	}
}

// serve adds what a route serves to the configuration.
func (t *translator) serve(p *placement) {
	for _, route := range p.served {
		if route.l4 != nil {
			t.config.L4Routes = append(t.config.L4Routes, *route.l4)
		} else {
			t.config.Routes = append(t.config.Routes, route.config)
		}
	}
}

// place writes down where a route is, and its status.
func (t *translator) place(o *routeObject, p *placement) {
	for i := range p.spots {
		if one := &p.spots[i]; one.route != "" {
			l := t.all[one.listener]
			if l.attachments == nil {
				l.attachments = make([]config.Attachment, 0, l.attached)
			}
			l.attachments = append(l.attachments, config.Attachment{Route: one.route, Hostnames: one.hostnames})
		}
	}
	if p.status == nil {
		return
	}
	list := t.statuses.of(o.kind)
	*list = append(*list, p.status)
}

// of returns the list for routes of a kind.
func (s *Statuses) of(kind string) *[]*RouteStatus {
	switch kind {
	case kindGRPCRoute:
		return &s.GRPCRoutes
	case kindTLSRoute:
		return &s.TLSRoutes
	case kindTCPRoute:
		return &s.TCPRoutes
	case kindUDPRoute:
		return &s.UDPRoutes
	}
	return &s.HTTPRoutes
}

// routeList is the routes of all kinds.
type routeList struct {
	byName []*routeObject // by kind, namespace and name
	byAge  []*routeObject
	place  []int // by the index in byName, the index in byAge
}

// routeObjects returns the routes of all kinds. Those that are in the last list too keep what is known of them.
func (t *translator) routeObjects() routeList {
	last := &t.routesKnown.list
	next := make([]*routeObject, 0, len(t.in.httpRoutes)+len(t.in.grpcRoutes))
	next = routeObjectsOf(next, last.byName, kindHTTPRoute, t.in.httpRoutes, httpRouteObject)
	next = routeObjectsOf(next, last.byName, kindGRPCRoute, t.in.grpcRoutes, grpcRouteObject)
	next = routeObjectsOf(next, last.byName, kindTLSRoute, t.in.tlsRoutes, tlsRouteObject)
	next = routeObjectsOf(next, last.byName, kindTCPRoute, t.in.tcpRoutes, tcpRouteObject)
	next = routeObjectsOf(next, last.byName, kindUDPRoute, t.in.udpRoutes, udpRouteObject)
	return last.next(next)
}

// routeObjectsOf adds the routes of a kind to out. last has those of all kinds; it and objects are in order.
func routeObjectsOf[T metav1.Object](out, last []*routeObject, kind string, objects []T, fresh func(T) *routeObject) []*routeObject {
	at := max(0, slices.IndexFunc(last, func(r *routeObject) bool { return r.kind == kind }))
	for _, o := range objects {
		if at < len(last) && last[at].Object != metav1.Object(o) {
			for at < len(last) && last[at].kind == kind && compareKeys(last[at], o) < 0 {
				at++
			}
		}
		if at < len(last) && last[at].Object == metav1.Object(o) {
			out = append(out, last[at])
			at++
			continue
		}
		r := fresh(o)
		if at < len(last) && last[at].kind == kind && compareKeys(last[at], o) == 0 && statusWritten(last[at].Object, o) {
			r.order, r.known = last[at].order, last[at].known
			at++
		} else {
			r.order = orderOf(o)
		}
		out = append(out, r)
	}
	return out
}

// onlyStatusDiffers reports whether two states of a route mean the same. RAUTA itself writes the status of each route that it
// has taken, of thousands when it starts.
func onlyStatusDiffers(a, b metav1.Object) bool {
	return a.GetGeneration() != 0 && a.GetGeneration() == b.GetGeneration() && a.GetUID() != "" && a.GetUID() == b.GetUID() &&
		(a.GetDeletionTimestamp() == nil) == (b.GetDeletionTimestamp() == nil) &&
		maps.Equal(a.GetLabels(), b.GetLabels()) && maps.Equal(a.GetAnnotations(), b.GetAnnotations())
}

// statusWritten is onlyStatusDiffers for two states of which one was written after the other. The same state that is read
// again may come in another version of the API, with other fields.
func statusWritten(before, after metav1.Object) bool {
	return before.GetResourceVersion() != after.GetResourceVersion() && onlyStatusDiffers(before, after)
}

// next is the list for byName. If routes have got new states and nothing else has happened, they need not be sorted.
func (l *routeList) next(byName []*routeObject) routeList {
	if slices.EqualFunc(l.byName, byName, func(a, b *routeObject) bool { return a == b || a.kind == b.kind && a.order == b.order }) {
		byAge := make([]*routeObject, len(byName))
		for i, o := range byName {
			byAge[l.place[i]] = o
		}
		return routeList{byName, byAge, l.place}
	}
	order := make([]int, len(byName))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return byName[a].order.compare(byName[b].order) })
	out := routeList{byName, make([]*routeObject, len(byName)), make([]int, len(byName))}
	for age, i := range order {
		out.byAge[age], out.place[i] = byName[i], age
	}
	return out
}
