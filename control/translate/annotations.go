package translate

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"rauta.io/rauta/proxy/config"
)

// annotationPrefix is common to all annotations of ours.
const annotationPrefix = "rauta.io/"

// Annotation names.
const (
	annotationClientCA        = annotationPrefix + "client-ca"
	annotationClientVerify    = annotationPrefix + "client-verify"
	annotationClientDepth     = annotationPrefix + "client-depth"
	annotationClientFacts     = annotationPrefix + "client-forward"
	annotationHSTS            = annotationPrefix + "hsts"
	annotationSSLRedirect     = annotationPrefix + "ssl-redirect"
	annotationIdleTimeout     = annotationPrefix + "idle-timeout"
	annotationLoadBalancer    = annotationPrefix + "load-balancer"
	annotationHashOn          = annotationPrefix + "hash-on"
	annotationConnectTimeout  = annotationPrefix + "connect-timeout"
	annotationMaxConnections  = annotationPrefix + "max-connections"
	annotationMaxPending      = annotationPrefix + "max-pending"
	annotationMaxBodySize     = annotationPrefix + "max-body-size"
	annotationRequestTimeout  = annotationPrefix + "request-timeout"
	annotationResponseTimeout = annotationPrefix + "response-timeout"
	annotationTunnelIdle      = annotationPrefix + "tunnel-idle-timeout"
	annotationProxyProtocol   = annotationPrefix + "proxy-protocol-from"
)

// Kinds of objects.
const (
	kindService   = "Service"
	kindHTTPRoute = "HTTPRoute"
	kindGRPCRoute = "GRPCRoute"
	kindTLSRoute  = "TLSRoute"
	kindTCPRoute  = "TCPRoute"
	kindUDPRoute  = "UDPRoute"
	kindIngress   = "Ingress"
	kindGateway   = "Gateway"

	kindListenerSet      = "ListenerSet"
	kindBackendTLSPolicy = "BackendTLSPolicy"
)

// Annotation is one row of the table of annotations.
type Annotation struct {
	Name  string
	Kinds []string
	// Type says how a value is written.
	Type string
	// Default applies without the annotation.
	Default string
	// OnInvalid applies, besides an error, when the value can't be read.
	OnInvalid string
	Doc       string
	// validate returns what is wrong with a value.
	validate func(value string) error
	// admits is the same as an expression of CEL that is true of values without fault, for the API server: see admission.go.
	admits string
}

const (
	// annotationDurationMax bounds timeouts: beyond it a typing error is more likely than intent.
	annotationDurationMax = 24 * time.Hour
	// countMax bounds connection and queue limits: more sockets than that don't fit one node.
	countMax = 1_000_000
	// invalidBodyBytesMax is the body limit that stands in for one that can't be read. Whoever wrote it wanted a limit.
	invalidBodyBytesMax = 1 << 20
	// invalidCountMax is the same for connections and queued requests to one endpoint.
	invalidCountMax = 1024
	// proxyProtocolCIDRsMax bounds the list that is searched for every new connection.
	proxyProtocolCIDRsMax = 64
)

// Annotations is the table of all annotations, by name. docs/annotations.md and deploy/base/admission.yaml are made from it.
func Annotations() []Annotation {
	service, route := []string{kindService}, []string{kindHTTPRoute, kindGRPCRoute, kindIngress}
	bare := []string{kindGRPCRoute, kindIngress} // the API has no field or filter there
	all := slices.Concat(backendAnnotations(service), clientAnnotations(), serviceAnnotations(service), routeAnnotations(route),
		corsAnnotations(bare), retryAnnotations(bare), []Annotation{mirrorAnnotation(), traceAnnotation(route)})
	slices.SortFunc(all, func(a, b Annotation) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func serviceAnnotations(service []string) []Annotation {
	return []Annotation{{
		Name: annotationConnectTimeout, Kinds: service, Type: "duration from 1ms to 24h, such as 500ms",
		Default: "5s", OnInvalid: "the default",
		Doc:      "How long a new connection to an endpoint may take before another endpoint is tried.",
		admits:   celDuration(false),
		validate: func(v string) error { _, err := parseTimeout(v, false); return err },
	}, {
		Name: annotationHashOn, Kinds: service, Type: "`source-ip`, `header:NAME`, `cookie:NAME` or `path`",
		Default: "`source-ip` with load-balancer `maglev`", OnInvalid: "the default",
		Doc: "What decides about the endpoint, so that the same client or object stays on the same one. Implies " +
			"load-balancer `maglev`. A request without the header or cookie is spread at random.",
		admits:   celHashOn,
		validate: func(v string) error { _, err := parseHashOn(v); return err },
	}, {
		Name: annotationLoadBalancer, Kinds: service, Type: "`p2c`, `round-robin`, `random` or `maglev`",
		Default: "`p2c`, or `maglev` with hash-on", OnInvalid: "the default",
		Doc: "How an endpoint is picked: the less busy of two random ones, in turn, at random, or by consistent hashing " +
			"of what hash-on names.",
		admits:   celOneOf("p2c", "round-robin", "random", "maglev"),
		validate: func(v string) error { _, err := parsePolicy(v); return err },
	}, {
		Name: annotationMaxConnections, Kinds: service, Type: "number from 0 to 1000000; 0 means no limit",
		Default: "no limit", OnInvalid: "1024",
		Doc:      "Connections to one endpoint, over all workers of one RAUTA.",
		admits:   celNumber(0, countMax),
		validate: func(v string) error { _, err := parseCount(v, 0); return err },
	}, {
		Name: annotationMaxPending, Kinds: service, Type: "number from 1 to 1000000",
		Default: "1024", OnInvalid: "the default",
		Doc:      "Requests of one worker that may wait for a connection to one endpoint; further ones are answered 503.",
		admits:   celNumber(1, countMax),
		validate: func(v string) error { _, err := parseCount(v, 1); return err },
	}}
}

// routeAnnotations are those of routes, and of what they are attached to.
func routeAnnotations(route []string) []Annotation {
	return []Annotation{{
		Name: annotationHSTS, Kinds: route, Type: "`max-age=SECONDS`, then `; includeSubDomains` and `; preload` if wanted",
		Default: "no Strict-Transport-Security", OnInvalid: "the default",
		Doc: "Strict-Transport-Security of responses over HTTPS, RAUTA's own answers included, instead of what the back end " +
			"says. Responses over plain HTTP have none.",
		admits:   celHSTS,
		validate: func(v string) error { _, err := config.ParseHSTS(v); return err },
	}, {
		Name: annotationIdleTimeout, Kinds: []string{kindTLSRoute, kindTCPRoute, kindUDPRoute},
		Type: "duration from 1ms to 24h; 0s means none", Default: "1h, for a UDPRoute 60s", OnInvalid: "the default",
		Doc: "How long a connection, or the datagrams of one client, may be silent in both directions before RAUTA forgets " +
			"about it.",
		admits:   celDuration(true),
		validate: func(v string) error { _, err := parseTimeout(v, true); return err },
	}, {
		Name: annotationMaxBodySize, Kinds: route, Type: "quantity of bytes such as 512Ki or 10Mi; 0 means no limit",
		Default: "no limit", OnInvalid: "1Mi, so that a typing error doesn't lift the limit",
		Doc:      "Largest request body; a larger one is answered 413.",
		admits:   celBytes,
		validate: func(v string) error { _, err := parseBytes(v); return err },
	}, {
		Name: annotationProxyProtocol, Kinds: []string{kindGateway}, Type: "comma-separated list of up to 64 CIDRs",
		Default: "no PROXY protocol", OnInvalid: "the Gateway is not accepted, because either guess would be unsafe",
		Doc: "Addresses of the load balancers in front. Connections from there must begin with a PROXY protocol header " +
			"(version 1 or 2), others are refused. All Gateways on a port must agree.",
		admits:   celCIDRs,
		validate: func(v string) error { _, err := parseCIDRs(v); return err },
	}, {
		Name: annotationRequestTimeout, Kinds: route, Type: "duration from 1ms to 24h; 0s means none",
		Default: "none", OnInvalid: "the default",
		Doc: "Time from the end of the request head to the end of the response; crossing it is answered 504. It also caps " +
			"the `grpc-timeout` of a gRPC call. `timeouts.request` of a rule comes first.",
		admits:   celDuration(true),
		validate: func(v string) error { _, err := parseTimeout(v, true); return err },
	}, {
		Name: annotationResponseTimeout, Kinds: route, Type: "duration from 1ms to 24h; 0s means none",
		Default: "60s, none for gRPC", OnInvalid: "the default",
		Doc:      "Time from the end of the request to the head of the response; crossing it is answered 504.",
		admits:   celDuration(true),
		validate: func(v string) error { _, err := parseTimeout(v, true); return err },
	}, {
		Name: annotationSSLRedirect, Kinds: []string{kindIngress}, Type: "`true`, `false` or `force`",
		Default: "`true`", OnInvalid: "the default",
		Doc: "Whether requests over plain HTTP are redirected to HTTPS with 308: those for hosts in the Ingress's `tls` " +
			"section, all of them with `force`, or none. What a trusted proxy says in X-Forwarded-Proto counts. With Gateway API " +
			"use a RequestRedirect.",
		admits:   celOneOf("true", "false", "force"),
		validate: func(v string) error { _, err := parseSSLRedirect(v); return err },
	}, {
		Name: annotationTunnelIdle, Kinds: route, Type: "duration from 1ms to 24h; 0s means none",
		Default: "none", OnInvalid: "the default",
		Doc: "How long both ends of a tunnel, such as a WebSocket, may be silent before it is closed. Pings count as a sign " +
			"of life.",
		admits:   celDuration(true),
		validate: func(v string) error { _, err := parseTimeout(v, true); return err },
	}}
}

// checkAnnotations reports unknown names, wrong kinds and values that can't be read. The places that use a value fall
// back on their own.
func (t *translator) checkAnnotations() {
	table := t.annotationTable()
	for _, o := range t.in.classes {
		t.checkAnnotationsOf("GatewayClass", o, table)
	}
	for _, o := range t.in.gateways {
		t.checkAnnotationsOf(kindGateway, o, table)
	}
	for _, o := range t.routesKnown.list.byName {
		t.checkAnnotationsOf(o.kind, o, table)
	}
	for _, o := range t.in.ingresses {
		t.checkAnnotationsOf(kindIngress, o, table)
	}
	for _, name := range slices.Sorted(maps.Keys(t.in.ingressClasses)) {
		t.checkAnnotationsOf("IngressClass", t.in.ingressClasses[name], table)
	}
	for _, o := range t.in.serviceList {
		t.checkAnnotationsOf(kindService, o, table)
	}
	for _, name := range slices.Sorted(maps.Keys(t.in.namespaces)) {
		t.checkAnnotationsOf("Namespace", t.in.namespaces[name], table)
	}
}

// annotationTable are the annotations by name.
func (t *translator) annotationTable() map[string]Annotation {
	if t.annotations == nil {
		t.annotations = map[string]Annotation{}
		for _, a := range Annotations() {
			t.annotations[a.Name] = a
		}
	}
	return t.annotations
}

// anyWith spares sorting those of kubectl, which nearly every object has.
func anyWith(prefix string, annotations map[string]string) bool {
	for name := range annotations {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

func (t *translator) checkAnnotationsOf(kind string, o metav1.Object, table map[string]Annotation) {
	values := o.GetAnnotations()
	if !anyWith(annotationPrefix, values) {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		value := values[name]
		if !strings.HasPrefix(name, annotationPrefix) {
			continue
		}
		report, field := t.reporter(kind, o), "metadata.annotations["+name+"]"
		a, known := table[name]
		if !known {
			report.warnf(field, "use one of "+strings.Join(slices.Sorted(maps.Keys(table)), ", "), "there is no annotation %q; it is ignored", name)
			continue
		}
		if !slices.Contains(a.Kinds, kind) {
			report.warnf(field, "set it on "+strings.Join(a.Kinds, " or "), "the annotation has no effect on objects of kind %s", kind)
			continue
		}
		if err := a.validate(value); err != nil {
			report.errorf(field, "expected: "+strings.ReplaceAll(a.Type, "`", ""), "%q %s; in effect is: %s", value, err, strings.ReplaceAll(a.OnInvalid, "`", ""))
		}
	}
}

// clusterAnnotations applies the annotations of a Service.
func (t *translator) clusterAnnotations(svc *corev1.Service, c *config.Cluster) {
	values := svc.Annotations
	hash, hashed := values[annotationHashOn]
	policy, err := parsePolicy(values[annotationLoadBalancer])
	if err == nil {
		c.Policy = policy
	} else if hashed && values[annotationLoadBalancer] == "" {
		c.Policy = config.PolicyMaglev
	}
	if c.Policy == config.PolicyMaglev {
		c.HashOn = &config.HashOn{Kind: config.HashSourceIP}
		if on, err := parseHashOn(hash); err == nil {
			c.HashOn = &on
		}
	} else if hashed {
		t.reporter(kindService, svc).errorf("metadata.annotations["+annotationHashOn+"]",
			"set "+annotationLoadBalancer+" to maglev or remove it", "hash-on has no effect with load-balancer %s", c.Policy)
	}
	if d, err := parseTimeout(values[annotationConnectTimeout], false); err == nil {
		c.ConnectTimeout = d
	}
	if v, set := values[annotationMaxConnections]; set {
		c.ConnectionsMax = countOr(v, 0, invalidCountMax)
	}
	if v, set := values[annotationMaxPending]; set {
		c.PendingMax = countOr(v, 1, 0)
	}
}

// ruleLimits are the annotations that apply to every rule of an object.
type ruleLimits struct {
	bodyBytesMax      int64
	hsts              string
	request, response config.Duration
	tunnelIdle        config.Duration
	cors              *config.CORS
	retry             *config.Retry
	traceSampling     *float64
}

func limitsOf(kind string, o metav1.Object) ruleLimits {
	var out ruleLimits
	values := o.GetAnnotations()
	if kind != kindHTTPRoute { // which says it in its rules
		out.cors, out.retry = corsOf(values), retryOf(values)
	}
	if v, set := values[annotationMaxBodySize]; set {
		n, err := parseBytes(v)
		if err != nil {
			n = invalidBodyBytesMax
		}
		out.bodyBytesMax = n
	}
	if v, set := values[annotationHSTS]; set {
		out.hsts, _ = config.ParseHSTS(v)
	}
	if d, err := parseTimeout(values[annotationRequestTimeout], true); err == nil {
		out.request = d
	}
	if d, err := parseTimeout(values[annotationResponseTimeout], true); err == nil {
		out.response = d
	}
	if d, err := parseTimeout(values[annotationTunnelIdle], true); err == nil {
		out.tunnelIdle = d
	}
	if percent, err := parsePercentage(values[annotationTraceSampling]); err == nil {
		out.traceSampling = &percent
	}
	return out
}

func (l ruleLimits) apply(r *config.Rule) {
	r.BodyBytesMax = l.bodyBytesMax
	if l.hsts != "" {
		r.Filters = append(r.Filters, config.Filter{HSTS: &config.HSTS{Value: l.hsts}})
	}
	r.Timeouts.Response = l.response
	if r.Timeouts.Request == 0 {
		r.Timeouts.Request = l.request
	}
	r.Timeouts.TunnelIdle = l.tunnelIdle
	r.TraceSampling = l.traceSampling
	if l.cors != nil {
		r.Filters = slices.Insert(r.Filters, 0, config.Filter{CORS: l.cors})
		r.Matches = withPreflights(r)
	}
	if l.retry != nil {
		r.Retry = l.retry
	}
}

// proxyProtocol reads the annotation of a Gateway and refuses the Gateway if it can't.
func (t *translator) proxyProtocol(g *gateway) *config.ProxyProtocol {
	value, set := g.object.Annotations[annotationProxyProtocol]
	if !set {
		return nil
	}
	cidrs, err := parseCIDRs(value)
	if err != nil {
		if g.refused == "" {
			g.refused = gatewayv1.GatewayReasonInvalidParameters
			g.refusedReason = fmt.Sprintf("metadata.annotations[%s]: %q %s", annotationProxyProtocol, value, err)
		}
		return nil
	}
	return &config.ProxyProtocol{From: cidrs}
}

// sslRedirect is a value of the annotation.
type sslRedirect string

const (
	sslRedirectOfTLS sslRedirect = "true"
	sslRedirectNever sslRedirect = "false"
	sslRedirectForce sslRedirect = "force"
)

func parseSSLRedirect(v string) (sslRedirect, error) {
	switch r := sslRedirect(v); r {
	case sslRedirectOfTLS, sslRedirectNever, sslRedirectForce:
		return r, nil
	}
	return sslRedirectOfTLS, errors.New("is not true, false or force")
}

func parsePolicy(v string) (config.Policy, error) {
	switch p := config.Policy(v); p {
	case config.PolicyP2C, config.PolicyRoundRobin, config.PolicyRandom, config.PolicyMaglev:
		return p, nil
	}
	return "", errors.New("is not a way to pick endpoints")
}

func parseHashOn(v string) (config.HashOn, error) {
	kind, name, named := strings.Cut(v, ":")
	out := config.HashOn{Kind: config.HashKind(kind), Name: name}
	switch out.Kind {
	case config.HashSourceIP, config.HashPath:
		if named {
			return out, errors.New("takes no name")
		}
		return out, nil
	case config.HashHeader, config.HashCookie:
		if problem := tokenError(name); problem != "" {
			return out, fmt.Errorf("has a name that %s", problem)
		}
		if out.Kind == config.HashHeader {
			out.Name = strings.ToLower(name)
		}
		return out, nil
	}
	return out, errors.New("is not something to hash")
}

func parseTimeout(v string, none bool) (config.Duration, error) {
	d, err := time.ParseDuration(v)
	switch {
	case err != nil:
		return 0, errors.New("is not a duration")
	case d == 0 && none:
		return config.NoTimeout, nil
	case d < time.Millisecond || d > annotationDurationMax:
		return 0, errors.New("is out of range")
	}
	return config.Duration(d), nil
}

func parseBytes(v string) (int64, error) {
	q, err := resource.ParseQuantity(v)
	if err != nil {
		return 0, errors.New("is not a quantity")
	}
	n, exact := q.AsInt64()
	if !exact || n < 0 {
		return 0, errors.New("is not a whole number of bytes")
	}
	return n, nil
}

func parseCount(v string, least int) (int, error) { return parseNumber(v, least, countMax) }

func countOr(v string, least, otherwise int) int {
	if n, err := parseCount(v, least); err == nil {
		return n
	}
	return otherwise
}

func parseCIDRs(v string) ([]string, error) {
	var out []string
	for part := range strings.SplitSeq(v, ",") {
		part = strings.TrimSpace(part)
		p, err := netip.ParsePrefix(part)
		if err != nil || p.Masked() != p {
			return nil, fmt.Errorf("has the entry %q, which is not a CIDR such as 10.0.0.0/8", part)
		}
		out = append(out, p.String())
	}
	if len(out) > proxyProtocolCIDRsMax {
		return nil, fmt.Errorf("has more than %d entries", proxyProtocolCIDRsMax)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}
