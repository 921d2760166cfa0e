package status

import (
	"encoding/json"
	"reflect"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// Statuses that belong to one controller as a whole, but for conditions of others: those of GatewayClasses, Gateways,
// ListenerSets and Ingresses. A patch names the fields that RAUTA knows; those of newer API versions stay.

func classSettled(have, want *gatewayv1.GatewayClassStatus) bool {
	return conditionsSettled(have.Conditions, want.Conditions) && sameList(have.SupportedFeatures, want.SupportedFeatures)
}

func mergeClass(status json.RawMessage, want *gatewayv1.GatewayClassStatus, now time.Time) (map[string]any, error) {
	var have gatewayv1.GatewayClassStatus
	if err := decode(status, &have); err != nil {
		return nil, err
	}
	conditions, err := mergeConditions(have.Conditions, want.Conditions, now)
	if err != nil || classSettled(&have, want) {
		return nil, err
	}
	return map[string]any{"conditions": conditions, "supportedFeatures": listOrNull(want.SupportedFeatures)}, nil
}

func gatewaySettled(have, want *gatewayv1.GatewayStatus) bool {
	if !conditionsSettled(have.Conditions, want.Conditions) || !sameList(have.Addresses, want.Addresses) ||
		!ptr.Equal(have.AttachedListenerSets, want.AttachedListenerSets) || len(have.Listeners) != len(want.Listeners) {
		return false
	}
	for i := range want.Listeners {
		h, w := &have.Listeners[i], &want.Listeners[i]
		if h.Name != w.Name || h.AttachedRoutes != w.AttachedRoutes || !conditionsSettled(h.Conditions, w.Conditions) ||
			!sameList(h.SupportedKinds, w.SupportedKinds) {
			return false
		}
	}
	return true
}

func mergeGateway(kind string, status json.RawMessage, want *gatewayv1.GatewayStatus, now time.Time) (map[string]any, error) {
	var have gatewayv1.GatewayStatus
	if err := decode(status, &have); err != nil {
		return nil, err
	}
	conditions, err := mergeConditions(have.Conditions, want.Conditions, now)
	if err != nil || gatewaySettled(&have, want) {
		return nil, err
	}
	listeners := make([]gatewayv1.ListenerStatus, len(want.Listeners))
	for i, w := range want.Listeners {
		var old []metav1.Condition
		for j := range have.Listeners {
			if have.Listeners[j].Name == w.Name {
				old = have.Listeners[j].Conditions
			}
		}
		if w.Conditions, err = mergeConditions(old, w.Conditions, now); err != nil {
			return nil, err
		}
		listeners[i] = w
	}
	fields := map[string]any{"conditions": conditions, "listeners": listOrNull(listeners)}
	if kind == kindGateway {
		fields["addresses"], fields["attachedListenerSets"] = listOrNull(want.Addresses), want.AttachedListenerSets
	}
	return fields, nil
}

// asGateway reads the status of a ListenerSet as one of a Gateway, which has everything that the former has.
func asGateway(s *gatewayv1.ListenerSetStatus) *gatewayv1.GatewayStatus {
	out := &gatewayv1.GatewayStatus{Conditions: s.Conditions}
	for _, l := range s.Listeners {
		out.Listeners = append(out.Listeners, gatewayv1.ListenerStatus(l))
	}
	return out
}

// pendingGateway is the status of a Gateway that no controller has looked at, as the Gateway API's schema has it.
func pendingGateway() *gatewayv1.GatewayStatus {
	return &gatewayv1.GatewayStatus{Conditions: []metav1.Condition{
		pending(string(gatewayv1.GatewayConditionAccepted)), pending(string(gatewayv1.GatewayConditionProgrammed))}}
}

func pending(kind string) metav1.Condition {
	return metav1.Condition{Type: kind, Status: metav1.ConditionUnknown, Reason: string(gatewayv1.GatewayReasonPending), Message: "Waiting for controller"}
}

// takeBackGateway makes a Gateway that is not ours any more one that nobody has looked at, unless another controller
// has written in the meantime.
func takeBackGateway(kind string, status json.RawMessage, last *gatewayv1.GatewayStatus, now time.Time) (map[string]any, error) {
	var have gatewayv1.GatewayStatus
	if err := decode(status, &have); err != nil || !gatewaySettled(&have, last) {
		return nil, err
	}
	fresh := pendingGateway()
	for i := range fresh.Conditions {
		if h := findCondition(have.Conditions, fresh.Conditions[i].Type); h != nil {
			fresh.Conditions[i].ObservedGeneration = h.ObservedGeneration
		}
	}
	return mergeGateway(kind, status, fresh, now)
}

func ingressSettled(have, want *networkingv1.IngressStatus) bool {
	return sameList(have.LoadBalancer.Ingress, want.LoadBalancer.Ingress)
}

func mergeIngress(status json.RawMessage, want *networkingv1.IngressStatus, _ time.Time) (map[string]any, error) {
	var have networkingv1.IngressStatus
	if err := decode(status, &have); err != nil || ingressSettled(&have, want) {
		return nil, err
	}
	return map[string]any{"loadBalancer": map[string]any{"ingress": listOrNull(want.LoadBalancer.Ingress)}}, nil
}

// takeBackIngress is takeBackGateway for an Ingress.
func takeBackIngress(status json.RawMessage, last *networkingv1.IngressStatus, now time.Time) (map[string]any, error) {
	var have networkingv1.IngressStatus
	if err := decode(status, &have); err != nil || !ingressSettled(&have, last) {
		return nil, err
	}
	return mergeIngress(status, &networkingv1.IngressStatus{}, now)
}

// sameList compares lists; one that is empty is like one that is not there.
func sameList[T any](a, b []T) bool { return len(a) == 0 && len(b) == 0 || reflect.DeepEqual(a, b) }

// listOrNull removes a field from an object, rather than writing an empty list, which an older schema may not permit.
func listOrNull[T any](list []T) any {
	if len(list) == 0 {
		return nil
	}
	return list
}

// decode reads a part of an object; nothing reads as an empty one.
func decode(text json.RawMessage, into any) error {
	if len(text) == 0 {
		return nil
	}
	return json.Unmarshal(text, into)
}
