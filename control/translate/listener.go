package translate

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"rauta.io/rauta/proxy/config"
)

const portMax = 65535

// listener is one listener of a Gateway while its status is being worked out.
type listener struct {
	gateway  *gateway
	owner    metav1.Object // that it is written in: the Gateway, or a ListenerSet
	kind     string        // of owner
	report   reporter      // of owner
	spec     *gatewayv1.Listener
	field    string // "spec.listeners[0]"
	hostname string
	kinds    []gatewayv1.RouteGroupKind
	from     namespaceFilter

	// Why the listener is refused; empty if it is not. The first reason stays.
	refused, refusedMessage       string
	conflict, conflictMessage     string
	unresolved, unresolvedMessage string

	clients      clientOptions
	tls          *config.TLS    // of a listener that terminates TLS and can be served
	passthrough  bool           // TLS is forwarded as it comes
	certificates []*certificate // those that can be used
	shut         bool           // refused because what tls asks for can't be enforced
	overlaps     bool           // another listener with TLS on the port has a hostname that meets this one

	index       int // in translator.all
	attached    int32
	attachments []config.Attachment
	claims      claims
}

// reasonInvalidOption is for options of tls that can't be read.
const reasonInvalidOption = gatewayv1.ListenerReasonUnsupportedValue

// servable reports whether the listener opens a port.
func (l *listener) servable() bool { return l.valid() && len(l.gateway.addresses) > 0 }

// valid reports whether there is nothing wrong with what the listener asks for.
func (l *listener) valid() bool {
	secured := l.tls != nil || l.passthrough
	return l.gateway.refused == "" && l.refused == "" && l.conflict == "" && (secured || !l.wantsTLS())
}

func (l *listener) wantsTLS() bool {
	return l.spec.Protocol == gatewayv1.HTTPSProtocolType || l.spec.Protocol == gatewayv1.TLSProtocolType
}

// programmed reports whether clients can get an answer. A listener without a usable certificate has a port, which
// refuses every handshake for its hostname: otherwise another listener on the port would take its clients.
func (l *listener) programmed() bool { return l.servable() && l.usable() }

// usable reports whether clients could get an answer if there were an address.
func (l *listener) usable() bool { return l.valid() && (l.tls == nil || len(l.certificates) > 0) }

func (l *listener) protocol() config.Protocol {
	switch l.spec.Protocol {
	case gatewayv1.HTTPSProtocolType:
		return config.ProtocolHTTPS
	case gatewayv1.TLSProtocolType:
		return config.ProtocolTLS
	case gatewayv1.TCPProtocolType:
		return config.ProtocolTCP
	case gatewayv1.UDPProtocolType:
		return config.ProtocolUDP
	}
	return config.ProtocolHTTP
}

func (l *listener) port() uint16 { return uint16(l.spec.Port) }

func (l *listener) reject(reason gatewayv1.ListenerConditionReason, field, hint, message string) {
	l.report.errorf(l.field+"."+field, hint, "%s", message)
	if l.refused == "" {
		l.refused, l.refusedMessage = string(reason), message
	}
}

func (l *listener) leaveUnresolved(reason gatewayv1.ListenerConditionReason, field, hint, message string) {
	l.report.errorf(l.field+"."+field, hint, "%s", message)
	if l.unresolved == "" {
		l.unresolved, l.unresolvedMessage = string(reason), message
	}
}

// listenersOf reads the listeners of a Gateway, or of a ListenerSet that belongs to it.
func (t *translator) listenersOf(g *gateway, kind string, owner metav1.Object, specs []gatewayv1.Listener) []*listener {
	var out []*listener
	report := t.reporter(kind, owner)
	seen := map[gatewayv1.SectionName]bool{}
	for i := range specs {
		field := fmt.Sprintf("spec.listeners[%d]", i)
		if seen[specs[i].Name] {
			report.errorf(field+".name", "give each listener a name of its own",
				"the name %q is taken by an earlier listener; this one is ignored", specs[i].Name)
			continue
		}
		seen[specs[i].Name] = true
		l := &listener{gateway: g, owner: owner, kind: kind, report: report, spec: &specs[i], field: field}
		l.read(t)
		out = append(out, l)
	}
	return out
}

func (l *listener) read(t *translator) {
	spec := l.spec
	if spec.Hostname != nil {
		l.hostname = string(*spec.Hostname)
	}
	if spec.Port < 1 || spec.Port > portMax {
		l.reject(gatewayv1.ListenerReasonUnsupportedValue, "port", "use 1 to 65535",
			fmt.Sprintf("%d is not a port", spec.Port))
	}
	if !validName(string(spec.Name)) {
		l.reject(gatewayv1.ListenerReasonUnsupportedValue, "name", "use lower-case letters, digits and '-'",
			fmt.Sprintf("%q is not a listener name", spec.Name))
	}
	if problem := hostnameError(l.hostname, true); l.hostname != "" && problem != "" {
		l.reject(gatewayv1.ListenerReasonUnsupportedValue, "hostname", "write a name such as www.example.com or *.example.com",
			fmt.Sprintf("%q %s", l.hostname, problem))
	}
	l.checkProtocol(t)
	l.findKinds()
	l.readNamespaces()
}

func (l *listener) checkProtocol(t *translator) {
	switch p := l.spec.Protocol; p {
	case gatewayv1.HTTPProtocolType:
		if l.spec.TLS != nil {
			l.reject(gatewayv1.ListenerReasonUnsupportedValue, "tls", "remove it or use protocol HTTPS",
				"a listener with protocol HTTP can't have tls")
		}
	case gatewayv1.HTTPSProtocolType:
		l.readTLS(t)
	case gatewayv1.TLSProtocolType, gatewayv1.TCPProtocolType, gatewayv1.UDPProtocolType:
		l.checkL4(t)
	default:
		l.reject(gatewayv1.ListenerReasonUnsupportedProtocol, "protocol", "use HTTP, HTTPS, TLS, TCP or UDP",
			fmt.Sprintf("the protocol %q is not known", p))
	}
}

// notHere marks a listener whose protocol the data plane lacks. It is a warning: the other listeners are served.
func (l *listener) notHere(hint string) {
	message := fmt.Sprintf("listeners with protocol %s are not supported by this engine; the port is not opened", l.spec.Protocol)
	l.report.warnf(l.field+".protocol", hint, "%s", message)
	if l.refused == "" {
		l.refused, l.refusedMessage = string(gatewayv1.ListenerReasonUnsupportedProtocol), message
	}
}

// readTLS works out how the listener terminates TLS. A certificate that can't be used leaves the others; what can't be
// enforced keeps the listener from being served.
func (l *listener) readTLS(t *translator) {
	if t.opt.WithoutTLS {
		l.notHere("run RAUTA with the loop engine, or use an HTTP listener")
		return
	}
	if l.refused == "" {
		defer func() { l.shut = l.refused != "" }()
	}
	l.tls = &config.TLS{}
	if l.spec.TLS == nil {
		l.leaveUnresolved(gatewayv1.ListenerReasonInvalidCertificateRef, "tls", "add tls.certificateRefs",
			fmt.Sprintf("a listener with protocol %s needs a certificate", l.spec.Protocol))
		return
	}
	if mode := ptr.Deref(l.spec.TLS.Mode, gatewayv1.TLSModeTerminate); mode == gatewayv1.TLSModePassthrough && l.spec.Protocol == gatewayv1.TLSProtocolType {
		l.tls, l.passthrough = nil, true
		return
	} else if mode != gatewayv1.TLSModeTerminate {
		l.reject(gatewayv1.ListenerReasonUnsupportedValue, "tls.mode", "use Terminate, or protocol TLS",
			fmt.Sprintf("a listener with protocol %s can't have the mode %q", l.spec.Protocol, mode))
		return
	}
	l.readOptions(t)
	l.readClientAuth(t)
	l.readCertificates(t)
}

func (l *listener) readCertificates(t *translator) {
	if len(l.spec.TLS.CertificateRefs) == 0 {
		l.leaveUnresolved(gatewayv1.ListenerReasonInvalidCertificateRef, "tls.certificateRefs", "refer to a Secret of type kubernetes.io/tls",
			fmt.Sprintf("a listener with protocol %s needs a certificate", l.spec.Protocol))
	}
	from := gatewayv1.ReferenceGrantFrom{Group: gatewayv1.GroupName, Kind: gatewayv1.Kind(l.kind),
		Namespace: gatewayv1.Namespace(l.owner.GetNamespace())}
	for i, ref := range l.spec.TLS.CertificateRefs {
		field := fmt.Sprintf("tls.certificateRefs[%d]", i)
		if (ref.Group != nil && *ref.Group != "") || (ref.Kind != nil && *ref.Kind != "Secret") {
			l.leaveUnresolved(gatewayv1.ListenerReasonInvalidCertificateRef, field, "refer to a Secret",
				"only Secrets can hold certificates")
			continue
		}
		target := key{l.owner.GetNamespace(), string(ref.Name)}
		if ref.Namespace != nil {
			target.namespace = string(*ref.Namespace)
		}
		if !t.in.granted(from, "", "Secret", target) {
			l.leaveUnresolved(gatewayv1.ListenerReasonRefNotPermitted, field,
				fmt.Sprintf("add a ReferenceGrant from %s to Secret in namespace %s", l.kind, target.namespace),
				fmt.Sprintf("no ReferenceGrant in namespace %s permits the reference to Secret %s", target.namespace, target.name))
			continue
		}
		c := t.certificate(target)
		if c.failure != "" {
			l.leaveUnresolved(gatewayv1.ListenerReasonInvalidCertificateRef, field, certificateHint,
				fmt.Sprintf("Secret %s/%s %s", target.namespace, target.name, c.failure))
			continue
		}
		reportDefects(l.report, l.field+"."+field, target, c, l.hostname)
		if !slices.Contains(l.certificates, c) {
			l.certificates = append(l.certificates, c)
		}
	}
}

// servedKinds are the kinds of routes that listeners with a protocol take, in the order of the API reference.
func servedKinds(p gatewayv1.ProtocolType) []gatewayv1.Kind {
	switch p {
	case gatewayv1.HTTPProtocolType, gatewayv1.HTTPSProtocolType:
		return []gatewayv1.Kind{kindHTTPRoute, kindGRPCRoute}
	case gatewayv1.TLSProtocolType:
		return []gatewayv1.Kind{kindTLSRoute}
	case gatewayv1.TCPProtocolType:
		return []gatewayv1.Kind{kindTCPRoute}
	case gatewayv1.UDPProtocolType:
		return []gatewayv1.Kind{kindUDPRoute}
	}
	return nil
}

// findKinds works out supportedKinds: of the kinds that the protocol allows those that the listener asks for.
func (l *listener) findKinds() {
	group := gatewayv1.Group(gatewayv1.GroupName)
	served := servedKinds(l.spec.Protocol)
	l.kinds = []gatewayv1.RouteGroupKind{}
	if l.spec.AllowedRoutes == nil || len(l.spec.AllowedRoutes.Kinds) == 0 {
		for _, k := range served {
			l.kinds = append(l.kinds, gatewayv1.RouteGroupKind{Group: &group, Kind: k})
		}
		return
	}
	for i, k := range l.spec.AllowedRoutes.Kinds {
		if slices.Contains(served, k.Kind) && (k.Group == nil || *k.Group == group) {
			if !l.takes(string(k.Kind)) {
				l.kinds = append(l.kinds, gatewayv1.RouteGroupKind{Group: &group, Kind: k.Kind})
			}
			continue
		}
		l.leaveUnresolved(gatewayv1.ListenerReasonInvalidRouteKinds, fmt.Sprintf("allowedRoutes.kinds[%d]", i), hintKinds(served),
			fmt.Sprintf("routes of kind %q are not supported on a listener with protocol %s", k.Kind, l.spec.Protocol))
	}
}

func hintKinds(served []gatewayv1.Kind) string {
	if len(served) == 0 {
		return "use another protocol"
	}
	var names []string
	for _, k := range served {
		names = append(names, string(k))
	}
	return "use " + strings.Join(names, " or ")
}

// takes reports whether routes of a kind may attach.
func (l *listener) takes(kind string) bool {
	return slices.ContainsFunc(l.kinds, func(k gatewayv1.RouteGroupKind) bool { return string(k.Kind) == kind })
}

func (l *listener) readNamespaces() {
	a := l.spec.AllowedRoutes
	if a == nil || a.Namespaces == nil {
		l.from = namespaceFilter{from: gatewayv1.NamespacesFromSame, own: l.owner.GetNamespace()}
		return
	}
	var err error
	l.from, err = newNamespaceFilter(ptr.Deref(a.Namespaces.From, gatewayv1.NamespacesFromSame), a.Namespaces.Selector, l.owner.GetNamespace())
	if err != nil {
		l.reject(gatewayv1.ListenerReasonUnsupportedValue, "allowedRoutes.namespaces.selector", "correct the selector",
			"the selector is not valid: "+err.Error())
	}
}

// admits reports whether routes of a kind in a namespace may attach.
func (l *listener) admits(kind, namespace string, o *corev1.Namespace) bool {
	return l.takes(kind) && l.from.admits(namespace, o)
}

// findConflicts marks listeners of one Gateway that can't be told apart. All of them lose: the Gateway API forbids to
// pick a winner.
func (g *gateway) findConflicts() {
	for i, a := range g.listeners {
		for _, b := range g.listeners[i+1:] {
			if reason, field := a.conflictsWith(b); reason != "" {
				a.clash(b, reason, field)
				b.clash(a, reason, field)
			}
		}
	}
}

// conflictsWith says why two listeners can't be told apart, and by which field; empty if they can.
func (l *listener) conflictsWith(o *listener) (gatewayv1.ListenerConditionReason, string) {
	if l.spec.Port != o.spec.Port {
		return "", ""
	}
	switch udp := gatewayv1.UDPProtocolType; {
	case !distinctByHostname(l.spec.Protocol) && l.spec.Protocol == o.spec.Protocol:
		return gatewayv1.ListenerReasonProtocolConflict, "port"
	case l.spec.Protocol == udp || o.spec.Protocol == udp: // it has ports of its own
	case l.lacking() || o.lacking():
		// What is not supported does not count (Gateway API, GatewaySpec.listeners).
	case transport(l.spec.Protocol) != transport(o.spec.Protocol),
		l.hostname == o.hostname && l.spec.Protocol != o.spec.Protocol:
		return gatewayv1.ListenerReasonProtocolConflict, "protocol"
	case l.hostname == o.hostname:
		return gatewayv1.ListenerReasonHostnameConflict, "hostname"
	}
	return "", ""
}

func distinctByHostname(p gatewayv1.ProtocolType) bool {
	return p == gatewayv1.HTTPProtocolType || p == gatewayv1.HTTPSProtocolType || p == gatewayv1.TLSProtocolType
}

// lacking reports whether the listener's protocol is not one of the data plane's.
func (l *listener) lacking() bool {
	return l.refused == string(gatewayv1.ListenerReasonUnsupportedProtocol)
}

// transport groups the protocols that can share a port. HTTPS and TLS are told apart by server name.
func transport(p gatewayv1.ProtocolType) string {
	if p == gatewayv1.HTTPSProtocolType {
		return string(gatewayv1.TLSProtocolType)
	}
	return string(p)
}

func (l *listener) clash(other *listener, reason gatewayv1.ListenerConditionReason, field string) {
	message := fmt.Sprintf("has the same %s on port %d as listener %s; neither is served", field, l.spec.Port, other.spec.Name)
	if reason == gatewayv1.ListenerReasonProtocolConflict && field == "protocol" {
		message = fmt.Sprintf("port %d is also used by listener %s with protocol %s; neither is served",
			l.spec.Port, other.spec.Name, other.spec.Protocol)
	}
	l.lose(reason, field, message)
}

// lose keeps the listener from being served, because there is another one.
func (l *listener) lose(reason gatewayv1.ListenerConditionReason, field, message string) {
	l.report.errorf(l.field+"."+field, "change one of them", "%s", message)
	if l.conflict == "" {
		l.conflict, l.conflictMessage = string(reason), message
	}
}

func (l *listener) status() gatewayv1.ListenerStatus {
	generation := l.owner.GetGeneration()
	accepted, programmed, resolved, conflicted :=
		condition(gatewayv1.ListenerConditionAccepted, true, gatewayv1.ListenerReasonAccepted, generation, "the listener is valid"),
		condition(gatewayv1.ListenerConditionProgrammed, true, gatewayv1.ListenerReasonProgrammed, generation, "the listener is configured"),
		condition(gatewayv1.ListenerConditionResolvedRefs, true, gatewayv1.ListenerReasonResolvedRefs, generation, "all references are resolved"),
		condition(gatewayv1.ListenerConditionConflicted, false, gatewayv1.ListenerReasonNoConflicts, generation, "no conflicts")
	if l.conflict != "" {
		conflicted = condition(gatewayv1.ListenerConditionConflicted, true, l.conflict, generation, l.conflictMessage)
		accepted = condition(gatewayv1.ListenerConditionAccepted, false, l.conflict, generation, l.conflictMessage)
	}
	if l.refused != "" {
		accepted = condition(gatewayv1.ListenerConditionAccepted, false, l.refused, generation, l.refusedMessage)
	}
	if l.unresolved != "" {
		resolved = condition(gatewayv1.ListenerConditionResolvedRefs, false, l.unresolved, generation, l.unresolvedMessage)
	}
	if !l.programmed() {
		reason, message := gatewayv1.ListenerReasonInvalid, accepted.Message
		switch {
		case l.conflict != "":
			reason = gatewayv1.ListenerConditionReason(l.conflict)
		case l.valid() && !l.servable():
			reason, message = gatewayv1.ListenerReasonPending, l.gateway.unplacedMessage
		case l.servable():
			message = "there is no certificate that can be used; every handshake is refused"
		case accepted.Status == metav1.ConditionTrue:
			message = "the Gateway is not accepted"
		}
		programmed = condition(gatewayv1.ListenerConditionProgrammed, false, reason, generation, message)
	}
	kinds := l.kinds
	if l.refused == string(gatewayv1.ListenerReasonUnsupportedProtocol) {
		kinds = []gatewayv1.RouteGroupKind{} // none is, here
	}
	list := conditions(accepted, programmed, resolved, conflicted)
	if l.overlaps {
		list = append(list, condition(gatewayv1.ListenerConditionOverlappingTLSConfig, true, gatewayv1.ListenerReasonOverlappingHostnames, generation,
			"another listener on the port has a hostname that meets this one; over connections of this listener, requests for it are answered 421"))
	}
	return gatewayv1.ListenerStatus{Name: l.spec.Name, SupportedKinds: kinds, AttachedRoutes: l.attached, Conditions: list}
}

func conditions(c ...metav1.Condition) []metav1.Condition { return c }

// publishShut keeps the hostname of a listener that is shut from the other listeners on its port: their restrictions may
// be weaker than those that could not be read. Where nobody else has opened the port nothing needs to be kept.
func (t *translator) publishShut(l *listener) {
	for _, address := range l.gateway.addresses {
		use, taken := t.ports[l.portKey(address)]
		if !taken || use.protocol.Family() != config.ProtocolTLS || use.names[l.hostname] != nil || !sameProxyProtocol(use.proxy, l.gateway.proxy) {
			return
		}
	}
	l.tls, l.certificates, l.attachments = &config.TLS{}, nil, nil
	t.publish(l)
}

// publish adds the listener to the configuration, once per address.
func (t *translator) publish(l *listener) {
	g := l.gateway
	name := l.owner.GetNamespace() + "/" + l.owner.GetName() + "/" + string(l.spec.Name)
	if l.kind == kindListenerSet {
		name = "listenerset/" + name
	}
	for _, c := range l.certificates {
		l.tls.Certificates = append(l.tls.Certificates, c.use())
	}
	for _, address := range g.addresses {
		c := config.Listener{
			Name:          name,
			Address:       address,
			Port:          l.port(),
			Turn:          t.ports[l.portKey(address)].turn,
			Protocol:      l.protocol(),
			Hostname:      l.hostname,
			ProxyProtocol: g.proxy,
			TLS:           l.tls,
			Passthrough:   l.passthrough,
			Attached:      slices.Clone(l.attachments),
		}
		if len(g.addresses) > 1 {
			c.Name += "@" + address
		}
		t.config.Listeners = append(t.config.Listeners, c)
	}
}
