package translate

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"rauta.io/rauta/proxy/config"
)

// Reasons of config.Answer for rules that fail closed.
const (
	reasonUnsupportedFilter = "unsupported_filter"
	reasonInvalidFilter     = "invalid_filter"
	reasonInvalidRule       = "invalid_rule"
)

// compiledRoute is a route as far as it doesn't depend on the parent.
type compiledRoute struct {
	config   *config.Route   // never nil but for l4
	l4       *config.L4Route // of a route that knows no requests, in place of config
	accepted bool
	// message says why it is not accepted; partial why it is only in parts. At most one is set.
	message, partial string
	// ports of Services that the route leads to.
	ports []servicePort
	// refs is the first reason why a reference is not resolved, empty if all are.
	refs        gatewayv1.RouteConditionReason
	refsMessage string
}

// routeCompiler compiles one route whose rules are those of an HTTPRoute, or can be said in its terms.
type routeCompiler struct {
	t      *translator
	object *routeObject
	report reporter
	out    compiledRoute
	// defects of the rule at hand.
	defects []string
	regexes regexes
}

// routeRule is one rule: what all kinds of routes share, and what reads the matches, which they don't.
type routeRule struct {
	*gatewayv1.HTTPRouteRule
	matches func(c *routeCompiler, field string) []config.Match
}

// created is the creation time in Unix seconds, 0 if the object has none because it came from a file.
func created(o metav1.Object) int64 {
	at := o.GetCreationTimestamp()
	if at.IsZero() {
		return 0
	}
	return at.Unix()
}

// compileHTTPRoute compiles an HTTPRoute.
func (t *translator) compileHTTPRoute(r *routeObject, o *gatewayv1.HTTPRoute, report reporter) compiledRoute {
	rules := make([]routeRule, 0, len(o.Spec.Rules))
	for i := range o.Spec.Rules {
		rule := &o.Spec.Rules[i]
		rules = append(rules, routeRule{rule, func(c *routeCompiler, field string) []config.Match { return c.httpMatches(rule, field) }})
	}
	return t.compileRoute(r, rules, report)
}

// compileRoute compiles a route of any kind.
func (t *translator) compileRoute(o *routeObject, rules []routeRule, report reporter) compiledRoute {
	c := routeCompiler{t: t, object: o, report: report}
	c.out.config = &config.Route{
		Name:    strings.ToLower(o.kind) + "/" + o.GetNamespace() + "/" + o.GetName(),
		Source:  config.Source{Kind: o.kind, Namespace: o.GetNamespace(), Name: o.GetName()},
		Created: created(o),
	}
	if !c.begin() {
		return c.out
	}
	if len(rules) == 0 { // the default of the API: everything, to no back end
		rules = []routeRule{{&gatewayv1.HTTPRouteRule{}, func(*routeCompiler, string) []config.Match { return anyMatch() }}}
	}
	limits := limitsOf(o.kind, o)
	var bad, messages []string
	for i := range rules {
		c.defects = nil
		if rule := c.rule(rules[i], i); rule != nil {
			limits.apply(rule)
			c.out.config.Rules = append(c.out.config.Rules, *rule)
		}
		if len(c.defects) > 0 {
			bad = append(bad, strconv.Itoa(i))
			messages = append(messages, c.defects...)
		}
	}
	c.out.accepted = len(bad) < len(rules)
	switch text := strings.Join(messages, "; "); {
	case !c.out.accepted:
		c.out.message = text
	case len(bad) > 0:
		c.out.partial = "Dropped Rule(s) " + strings.Join(bad, ", ") + ": " + text
	}
	return c.out
}

// begin checks what routes of all kinds have. False means that the route can't be served at all.
func (c *routeCompiler) begin() bool {
	c.out.refsMessage = "all references are resolved"
	for i, h := range c.object.hostnames {
		if problem := hostnameError(string(h), true); problem != "" {
			c.defect(fmt.Sprintf("spec.hostnames[%d]", i), "write a name such as www.example.com or *.example.com",
				"%q %s; the route is not served", h, problem)
		}
	}
	if len(c.defects) > 0 {
		c.out.message = strings.Join(c.defects, "; ")
		return false
	}
	if scope := c.object.spec.UseDefaultGateways; scope != "" && scope != gatewayv1.GatewayDefaultScopeNone {
		c.report.warnf("spec.useDefaultGateways", "name the Gateway in parentRefs", "default Gateways are not supported yet")
	}
	return true
}

// defect reports a problem that makes the rule at hand invalid.
func (c *routeCompiler) defect(field, hint, format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	c.report.errorf(field, hint, "%s", message)
	c.defects = append(c.defects, field+": "+message)
}

func (c *routeCompiler) unresolved(reason gatewayv1.RouteConditionReason, field, hint, message string) {
	c.report.errorf(field, hint, "%s", message)
	if c.out.refs == "" {
		c.out.refs, c.out.refsMessage = reason, field+": "+message
	}
}

// rule compiles one rule. It returns nil if the matches are not valid: then nobody can say which requests it is for.
// If the matches are valid but what to do is not, the rule stays and answers 500, so that its requests don't fall
// through to a rule with less protection.
func (c *routeCompiler) rule(r routeRule, i int) *config.Rule {
	field := fmt.Sprintf("spec.rules[%d]", i)
	rule := &config.Rule{Name: strconv.Itoa(i)}
	if r.Name != nil && *r.Name != "" {
		rule.Name = c.ruleName(string(*r.Name), field, rule.Name)
	}
	rule.Matches = r.matches(c, field)
	if len(c.defects) > 0 {
		return nil
	}
	rule.Retry = c.retry(r.Retry, field+".retry")
	if r.SessionPersistence != nil {
		c.defect(field+".sessionPersistence", "remove it; "+annotationHashOn+" on the Service keeps clients on one endpoint",
			"session persistence is not supported yet; the rule is served without it")
	}
	fail := c.timeouts(r.HTTPRouteRule, field, rule)
	filters, failed := c.filters(r.HTTPRouteRule, field)
	if failed == "" {
		failed = fail
	}
	backends, ok := c.backends(r.HTTPRouteRule, field)
	if failed == "" && !ok {
		failed = reasonInvalidRule
	}
	if failed != "" {
		rule.Filters = []config.Filter{answerOf(failed)}
		return rule
	}
	rule.Filters, rule.Backends = filters, backends
	rule.Matches = withPreflights(rule)
	if len(backends) == 0 && !redirects(filters) {
		hint := "add a back end or a RequestRedirect filter"
		if c.object.kind == kindGRPCRoute {
			hint = "add a back end"
		}
		c.report.warnf(field+".backendRefs", hint,
			"the rule has no back end; its requests are answered 500")
	}
	return rule
}

// ruleName keeps names from posing as the index of another rule, which is the name of rules without one.
func (c *routeCompiler) ruleName(name, field, index string) string {
	if !validName(name) || strings.Trim(name, "0123456789") == "" {
		c.report.warnf(field+".name", "use lower-case letters, digits and '-'", "%q is not the name of a rule; it is ignored", clip(name))
		return index
	}
	return name
}

// answerStatus is what a rule that fails closed answers.
const answerStatus = 500

func redirects(filters []config.Filter) bool {
	for _, f := range filters {
		if f.Redirect != nil {
			return true
		}
	}
	return false
}

// parseDuration reads a Duration of the Gateway API (GEP-2257), ([0-9]{1,5}(h|m|s|ms)){1,4}, which is narrower than
// Go's: no sign, no fraction, no unit below a millisecond.
func parseDuration(text string) (time.Duration, bool) {
	const partsMax, digitsMax = 4, 5
	parts, digits := 0, 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c >= '0' && c <= '9':
			digits++
		case digits == 0 || digits > digitsMax || !strings.ContainsRune("hms", rune(c)):
			return 0, false
		default:
			if strings.HasPrefix(text[i:], "ms") {
				i++
			}
			parts, digits = parts+1, 0
		}
	}
	d, err := time.ParseDuration(text)
	return d, err == nil && parts >= 1 && parts <= partsMax
}

// timeouts returns the reason to fail closed, or "".
func (c *routeCompiler) timeouts(r *gatewayv1.HTTPRouteRule, field string, rule *config.Rule) string {
	if r.Timeouts == nil {
		return ""
	}
	valid := true
	read := func(d *gatewayv1.Duration, name string) config.Duration {
		if d == nil {
			return 0
		}
		v, ok := parseDuration(string(*d))
		if !ok {
			c.defect(field+".timeouts."+name, "write a duration such as 10s or 1m30s", "%q is not a duration", *d)
			valid = false
			return 0
		}
		if v == 0 {
			return config.NoTimeout
		}
		return config.Duration(v)
	}
	rule.Timeouts.Request = read(r.Timeouts.Request, "request")
	rule.Timeouts.BackendRequest = read(r.Timeouts.BackendRequest, "backendRequest")
	if valid && rule.Timeouts.Request > 0 && rule.Timeouts.BackendRequest > rule.Timeouts.Request {
		c.defect(field+".timeouts.backendRequest", "make it shorter than timeouts.request",
			"a single attempt can't take longer than the whole request")
		valid = false
	}
	if !valid {
		rule.Timeouts = config.Timeouts{}
		return reasonInvalidRule
	}
	return ""
}

// answerOf is the filter of a rule that fails closed.
func answerOf(reason string) config.Filter {
	return config.Filter{Answer: &config.Answer{Status: answerStatus, Reason: reason}}
}
