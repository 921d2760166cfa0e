package translate

import (
	"fmt"
	"regexp/syntax"
	"strings"

	"k8s.io/utils/ptr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"rauta.io/rauta/proxy/config"
)

// grpcNameBytesMax is the longest service or method of the Gateway API's schema.
const grpcNameBytesMax = 1024

// grpcServiceRank weighs a character of a service against all of a method: service and method have less than that many.
const grpcServiceRank = 1 << 12

// compileGRPCRoute compiles a GRPCRoute. Its rules are those of an HTTPRoute but for the matches.
func (t *translator) compileGRPCRoute(r *routeObject, o *gatewayv1.GRPCRoute, report reporter) compiledRoute {
	rules := make([]routeRule, 0, len(o.Spec.Rules))
	for i := range o.Spec.Rules {
		rule := &o.Spec.Rules[i]
		rules = append(rules, routeRule{inHTTPTerms(rule), func(c *routeCompiler, field string) []config.Match { return c.grpcMatches(rule, field) }})
	}
	return t.compileRoute(r, rules, report)
}

// inHTTPTerms says the part of a rule that is the same for both kinds as a rule of an HTTPRoute.
func inHTTPTerms(r *gatewayv1.GRPCRouteRule) *gatewayv1.HTTPRouteRule {
	out := &gatewayv1.HTTPRouteRule{Name: r.Name, Filters: filtersInHTTPTerms(r.Filters), SessionPersistence: r.SessionPersistence}
	for i := range r.BackendRefs {
		b := &r.BackendRefs[i]
		out.BackendRefs = append(out.BackendRefs, gatewayv1.HTTPBackendRef{BackendRef: b.BackendRef, Filters: filtersInHTTPTerms(b.Filters)})
	}
	return out
}

func filtersInHTTPTerms(list []gatewayv1.GRPCRouteFilter) []gatewayv1.HTTPRouteFilter {
	var out []gatewayv1.HTTPRouteFilter
	for i := range list {
		f := &list[i]
		out = append(out, gatewayv1.HTTPRouteFilter{Type: gatewayv1.HTTPRouteFilterType(f.Type),
			RequestHeaderModifier: f.RequestHeaderModifier, ResponseHeaderModifier: f.ResponseHeaderModifier,
			RequestMirror: f.RequestMirror, ExtensionRef: f.ExtensionRef})
	}
	return out
}

// foreignFilter reports the filters of HTTPRoute that a GRPCRoute can't have.
func (o *routeObject) foreignFilter(t gatewayv1.HTTPRouteFilterType) bool {
	if o.kind != kindGRPCRoute {
		return false
	}
	switch gatewayv1.GRPCRouteFilterType(t) {
	case gatewayv1.GRPCRouteFilterRequestHeaderModifier, gatewayv1.GRPCRouteFilterResponseHeaderModifier,
		gatewayv1.GRPCRouteFilterRequestMirror, gatewayv1.GRPCRouteFilterExtensionRef:
		return false
	}
	return true
}

func (c *routeCompiler) grpcMatches(r *gatewayv1.GRPCRouteRule, field string) []config.Match {
	if len(r.Matches) == 0 {
		return anyMatch()
	}
	var out []config.Match
	for i := range r.Matches {
		m, where := &r.Matches[i], fmt.Sprintf("%s.matches[%d]", field, i)
		one := config.Match{Path: c.grpcMethodMatch(m.Method, where+".method")}
		for j, h := range m.Headers {
			one.Headers = c.headerMatch(one.Headers, fmt.Sprintf("%s.headers[%d]", where, j), string(h.Name), h.Value,
				string(ptr.Deref(h.Type, gatewayv1.GRPCHeaderMatchExact)))
		}
		out = append(out, one)
	}
	return out
}

// grpcMethodMatch compiles a match of service and method, which are the two segments of the path (gRPC over HTTP/2).
// Precedence is the Gateway API's: more characters of the service, then of the method. The number of characters of a
// pattern is its length; a service by its name comes before any pattern.
func (c *routeCompiler) grpcMethodMatch(m *gatewayv1.GRPCMethodMatch, field string) config.PathMatch {
	if m == nil {
		return anyMatch()[0].Path
	}
	service, method := ptr.Deref(m.Service, ""), ptr.Deref(m.Method, "")
	if service == "" && method == "" {
		c.defect(field, "name a service, a method, or both", "neither a service nor a method is given")
		return config.PathMatch{}
	}
	switch kind := ptr.Deref(m.Type, gatewayv1.GRPCMethodMatchExact); kind {
	case gatewayv1.GRPCMethodMatchExact:
		return c.grpcExact(service, method, field)
	case gatewayv1.GRPCMethodMatchRegularExpression:
		return c.grpcPattern(service, method, field)
	default:
		c.defect(field+".type", "use Exact or RegularExpression", "the type %q is not known", kind)
	}
	return config.PathMatch{}
}

func (c *routeCompiler) grpcExact(service, method, field string) config.PathMatch {
	if problem := grpcNameError(strings.TrimPrefix(service, "."), true); service != "" && problem != "" {
		c.defect(field+".service", "write the full name, such as helloworld.Greeter", "the service %q %s", clip(service), problem)
	}
	if problem := grpcNameError(method, false); method != "" && problem != "" {
		c.defect(field+".method", "write the name of a method, such as SayHello", "the method %q %s", clip(method), problem)
	}
	switch {
	case method == "":
		return config.PathMatch{Kind: config.PathPrefix, Value: "/" + service}
	case service == "":
		return config.PathMatch{Kind: config.PathGRPC, Value: "/[^/]+/" + method, Rank: uint32(len(method))}
	}
	return config.PathMatch{Kind: config.PathExact, Value: "/" + service + "/" + method}
}

// grpcNameError applies the rules of the Gateway API's schema to a method, or to a service, which has dots.
func grpcNameError(name string, dots bool) string {
	if len(name) > grpcNameBytesMax {
		return fmt.Sprintf("is longer than %d bytes", grpcNameBytesMax)
	}
	begins := true
	for i := range len(name) {
		switch c := name[i]; {
		case dots && c == '.' && !begins:
			begins = true
			continue
		case c != '_' && !isAlphanumeric(c), begins && c >= '0' && c <= '9':
			return fmt.Sprintf("has the character %q at byte %d, where names can't have it", c, i)
		}
		begins = false
	}
	if begins {
		return "ends where a name is expected"
	}
	return ""
}

func (c *routeCompiler) grpcPattern(service, method, field string) config.PathMatch {
	before := len(c.defects)
	part := func(pattern, name string) string {
		if pattern == "" {
			return "[^/]+"
		}
		if problem := c.regexes.check(pattern, grpcNameBytesMax); problem != "" {
			c.defect(field+"."+name, c.regexes.hint(problem, name), "the regular expression %q %s", clip(pattern), problem)
			return ""
		}
		if strings.Contains(pattern, `\Q`) { // left open it would swallow the parenthesis
			if parsed, err := syntax.Parse(pattern, syntax.Perl); err == nil {
				pattern = parsed.String()
			}
		}
		return "(?:" + pattern + ")"
	}
	whole := "/" + part(service, "service") + "/" + part(method, "method")
	if len(c.defects) > before {
		return config.PathMatch{}
	}
	if problem := c.regexes.check(whole, regexBytesMax); problem != "" {
		c.defect(field, "write shorter patterns", "service and method together make a regular expression that %s", problem)
	}
	return config.PathMatch{Kind: config.PathGRPC, Value: whole, Rank: uint32(len(service)*grpcServiceRank + len(method))}
}
