package translate

import (
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"rauta.io/rauta/proxy/config"
)

// Defaults of Options.
const (
	DefaultControllerName        = "rauta.io/gateway-controller"
	DefaultIngressControllerName = "rauta.io/ingress-controller"
	DefaultIngressClass          = "rauta"
	DefaultHTTPPort              = 80
	DefaultHTTPSPort             = 443
)

// Objects is everything that Translate looks at, in any order. It is never changed.
type Objects struct {
	GatewayClasses []*gatewayv1.GatewayClass
	Gateways       []*gatewayv1.Gateway
	ListenerSets   []*gatewayv1.ListenerSet
	HTTPRoutes     []*gatewayv1.HTTPRoute
	GRPCRoutes     []*gatewayv1.GRPCRoute
	TLSRoutes      []*gatewayv1.TLSRoute
	TCPRoutes      []*gatewayv1.TCPRoute
	UDPRoutes      []*gatewayv1.UDPRoute
	// ReferenceGrants of the API versions v1 and v1beta1 have the same fields; readers convert.
	ReferenceGrants []*gatewayv1.ReferenceGrant
	Ingresses       []*networkingv1.Ingress
	IngressClasses  []*networkingv1.IngressClass
	Services        []*corev1.Service
	EndpointSlices  []*discoveryv1.EndpointSlice
	Namespaces      []*corev1.Namespace
	Secrets         []*corev1.Secret
	ConfigMaps      []*corev1.ConfigMap
	// BackendTLSPolicies of the API version v1alpha3 have the same fields; readers convert.
	BackendTLSPolicies []*gatewayv1.BackendTLSPolicy
	// Unread are Secrets and ConfigMaps that are not among these although they may exist.
	Unread []Unread
}

// Unread says why an object is not there.
type Unread struct {
	ObjectRef
	// Reason is the end of a sentence about the object, such as "is too large". Messages have it in place of "does not exist".
	Reason string
}

// Options say who RAUTA is in this cluster or folder. The zero value of a field means its default.
type Options struct {
	// ControllerName is compared with GatewayClass.spec.controllerName.
	ControllerName string `json:"controllerName,omitempty"`
	// IngressControllerName is compared with IngressClass.spec.controller.
	IngressControllerName string `json:"ingressControllerName,omitempty"`
	// IngressClass is the class that is RAUTA's even when no IngressClass object says so: the value of the legacy
	// annotation kubernetes.io/ingress.class, or, unless ClassObjects, a spec.ingressClassName without an object.
	IngressClass string `json:"ingressClass,omitempty"`
	// ClassObjects says that a spec.ingressClassName needs its object, as in a cluster: who deletes that takes all its
	// Ingresses from RAUTA. Files need none.
	ClassObjects bool `json:"classObjects,omitempty"`
	// WatchIngressWithoutClass takes Ingresses that name no class at all.
	WatchIngressWithoutClass bool `json:"watchIngressWithoutClass,omitempty"`
	// HTTPPort and HTTPSPort are the ports of the listeners that Ingresses share.
	HTTPPort  uint16 `json:"httpPort,omitempty"`
	HTTPSPort uint16 `json:"httpsPort,omitempty"`
	// AllowLoopback admits endpoints in 127/8, ::1 and the link-local ranges. It is for configuration from files: in
	// a cluster whoever may write an EndpointSlice could reach the node's own services with it (CVE-2021-25740).
	AllowLoopback bool `json:"allowLoopback,omitempty"`
	// WithoutTLS says that the data plane can't terminate TLS: HTTPS listeners are reported and get no port.
	WithoutTLS bool `json:"withoutTLS,omitempty"`
	// WithoutL4 says the same of connections and datagrams that are forwarded as they are: listeners with the protocols TLS,
	// TCP and UDP are reported and get no port.
	WithoutL4 bool `json:"withoutL4,omitempty"`
	// TicketKeys is the Secret, "namespace/name", with the keys of session tickets; empty for none.
	TicketKeys string `json:"ticketKeys,omitempty"`
	// Node and Zone are where RAUTA runs: the name of the node, and its label topology.kubernetes.io/zone. Empty: unknown,
	// and what Services say about nearness has no effect.
	Node string `json:"node,omitempty"`
	Zone string `json:"zone,omitempty"`
	// Now is what the dates of certificates are compared with; the zero time means that they are not.
	Now time.Time `json:"now,omitzero"`
	// Memo makes later runs faster; nil for none.
	Memo *Memo `json:"-"`
	// AddressPool has the addresses of which every Gateway without spec.addresses gets one of its own, one of each IP
	// version that is in here; they must be local to the nodes. Empty: such Gateways share the default address.
	AddressPool []netip.Prefix `json:"addressPool,omitempty"`
	// Addresses are published in the status of Gateways and Ingresses: IP addresses or host names of the node or of
	// the load balancer in front.
	Addresses []string `json:"addresses,omitempty"`
}

func (o Options) withDefaults() Options {
	if o.ControllerName == "" {
		o.ControllerName = DefaultControllerName
	}
	if o.IngressControllerName == "" {
		o.IngressControllerName = DefaultIngressControllerName
	}
	if o.IngressClass == "" {
		o.IngressClass = DefaultIngressClass
	}
	if o.HTTPPort == 0 {
		o.HTTPPort = DefaultHTTPPort
	}
	if o.HTTPSPort == 0 {
		o.HTTPSPort = DefaultHTTPSPort
	}
	return o
}

// Result is what the objects mean.
type Result struct {
	Config *config.Config
	// Endpoints of clusters that have any. They belong to the caller.
	Endpoints config.Endpoints
	// Revised says that the run went on with the last one of the same Memo: the clusters are the same, and Endpoints has only
	// those whose endpoints have changed since, with an empty list where there are none any more.
	Revised  bool
	Statuses Statuses
	// Problems in order of object, and within an object as its fields were read.
	Problems []Problem
	// References are the Secrets and ConfigMaps that were looked for, whether they exist or not, in order.
	References []ObjectRef
}

// Severity of a Problem.
type Severity string

// Severities. An Error means that something the user asked for is not in effect.
const (
	Error   Severity = "Error"
	Warning Severity = "Warning"
)

// ObjectRef names an object.
type ObjectRef struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// Problem is one thing that the user should change, or at least know.
type Problem struct {
	Severity Severity  `json:"severity"`
	Object   ObjectRef `json:"object"`
	// Field is the path in the object, such as spec.rules[0].matches[1].path.value; empty for the object as a whole.
	Field   string `json:"field,omitempty"`
	Message string `json:"message"`
	// Hint says what to do.
	Hint string `json:"hint,omitempty"`
}

// Statuses of RAUTA's own objects, in order of namespace and name. Conditions carry no lastTransitionTime: whoever
// writes them keeps the old time where status, reason and message did not change, and sets the present otherwise.
type Statuses struct {
	GatewayClasses     []GatewayClassStatus `json:"gatewayClasses,omitempty"`
	Gateways           []GatewayStatus      `json:"gateways,omitempty"`
	ListenerSets       []ListenerSetStatus  `json:"listenerSets,omitempty"`
	GatewayServices    []GatewayService     `json:"gatewayServices,omitempty"`
	HTTPRoutes         []*RouteStatus       `json:"httpRoutes,omitempty"`
	GRPCRoutes         []*RouteStatus       `json:"grpcRoutes,omitempty"`
	TLSRoutes          []*RouteStatus       `json:"tlsRoutes,omitempty"`
	TCPRoutes          []*RouteStatus       `json:"tcpRoutes,omitempty"`
	UDPRoutes          []*RouteStatus       `json:"udpRoutes,omitempty"`
	Ingresses          []IngressStatus      `json:"ingresses,omitempty"`
	BackendTLSPolicies []PolicyStatus       `json:"backendTLSPolicies,omitempty"`
}

// PolicyStatus is the status of one policy: it holds RAUTA's entries of status.ancestors; those of other controllers must be
// kept by the writer.
type PolicyStatus struct {
	Namespace string                           `json:"namespace"`
	Name      string                           `json:"name"`
	Ancestors []gatewayv1.PolicyAncestorStatus `json:"ancestors"`
}

// GatewayClassStatus is the status of one GatewayClass.
type GatewayClassStatus struct {
	Name   string                       `json:"name"`
	Status gatewayv1.GatewayClassStatus `json:"status"`
}

// GatewayStatus is the status of one Gateway.
type GatewayStatus struct {
	Namespace string                  `json:"namespace"`
	Name      string                  `json:"name"`
	Status    gatewayv1.GatewayStatus `json:"status"`
}

// GatewayService is a Service that stands for a Gateway in the API server, without endpoints and without an address: it carries
// the labels and annotations of spec.infrastructure for whoever looks for them on Services. It belongs to the Gateway, and
// goes with it.
type GatewayService struct {
	Namespace   string               `json:"namespace"`
	Name        string               `json:"name"`
	Gateway     string               `json:"gateway"`
	GatewayUID  types.UID            `json:"gatewayUID,omitempty"`
	Labels      map[string]string    `json:"labels,omitempty"`
	Annotations map[string]string    `json:"annotations,omitempty"`
	Ports       []corev1.ServicePort `json:"ports,omitempty"`
}

// ListenerSetStatus is the status of one ListenerSet.
type ListenerSetStatus struct {
	Namespace string                      `json:"namespace"`
	Name      string                      `json:"name"`
	Status    gatewayv1.ListenerSetStatus `json:"status"`
}

// RouteStatus is the status of one route, which nobody changes: it holds RAUTA's entries of status.parents; those of other controllers must be kept by the writer.
type RouteStatus struct {
	Namespace string                        `json:"namespace"`
	Name      string                        `json:"name"`
	Parents   []gatewayv1.RouteParentStatus `json:"parents"`
}

// IngressStatus is the status of one Ingress.
type IngressStatus struct {
	Namespace string                     `json:"namespace"`
	Name      string                     `json:"name"`
	Status    networkingv1.IngressStatus `json:"status"`
}
