package status

import (
	"encoding/json"
	"reflect"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"rauta.io/rauta/control/share"
)

// entries says how lists are read that several controllers share: status.parents of routes and status.ancestors of
// policies. Each entry belongs to one controller.
type entries[T any] struct {
	field      string
	max        int // entries of all controllers; 0 for no limit of their own
	controller func(*T) gatewayv1.GatewayController
	place      func(*T) *gatewayv1.ParentReference
	conditions func(*T) *[]metav1.Condition
}

// routeParentsMax and policyAncestorsMax are the limits of RouteStatus.parents and PolicyStatus.ancestors.
const (
	routeParentsMax    = 32
	policyAncestorsMax = 16
)

func parentEntries() entries[gatewayv1.RouteParentStatus] {
	return entries[gatewayv1.RouteParentStatus]{
		field:      "parents",
		max:        routeParentsMax,
		controller: func(e *gatewayv1.RouteParentStatus) gatewayv1.GatewayController { return e.ControllerName },
		place:      func(e *gatewayv1.RouteParentStatus) *gatewayv1.ParentReference { return &e.ParentRef },
		conditions: func(e *gatewayv1.RouteParentStatus) *[]metav1.Condition { return &e.Conditions },
	}
}

func ancestorEntries() entries[gatewayv1.PolicyAncestorStatus] {
	return entries[gatewayv1.PolicyAncestorStatus]{
		field:      "ancestors",
		max:        policyAncestorsMax,
		controller: func(e *gatewayv1.PolicyAncestorStatus) gatewayv1.GatewayController { return e.ControllerName },
		place:      func(e *gatewayv1.PolicyAncestorStatus) *gatewayv1.ParentReference { return &e.AncestorRef },
		conditions: func(e *gatewayv1.PolicyAncestorStatus) *[]metav1.Condition { return &e.Conditions },
	}
}

// find returns the entry of a list for the same parent, or nil.
func (s entries[T]) find(list []T, one *T) *T {
	for i := range list {
		if share.SameReference(*s.place(&list[i]), *s.place(one)) {
			return &list[i]
		}
	}
	return nil
}

// settled reports whether nothing needs to be written.
func (s entries[T]) settled(have, want []T, controller string) bool {
	ours := 0
	for i := range have {
		if string(s.controller(&have[i])) != controller {
			continue
		}
		w := s.find(want, &have[i])
		if w == nil || !conditionsSettled(*s.conditions(&have[i]), *s.conditions(w)) {
			return false
		}
		ours++
	}
	return ours == len(want)
}

// shared reports whether other controllers have entries.
func (s entries[T]) shared(have []T, controller string) bool {
	for i := range have {
		if string(s.controller(&have[i])) != controller {
			return true
		}
	}
	return false
}

// merge returns the list to write, or nil if the present one is right. Entries of others stay byte for byte where they are.
func (s entries[T]) merge(status json.RawMessage, want []T, controller string, now time.Time) (map[string]any, error) {
	var raw map[string]json.RawMessage
	if err := decode(status, &raw); err != nil {
		return nil, err
	}
	var have []json.RawMessage
	if err := decode(raw[s.field], &have); err != nil {
		return nil, err
	}
	out := []any{}
	changed := false
	done := map[*T]bool{}
	for _, text := range have {
		var entry T
		if err := decode(text, &entry); err != nil {
			return nil, err
		}
		if string(s.controller(&entry)) != controller {
			out = append(out, text)
			continue
		}
		w := s.find(want, &entry)
		if w == nil || done[w] {
			changed = true
			continue
		}
		done[w] = true
		merged, different, err := s.merged(&entry, w, now)
		if err != nil {
			return nil, err
		}
		changed = changed || different
		out = append(out, merged)
	}
	for i := range want {
		if done[&want[i]] {
			continue
		}
		if s.max > 0 && len(out) == s.max {
			break // the Gateway API: a list that is full is left as it is
		}
		merged, _, err := s.merged(new(T), &want[i], now)
		if err != nil {
			return nil, err
		}
		changed = true
		out = append(out, merged)
	}
	if !changed {
		return nil, nil
	}
	return map[string]any{s.field: out}, nil
}

// merged returns what becomes of one of our entries.
func (s entries[T]) merged(have, want *T, now time.Time) (*T, bool, error) {
	out := *want
	merged, err := mergeConditions(*s.conditions(have), *s.conditions(want), now)
	if err != nil {
		return nil, false, err
	}
	*s.conditions(&out) = merged
	return &out, !reflect.DeepEqual(have, &out), nil
}
