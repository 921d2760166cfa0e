package status

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"rauta.io/rauta/control/translate"
)

// finder looks objects up by reference. Of kinds without a problem no index is made.
type finder struct {
	objects *translate.Objects
	byKind  map[string]map[id]metav1.Object
}

// object returns nil if there is none.
func (f *finder) object(ref id) metav1.Object {
	known, seen := f.byKind[ref.Kind]
	if !seen {
		known = objectsOf(f.objects, ref.Kind)
		f.byKind[ref.Kind] = known
	}
	return known[ref]
}

func objectsOf(o *translate.Objects, kind string) map[id]metav1.Object {
	switch kind {
	case kindGatewayClass:
		return byRef(kind, o.GatewayClasses)
	case kindGateway:
		return byRef(kind, o.Gateways)
	case kindListenerSet:
		return byRef(kind, o.ListenerSets)
	case kindHTTPRoute:
		return byRef(kind, o.HTTPRoutes)
	case kindGRPCRoute:
		return byRef(kind, o.GRPCRoutes)
	case kindTLSRoute:
		return byRef(kind, o.TLSRoutes)
	case kindTCPRoute:
		return byRef(kind, o.TCPRoutes)
	case kindUDPRoute:
		return byRef(kind, o.UDPRoutes)
	case kindBackendTLSPolicy:
		return byRef(kind, o.BackendTLSPolicies)
	case kindIngress:
		return byRef(kind, o.Ingresses)
	case "IngressClass":
		return byRef(kind, o.IngressClasses)
	case "ReferenceGrant":
		return byRef(kind, o.ReferenceGrants)
	case "Service":
		return byRef(kind, o.Services)
	case "EndpointSlice":
		return byRef(kind, o.EndpointSlices)
	case "Namespace":
		return byRef(kind, o.Namespaces)
	case "Secret":
		return byRef(kind, o.Secrets)
	case "ConfigMap":
		return byRef(kind, o.ConfigMaps)
	}
	return nil
}

func byRef[T metav1.Object](kind string, list []T) map[id]metav1.Object {
	out := make(map[id]metav1.Object, len(list))
	for _, o := range list {
		out[refOf(kind, o)] = o
	}
	return out
}

// apiVersionOf is what kubectl compares with the object that it describes.
func apiVersionOf(kind string) string {
	switch kind {
	case "Service", "Namespace", "Secret", "ConfigMap":
		return "v1"
	case "EndpointSlice":
		return "discovery.k8s.io/v1"
	case kindIngress, "IngressClass":
		return "networking.k8s.io/v1"
	}
	return "gateway.networking.k8s.io/v1"
}

// problems are those of translation, and listeners that this replica does not serve, in order of their objects.
func (u *Update) problems() []translate.Problem {
	out := u.Result.Problems
	if len(u.Unserved) == 0 {
		return out
	}
	out = slices.Clone(out)
	for _, listener := range slices.Sorted(maps.Keys(u.Unserved)) {
		kind, rest := kindGateway, listener
		if set, found := strings.CutPrefix(listener, listenerSetPrefix); found && strings.Count(set, "/") == 2 {
			kind, rest = kindListenerSet, set
		}
		parts := strings.SplitN(rest, "/", 3)
		if len(parts) < 3 {
			continue // what all Ingresses share; the log has it
		}
		out = append(out, translate.Problem{
			Severity: translate.Error, Object: id{Kind: kind, Namespace: parts[0], Name: parts[1]}, Field: "spec.listeners",
			Message: "listener " + parts[2] + " is not served: " + u.Unserved[listener].Error(),
		})
	}
	slices.SortStableFunc(out, func(a, b translate.Problem) int {
		return cmp.Or(strings.Compare(a.Object.Kind, b.Object.Kind), compare(a.Object, b.Object))
	})
	return out
}
