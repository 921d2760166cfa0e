package translate

import (
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"

	"k8s.io/utils/ptr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// listenerSet is one ListenerSet for a Gateway of ours while its status is being worked out.
type listenerSet struct {
	object    *gatewayv1.ListenerSet
	gateway   *gateway
	report    reporter
	listeners []*listener // none if the Gateway does not allow the set
	// refused is why the set as a whole is not accepted; empty if it is not.
	refused        gatewayv1.ListenerSetConditionReason
	refusedMessage string
}

// all yields the listeners of a Gateway and of its ListenerSets, in order of precedence.
func (g *gateway) all() iter.Seq[*listener] {
	return func(yield func(*listener) bool) {
		for _, l := range g.listeners {
			if !yield(l) {
				return
			}
		}
		for _, s := range g.sets {
			for _, l := range s.listeners {
				if !yield(l) {
					return
				}
			}
		}
	}
}

// listenerSets gives ListenerSets to the Gateways that they name: the oldest first, then the first by name (Gateway API,
// ListenerSetSpec.listeners).
func (t *translator) listenerSets() {
	gateways := map[key]*gateway{}
	for _, g := range t.gateways {
		gateways[keyOf(g.object)] = g
	}
	sets := slices.Clone(t.in.listenerSets)
	slices.SortStableFunc(sets, func(a, b *gatewayv1.ListenerSet) int { return cmp.Compare(created(a), created(b)) })
	for _, o := range sets {
		report := t.reporter(kindListenerSet, o)
		ref := &o.Spec.ParentRef
		if (ref.Group != nil && *ref.Group != gatewayv1.GroupName) || (ref.Kind != nil && *ref.Kind != kindGateway) {
			report.warnf("spec.parentRef", "refer to a Gateway", "parents other than Gateways are ignored")
			continue
		}
		k := key{string(ptr.Deref(ref.Namespace, gatewayv1.Namespace(o.Namespace))), string(ref.Name)}
		g := gateways[k]
		if g == nil {
			if !t.exists(k) {
				report.errorf("spec.parentRef", "create the Gateway or correct the reference", "there is no Gateway %s/%s", k.namespace, k.name)
			}
			continue
		}
		s := &listenerSet{object: o, gateway: g, report: report}
		s.read(t)
		g.sets = append(g.sets, s)
		t.sets[keyOf(o)] = s
	}
}

func (s *listenerSet) read(t *translator) {
	g, o := s.gateway, s.object
	switch {
	case !g.allowedSets.admits(o.Namespace, t.in.namespaces[o.Namespace]):
		s.refuse(gatewayv1.ListenerSetReasonNotAllowed, "spec.parentRef", "set spec.allowedListeners of the Gateway",
			fmt.Sprintf("Gateway %s/%s does not allow ListenerSets from namespace %s", g.object.Namespace, g.object.Name, o.Namespace))
		return
	case g.refused != "":
		s.refuse(gatewayv1.ListenerSetReasonParentNotAccepted, "spec.parentRef", "see the conditions of the Gateway",
			fmt.Sprintf("Gateway %s/%s is not accepted", g.object.Namespace, g.object.Name))
	}
	specs := make([]gatewayv1.Listener, len(o.Spec.Listeners))
	for i, entry := range o.Spec.Listeners {
		specs[i] = gatewayv1.Listener(entry)
	}
	s.listeners = t.listenersOf(g, kindListenerSet, o, specs)
	for _, l := range s.listeners {
		s.giveWay(l)
	}
}

func (s *listenerSet) refuse(reason gatewayv1.ListenerSetConditionReason, field, hint, message string) {
	s.report.errorf(field, hint, "%s", message)
	s.refused, s.refusedMessage = reason, message
}

// giveWay makes a listener lose to one that comes before it. Whose that is does not concern everybody who may write a
// ListenerSet.
func (s *listenerSet) giveWay(l *listener) {
	for before := range s.gateway.all() {
		if before.conflict != "" && before.kind == kindListenerSet {
			continue
		}
		if reason, field := l.conflictsWith(before); reason != "" {
			l.lose(reason, field, fmt.Sprintf("a listener on port %d of the Gateway, or of an older ListenerSet, can't be told apart by its %s; this one is not served",
				l.spec.Port, field))
			return
		}
	}
	for _, before := range s.listeners {
		if before == l {
			return
		}
		if reason, field := l.conflictsWith(before); reason != "" && before.conflict == "" {
			l.lose(reason, field, fmt.Sprintf("listener %s on port %d comes first and can't be told apart by its %s; this one is not served",
				before.spec.Name, l.spec.Port, field))
			return
		}
	}
}

// listenerSetStatus writes the conditions of a set, and reports whether it is attached.
func (t *translator) listenerSetStatus(s *listenerSet) bool {
	var bad []string
	usable, programmed := 0, 0
	status := gatewayv1.ListenerSetStatus{}
	for _, l := range s.listeners {
		status.Listeners = append(status.Listeners, gatewayv1.ListenerEntryStatus(l.status()))
		if l.programmed() {
			programmed++
		}
		if l.usable() {
			usable++
		} else {
			bad = append(bad, string(l.spec.Name))
		}
	}
	ok, reason, message := true, gatewayv1.ListenerSetReasonAccepted, "the listeners are added to the Gateway"
	switch {
	case s.refused != "":
		ok, reason, message = false, s.refused, s.refusedMessage
	case usable == 0:
		ok, reason, message = false, gatewayv1.ListenerSetReasonListenersNotValid, "no listener is valid"
	case len(bad) > 0:
		reason, message = gatewayv1.ListenerSetReasonListenersNotValid, "added to the Gateway without the listeners "+strings.Join(bad, ", ")
	}
	live, liveReason, liveMessage := true, gatewayv1.ListenerSetReasonProgrammed, "at least one listener is configured"
	switch {
	case !ok:
		live, liveReason, liveMessage = false, reason, message
	case programmed == 0:
		live, liveReason, liveMessage = false, gatewayv1.ListenerSetReasonPending, s.gateway.unplacedMessage
	}
	generation := s.object.Generation
	status.Conditions = conditions(
		condition(gatewayv1.ListenerSetConditionAccepted, ok, reason, generation, message),
		condition(gatewayv1.ListenerSetConditionProgrammed, live, liveReason, generation, liveMessage))
	t.statuses.ListenerSets = append(t.statuses.ListenerSets, ListenerSetStatus{Namespace: s.object.Namespace, Name: s.object.Name, Status: status})
	return ok
}

// readAllowedListeners reads which ListenerSets may attach: none, unless the Gateway says so.
func (g *gateway) readAllowedListeners() {
	a := g.object.Spec.AllowedListeners
	if a == nil || a.Namespaces == nil {
		return
	}
	var err error
	g.allowedSets, err = newNamespaceFilter(ptr.Deref(a.Namespaces.From, gatewayv1.NamespacesFromNone), a.Namespaces.Selector, g.object.Namespace)
	if err != nil {
		g.report.errorf("spec.allowedListeners.namespaces.selector", "correct the selector", "the selector is not valid; no ListenerSet is allowed: %v", err)
	}
}
