package translate

import (
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/utils/ptr"

	"rauta.io/rauta/proxy/config"
)

const (
	// ingressListener is the config.Listener that all Ingresses attach to.
	ingressListener = "ingress"
	// annotationIngressClass is the class selection from before spec.ingressClassName.
	annotationIngressClass = "kubernetes.io/ingress.class"
)

// ingresses compiles the Ingresses of RAUTA's class and attaches them to one listener, which exists if any of them does,
// and for the hosts of their tls sections to a second one with HTTPS.
func (t *translator) ingresses() {
	var ours []*networkingv1.Ingress
	for _, o := range t.in.ingresses {
		if t.oursIngress(o) {
			ours = append(ours, o)
		}
	}
	if len(ours) == 0 {
		return
	}
	hosts := t.ingressTLS(ours)
	clients := t.ingressClients(ours)
	clients.secure(hosts)
	nginx := t.ingressNginx(ours)
	plain := config.Listener{Name: ingressListener, Port: t.opt.HTTPPort, Protocol: config.ProtocolHTTP}
	secure := config.Listener{Name: ingressTLSListener, Port: t.opt.HTTPSPort, Protocol: config.ProtocolHTTPS, TLS: hosts.compile()}
	compiled := make([]ingressOf, 0, len(ours))
	for _, o := range ours {
		one := ingressOf{o, t.compileIngress(o, nginx)}
		compiled = append(compiled, one)
		for _, r := range one.routes {
			t.config.Routes = append(t.config.Routes, r.config)
			attachment := config.Attachment{Route: r.config.Name, Hostnames: []string{r.host}, OneLabel: strings.HasPrefix(r.host, "*.")}
			if clients.refused[ingressPart{o, r.host}] {
				continue
			}
			if clients.of(r.host) == nil {
				plain.Attached = append(plain.Attached, attachment)
			}
			if hosts.serve(r.host) {
				secure.Attached = append(secure.Attached, attachment)
			}
		}
		t.statuses.Ingresses = append(t.statuses.Ingresses, IngressStatus{Namespace: o.Namespace, Name: o.Name,
			Status: networkingv1.IngressStatus{LoadBalancer: networkingv1.IngressLoadBalancerStatus{Ingress: ingressAddresses(t.opt.Addresses)}}})
	}
	t.reportSame(compiled, clients)
	t.closeGaps(clients, hosts, &plain, &secure)
	t.openForIngresses(plain, ours, func(*networkingv1.Ingress) bool { return true })
	if len(hosts) > 0 {
		t.openForIngresses(secure, ours, func(o *networkingv1.Ingress) bool { return len(o.Spec.TLS) > 0 })
	}
}

// openForIngresses publishes a listener that Ingresses share, unless a Gateway speaks another protocol on its port.
func (t *translator) openForIngresses(l config.Listener, ours []*networkingv1.Ingress, affected func(*networkingv1.Ingress) bool) {
	use, taken := t.ports[portKey{port: l.Port}]
	owner := use.names[l.Hostname]
	if !taken || use.protocol.Family() == l.Protocol.Family() && (owner == nil || !owner.differs(nameUse{protocol: l.Protocol, clients: clientsOf(l.TLS)})) {
		l.ProxyProtocol = use.proxy
		t.config.Listeners = append(t.config.Listeners, l)
		return
	}
	for _, o := range ours {
		if affected(o) {
			t.reporter("Ingress", o).errorf("spec", "use another port in the Gateway, or for Ingresses",
				"Gateway %s uses port %d with protocol %s; the Ingress is not served over %s", use.gateway, l.Port, use.owner(l.Hostname), l.Protocol)
		}
	}
}

// oursIngress decides by spec.ingressClassName, then the legacy annotation, then the default class.
func (t *translator) oursIngress(o *networkingv1.Ingress) bool {
	if name := ptr.Deref(o.Spec.IngressClassName, ""); name != "" {
		class := t.in.ingressClasses[name]
		byName := class == nil && name == t.opt.IngressClass && !t.opt.ClassObjects
		if class == nil && !byName {
			t.reporter("Ingress", o).warnf("spec.ingressClassName",
				fmt.Sprintf("add an IngressClass of this name with spec.controller %s", t.opt.IngressControllerName),
				"there is no IngressClass %q; the Ingress is ignored", name)
		}
		return t.oursClass(class) || byName
	}
	if name, set := o.Annotations[annotationIngressClass]; set {
		return name == t.opt.IngressClass || t.oursClass(t.in.ingressClasses[name])
	}
	if t.opt.WatchIngressWithoutClass {
		return true
	}
	foreign := false
	for _, c := range t.in.ingressClasses {
		if t.oursClass(c) && c.Annotations[networkingv1.AnnotationIsDefaultIngressClass] == "true" {
			return true
		}
		foreign = foreign || !t.oursClass(c)
	}
	if !foreign {
		t.reporter("Ingress", o).warnf("spec.ingressClassName", fmt.Sprintf("set it to %q", t.opt.IngressClass),
			"the Ingress names no class and there is no default class of RAUTA; it is ignored")
	}
	return false
}

func (t *translator) oursClass(c *networkingv1.IngressClass) bool {
	return c != nil && c.Spec.Controller == t.opt.IngressControllerName
}

// hostRoute is the part of an Ingress for one host: the hosts of an Ingress have different paths, and a route's rules
// are reachable under all of its hosts.
type hostRoute struct {
	host   string
	config *config.Route
	fields []string // where each rule stands in the Ingress
}

// defaultBackendField is where the default back end of an Ingress stands.
const defaultBackendField = "spec.defaultBackend"

// ingressCompiler compiles one Ingress.
type ingressCompiler struct {
	t      *translator
	object *networkingv1.Ingress
	report reporter
	limits ruleLimits
	mirror *config.Mirror // nil for none
	nginx  *ingressNginx
	routes []*hostRoute
}

func (t *translator) compileIngress(o *networkingv1.Ingress, nginx *ingressNginx) []*hostRoute {
	c := ingressCompiler{t: t, object: o, report: t.reporter("Ingress", o), limits: limitsOf(kindIngress, o), nginx: nginx}
	if !c.reportNginx() {
		return nil
	}
	c.mirror = c.mirrorTarget()
	for i := range o.Spec.Rules {
		c.rule(&o.Spec.Rules[i], i)
	}
	if o.Spec.DefaultBackend != nil {
		c.add("", defaultBackendField, config.Rule{Name: "default", Matches: []config.Match{{Path: config.PathMatch{Kind: config.PathPrefix, Value: "/"}}},
			Backends: c.backend(o.Spec.DefaultBackend, defaultBackendField)})
	}
	if len(o.Spec.Rules) == 0 && o.Spec.DefaultBackend == nil {
		c.report.warnf("spec", "add rules or a defaultBackend", "the Ingress has neither rules nor a defaultBackend")
	}
	return c.routes
}

// add puts a rule, which stands in a field of the Ingress, into the route of a host. The host is part of the route's name whenever there is one, so that adding
// another host doesn't rename anything.
func (c *ingressCompiler) add(host, field string, rule config.Rule) {
	c.limits.apply(&rule)
	if c.mirror != nil {
		rule.Filters = append(rule.Filters, config.Filter{Mirror: c.mirror})
	}
	if c.refuses(host, field) {
		rule.Filters = []config.Filter{answerOf(reasonUnsupportedAnnotation)}
	}
	if c.redirects(host) {
		rule.Filters = append([]config.Filter{{RequireHTTPS: c.t.opt.requireHTTPS()}}, rule.Filters...)
	}
	for _, r := range c.routes {
		if r.host == host {
			r.config.Rules = append(r.config.Rules, rule)
			r.fields = append(r.fields, field)
			return
		}
	}
	o := c.object
	name := "ingress/" + o.Namespace + "/" + o.Name
	if host != "" {
		name += "/" + host
	}
	c.routes = append(c.routes, &hostRoute{host: host, fields: []string{field}, config: &config.Route{
		Name:    name,
		Source:  config.Source{Kind: "Ingress", Namespace: o.Namespace, Name: o.Name},
		Created: created(o),
		Rules:   []config.Rule{rule},
	}})
}

func (c *ingressCompiler) rule(r *networkingv1.IngressRule, i int) {
	field := fmt.Sprintf("spec.rules[%d]", i)
	if r.Host != "" {
		if problem := hostnameError(r.Host, true); problem != "" {
			c.report.errorf(field+".host", "write a name such as www.example.com or *.example.com",
				"the host %q %s; the rule is left out", r.Host, problem)
			return
		}
	}
	if r.HTTP == nil {
		// Everything for this host goes to the default back end.
		if c.object.Spec.DefaultBackend != nil {
			c.add(r.Host, field, config.Rule{Name: strconv.Itoa(i),
				Matches:  []config.Match{{Path: config.PathMatch{Kind: config.PathPrefix, Value: "/"}}},
				Backends: c.backend(c.object.Spec.DefaultBackend, defaultBackendField)})
		} else {
			c.report.warnf(field+".http", "add paths or a defaultBackend", "the rule has no paths and is left out")
		}
		return
	}
	for j := range r.HTTP.Paths {
		p := &r.HTTP.Paths[j]
		where := fmt.Sprintf("%s.http.paths[%d]", field, j)
		if match, ok := c.path(p, where); ok {
			c.add(r.Host, where, config.Rule{Name: fmt.Sprintf("%d.%d", i, j), Matches: []config.Match{{Path: match}},
				Backends: c.backend(&p.Backend, where+".backend")})
		}
	}
}

func (c *ingressCompiler) path(p *networkingv1.HTTPIngressPath, field string) (config.PathMatch, bool) {
	kind := ptr.Deref(p.PathType, networkingv1.PathTypeImplementationSpecific)
	value := p.Path
	if value == "" && kind != networkingv1.PathTypeExact {
		value = "/"
	}
	if problem := pathError(value); problem != "" {
		hint := "write the path as it appears in a request line"
		if kind == networkingv1.PathTypeImplementationSpecific {
			hint = "regular expressions are not supported in an Ingress; use an HTTPRoute with path type RegularExpression"
		}
		c.report.errorf(field+".path", hint, "the path %q %s; it is left out", value, problem)
		return config.PathMatch{}, false
	}
	switch kind {
	case networkingv1.PathTypeExact:
		return config.PathMatch{Kind: config.PathExact, Value: value}, true
	case networkingv1.PathTypePrefix:
		return config.PathMatch{Kind: config.PathPrefix, Value: value}, true
	case networkingv1.PathTypeImplementationSpecific:
		if strings.ContainsAny(value, "*()$+") {
			c.report.warnf(field+".path", "use an HTTPRoute with path type RegularExpression if a pattern is meant",
				"the path %q is compared as plain text, although it looks like a pattern", value)
		}
		return config.PathMatch{Kind: config.PathPrefix, Value: value}, true
	}
	c.report.errorf(field+".pathType", "use Exact, Prefix or ImplementationSpecific", "the path type %q is not known; the path is left out", kind)
	return config.PathMatch{}, false
}

// backend resolves the Service of a path. If it can't, the path answers 500: falling through to another path would
// show the wrong application.
func (c *ingressCompiler) backend(b *networkingv1.IngressBackend, field string) []config.Backend {
	if b.Service == nil {
		c.report.errorf(field+".resource", "use a service", "back ends other than Services are not supported; requests are answered 500")
		return []config.Backend{{Weight: 1, Invalid: invalidKind}}
	}
	leads, failure := c.service(b.Service)
	if failure != nil {
		c.report.errorf(field+".service", failure.hint, "%s; requests are answered 500", failure.message)
		return []config.Backend{{Weight: 1, Invalid: failure.invalid}}
	}
	return []config.Backend{leads}
}

// service resolves a port of a Service.
func (c *ingressCompiler) service(s *networkingv1.IngressServiceBackend) (config.Backend, *refFailure) {
	port := s.Port
	wanted, described := func(p *corev1.ServicePort) bool { return p.Port == port.Number }, strconv.Itoa(int(port.Number))
	if port.Name != "" {
		wanted, described = func(p *corev1.ServicePort) bool { return p.Name == port.Name }, strconv.Quote(port.Name)
	}
	var ports []servicePort
	defer func() { c.t.use(nil, ports) }()
	return c.t.cluster(key{c.object.Namespace, s.Name}, wanted, described, backendUse{
		transport: corev1.ProtocolTCP, ports: &ports, asked: c.object.Annotations[annotationBackendProtocol],
	})
}

// mirrorTarget is where the annotation sends copies; nil for nowhere.
func (c *ingressCompiler) mirrorTarget() *config.Mirror {
	value, set := c.object.Annotations[annotationMirror]
	name, port, err := parseMirror(value)
	if !set || err != nil {
		return nil
	}
	service := &networkingv1.IngressServiceBackend{Name: name}
	if number, err := strconv.ParseUint(port, 10, 16); err == nil {
		service.Port.Number = int32(number)
	} else {
		service.Port.Name = port
	}
	b, failure := c.service(service)
	if failure != nil {
		c.report.errorf("metadata.annotations["+annotationMirror+"]", failure.hint, "%s; the requests are served without the mirror", failure.message)
		return nil
	}
	return &config.Mirror{Cluster: b.Cluster}
}
