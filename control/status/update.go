package status

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"rauta.io/rauta/control/translate"
)

// Update is what this replica serves, and what that means for the objects. Nobody changes what it refers to.
type Update struct {
	// Objects were translated, and Result came of it.
	Objects *translate.Objects
	Result  *translate.Result
	// Unserved says of listeners by their name in the configuration why this replica does not serve them; nil for none.
	Unserved map[string]error
}

// statuses returns what is to be written: what translation says, but for listeners that are not served.
func (u *Update) statuses() *translate.Statuses {
	if len(u.Unserved) == 0 {
		return &u.Result.Statuses
	}
	out := u.Result.Statuses
	out.Gateways = slices.Clone(out.Gateways)
	for i := range out.Gateways {
		g := &out.Gateways[i]
		g.Status = u.served(g.Namespace+"/"+g.Name, &g.Status)
	}
	out.ListenerSets = slices.Clone(out.ListenerSets)
	for i := range out.ListenerSets {
		s := &out.ListenerSets[i]
		served := u.served(listenerSetPrefix+s.Namespace+"/"+s.Name, asGateway(&s.Status))
		s.Status = gatewayv1.ListenerSetStatus{Conditions: served.Conditions}
		for _, l := range served.Listeners {
			s.Status.Listeners = append(s.Status.Listeners, gatewayv1.ListenerEntryStatus(l))
		}
	}
	return &out
}

// listenerSetPrefix begins the names of listeners in the configuration that come from a ListenerSet.
const listenerSetPrefix = "listenerset/"

// served takes the condition Programmed from listeners that this replica does not serve, and from a Gateway or ListenerSet
// that has no other ones. Its listeners are called name/listener in the configuration.
func (u *Update) served(name string, status *gatewayv1.GatewayStatus) gatewayv1.GatewayStatus {
	out := *status
	out.Listeners = slices.Clone(out.Listeners)
	programmed, failed := 0, ""
	for i := range out.Listeners {
		l := &out.Listeners[i]
		if why := u.unserved(name + "/" + string(l.Name)); why != "" {
			l.Conditions = unprogrammed(l.Conditions, string(gatewayv1.ListenerConditionProgrammed), string(gatewayv1.ListenerReasonInvalid), why)
			failed = fmt.Sprintf("listener %s is not served: %s", l.Name, why)
		}
		if c := findCondition(l.Conditions, string(gatewayv1.ListenerConditionProgrammed)); c != nil && c.Status == metav1.ConditionTrue {
			programmed++
		}
	}
	if failed != "" && programmed == 0 {
		out.Conditions = unprogrammed(out.Conditions, string(gatewayv1.GatewayConditionProgrammed), string(gatewayv1.GatewayReasonInvalid), failed)
	}
	return out
}

// unserved returns why a listener of a Gateway is not served, on all or on one of its addresses.
func (u *Update) unserved(name string) string {
	if err := u.Unserved[name]; err != nil {
		return err.Error()
	}
	why := ""
	for n, err := range u.Unserved {
		if strings.HasPrefix(n, name+"@") && (why == "" || err.Error() < why) {
			why = err.Error()
		}
	}
	return why
}

func unprogrammed(conditions []metav1.Condition, kind, reason, message string) []metav1.Condition {
	out := slices.Clone(conditions)
	if c := findCondition(out, kind); c != nil && c.Status == metav1.ConditionTrue {
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, reason, message
	}
	return out
}

// departed are objects that had a status of ours and are not ours any more, with what they had last. Routes and policies
// need no memory: their entries say whose they are. ListenerSets are among the gateways.
type departed struct {
	gateways  map[id]*gatewayv1.GatewayStatus
	ingresses map[id]*networkingv1.IngressStatus
}

func newDeparted() departed {
	return departed{gateways: map[id]*gatewayv1.GatewayStatus{}, ingresses: map[id]*networkingv1.IngressStatus{}}
}

func (d *departed) clone() departed {
	return departed{gateways: maps.Clone(d.gateways), ingresses: maps.Clone(d.ingresses)}
}

// follow notes what an Update has no status for although the one before had. Both lists are in order of namespace and name.
func (d *departed) follow(before, now *translate.Statuses) {
	missing(before.Gateways, now.Gateways,
		func(g *translate.GatewayStatus) id {
			return id{Kind: kindGateway, Namespace: g.Namespace, Name: g.Name}
		},
		func(o id, g *translate.GatewayStatus) { d.gateways[o] = &g.Status }, func(o id) { delete(d.gateways, o) })
	missing(before.ListenerSets, now.ListenerSets,
		func(g *translate.ListenerSetStatus) id {
			return id{Kind: kindListenerSet, Namespace: g.Namespace, Name: g.Name}
		},
		func(o id, g *translate.ListenerSetStatus) { d.gateways[o] = asGateway(&g.Status) }, func(o id) { delete(d.gateways, o) })
	missing(before.Ingresses, now.Ingresses,
		func(g *translate.IngressStatus) id {
			return id{Kind: kindIngress, Namespace: g.Namespace, Name: g.Name}
		},
		func(o id, g *translate.IngressStatus) { d.ingresses[o] = &g.Status }, func(o id) { delete(d.ingresses, o) })
}

// missing calls left for what only the first list has, and back for what only the second has.
func missing[T any](before, now []T, of func(*T) id, left func(id, *T), back func(id)) {
	for i, j := 0, 0; i < len(before) || j < len(now); {
		order := 0
		switch {
		case i == len(before):
			order = 1
		case j == len(now):
			order = -1
		default:
			order = compare(of(&before[i]), of(&now[j]))
		}
		if order < 0 {
			left(of(&before[i]), &before[i])
		}
		if order > 0 {
			back(of(&now[j]))
		}
		if order <= 0 {
			i++
		}
		if order >= 0 {
			j++
		}
	}
}

func compare(a, b id) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
}

// forget drops what is done, and objects that are gone.
func (d *departed) forget(o id) {
	delete(d.gateways, o)
	delete(d.ingresses, o)
}
