package translate

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"rauta.io/rauta/proxy/config"
)

// Reasons of config.Backend.Invalid.
const (
	invalidKind         = "invalid_kind"
	invalidNotPermitted = "ref_not_permitted"
	invalidNotFound     = "backend_not_found"
	invalidProtocol     = "unsupported_protocol"
	invalidExternalName = "external_name"
	invalidBackendTLS   = "invalid_backend_tls"
)

// weightMax is the limit of the Gateway API's schema.
const weightMax = 1_000_000

// backends compiles the backendRefs of a rule. A reference that can't be used keeps its weight and answers 500; false
// means that the weights themselves make no sense.
func (c *routeCompiler) backends(r *gatewayv1.HTTPRouteRule, field string) ([]config.Backend, bool) {
	var out []config.Backend
	valid := true
	for i := range r.BackendRefs {
		ref := &r.BackendRefs[i]
		where := fmt.Sprintf("%s.backendRefs[%d]", field, i)
		b, ok := c.weighted(&ref.BackendRef, where)
		if !ok {
			valid = false
			continue
		}
		filters, failed := c.filterList(ref.Filters, where, r)
		if failed != "" && b.Invalid == "" {
			b.Cluster, b.Filters, b.Invalid = "", nil, failed
		}
		if b.Invalid == "" {
			b.Filters = append(filters, b.Filters...)
		}
		out = append(out, b)
	}
	return out, valid
}

// weighted resolves a reference with its weight; false means that the weight makes no sense.
func (c *routeCompiler) weighted(ref *gatewayv1.BackendRef, where string) (b config.Backend, ok bool) {
	weight := ptr.Deref(ref.Weight, 1)
	if weight < 0 || weight > weightMax {
		c.defect(where+".weight", "use 0 to 1000000", "%d is not a weight", weight)
		return b, false
	}
	b = c.backend(&ref.BackendObjectReference, where)
	b.Weight = uint32(weight)
	return b, true
}

// backendUse is how routes of a kind use a Service port.
type backendUse struct {
	// protocol is what is spoken if the Service does not say: gRPC is HTTP/2, here by prior knowledge.
	protocol config.BackendProtocol
	// grpc: nothing but gRPC will do.
	grpc bool
	// asked is backend-protocol of the route, for Services that have none.
	asked string
	// opaque: nobody looks at what is spoken, so whatever the Service says is right.
	opaque bool
	// decrypts: what is forwarded may have been decrypted, and must not go on in plain text where TLS is asked for.
	decrypts bool
	// transport of the port: TCP or UDP.
	transport corev1.Protocol
	// gateway lends its certificate to back ends that ask for one; nil for none.
	gateway *gateway
	// ports takes the port down, also if it can't be used.
	ports *[]servicePort
}

// concerned reports whether how the back end is spoken to is RAUTA's business.
func (u *backendUse) concerned() bool { return !u.opaque || u.decrypts }

func (o *routeObject) backendUse() backendUse {
	switch o.kind {
	case kindGRPCRoute:
		return backendUse{protocol: config.BackendH2, grpc: true, transport: corev1.ProtocolTCP}
	case kindTLSRoute:
		return backendUse{opaque: true, decrypts: true, transport: corev1.ProtocolTCP}
	case kindTCPRoute:
		return backendUse{opaque: true, transport: corev1.ProtocolTCP}
	case kindUDPRoute:
		return backendUse{opaque: true, transport: corev1.ProtocolUDP}
	}
	return backendUse{transport: corev1.ProtocolTCP}
}

// backend resolves a reference to a cluster, or to the reason why there is none.
func (c *routeCompiler) backend(ref *gatewayv1.BackendObjectReference, field string) config.Backend {
	effect := "requests are answered 500"
	if use := c.object.backendUse(); use.opaque {
		effect = "connections are refused"
	}
	return c.backendElse(ref, field, effect)
}

// backendElse is backend; effect says what becomes of what should have gone there.
func (c *routeCompiler) backendElse(ref *gatewayv1.BackendObjectReference, field, effect string) config.Backend {
	if group, kind := ptr.Deref(ref.Group, ""), ptr.Deref(ref.Kind, "Service"); (group != "" && group != "core") || kind != "Service" {
		c.unresolved(gatewayv1.RouteReasonInvalidKind, field+".kind", "refer to a Service",
			fmt.Sprintf("back ends of kind %q in group %q are not supported", kind, group))
		return config.Backend{Invalid: invalidKind}
	}
	target := key{c.object.GetNamespace(), string(ref.Name)}
	if ref.Namespace != nil {
		target.namespace = string(*ref.Namespace)
	}
	from := gatewayv1.ReferenceGrantFrom{Group: gatewayv1.GroupName, Kind: gatewayv1.Kind(c.object.kind),
		Namespace: gatewayv1.Namespace(c.object.GetNamespace())}
	if !c.t.in.granted(from, "", "Service", target) {
		c.unresolved(gatewayv1.RouteReasonRefNotPermitted, field,
			fmt.Sprintf("add a ReferenceGrant in namespace %s from %ss in namespace %s to Services", target.namespace, c.object.kind, c.object.GetNamespace()),
			fmt.Sprintf("no ReferenceGrant in namespace %s permits the reference to Service %s", target.namespace, target.name))
		return config.Backend{Invalid: invalidNotPermitted}
	}
	if ref.Port == nil {
		c.unresolved(gatewayv1.RouteReasonBackendNotFound, field+".port", "add the port of the Service", "the port is missing")
		return config.Backend{Invalid: invalidNotFound}
	}
	wanted := *ref.Port
	use := c.object.backendUse()
	use.ports = &c.out.ports
	if use.concerned() {
		use.gateway = c.object.gateway
	}
	b, failure := c.t.cluster(target, func(p *corev1.ServicePort) bool { return p.Port == wanted }, fmt.Sprint(wanted), use)
	switch {
	case failure != nil && failure.reason == "":
		c.report.errorf(field, failure.hint, "%s; %s", failure.message, effect)
		return config.Backend{Invalid: failure.invalid}
	case failure != nil:
		c.unresolved(failure.reason, field, failure.hint, failure.message)
		return config.Backend{Invalid: failure.invalid}
	}
	return b
}
