package watch

import (
	"maps"
	"reflect"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"rauta.io/rauta/control/translate"
)

// object is what an API server keeps.
type object interface {
	metav1.Object
	runtime.Object
}

// resource says how objects of one kind are read from an API server, and what is kept of them.
type resource struct {
	kind, plural, group string
	// versions that can be read, the most wanted first; their fields are the same.
	versions   []string
	namespaced bool
	// optional kinds are those of the Gateway API: the API server may not have them, or have them later.
	optional bool
	// referred: only objects that others refer to are read, with the exception of those that fields selects.
	referred bool
	// fields selects the objects that are read at once, others those that are read when they are referred to.
	fields, others string

	example object
	list    runtime.Object
	// strip removes from a fresh object what nobody looks at.
	strip func(object)
	// equal reports whether two stripped objects mean the same to Translate; their statuses may differ.
	equal func(a, b object) bool
	// large says of a stripped object that is larger than what is kept, as the end of a sentence; nil where that cannot be.
	large func(object) string
	// typed makes the list of this kind for Objects out of what is known, which it does not sort, and put puts it there.
	typed func(all []object) any
	put   func(o *translate.Objects, typed any)
}

// Groups of resources, as the API writes them.
const (
	coreGroup       = ""
	networkingGroup = "networking.k8s.io"
	discoveryGroup  = "discovery.k8s.io"
	gatewayGroup    = "gateway.networking.k8s.io"
)

// read describes one kind by where its objects go.
func read[T any, P interface {
	*T
	object
}](r resource, list runtime.Object, strip func(P), equal func(a, b P) bool, to func(*translate.Objects) *[]*T) *resource {
	r.example, r.list = P(new(T)), list
	r.strip = func(o object) {
		stripMeta(o)
		strip(o.(P))
	}
	r.equal = func(a, b object) bool { return sameMeta(a, b) && equal(a.(P), b.(P)) }
	r.typed = func(all []object) any {
		typed := make([]*T, len(all))
		for i, one := range all {
			typed[i] = (*T)(one.(P))
		}
		return typed
	}
	r.put = func(o *translate.Objects, typed any) { *to(o) = typed.([]*T) }
	return &r
}

// bounded is a kind of which objects may be too large.
func bounded[P object](r *resource, large func(P) string) *resource {
	r.large = func(o object) string { return large(o.(P)) }
	return r
}

// resources are all kinds that RAUTA reads. It is a list of what the permissions in deploy/ have to allow.
func resources() []*resource {
	core := func(kind, plural string) resource {
		return resource{kind: kind, plural: plural, group: coreGroup, versions: []string{"v1"}, namespaced: true}
	}
	gateway := func(kind, plural string, versions ...string) resource {
		return resource{kind: kind, plural: plural, group: gatewayGroup, versions: versions, namespaced: true, optional: true}
	}
	networking := func(kind, plural string) resource {
		return resource{kind: kind, plural: plural, group: networkingGroup, versions: []string{"v1"}, namespaced: true}
	}
	clusterScoped := func(r resource) resource {
		r.namespaced = false
		return r
	}
	secrets, configMaps := core("Secret", "secrets"), core("ConfigMap", "configmaps")
	secrets.referred, secrets.fields, secrets.others = true, "type="+string(corev1.SecretTypeTLS), "type!="+string(corev1.SecretTypeTLS)
	configMaps.referred = true
	return append([]*resource{
		read(clusterScoped(core("Namespace", "namespaces")), &corev1.NamespaceList{}, stripNamespace, always,
			func(o *translate.Objects) *[]*corev1.Namespace { return &o.Namespaces }),
		read(core("Service", "services"), &corev1.ServiceList{}, stripService, sameService,
			func(o *translate.Objects) *[]*corev1.Service { return &o.Services }),
		read(resource{kind: "EndpointSlice", plural: "endpointslices", group: discoveryGroup, versions: []string{"v1"}, namespaced: true},
			&discoveryv1.EndpointSliceList{}, stripEndpointSlice, sameEndpointSlice,
			func(o *translate.Objects) *[]*discoveryv1.EndpointSlice { return &o.EndpointSlices }),
		bounded(read(secrets, &corev1.SecretList{}, stripSecret, sameSecret,
			func(o *translate.Objects) *[]*corev1.Secret { return &o.Secrets }), largeSecret),
		bounded(read(configMaps, &corev1.ConfigMapList{}, stripConfigMap, sameConfigMap,
			func(o *translate.Objects) *[]*corev1.ConfigMap { return &o.ConfigMaps }), largeConfigMap),
		read(networking("Ingress", "ingresses"), &networkingv1.IngressList{}, nothing[*networkingv1.Ingress], always,
			func(o *translate.Objects) *[]*networkingv1.Ingress { return &o.Ingresses }),
		read(clusterScoped(networking("IngressClass", "ingressclasses")), &networkingv1.IngressClassList{}, nothing[*networkingv1.IngressClass], always,
			func(o *translate.Objects) *[]*networkingv1.IngressClass { return &o.IngressClasses }),
		read(clusterScoped(gateway("GatewayClass", "gatewayclasses", "v1", "v1beta1")), &gatewayv1.GatewayClassList{}, nothing[*gatewayv1.GatewayClass], always,
			func(o *translate.Objects) *[]*gatewayv1.GatewayClass { return &o.GatewayClasses }),
		read(gateway("Gateway", "gateways", "v1", "v1beta1"), &gatewayv1.GatewayList{}, nothing[*gatewayv1.Gateway], sameGateway,
			func(o *translate.Objects) *[]*gatewayv1.Gateway { return &o.Gateways }),
		read(gateway("ListenerSet", "listenersets", "v1"), &gatewayv1.ListenerSetList{}, nothing[*gatewayv1.ListenerSet], always,
			func(o *translate.Objects) *[]*gatewayv1.ListenerSet { return &o.ListenerSets }),
		read(gateway("ReferenceGrant", "referencegrants", "v1", "v1beta1"), &gatewayv1.ReferenceGrantList{}, nothing[*gatewayv1.ReferenceGrant], always,
			func(o *translate.Objects) *[]*gatewayv1.ReferenceGrant { return &o.ReferenceGrants }),
		read(gateway("BackendTLSPolicy", "backendtlspolicies", "v1", "v1alpha3"), &gatewayv1.BackendTLSPolicyList{}, nothing[*gatewayv1.BackendTLSPolicy], always,
			func(o *translate.Objects) *[]*gatewayv1.BackendTLSPolicy { return &o.BackendTLSPolicies }),
	}, routeResources(gateway)...)
}

func routeResources(gateway func(kind, plural string, versions ...string) resource) []*resource {
	return []*resource{
		read(gateway("HTTPRoute", "httproutes", "v1", "v1beta1"), &gatewayv1.HTTPRouteList{}, stripRoute[*gatewayv1.HTTPRoute], always,
			func(o *translate.Objects) *[]*gatewayv1.HTTPRoute { return &o.HTTPRoutes }),
		read(gateway("GRPCRoute", "grpcroutes", "v1"), &gatewayv1.GRPCRouteList{}, stripRoute[*gatewayv1.GRPCRoute], always,
			func(o *translate.Objects) *[]*gatewayv1.GRPCRoute { return &o.GRPCRoutes }),
		read(gateway("TLSRoute", "tlsroutes", "v1", "v1alpha3", "v1alpha2"), &gatewayv1.TLSRouteList{}, stripRoute[*gatewayv1.TLSRoute], always,
			func(o *translate.Objects) *[]*gatewayv1.TLSRoute { return &o.TLSRoutes }),
		read(gateway("TCPRoute", "tcproutes", "v1", "v1alpha2"), &gatewayv1.TCPRouteList{}, stripRoute[*gatewayv1.TCPRoute], always,
			func(o *translate.Objects) *[]*gatewayv1.TCPRoute { return &o.TCPRoutes }),
		read(gateway("UDPRoute", "udproutes", "v1", "v1alpha2"), &gatewayv1.UDPRouteList{}, stripRoute[*gatewayv1.UDPRoute], always,
			func(o *translate.Objects) *[]*gatewayv1.UDPRoute { return &o.UDPRoutes }),
	}
}

// always is for kinds of which every change of meaning changes generation, labels or annotations.
func always[P any](P, P) bool { return true }

// sameMeta reports whether two states of an object are one and the same generation of it. Kinds without generations always
// have 0, and compare their contents as well.
func sameMeta(a, b object) bool {
	return a.GetGeneration() == b.GetGeneration() && a.GetUID() == b.GetUID() &&
		(a.GetDeletionTimestamp() == nil) == (b.GetDeletionTimestamp() == nil) &&
		maps.Equal(a.GetLabels(), b.GetLabels()) && maps.Equal(a.GetAnnotations(), b.GetAnnotations())
}

// sameGateway: the address that a Gateway has been given is in its status.
func sameGateway(a, b *gatewayv1.Gateway) bool {
	return reflect.DeepEqual(a.Status.Addresses, b.Status.Addresses)
}

func sameService(a, b *corev1.Service) bool { return reflect.DeepEqual(&a.Spec, &b.Spec) }

func sameEndpointSlice(a, b *discoveryv1.EndpointSlice) bool {
	return reflect.DeepEqual(a.Endpoints, b.Endpoints) && reflect.DeepEqual(a.Ports, b.Ports)
}

func sameSecret(a, b *corev1.Secret) bool {
	return a.Type == b.Type && reflect.DeepEqual(a.Data, b.Data)
}

func sameConfigMap(a, b *corev1.ConfigMap) bool {
	return maps.Equal(a.Data, b.Data) && reflect.DeepEqual(a.BinaryData, b.BinaryData)
}
