// Package kube has clients for the few kinds of objects that RAUTA reads and writes one by one.
//
// It owns how such requests are made, and how it is found out which kinds an API server has. It does not own what is
// asked or written: control/lead, control/status and control/watch do, which call it. The clients that client-go has for
// typed objects register every kind that Kubernetes knows before main begins, and were a quarter of the binary (PERF.md has the
// bytes); these know the kinds that are used, and need client-go's packages rest and cache alone.
package kube

import (
	"fmt"
	"net/http"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
)

// Kinds are the objects of one version of a group, with their lists, by kind.
type Kinds map[schema.GroupVersion]map[string]runtime.Object

// Scheme knows some kinds, and what requests about them have beside objects.
func Scheme(kinds Kinds) *runtime.Scheme {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	for gv, objects := range kinds {
		for kind, o := range objects {
			scheme.AddKnownTypeWithName(gv.WithKind(kind), o)
		}
		metav1.AddToGroupVersion(scheme, gv)
	}
	return scheme
}

// Connection is what the clients of one API server share.
type Connection struct {
	cfg       *rest.Config
	transport *http.Client
	codecs    runtime.NegotiatedSerializer
}

// Connect prepares connections; it asks nobody. codecs are those of a Scheme.
func Connect(cfg *rest.Config, codecs runtime.NegotiatedSerializer) (*Connection, error) {
	transport, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("prepare connections to the API server: %w", err)
	}
	return &Connection{cfg: cfg, transport: transport, codecs: codecs}, nil
}

// Group returns a client for one version of a group. Where protobuf is true, objects are sent and asked for in it: servers
// have it for kinds of their own, not for those that are defined by CRDs.
func (c *Connection) Group(gv schema.GroupVersion, protobuf bool) (rest.Interface, error) {
	own := rest.CopyConfig(c.cfg)
	own.GroupVersion, own.APIPath, own.NegotiatedSerializer = &gv, "/apis", c.codecs
	if gv.Group == corev1.GroupName {
		own.APIPath = "/api"
	}
	own.ContentType, own.AcceptContentTypes = runtime.ContentTypeJSON, runtime.ContentTypeJSON
	if protobuf {
		own.ContentType, own.AcceptContentTypes = runtime.ContentTypeProtobuf, runtime.ContentTypeProtobuf+","+runtime.ContentTypeJSON
	}
	client, err := rest.RESTClientForConfigAndClient(own, c.transport)
	if err != nil {
		return nil, fmt.Errorf("prepare the client for %s: %w", gv, err)
	}
	return client, nil
}

// Client asks an API server for objects of the kinds that its methods are named after.
type Client struct {
	core, coordination, events rest.Interface
	codec                      runtime.ParameterCodec
}

func kinds() Kinds {
	return Kinds{
		corev1.SchemeGroupVersion: {
			"Node": &corev1.Node{}, "NodeList": &corev1.NodeList{}, "Service": &corev1.Service{}, "ServiceList": &corev1.ServiceList{},
		},
		coordinationv1.SchemeGroupVersion: {"Lease": &coordinationv1.Lease{}, "LeaseList": &coordinationv1.LeaseList{}},
		eventsv1.SchemeGroupVersion:       {"Event": &eventsv1.Event{}, "EventList": &eventsv1.EventList{}},
	}
}

// New prepares a client; it asks nobody. The limits on requests that cfg has are for each group.
func New(cfg *rest.Config) (*Client, error) {
	scheme := Scheme(kinds())
	connection, err := Connect(cfg, serializer.NewCodecFactory(scheme).WithoutConversion())
	if err != nil {
		return nil, err
	}
	c := &Client{codec: runtime.NewParameterCodec(scheme)}
	for gv, client := range map[schema.GroupVersion]*rest.Interface{
		corev1.SchemeGroupVersion: &c.core, coordinationv1.SchemeGroupVersion: &c.coordination, eventsv1.SchemeGroupVersion: &c.events,
	} {
		if *client, err = connection.Group(gv, true); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// What the kinds are called where they are used.
type (
	Nodes    = Objects[*corev1.Node, *corev1.NodeList]
	Services = Objects[*corev1.Service, *corev1.ServiceList]
	Leases   = Objects[*coordinationv1.Lease, *coordinationv1.LeaseList]
	Events   = Objects[*eventsv1.Event, *eventsv1.EventList]
)

// Nodes are those of the cluster.
func (c *Client) Nodes() *Nodes {
	return &Nodes{client: c.core, codec: c.codec, plural: "nodes",
		one: func() *corev1.Node { return &corev1.Node{} }, list: func() *corev1.NodeList { return &corev1.NodeList{} }}
}

// Services are those of a namespace, or, to be listed, of all with the empty name.
func (c *Client) Services(namespace string) *Services {
	return &Services{client: c.core, codec: c.codec, plural: "services", namespace: namespace,
		one: func() *corev1.Service { return &corev1.Service{} }, list: func() *corev1.ServiceList { return &corev1.ServiceList{} }}
}

// Leases are those of a namespace.
func (c *Client) Leases(namespace string) *Leases {
	return &Leases{client: c.coordination, codec: c.codec, plural: "leases", namespace: namespace,
		one: func() *coordinationv1.Lease { return &coordinationv1.Lease{} }, list: func() *coordinationv1.LeaseList { return &coordinationv1.LeaseList{} }}
}

// Events are those of a namespace.
func (c *Client) Events(namespace string) *Events {
	return &Events{client: c.events, codec: c.codec, plural: "events", namespace: namespace,
		one: func() *eventsv1.Event { return &eventsv1.Event{} }, list: func() *eventsv1.EventList { return &eventsv1.EventList{} }}
}
