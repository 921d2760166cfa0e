package translate

import (
	"cmp"
	"reflect"
	"slices"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"rauta.io/rauta/proxy/config"
)

// Most changes in a large cluster give HTTPRoutes new states, and their Services other endpoints, and nothing else. Where such
// a route takes the same hostnames on the same listeners as before and leads to the same Services, only its own part of the
// result can have changed: the last run goes on with it. Whatever is not known to be so is translated from the beginning.

// revisionsMax is how many routes, and slices, may have changed: with more of them a whole run costs as much.
const revisionsMax = 100

// standing is a run that can be gone on with. Nobody changes its result.
type standing struct {
	t        *translator
	objects  Objects
	result   Result // without endpoints
	clusters map[key][]*clusterMemo
}

// stand keeps a run for the next one.
func (m *Memo) stand(t *translator, o *Objects, r *Result) {
	s := &standing{t: t, objects: *o, result: *r, clusters: map[key][]*clusterMemo{}}
	s.result.Endpoints = nil
	for _, c := range m.byRoute.clusters {
		k := keyOf(c.service)
		s.clusters[k] = append(s.clusters[k], c)
	}
	// All this belongs to the result.
	t.config, t.statuses, t.problems, t.clusterProblems, t.endpoints = config.Config{}, Statuses{}, nil, nil, config.Endpoints{}
	for _, l := range t.all {
		l.attachments = nil
	}
	m.standing = s
}

// revise goes on with the last run; nil if that is not possible.
func (m *Memo) revise(o *Objects, opt Options) *Result {
	s := m.standing
	m.standing = nil // it is half of one and half of the other while it is being brought up to date
	if s == nil || !s.suits(o, opt.withDefaults()) {
		return nil
	}
	if slices.Equal(s.objects.HTTPRoutes, o.HTTPRoutes) && slices.Equal(s.objects.EndpointSlices, o.EndpointSlices) {
		return nil // somebody has a reason to ask again
	}
	r := &revision{standing: s, list: &m.byRoute.list, next: s.result, endpoints: config.Endpoints{}}
	if !r.slices(o.EndpointSlices) || !r.routes(o) {
		return nil
	}
	cfg := *s.result.Config
	if r.configured != nil {
		cfg.Routes = r.configured
	}
	r.next.Config = &cfg
	s.objects.HTTPRoutes, s.objects.EndpointSlices = o.HTTPRoutes, o.EndpointSlices
	s.result = r.next
	m.standing = s
	out := s.result
	out.Endpoints, out.Revised = r.endpoints, true
	return &out
}

// suits reports whether nothing but HTTPRoutes and EndpointSlices may have changed.
func (s *standing) suits(o *Objects, opt Options) bool {
	t, b := s.t, &s.objects
	before := t.opt
	before.Memo, opt.Memo = nil, nil
	before.Now, opt.Now = before.Now.Truncate(datesTime), opt.Now.Truncate(datesTime)
	return len(t.in.grpcRoutes) == 0 && len(t.allPolicies) == 0 && reflect.DeepEqual(before, opt) &&
		slices.EqualFunc(b.GatewayClasses, o.GatewayClasses, sameButStatus) &&
		slices.EqualFunc(b.Gateways, o.Gateways, func(x, y *gatewayv1.Gateway) bool {
			return sameButStatus(x, y) && (x == y || reflect.DeepEqual(x.Status.Addresses, y.Status.Addresses)) // they are kept
		}) && slices.EqualFunc(b.ListenerSets, o.ListenerSets, sameButStatus) && slices.Equal(b.GRPCRoutes, o.GRPCRoutes) &&
		slices.Equal(b.TLSRoutes, o.TLSRoutes) && slices.Equal(b.TCPRoutes, o.TCPRoutes) && slices.Equal(b.UDPRoutes, o.UDPRoutes) &&
		slices.Equal(b.ReferenceGrants, o.ReferenceGrants) && slices.Equal(b.Ingresses, o.Ingresses) &&
		slices.Equal(b.IngressClasses, o.IngressClasses) && slices.Equal(b.Services, o.Services) &&
		slices.Equal(b.Namespaces, o.Namespaces) && slices.Equal(b.Secrets, o.Secrets) && slices.Equal(b.ConfigMaps, o.ConfigMaps) &&
		slices.Equal(b.BackendTLSPolicies, o.BackendTLSPolicies) && slices.Equal(b.Unread, o.Unread)
}

// sameButStatus reports whether two states of an object are the same, or its status was written between them: RAUTA does that to
// all when it starts.
func sameButStatus[T interface {
	metav1.Object
	comparable
}](a, b T) bool {
	return a == b || statusWritten(a, b)
}

// revision is a run that goes on with another one.
type revision struct {
	*standing
	list       *routeList
	next       Result
	endpoints  config.Endpoints // that have changed
	configured []*config.Route  // in place of those of the last configuration; nil while they are the same
}

// replaced are the places at which two lists differ; false if they are more than limit, or not the same objects in the same
// order.
func replaced[T interface {
	comparable
	named
}](before, after []T, limit int) (out []int, ok bool) {
	if len(before) != len(after) {
		return nil, false
	}
	for i := range after {
		if before[i] == after[i] {
			continue
		}
		if len(out) == limit || before[i].GetNamespace() != after[i].GetNamespace() || before[i].GetName() != after[i].GetName() {
			return nil, false
		}
		out = append(out, i)
	}
	return out, true
}

type named interface {
	GetNamespace() string
	GetName() string
}

// slices reads the endpoints of Services whose slices have changed. If there is anything to report it returns false.
func (r *revision) slices(after []*discoveryv1.EndpointSlice) bool {
	before := r.objects.EndpointSlices
	changed, ok := replaced(before, after, revisionsMax)
	if !ok {
		return false
	}
	t := r.t
	for _, i := range changed {
		k := key{after[i].Namespace, after[i].Labels[discoveryv1.LabelServiceName]}
		if before[i].Labels[discoveryv1.LabelServiceName] != k.name {
			return false
		}
		list := slices.Clone(t.in.slices[k])
		at := slices.Index(list, before[i])
		if at < 0 { // of two with one name, this one did not count
			return false
		}
		list[at] = after[i]
		t.in.slices[k] = list
		for _, c := range r.clusters[k] {
			eps, missing := EndpointsOf(c.service, *c.port, list, t.opt)
			if len(missing) > 0 || len(c.missing) > 0 {
				return false
			}
			c.slices, c.endpoints = list, eps
			if c.used == t.routesKnown.run { // else no route that is served leads there
				r.endpoints[c.config.Name] = eps
			}
		}
	}
	return true
}

// routes translates the routes that have changed, and returns false if that may concern anything but themselves.
func (r *revision) routes(o *Objects) bool {
	changed, ok := replaced(r.objects.HTTPRoutes, o.HTTPRoutes, len(o.HTTPRoutes)) // most may have got a status alone
	if !ok || len(changed) == 0 {
		return ok
	}
	t := r.t
	gateways := map[key]*gateway{}
	for _, g := range t.gateways {
		gateways[keyOf(g.object)] = g
	}
	byName := r.list.byName
	all, revisions := make([]*routeObject, len(changed)), 0
	for n, i := range changed {
		if i >= len(byName) || byName[i].Object != named(r.objects.HTTPRoutes[i]) { // they are not in order, or some are ignored
			return false
		}
		last, fresh := byName[i], httpRouteObject(o.HTTPRoutes[i])
		if fresh.order = orderOf(fresh); fresh.order != last.order {
			return false
		}
		if statusWritten(last, fresh) {
			fresh.known = last.known
		} else if revisions++; revisions > revisionsMax || !r.route(last, fresh, gateways) {
			return false
		}
		all[n] = fresh
	}
	for n, i := range changed {
		byName[i], r.list.byAge[r.list.place[i]] = all[n], all[n]
	}
	return true
}

// route translates a new state of a route, and returns false if anything else depends on what has changed in it.
func (r *revision) route(last, fresh *routeObject, gateways map[key]*gateway) bool {
	t := r.t
	t.problems = nil
	annotations := t.annotationTable()
	t.checkAnnotationsOf(last.kind, last, annotations)
	t.checkAnnotationsOf(fresh.kind, fresh, annotations)
	t.attachAnew(fresh, gateways)
	a, b := last.known.placement, fresh.known.placement
	if len(t.problems) > 0 || a == nil || !a.plain() || !b.plain() || !slices.EqualFunc(a.spots, b.spots, spot.equal) || !sameClusters(a, b) {
		return false
	}
	for i := range a.spots { // it is counted twice
		if a.spots[i].counts {
			t.all[a.spots[i].listener].attached--
		}
	}
	if len(b.served) > 0 {
		if r.configured == nil {
			r.configured = slices.Clone(r.result.Config.Routes)
		}
		route := b.served[0].config
		at, found := slices.BinarySearchFunc(r.configured, route, func(a, b *config.Route) int {
			return cmp.Or(cmp.Compare(a.Created, b.Created), strings.Compare(a.Name, b.Name))
		})
		if !found || a.served[0].config.Name != route.Name {
			return false
		}
		r.configured[at] = route
	}
	at, found := slices.BinarySearchFunc(r.next.Statuses.HTTPRoutes, b.status, func(a, b *RouteStatus) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	if !found {
		return false
	}
	if &r.next.Statuses.HTTPRoutes[0] == &r.result.Statuses.HTTPRoutes[0] {
		r.next.Statuses.HTTPRoutes = slices.Clone(r.next.Statuses.HTTPRoutes)
	}
	r.next.Statuses.HTTPRoutes[at] = b.status
	return true
}

// plain reports whether a route has a place that rests on no other route, nothing to report, and looked for no Secret.
func (p *placement) plain() bool {
	return p.again && p.status != nil && len(p.problems) == 0 &&
		!slices.ContainsFunc(p.compilations, func(c *compilation) bool { return len(c.asked) > 0 || len(c.problems) > 0 })
}

func (a spot) equal(b spot) bool {
	return a.listener == b.listener && a.counts == b.counts && a.servable == b.servable && a.programmed == b.programmed &&
		a.route == b.route && slices.Equal(a.hostnames, b.hostnames)
}

// sameClusters reports whether what two states of a route serve is one route each, or none, that lead to the same Services.
func sameClusters(a, b *placement) bool {
	if len(a.served) != len(b.served) || len(a.served) > 1 || len(a.compilations) != 1 || len(b.compilations) != 1 {
		return false
	}
	x, y := a.compilations[0].clusters, b.compilations[0].clusters
	within := func(list, others []*clusterMemo) bool {
		return !slices.ContainsFunc(list, func(c *clusterMemo) bool {
			return !slices.ContainsFunc(others, func(o *clusterMemo) bool { return o.config.Name == c.config.Name })
		})
	}
	return within(x, y) && within(y, x)
}
