package translate

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// key identifies a namespaced object.
type key struct{ namespace, name string }

func keyOf(o metav1.Object) key { return key{o.GetNamespace(), o.GetName()} }

// index is the input, sorted and looked up by name.
type index struct {
	classes         []*gatewayv1.GatewayClass
	gateways        []*gatewayv1.Gateway
	httpRoutes      []*gatewayv1.HTTPRoute
	grpcRoutes      []*gatewayv1.GRPCRoute
	tlsRoutes       []*gatewayv1.TLSRoute
	tcpRoutes       []*gatewayv1.TCPRoute
	udpRoutes       []*gatewayv1.UDPRoute
	ingresses       []*networkingv1.Ingress
	ingressClasses  map[string]*networkingv1.IngressClass
	services        map[key]*corev1.Service
	serviceList     []*corev1.Service
	slices          map[key][]*discoveryv1.EndpointSlice // by Service
	namespaces      map[string]*corev1.Namespace
	namespaceList   []*corev1.Namespace
	secretsByKey    map[key]*corev1.Secret
	configMapsByKey map[key]*corev1.ConfigMap
	listenerSets    []*gatewayv1.ListenerSet
	// backendPolicies in order of namespace and name.
	backendPolicies []*gatewayv1.BackendTLSPolicy
	grants          map[string][]*gatewayv1.ReferenceGrant // by the namespace that grants
	// The same as above, in order.
	secretList    []*corev1.Secret
	configMapList []*corev1.ConfigMap
	grantList     []*gatewayv1.ReferenceGrant
	unreadList    []Unread
	unread        map[ObjectRef]string
}

func (t *translator) index(o *Objects) index {
	in := index{
		classes:         ordered(t, "GatewayClass", o.GatewayClasses),
		gateways:        ordered(t, "Gateway", o.Gateways),
		httpRoutes:      ordered(t, "HTTPRoute", o.HTTPRoutes),
		grpcRoutes:      ordered(t, kindGRPCRoute, o.GRPCRoutes),
		tlsRoutes:       ordered(t, kindTLSRoute, o.TLSRoutes),
		tcpRoutes:       ordered(t, kindTCPRoute, o.TCPRoutes),
		udpRoutes:       ordered(t, kindUDPRoute, o.UDPRoutes),
		ingresses:       ordered(t, "Ingress", o.Ingresses),
		serviceList:     ordered(t, "Service", o.Services),
		ingressClasses:  map[string]*networkingv1.IngressClass{},
		services:        map[key]*corev1.Service{},
		slices:          map[key][]*discoveryv1.EndpointSlice{},
		namespaces:      map[string]*corev1.Namespace{},
		namespaceList:   ordered(t, "Namespace", o.Namespaces),
		secretsByKey:    map[key]*corev1.Secret{},
		configMapsByKey: map[key]*corev1.ConfigMap{},

		listenerSets:    ordered(t, kindListenerSet, o.ListenerSets),
		backendPolicies: ordered(t, kindBackendTLSPolicy, o.BackendTLSPolicies),
		grants:          map[string][]*gatewayv1.ReferenceGrant{},

		secretList:    ordered(t, kindSecret, o.Secrets),
		configMapList: ordered(t, kindConfigMap, o.ConfigMaps),
		grantList:     ordered(t, "ReferenceGrant", o.ReferenceGrants),
		unreadList:    o.Unread,
		unread:        make(map[ObjectRef]string, len(o.Unread)),
	}
	for _, c := range ordered(t, "IngressClass", o.IngressClasses) {
		in.ingressClasses[c.Name] = c
	}
	for _, s := range in.serviceList {
		in.services[keyOf(s)] = s
	}
	for _, s := range ordered(t, "EndpointSlice", o.EndpointSlices) {
		k := key{s.Namespace, s.Labels[discoveryv1.LabelServiceName]}
		in.slices[k] = append(in.slices[k], s)
	}
	for _, n := range in.namespaceList {
		in.namespaces[n.Name] = n
	}
	for _, s := range in.secretList {
		in.secretsByKey[keyOf(s)] = s
	}
	for _, m := range in.configMapList {
		in.configMapsByKey[keyOf(m)] = m
	}
	for _, u := range o.Unread {
		in.unread[u.ObjectRef] = u.Reason
	}
	for _, g := range in.grantList {
		in.grants[g.Namespace] = append(in.grants[g.Namespace], g)
	}
	return in
}

// hasListenerSet reports whether there is such a ListenerSet, of whatever Gateway.
func (in *index) hasListenerSet(k key) bool {
	return slices.ContainsFunc(in.listenerSets, func(o *gatewayv1.ListenerSet) bool { return keyOf(o) == k })
}

// ordered returns the objects by namespace and name. An API server never has two of one name; files can. The choice
// between them must not depend on the order of the input.
func ordered[T interface {
	metav1.Object
	comparable
}](t *translator, kind string, objects []T) []T {
	if t.opt.Memo == nil {
		return order(t, kind, objects)
	}
	last, _ := t.opt.Memo.lists[kind].(*orderedList[T])
	if last == nil || !slices.Equal(last.in, objects) && !last.replace(objects) {
		before := len(t.problems)
		last = &orderedList[T]{in: objects, out: order(t, kind, objects)}
		last.problems = slices.Clone(t.problems[before:])
		t.opt.Memo.lists[kind] = last
	} else {
		t.problems = append(t.problems, last.problems...)
	}
	return last.out
}

// orderedList is what a Memo knows of a list of objects.
type orderedList[T interface {
	metav1.Object
	comparable
}] struct {
	in, out  []T
	problems []Problem
}

// replace takes a list in which objects have got new states and nothing else has happened, which is what most changes are:
// if the last list was in order, so is this one. It reports false if that is not the case.
func (l *orderedList[T]) replace(objects []T) bool {
	if len(objects) != len(l.in) || len(l.problems) > 0 || !slices.Equal(l.in, l.out) {
		return false
	}
	for i, o := range objects {
		if o != l.in[i] && keyOf(o) != keyOf(l.in[i]) {
			return false
		}
	}
	l.in = objects
	l.out = l.in
	return true
}

// order is ordered without a memory.
func order[T metav1.Object](t *translator, kind string, objects []T) []T {
	out := make([]T, 0, len(objects))
	for _, o := range objects {
		if !validName(o.GetName()) || !validNamespace(o.GetNamespace()) {
			t.reporter(kind, o).errorf("metadata.name", "use lower-case letters, digits, '-' and '.'",
				"the name or namespace is not one that Kubernetes allows; the object is ignored")
			continue
		}
		out = append(out, o)
	}
	slices.SortStableFunc(out, func(a, b T) int { return compareKeys(a, b) })
	kept := out[:0]
	for start := 0; start < len(out); {
		end := start + 1
		for end < len(out) && keyOf(out[end]) == keyOf(out[start]) {
			end++
		}
		same := out[start:end]
		if len(same) > 1 {
			slices.SortStableFunc(same, func(a, b T) int { return strings.Compare(encoded(a), encoded(b)) })
			t.reporter(kind, same[0]).errorf("metadata.name", "rename or remove the others",
				"there are %d objects of this kind and name; only one of them is used", len(same))
		}
		kept = append(kept, same[0])
		start = end
	}
	return kept
}

func compareKeys(a, b metav1.Object) int {
	return cmp.Or(strings.Compare(a.GetNamespace(), b.GetNamespace()), strings.Compare(a.GetName(), b.GetName()))
}

// validName and validNamespace keep separators out of names, so that no two objects make the same identity: a/b-c is not
// a-b/c. An API server has checked this already, a file has not.
func validName(name string) bool {
	if name == "" || len(name) > objectNameBytesMax {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		for i := range len(label) {
			if c := label[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && (c != '-' || i == 0 || i == len(label)-1) {
				return false
			}
		}
		if label == "" {
			return false
		}
	}
	return true
}

// objectNameBytesMax is the longest name of an object; its labels may be as long, other than those of host names
// (https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-subdomain-names).
const objectNameBytesMax = 253

func validNamespace(name string) bool {
	return name == "" || !strings.Contains(name, ".") && hostnameError(name, false) == ""
}

// encoded is only used to order objects of one name. Kubernetes objects always marshal.
func encoded(o any) string {
	text, err := json.Marshal(o)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// granted reports whether a ReferenceGrant in the target's namespace allows the reference. References within a
// namespace need none.
func (in *index) granted(from gatewayv1.ReferenceGrantFrom, group, kind string, target key) bool {
	if string(from.Namespace) == target.namespace {
		return true
	}
	for _, g := range in.grants[target.namespace] {
		if !slices.Contains(g.Spec.From, from) {
			continue
		}
		for _, to := range g.Spec.To {
			if string(to.Group) == group && string(to.Kind) == kind &&
				(to.Name == nil || *to.Name == "" || string(*to.Name) == target.name) {
				return true
			}
		}
	}
	return false
}
