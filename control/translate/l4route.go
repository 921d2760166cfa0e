package translate

import (
	"fmt"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"rauta.io/rauta/proxy/config"
)

// l4RouteObject is the routeObject of a route that knows connections and datagrams only.
func l4RouteObject(r routeObject, rules [][]gatewayv1.BackendRef) *routeObject {
	r.compile = func(t *translator, r *routeObject, report reporter) compiledRoute {
		return t.compileL4Route(r, rules, report)
	}
	return &r
}

func tlsRouteObject(o *gatewayv1.TLSRoute) *routeObject {
	return l4RouteObject(routeObject{Object: o, kind: kindTLSRoute, spec: &o.Spec.CommonRouteSpec, hostnames: o.Spec.Hostnames},
		refsByRule(o.Spec.Rules, func(r *gatewayv1.TLSRouteRule) []gatewayv1.BackendRef { return r.BackendRefs }))
}

func tcpRouteObject(o *gatewayv1.TCPRoute) *routeObject {
	return l4RouteObject(routeObject{Object: o, kind: kindTCPRoute, spec: &o.Spec.CommonRouteSpec},
		refsByRule(o.Spec.Rules, func(r *gatewayv1.TCPRouteRule) []gatewayv1.BackendRef { return r.BackendRefs }))
}

func udpRouteObject(o *gatewayv1.UDPRoute) *routeObject {
	return l4RouteObject(routeObject{Object: o, kind: kindUDPRoute, spec: &o.Spec.CommonRouteSpec},
		refsByRule(o.Spec.Rules, func(r *gatewayv1.UDPRouteRule) []gatewayv1.BackendRef { return r.BackendRefs }))
}

// refsByRule is all that the rules of such routes have.
func refsByRule[R any](rules []R, refs func(*R) []gatewayv1.BackendRef) [][]gatewayv1.BackendRef {
	out := make([][]gatewayv1.BackendRef, len(rules))
	for i := range rules {
		out[i] = refs(&rules[i])
	}
	return out
}

// compileL4Route compiles a TLSRoute, TCPRoute or UDPRoute from the backendRefs of its rules. If these can't be used the
// route stays and refuses everything, so that its clients don't reach the back ends of a younger one.
func (t *translator) compileL4Route(o *routeObject, rules [][]gatewayv1.BackendRef, report reporter) compiledRoute {
	c := routeCompiler{t: t, object: o, report: report}
	if !c.begin() {
		return c.out
	}
	c.out.l4 = &config.L4Route{
		Name:    strings.ToLower(o.kind) + "/" + o.GetNamespace() + "/" + o.GetName(),
		Source:  config.Source{Kind: o.kind, Namespace: o.GetNamespace(), Name: o.GetName()},
		Created: created(o),
	}
	if d, err := parseTimeout(o.GetAnnotations()[annotationIdleTimeout], true); err == nil {
		c.out.l4.IdleTimeout = d
	}
	if len(rules) != 1 {
		c.defect("spec.rules", "write one rule; whatever else there is belongs into a route of its own",
			"a %s has exactly one rule, this one has %d; everything is refused", o.kind, len(rules))
	} else {
		c.out.l4.Backends = c.l4Backends(rules[0])
	}
	c.out.accepted, c.out.message = len(c.defects) == 0, strings.Join(c.defects, "; ")
	return c.out
}

func (c *routeCompiler) l4Backends(refs []gatewayv1.BackendRef) []config.Backend {
	if len(refs) == 0 {
		c.report.warnf("spec.rules[0].backendRefs", "add a back end", "the route has no back end; everything is refused")
	}
	var out []config.Backend
	for i := range refs {
		where := fmt.Sprintf("spec.rules[0].backendRefs[%d]", i)
		if b, ok := c.weighted(&refs[i], where); ok {
			c.checkHash(b.Cluster, where)
			out = append(out, b)
		}
	}
	if len(c.defects) > 0 {
		return nil
	}
	return out
}

// checkHash reports that a Service wants its endpoints chosen by what nobody sees who does not look into connections.
func (c *routeCompiler) checkHash(cluster, where string) {
	if on := c.t.clusterConfig(cluster).HashOn; on != nil && on.Kind != config.HashSourceIP {
		c.report.warnf(where, "set "+annotationHashOn+" of the Service to source-ip, or refer to another Service",
			"the Service has its endpoints picked by %s, and a %s knows the client's address only: clients are spread at random",
			on.Kind, c.object.kind)
	}
}
