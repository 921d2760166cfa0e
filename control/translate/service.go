package translate

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/utils/ptr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"rauta.io/rauta/proxy/config"
)

// refFailure says why a reference to a Service port can't be used.
type refFailure struct {
	reason  gatewayv1.RouteConditionReason
	invalid string
	message string
	hint    string
}

// cluster finds the port of a Service, adds its cluster to the configuration and returns a back end that leads to it.
func (t *translator) cluster(target key, wanted func(*corev1.ServicePort) bool, described string, use backendUse) (config.Backend, *refFailure) {
	none := config.Backend{}
	svc := t.in.services[target]
	if svc == nil {
		return none, &refFailure{gatewayv1.RouteReasonBackendNotFound, invalidNotFound,
			fmt.Sprintf("there is no Service %s/%s", target.namespace, target.name), "create the Service or correct the reference"}
	}
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		return none, &refFailure{gatewayv1.RouteReasonBackendNotFound, invalidExternalName,
			fmt.Sprintf("Service %s/%s is of type ExternalName, which is not allowed", target.namespace, target.name),
			"use a Service without selector and an EndpointSlice with the addresses"}
	}
	at := slices.IndexFunc(svc.Spec.Ports, func(p corev1.ServicePort) bool { return transportOf(p.Protocol) == use.transport && wanted(&p) })
	if at < 0 {
		failure := &refFailure{gatewayv1.RouteReasonBackendNotFound, invalidNotFound,
			fmt.Sprintf("Service %s/%s has no %s port %s", target.namespace, target.name, use.transport, described), "correct the port"}
		if slices.ContainsFunc(svc.Spec.Ports, func(p corev1.ServicePort) bool { return wanted(&p) }) {
			failure.reason, failure.invalid = gatewayv1.RouteReasonUnsupportedProtocol, invalidProtocol
		}
		return none, failure
	}
	port := svc.Spec.Ports[at]
	if use.concerned() {
		*use.ports = append(*use.ports, servicePort{target, port.Name})
	}
	how, failure := t.spokenTo(svc, port, use)
	if failure != nil && use.concerned() {
		return none, failure
	}
	if p := ptr.Deref(port.AppProtocol, ""); how.tls == nil && !how.explicit && !use.opaque && appProtocolNeedsTLS(p) {
		return none, &refFailure{gatewayv1.RouteReasonUnsupportedProtocol, invalidProtocol,
			fmt.Sprintf("port %s of Service %s/%s has appProtocol %q, and nothing says whom to trust", described, target.namespace, target.name, p),
			"add a BackendTLSPolicy, or set " + annotationBackendProtocol + " on the Service: to HTTPS or GRPCS, or to HTTP or H2C if it also speaks plain text"}
	}
	name := ClusterName(svc, port, how.protocol)
	if how.secured {
		name += "/tls"
	}
	if how.lentBy != nil {
		name += "/as/" + how.tls.ClientCertificate
	}
	leads := t.routesKnown.present(name)
	if leads == nil {
		leads = t.addCluster(config.Cluster{Name: name, Protocol: how.protocol, TLS: how.tls, Policy: config.PolicyP2C}, svc, &svc.Spec.Ports[at])
	}
	if t.recording != nil {
		t.recording.clusters = append(t.recording.clusters, leads)
	}
	b := config.Backend{Cluster: name, Weight: 1}
	if how.grpc && !use.opaque { // browsers call gRPC servers too
		b.Filters = []config.Filter{{GRPCWeb: &config.GRPCWeb{}}}
	}
	return b, nil
}

// ClusterName is the config.Cluster.Name of a Service port: "namespace/service:port", and with "/h2" behind it the same
// endpoints spoken to in HTTP/2. An HTTPRoute and a GRPCRoute may lead to one port: then there are both. A port for UDP, of
// which there may be one with the same number, has "/udp" behind it. Endpoints that an Ingress wants to be spoken to with
// TLS, about which their Service says nothing, have "/tls" behind that. Endpoints that are shown a Gateway's certificate are
// one more cluster, with "/as/" and the name of the Secret behind it all.
func ClusterName(svc *corev1.Service, port corev1.ServicePort, protocol config.BackendProtocol) string {
	name := svc.Namespace + "/" + svc.Name + ":" + strconv.Itoa(int(port.Port))
	switch {
	case transportOf(port.Protocol) == corev1.ProtocolUDP:
		name += "/udp"
	case protocol == config.BackendH2:
		name += "/h2"
	}
	return name
}

// IsClusterOf reports whether a cluster has the endpoints of a Service port. When an EndpointSlice changes, they are for all
// clusters of the configuration that have.
func IsClusterOf(name string, svc *corev1.Service, port corev1.ServicePort) bool {
	variant, ok := strings.CutPrefix(name, ClusterName(svc, corev1.ServicePort{Port: port.Port}, ""))
	udp := transportOf(port.Protocol) == corev1.ProtocolUDP
	return ok && (variant == "" || variant[0] == '/') && udp == (variant == "/udp")
}

// transportOf is the protocol of a port; TCP is the default of the API.
func transportOf(p corev1.Protocol) corev1.Protocol {
	if p == "" {
		return corev1.ProtocolTCP
	}
	return p
}

// appProtocolNeedsTLS lists what is spoken over TLS (KEP-3726 and common usage).
func appProtocolNeedsTLS(p string) bool {
	switch strings.ToLower(p) {
	case "kubernetes.io/wss", "https", "wss", "h2", "grpcs", "tls":
		return true
	}
	return false
}

// protocolOf is what an appProtocol says about HTTP, empty if nothing. WebSockets begin in HTTP/1.1, which everybody who
// speaks them takes.
func protocolOf(appProtocol string) config.BackendProtocol {
	switch strings.ToLower(appProtocol) {
	case "kubernetes.io/h2c", "h2c", "h2", "http2", "grpc", "grpcs":
		return config.BackendH2
	case "kubernetes.io/wss", "wss":
		return config.BackendHTTP1
	}
	return ""
}

// EndpointsOf returns the usable endpoints of a Service port in order of address. Slices of other Services are skipped.
//
// An endpoint's port is the slice's port with the same name as the Service's port: targetPort has been resolved there
// already, pod by pod. Ready endpoints take requests; those that are terminating but still serving are kept as such;
// others are left out (EndpointConditions). If the Service names its IP families, only endpoints of the first family
// that has any are used, because a dual-stack pod is in the slices of both. Which of them are near is in topology.go.
func EndpointsOf(svc *corev1.Service, port corev1.ServicePort, endpointSlices []*discoveryv1.EndpointSlice, opt Options) ([]config.Endpoint, []Problem) {
	var problems []Problem
	byFamily := map[corev1.IPFamily][]located{}
	for _, s := range endpointSlices {
		if s.Namespace != svc.Namespace || s.Labels[discoveryv1.LabelServiceName] != svc.Name {
			continue
		}
		report := reporter{object: refOf("EndpointSlice", s), out: &problems}
		if s.AddressType != discoveryv1.AddressTypeIPv4 && s.AddressType != discoveryv1.AddressTypeIPv6 {
			report.errorf("addressType", "use IPv4 or IPv6", "addresses of type %q are not used", s.AddressType)
			continue
		}
		family := corev1.IPFamily(s.AddressType)
		for _, number := range portsNamed(s, port.Name, transportOf(port.Protocol)) {
			byFamily[family] = append(byFamily[family], endpointsOf(s, number, opt, report)...)
		}
	}
	var all []located
	for _, family := range svc.Spec.IPFamilies {
		if len(byFamily[family]) > 0 {
			all = byFamily[family]
			break
		}
	}
	if len(svc.Spec.IPFamilies) == 0 {
		all = append(byFamily[corev1.IPv4Protocol], byFamily[corev1.IPv6Protocol]...)
	}
	// While a slice is being split, an endpoint can be in two of them (EndpointSlice, "duplicate endpoints"). Ready wins.
	slices.SortFunc(all, func(a, b located) int {
		return cmp.Or(strings.Compare(a.Address, b.Address), compareBool(a.Terminating, b.Terminating),
			strings.Compare(a.Pod, b.Pod), strings.Compare(a.Node, b.Node), strings.Compare(a.Zone, b.Zone),
			slices.Compare(a.forNodes, b.forNodes), slices.Compare(a.forZones, b.forZones))
	})
	all = slices.CompactFunc(all, func(a, b located) bool { return a.Address == b.Address })
	return byDistance(svc, all, opt), sortProblems(problems)
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

func portsNamed(s *discoveryv1.EndpointSlice, name string, transport corev1.Protocol) []int32 {
	var out []int32
	for _, p := range s.Ports {
		if ptr.Deref(p.Name, "") == name && transportOf(ptr.Deref(p.Protocol, "")) == transport && p.Port != nil && *p.Port >= 1 && *p.Port <= portMax {
			out = append(out, *p.Port)
		}
	}
	return out
}

func endpointsOf(s *discoveryv1.EndpointSlice, port int32, opt Options, report reporter) []located {
	var out []located
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		ready := ptr.Deref(e.Conditions.Ready, true)
		serving := ptr.Deref(e.Conditions.Serving, ready)
		terminating := ptr.Deref(e.Conditions.Terminating, false)
		if !ready && !(serving && terminating) {
			continue
		}
		endpoint := locate(e)
		endpoint.Terminating = !ready
		if e.TargetRef != nil && e.TargetRef.Kind == "Pod" {
			endpoint.Pod = e.TargetRef.Name
		}
		for j, text := range e.Addresses {
			field := fmt.Sprintf("endpoints[%d].addresses[%d]", i, j)
			address, err := netip.ParseAddr(text)
			switch {
			case err != nil || address.Zone() != "":
				report.errorf(field, "write an IP address", "%q is not an IP address; it is left out", text)
			case address.Unmap().Is4() != (s.AddressType == discoveryv1.AddressTypeIPv4):
				report.errorf(field, "move it to a slice of its type", "%s is not of type %s; it is left out", text, s.AddressType)
			case !admissible(address.Unmap(), opt.AllowLoopback):
				report.errorf(field, "remove it: it would reach the node itself instead of a pod",
					"the address %s is not allowed as an endpoint; it is left out", text)
			default:
				endpoint.Address = netip.AddrPortFrom(address.Unmap(), uint16(port)).String()
				out = append(out, endpoint)
			}
		}
	}
	return out
}

// admissible keeps a slice from turning the proxy against the node it runs on (CVE-2021-25740).
func admissible(a netip.Addr, allowLocal bool) bool {
	if a.IsUnspecified() || a.IsMulticast() {
		return false
	}
	return allowLocal || !a.IsLoopback() && !a.IsLinkLocalUnicast()
}
