package translate

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// routeObject is what routes of every kind have in common.
type routeObject struct {
	metav1.Object
	kind      string
	spec      *gatewayv1.CommonRouteSpec
	hostnames []gatewayv1.Hostname
	// gateway is one of the parents: what depends on it, as compile sees it, is which certificate back ends are shown.
	gateway *gateway
	// compile does what doesn't depend on the parent otherwise.
	compile func(*translator, *routeObject, reporter) compiledRoute

	// order is what routes of all kinds are sorted by.
	order routeOrder
	known routeKnowledge // of this run and the last
}

// routeOrder is by age, and then by name.
type routeOrder struct {
	created int64
	name    string
}

func orderOf(o metav1.Object) routeOrder {
	return routeOrder{created(o), o.GetNamespace() + "/" + o.GetName()}
}

func (a routeOrder) compare(b routeOrder) int {
	return cmp.Or(cmp.Compare(a.created, b.created), strings.Compare(a.name, b.name))
}

// httpRouteObject is the routeObject of an HTTPRoute.
func httpRouteObject(o *gatewayv1.HTTPRoute) *routeObject {
	return &routeObject{Object: o, kind: kindHTTPRoute, spec: &o.Spec.CommonRouteSpec, hostnames: o.Spec.Hostnames,
		compile: func(t *translator, r *routeObject, report reporter) compiledRoute {
			return t.compileHTTPRoute(r, o, report)
		}}
}

// grpcRouteObject is that of a GRPCRoute.
func grpcRouteObject(o *gatewayv1.GRPCRoute) *routeObject {
	return &routeObject{Object: o, kind: kindGRPCRoute, spec: &o.Spec.CommonRouteSpec, hostnames: o.Spec.Hostnames,
		compile: func(t *translator, r *routeObject, report reporter) compiledRoute {
			return t.compileGRPCRoute(r, o, report)
		}}
}

// routes compiles each route that refers to a Gateway of ours and attaches it to the listeners that take it: the oldest
// first, since the older of two that exclude each other stays.
func (t *translator) routes() {
	gateways := map[key]*gateway{}
	for _, g := range t.gateways {
		gateways[keyOf(g.object)] = g
		for l := range g.all() {
			l.index = len(t.all)
			t.all = append(t.all, l)
		}
	}
	list := &t.routesKnown.list
	t.config.Routes = slices.Grow(t.config.Routes, t.routesKnown.served)
	t.statuses.HTTPRoutes = slices.Grow(t.statuses.HTTPRoutes, len(t.in.httpRoutes))
	for _, o := range list.byAge {
		if !t.attachAgain(o) {
			t.attachAnew(o, gateways)
		}
	}
	t.routesKnown.served = len(t.config.Routes)
	for _, o := range list.byName { // in which order their statuses are
		if p := o.known.placement; p != nil && p.run == t.routesKnown.run {
			t.place(o, p)
		}
	}
}

// attachAnew attaches a route, and remembers what came of it.
func (t *translator) attachAnew(o *routeObject, gateways map[key]*gateway) {
	before, report := len(t.problems), t.reporter(o.kind, o)
	parents := t.parents(o, report, gateways)
	p := &placement{around: t.routesKnown.placing, run: t.routesKnown.run, again: true}
	if len(parents) > 0 {
		t.attach(o, report, parents, p)
	}
	p.problems = slices.Clone(t.problems[before:])
	o.known.placement = p
	o.gateway = nil // of this run, and everything that the run has led to with it
}

// parent is one parentRef that names a Gateway of ours, or a ListenerSet of one.
type parent struct {
	ref       gatewayv1.ParentReference
	gateway   *gateway
	set       *listenerSet // nil for the Gateway itself
	listeners []*listener
	field     string
}

// name says the parent for messages.
func (p *parent) name() string {
	if p.set != nil {
		return nameOf(kindListenerSet, keyOf(p.set.object))
	}
	return nameOf(kindGateway, keyOf(p.gateway.object))
}

func (t *translator) parents(o *routeObject, report reporter, gateways map[key]*gateway) []parent {
	var out []parent
	if len(o.spec.ParentRefs) == 0 {
		report.warnf("spec.parentRefs", "name the Gateway that the route belongs to", "the route has no parent and is not served")
	}
	for i, ref := range o.spec.ParentRefs {
		field := fmt.Sprintf("spec.parentRefs[%d]", i)
		kind := string(ptr.Deref(ref.Kind, kindGateway))
		if (ref.Group != nil && *ref.Group != gatewayv1.GroupName) || kind != kindGateway && kind != kindListenerSet {
			report.warnf(field, "refer to a Gateway or a ListenerSet", "parents other than Gateways and ListenerSets are ignored")
			continue
		}
		k := key{o.GetNamespace(), string(ref.Name)}
		if ref.Namespace != nil {
			k.namespace = string(*ref.Namespace)
		}
		if kind == kindListenerSet {
			if s := t.sets[k]; s != nil {
				out = append(out, parent{ref: ref, gateway: s.gateway, set: s, listeners: s.listeners, field: field})
			} else if !t.in.hasListenerSet(k) {
				report.errorf(field, "create the ListenerSet or correct the reference", "there is no ListenerSet %s/%s", k.namespace, k.name)
			}
			continue
		}
		if g := gateways[k]; g != nil {
			out = append(out, parent{ref: ref, gateway: g, listeners: g.listeners, field: field})
		} else if !t.exists(k) {
			report.errorf(field, "create the Gateway or correct the reference", "there is no Gateway %s/%s", k.namespace, k.name)
		}
	}
	return out
}

// exists reports whether there is such a Gateway, of whatever class.
func (t *translator) exists(k key) bool {
	for _, g := range t.in.gateways {
		if keyOf(g) == k {
			return true
		}
	}
	return false
}

func (t *translator) attach(o *routeObject, report reporter, parents []parent, out *placement) {
	routes := t.compileFor(o, report, parents, out)
	status := &RouteStatus{Namespace: o.GetNamespace(), Name: o.GetName()}
	attached := map[*listener]bool{}
	used := map[*compiledRoute]bool{}
	for i, p := range parents {
		route := routes[i]
		listeners, hostnames, reason, message := t.match(o, p, report, out)
		ok := reason == gatewayv1.RouteReasonAccepted
		if !ok {
			report.errorf(p.field, "see the Gateway's listeners", "%s", message)
		}
		if ok && !route.accepted {
			ok, reason, message = false, gatewayv1.RouteReasonUnsupportedValue, route.message
		}
		for i, l := range listeners {
			if attached[l] {
				continue
			}
			attached[l] = true
			one := spot{listener: l.index, counts: ok, programmed: l.programmed(), servable: l.servable(), hostnames: hostnames[i]}
			if name, ok := route.name(); ok && one.servable {
				used[route] = true
				one.route = name
			}
			out.spots = append(out.spots, one)
			t.occupy(o, &one)
		}
		if ok {
			t.use(p.gateway, route.ports)
			if len(t.allPolicies) > 0 { // else nobody asks, and with one the placement ends
				out.uses = append(out.uses, gatewayUse{p.gateway.object.Namespace, p.gateway.object.Name, route.ports})
			}
		}
		conditions := []metav1.Condition{
			condition(gatewayv1.RouteConditionAccepted, ok, reason, o.GetGeneration(), message),
			condition(gatewayv1.RouteConditionResolvedRefs, route.refs == "", orResolved(route.refs), o.GetGeneration(), route.refsMessage),
		}
		if ok && route.partial != "" {
			conditions = append(conditions, condition(gatewayv1.RouteConditionPartiallyInvalid, true,
				gatewayv1.RouteReasonUnsupportedValue, o.GetGeneration(), route.partial))
		}
		status.Parents = append(status.Parents, gatewayv1.RouteParentStatus{
			ParentRef: *p.ref.DeepCopy(), ControllerName: gatewayv1.GatewayController(t.opt.ControllerName), Conditions: conditions})
	}
	for route := range used {
		out.served = append(out.served, route)
	}
	t.serve(out)
	if len(attached) > 0 && !anyProgrammed(attached) {
		report.warnf("spec.parentRefs", "attach it to a listener that is programmed", "none of the listeners that take the route is programmed")
	}
	status.Parents = t.routesKnown.parents.Share(status.Parents)
	out.status = status
}

// compileFor compiles a route for each of its parents. It is one and the same unless it leads to back ends with TLS, and
// its Gateways show them different certificates.
func (t *translator) compileFor(o *routeObject, report reporter, parents []parent, placed *placement) []*compiledRoute {
	var variants []*compiledRoute
	var gateways []*gateway // by variant, the first that has it
	byIdentity := map[string]*compiledRoute{}
	out := make([]*compiledRoute, len(parents))
	for i, p := range parents {
		identity := p.gateway.client.identity()
		if byIdentity[identity] == nil {
			o.gateway = p.gateway
			known := t.compile(o, identity, report)
			placed.compilations = append(placed.compilations, known)
			route := &known.out
			if len(variants) > 0 { // it may be renamed
				own := known.own()
				route = &own
			}
			same := slices.IndexFunc(variants, func(other *compiledRoute) bool { return reflect.DeepEqual(other, route) })
			if same < 0 {
				same = len(variants)
				variants, gateways = append(variants, route), append(gateways, p.gateway)
			}
			byIdentity[identity] = variants[same]
		}
		out[i] = byIdentity[identity]
	}
	for i, route := range variants {
		if i > 0 {
			route.rename("/" + gateways[i].object.Namespace + "/" + gateways[i].object.Name)
		}
	}
	return out
}

// rename makes a variant of a route another route.
func (r *compiledRoute) rename(suffix string) {
	if r.l4 != nil {
		r.l4.Name += suffix
	} else {
		named := *r.config
		named.Name += suffix
		r.config = &named
	}
}

// name is that of what is served; false if there is nothing to serve.
func (r *compiledRoute) name() (string, bool) {
	if r.l4 != nil {
		return r.l4.Name, true
	}
	return r.config.Name, len(r.config.Rules) > 0
}

func orResolved(reason gatewayv1.RouteConditionReason) gatewayv1.RouteConditionReason {
	if reason == "" {
		return gatewayv1.RouteReasonResolvedRefs
	}
	return reason
}

func anyProgrammed(listeners map[*listener]bool) bool {
	for l := range listeners {
		if l.programmed() {
			return true
		}
	}
	return false
}

// reasonHostnameConflict is that of listeners; the Gateway API names none for routes.
const reasonHostnameConflict = gatewayv1.RouteConditionReason(gatewayv1.ListenerReasonHostnameConflict)

// match finds the listeners that a parentRef selects and that take the route. Whether a listener is programmed plays
// no part: attachment rests on allowedRoutes and parentRefs alone (Gateway API, ListenerStatus.attachedRoutes).
func (t *translator) match(o *routeObject, p parent, report reporter, out *placement) ([]*listener, [][]string, gatewayv1.RouteConditionReason, string) {
	var selected, allowed, matched []*listener
	var hostnames [][]string
	excluded := ""
	wanted := make([]string, len(o.hostnames))
	for i, h := range o.hostnames {
		wanted[i] = string(h)
	}
	for _, l := range p.listeners {
		if (p.ref.SectionName != nil && *p.ref.SectionName != "" && *p.ref.SectionName != l.spec.Name) ||
			(p.ref.Port != nil && *p.ref.Port != l.spec.Port) {
			continue
		}
		selected = append(selected, l)
		if !l.admits(o.kind, o.GetNamespace(), t.in.namespaces[o.GetNamespace()]) {
			continue
		}
		allowed = append(allowed, l)
		meeting := meet(l.hostname, wanted)
		if len(meeting) == 0 {
			continue
		}
		if other := l.claims.against(o.kind, meeting); other != nil {
			out.again = false // it rests on the routes before
			excluded = fmt.Sprintf("listener %s of %s has the older %s for a common hostname, and one hostname can't have both kinds",
				l.spec.Name, p.name(), other.kind+" "+other.name)
			continue
		}
		matched = append(matched, l)
		hostnames = append(hostnames, meeting)
	}
	name := p.name()
	switch {
	case p.set != nil && len(p.listeners) == 0:
		return nil, nil, gatewayv1.RouteReasonNoMatchingParent, name + " is not attached to its Gateway"
	case len(selected) == 0:
		return nil, nil, gatewayv1.RouteReasonNoMatchingParent,
			name + " has no listener with this sectionName and port"
	case len(allowed) == 0:
		return nil, nil, gatewayv1.RouteReasonNotAllowedByListeners,
			fmt.Sprintf("no selected listener of %s allows %ss from namespace %s", name, o.kind, o.GetNamespace())
	case len(matched) == 0 && excluded != "":
		return nil, nil, reasonHostnameConflict, excluded
	case len(matched) == 0:
		return nil, nil, gatewayv1.RouteReasonNoMatchingListenerHostname,
			fmt.Sprintf("no selected listener of %s has a hostname that meets %s", name, strings.Join(wanted, ", "))
	}
	if excluded != "" {
		report.warnf(p.field, "give the two routes different hostnames", "%s; the other listeners take the route", excluded)
	}
	return matched, hostnames, gatewayv1.RouteReasonAccepted, "the route is attached"
}
