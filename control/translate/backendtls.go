package translate

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"rauta.io/rauta/proxy/config"
)

// spoken is how the endpoints of a Service port are spoken to.
type spoken struct {
	protocol config.BackendProtocol
	tls      *config.BackendTLS
	explicit bool // an annotation says it
	grpc     bool // it is gRPC, not just HTTP/2
	secured  bool // with TLS because of the route, not of the Service
	// lentBy is the Gateway whose certificate is shown to the endpoints, nil if there is none or the Service has one.
	lentBy *gateway
}

// spokenTo works out how to speak to a port. The Service says what is spoken, a BackendTLSPolicy whom to trust; without
// one the annotations of the Service do. What can't be used makes requests fail rather than leave in plain text.
func (t *translator) spokenTo(svc *corev1.Service, port corev1.ServicePort, use backendUse) (spoken, *refFailure) {
	app := strings.ToLower(ptr.Deref(port.AppProtocol, ""))
	out := spoken{protocol: use.protocol, grpc: use.grpc || app == "grpc" || app == "grpcs"}
	if p := protocolOf(app); p != "" && !use.opaque {
		out.protocol = p
	}
	values := svc.Annotations
	report := t.reporter(kindService, svc)
	secure, asked, byRoute := false, values[annotationBackendProtocol], false
	if asked == "" {
		asked, byRoute = use.asked, use.asked != ""
	}
	if asked != "" {
		value, ok := backendProtocols()[asked]
		switch {
		case !ok && byRoute:
			return out, &refFailure{invalid: invalidBackendTLS, hint: "correct the annotation",
				message: fmt.Sprintf("metadata.annotations[%s] can't be read, and Service %s/%s has none", annotationBackendProtocol, svc.Namespace, svc.Name)}
		case !ok:
			return out, invalidTransport("metadata.annotations["+annotationBackendProtocol+"] of Service %s/%s can't be read", svc)
		}
		out.explicit, out.grpc = true, use.grpc || value.grpc
		secure = value.tls
		if value.protocol != "" { // else it is HTTPS, which leaves that to the route and to appProtocol
			out.protocol = value.protocol
		}
	}
	if use.grpc && out.protocol == config.BackendHTTP1 {
		return out, &refFailure{gatewayv1.RouteReasonUnsupportedProtocol, invalidProtocol,
			fmt.Sprintf("Service %s/%s speaks HTTP/1.1, and gRPC needs HTTP/2", svc.Namespace, svc.Name),
			"set " + annotationBackendProtocol + " on the Service to GRPC, or correct appProtocol"}
	}
	policy := t.policyFor(servicePort{keyOf(svc), port.Name})
	switch {
	case policy != nil && policy.tls == nil:
		return out, &refFailure{invalid: invalidBackendTLS,
			message: fmt.Sprintf("BackendTLSPolicy %s/%s for Service %s/%s can't be used", policy.object.Namespace, policy.object.Name, svc.Namespace, svc.Name),
			hint:    "see the problems of the policy"}
	case policy != nil:
		own := *policy.tls
		out.tls = &own
		if asked != "" && !secure {
			report.warnf("metadata.annotations["+annotationBackendProtocol+"]", "write HTTPS or GRPCS, or remove the policy",
				"BackendTLSPolicy %s/%s demands TLS", policy.object.Namespace, policy.object.Name)
		}
	case secure:
		tls, ok := t.tlsOfService(svc, report)
		if !ok {
			return out, invalidTransport("the annotations for TLS of Service %s/%s can't be used", svc)
		}
		out.tls, out.secured = tls, byRoute
	default:
		for _, name := range []string{annotationBackendCA, annotationBackendServerName, annotationBackendClient, annotationBackendVerify} {
			if _, set := values[name]; set {
				report.errorf("metadata.annotations["+name+"]", "set "+annotationBackendProtocol+" to HTTPS or GRPCS, or remove it",
					"the Service is not spoken to with TLS; requests are answered 500, in case it should be")
				return out, invalidTransport("Service %s/%s has annotations for TLS, but is not spoken to with it", svc)
			}
		}
		return out, nil
	}
	failure := t.identify(svc, use.gateway, &out, report)
	return out, failure
}

// invalidTransport is a failure that the reference is not to blame for.
func invalidTransport(format string, svc *corev1.Service) *refFailure {
	return &refFailure{invalid: invalidBackendTLS, message: fmt.Sprintf(format, svc.Namespace, svc.Name), hint: "see the problems of the Service"}
}

// identify adds the certificate that is shown to endpoints that ask for one: that of the Service, or of the Gateway.
func (t *translator) identify(svc *corev1.Service, g *gateway, out *spoken, report reporter) *refFailure {
	if name, set := svc.Annotations[annotationBackendClient]; set {
		k := key{svc.Namespace, name}
		c := t.certificate(k)
		if c.failure != "" {
			report.errorf("metadata.annotations["+annotationBackendClient+"]", certificateHint, "Secret %s/%s %s; requests are answered 500",
				k.namespace, k.name, c.failure)
			return invalidTransport("the client certificate of Service %s/%s can't be used", svc)
		}
		reportDefects(report, "metadata.annotations["+annotationBackendClient+"]", k, c, "")
		out.tls.ClientCertificate = c.config.Name
		return nil
	}
	switch {
	case g == nil || g.client.wanted == nil:
		return nil
	case g.client.certificate == nil:
		return &refFailure{invalid: invalidBackendTLS, hint: "see the problems of the Gateway",
			message: fmt.Sprintf("the client certificate of Gateway %s/%s can't be used, and Service %s/%s is spoken to with TLS",
				g.object.Namespace, g.object.Name, svc.Namespace, svc.Name)}
	}
	out.tls.ClientCertificate, out.lentBy = g.client.certificate.config.Name, g
	return nil
}

// gatewayClient is what a Gateway shows to back ends with TLS.
type gatewayClient struct {
	wanted      *gatewayv1.SecretObjectReference // nil: nothing
	certificate *certificate                     // nil: it can't be used
	reason      gatewayv1.GatewayConditionReason
	message     string
}

// readClient reads spec.tls.backend.clientCertificateRef.
func (g *gateway) readClient(t *translator) {
	spec := &g.object.Spec
	if spec.TLS == nil || spec.TLS.Backend == nil || spec.TLS.Backend.ClientCertificateRef == nil {
		return
	}
	ref, field := spec.TLS.Backend.ClientCertificateRef, "spec.tls.backend.clientCertificateRef"
	g.client.wanted = ref
	fail := func(reason gatewayv1.GatewayConditionReason, hint, message string) {
		g.report.errorf(field, hint, "%s; requests to back ends with TLS are answered 500", message)
		g.client.reason, g.client.message = reason, field+": "+message
	}
	if group, kind := ptr.Deref(ref.Group, ""), ptr.Deref(ref.Kind, kindSecret); (group != "" && group != "core") || kind != kindSecret {
		fail(gatewayv1.GatewayReasonInvalidClientCertificateRef, "refer to a Secret", fmt.Sprintf("certificates of kind %q in group %q are not supported", kind, group))
		return
	}
	k := key{g.object.Namespace, string(ref.Name)}
	if ref.Namespace != nil {
		k.namespace = string(*ref.Namespace)
	}
	from := gatewayv1.ReferenceGrantFrom{Group: gatewayv1.GroupName, Kind: kindGateway, Namespace: gatewayv1.Namespace(g.object.Namespace)}
	if !t.in.granted(from, "", kindSecret, k) {
		fail(gatewayv1.GatewayReasonRefNotPermitted,
			fmt.Sprintf("add a ReferenceGrant in namespace %s from Gateways in namespace %s to Secrets", k.namespace, g.object.Namespace),
			fmt.Sprintf("no ReferenceGrant in namespace %s permits the reference to Secret %s", k.namespace, k.name))
		return
	}
	c := t.certificate(k)
	if c.failure != "" {
		fail(gatewayv1.GatewayReasonInvalidClientCertificateRef, certificateHint, fmt.Sprintf("Secret %s/%s %s", k.namespace, k.name, c.failure))
		return
	}
	reportDefects(g.report, field, k, c, "")
	g.client.certificate = c
	g.client.reason, g.client.message = gatewayv1.GatewayReasonResolvedRefs, "the client certificate is resolved"
}

// identity is what tells clusters apart that differ in what a Gateway shows: "" for those that show nothing.
func (c *gatewayClient) identity() string {
	switch {
	case c.wanted == nil:
		return ""
	case c.certificate == nil:
		return "/" // no name of a Secret
	}
	return c.certificate.config.Name
}
