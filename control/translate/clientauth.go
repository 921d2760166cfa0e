package translate

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"k8s.io/utils/ptr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"rauta.io/rauta/proxy/config"
)

// caRefsMaxFrontend bounds the references of one validation (Gateway API, FrontendTLSValidation.caCertificateRefs).
const caRefsMaxFrontend = 16

// clientOptions are the options of a listener about client certificates.
type clientOptions struct {
	set      bool
	depthMax int
	facts    []config.ClientFact
}

// frontendValidation is what the Gateway asks of the clients of a port, and where it says so: what is said about the port
// counts instead of the default.
func (g *gateway) frontendValidation(port gatewayv1.PortNumber) (v *gatewayv1.FrontendTLSValidation, field string) {
	tls := g.object.Spec.TLS
	if tls == nil || tls.Frontend == nil {
		return nil, ""
	}
	for i := range tls.Frontend.PerPort {
		if tls.Frontend.PerPort[i].Port == port {
			return tls.Frontend.PerPort[i].TLS.Validation, fmt.Sprintf("spec.tls.frontend.perPort[%d].tls.validation", i)
		}
	}
	return tls.Frontend.Default.Validation, "spec.tls.frontend.default.validation"
}

// insecureFallback reports whether some port of the Gateway lets everybody in.
func (g *gateway) insecureFallback() bool {
	tls := g.object.Spec.TLS
	if tls == nil || tls.Frontend == nil {
		return false
	}
	insecure := func(c *gatewayv1.TLSConfig) bool {
		return c.Validation != nil && c.Validation.Mode == gatewayv1.AllowInsecureFallback
	}
	return insecure(&tls.Frontend.Default) ||
		slices.ContainsFunc(tls.Frontend.PerPort, func(p gatewayv1.TLSPortConfig) bool { return insecure(&p.TLS) })
}

// readClientAuth works out which certificates clients have to show. Without a single authority nobody could show one, and
// the listener is not served.
func (l *listener) readClientAuth(t *translator) {
	v, field := l.gateway.frontendValidation(l.spec.Port)
	if v == nil {
		if l.clients.set {
			l.report.warnf(l.field+".tls.options", "set spec.tls.frontend of the Gateway",
				"clients are not asked for certificates; %s and %s have no effect", optionClientDepth, optionClientFacts)
		}
		return
	}
	auth := &config.ClientAuth{Mode: config.ClientAuthRequire, DepthMax: l.clients.depthMax, Forward: l.clients.facts}
	switch v.Mode {
	case "", gatewayv1.AllowValidOnly:
	case gatewayv1.AllowInsecureFallback:
		auth.Mode = config.ClientAuthUnverified
		l.gateway.report.warnf(field+".mode", "use AllowValidOnly once all clients have certificates",
			"clients get in with any certificate and with none; back ends have to decide by SSL-Client-Verify, see %s", optionClientFacts)
	default:
		l.refuseClients(gatewayv1.ListenerReasonUnsupportedValue, field+".mode", "use AllowValidOnly or AllowInsecureFallback",
			fmt.Sprintf("the mode %q is not known", v.Mode))
		return
	}
	if len(v.CACertificateRefs) > caRefsMaxFrontend {
		l.refuseClients(gatewayv1.ListenerReasonUnsupportedValue, field+".caCertificateRefs", "put them into one ConfigMap",
			fmt.Sprintf("there are more than %d references", caRefsMaxFrontend))
		return
	}
	var bundles []string
	for i := range v.CACertificateRefs {
		if bundle := l.clientAuthority(t, &v.CACertificateRefs[i], fmt.Sprintf("%s.caCertificateRefs[%d]", field, i)); bundle != "" {
			bundles = append(bundles, bundle)
		}
	}
	if len(bundles) == 0 {
		if l.unresolved == "" {
			l.unresolved, l.unresolvedMessage = string(gatewayv1.ListenerReasonInvalidCACertificateRef), field+": no authorities are given"
		}
		l.refuseClients(gatewayv1.ListenerReasonNoValidCACertificate, field+".caCertificateRefs", authorityHint,
			"no reference leads to authorities that can be used, and without them the listener would be open to everybody")
		return
	}
	auth.CA = joinAuthorities(bundles)
	l.tls.ClientAuth = auth
}

// refuseClients is reject with a field of the Gateway.
func (l *listener) refuseClients(reason gatewayv1.ListenerConditionReason, field, hint, message string) {
	l.gateway.report.errorf(field, hint, "%s", message)
	if l.refused == "" {
		l.refused, l.refusedMessage = string(reason), field+": "+message
	}
}

// clientAuthority reads what one reference leads to; empty if it can't be used.
func (l *listener) clientAuthority(t *translator, ref *gatewayv1.ObjectReference, field string) string {
	unresolved := func(reason gatewayv1.ListenerConditionReason, hint, message string) string {
		l.gateway.report.errorf(field, hint, "%s", message)
		if l.unresolved == "" {
			l.unresolved, l.unresolvedMessage = string(reason), field+": "+message
		}
		return ""
	}
	kind := string(ref.Kind)
	if (ref.Group != "" && ref.Group != "core") || kind != kindConfigMap && kind != kindSecret {
		return unresolved(gatewayv1.ListenerReasonInvalidCACertificateKind, "refer to a ConfigMap",
			fmt.Sprintf("authorities of kind %q in group %q are not supported", ref.Kind, ref.Group))
	}
	own := gatewayv1.Namespace(l.gateway.object.Namespace)
	target := key{string(ptr.Deref(ref.Namespace, own)), string(ref.Name)}
	from := gatewayv1.ReferenceGrantFrom{Group: gatewayv1.GroupName, Kind: kindGateway, Namespace: own}
	if !t.in.granted(from, "", kind, target) {
		return unresolved(gatewayv1.ListenerReasonRefNotPermitted,
			fmt.Sprintf("add a ReferenceGrant from Gateway to %s in namespace %s", kind, target.namespace),
			fmt.Sprintf("no ReferenceGrant in namespace %s permits the reference to %s %s", target.namespace, kind, target.name))
	}
	bundle, err := t.authority(kind, target)
	if err != nil {
		return unresolved(gatewayv1.ListenerReasonInvalidCACertificateRef, authorityHint, nameOf(kind, target)+" "+err.Error())
	}
	return bundle
}

func parseClientDepth(v string) (int, error) {
	n, err := strconv.Atoi(v)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is not a number from 1 to %d", clip(v), config.ClientDepthLimit)
	}
	return n, config.CheckClientDepth(n)
}

// parseClientFacts reads a comma-separated list.
func parseClientFacts(v string) (facts []config.ClientFact, err error) {
	for one := range strings.SplitSeq(v, ",") {
		fact := config.ClientFact(strings.TrimSpace(one))
		if problem := config.CheckClientFact(fact); problem != nil {
			err = errors.Join(err, problem)
		} else if !slices.Contains(facts, fact) {
			facts = append(facts, fact)
		}
	}
	slices.Sort(facts)
	return facts, err
}
