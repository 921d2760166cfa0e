package status

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"rauta.io/rauta/control/translate"
)

func route(name string) *gatewayv1.HTTPRoute {
	return &gatewayv1.HTTPRoute{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Generation: 1}}
}

func condition(kind string, ok bool, reason string, generation int64, message string) metav1.Condition {
	c := metav1.Condition{Type: kind, Status: metav1.ConditionFalse, Reason: reason, ObservedGeneration: generation, Message: message}
	if ok {
		c.Status = metav1.ConditionTrue
	}
	return c
}

func parentStatus(gateway string, conditions ...metav1.Condition) gatewayv1.RouteParentStatus {
	return gatewayv1.RouteParentStatus{ParentRef: gatewayv1.ParentReference{Name: gatewayv1.ObjectName(gateway)}, ControllerName: ours, Conditions: conditions}
}

func accepted(gateway string, generation int64) gatewayv1.RouteParentStatus {
	return parentStatus(gateway, condition("Accepted", true, "Accepted", generation, "attached"))
}

func routeStatus(o *gatewayv1.HTTPRoute, parents ...gatewayv1.RouteParentStatus) translate.Statuses {
	return translate.Statuses{HTTPRoutes: []*translate.RouteStatus{{Namespace: o.Namespace, Name: o.Name, Parents: parents}}}
}

func routes(list ...*gatewayv1.HTTPRoute) *translate.Objects {
	return &translate.Objects{HTTPRoutes: list}
}

func parentsOf(t *testing.T, s *simulated, o *gatewayv1.HTTPRoute) []gatewayv1.RouteParentStatus {
	t.Helper()
	var out []gatewayv1.RouteParentStatus
	if err := decode(json.RawMessage(s.field(refOf(kindHTTPRoute, o), "parents")), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestOnlyWhatDiffersIsWritten(t *testing.T) {
	s, r := newSimulated(), route("cart")
	s.add(kindHTTPRoute, r, "")
	b := newBench(s)
	want := routeStatus(r, accepted("web", 1))
	b.offer(t.Context(), routes(r), want)
	if s.writes() != 1 || s.gets != 0 {
		t.Fatalf("%d writes, %d reads; want one write of what differs, and no read of what is known", s.writes(), s.gets)
	}
	// The cache has not seen our own write yet.
	b.offer(t.Context(), routes(r), want)
	// Now it has.
	r = r.DeepCopy()
	s.read(t, kindHTTPRoute, r, &r.Status)
	b.offer(t.Context(), routes(r), want)
	if s.writes() != 1 || s.gets != 0 {
		t.Errorf("%d writes, %d reads; what is right was written again", s.writes(), s.gets)
	}
	if got := parentsOf(t, s, r); len(got) != 1 || got[0].Conditions[0].Message != "attached" {
		t.Errorf("parents = %+v", got)
	}
	if st := b.Stats(kindHTTPRoute); st.Writes != 1 || st.Failures != 0 || st.Conflicts != 0 {
		t.Errorf("Stats() = %+v", st)
	}
}

func TestAConditionKeepsItsTimeUntilItChanges(t *testing.T) {
	s, r := newSimulated(), route("cart")
	s.add(kindHTTPRoute, r, "")
	b := newBench(s)
	first := b.time
	write := func(conditions ...metav1.Condition) []metav1.Condition {
		b.offer(t.Context(), routes(r), routeStatus(r, parentStatus("web", conditions...)))
		r = r.DeepCopy()
		s.read(t, kindHTTPRoute, r, &r.Status)
		return r.Status.Parents[0].Conditions
	}
	write(condition("Accepted", true, "Accepted", 1, "attached"), condition("ResolvedRefs", true, "ResolvedRefs", 1, "all"))
	b.time = b.time.Add(time.Hour)
	got := write(condition("Accepted", true, "Accepted", 2, "attached"), condition("ResolvedRefs", false, "BackendNotFound", 2, "no Service"))
	if !got[0].LastTransitionTime.Time.Equal(first) || got[0].ObservedGeneration != 2 {
		t.Errorf("Accepted, which did not change: %+v", got[0])
	}
	if !got[1].LastTransitionTime.Time.Equal(b.time) || got[1].Status != metav1.ConditionFalse {
		t.Errorf("ResolvedRefs, which changed: %+v", got[1])
	}
	got = write(condition("Accepted", true, "Accepted", 2, "attached"))
	if len(got) != 1 {
		t.Errorf("a condition of ours that is not wanted any more stays: %+v", got)
	}
}

// theirs is an entry of another controller, with a field that this program does not know.
const theirs = `{"parentRef":{"name":"other"},"controllerName":"example.com/x","conditions":[],"future":{"z":1,"a":2}}`

func TestEntriesOfOtherControllersStayByteForByte(t *testing.T) {
	s, r := newSimulated(), route("cart")
	s.add(kindHTTPRoute, r, `{"parents":[`+theirs+`,{"parentRef":{"name":"gone"},"controllerName":"`+ours+`","conditions":[]}],"future":[1]}`)
	s.read(t, kindHTTPRoute, r, &r.Status)
	b := newBench(s)
	b.offer(t.Context(), routes(r), routeStatus(r, accepted("web", 1)))
	got := s.field(refOf(kindHTTPRoute, r), "parents")
	if !strings.HasPrefix(got, "["+theirs+",") || strings.Contains(got, `"gone"`) || !strings.Contains(got, `"web"`) {
		t.Errorf("parents = %s", got)
	}
	if s.field(refOf(kindHTTPRoute, r), "future") != "[1]" {
		t.Error("a field of a newer API version is gone")
	}
	// A route that is not ours any more loses our entry only.
	r = r.DeepCopy()
	s.read(t, kindHTTPRoute, r, &r.Status)
	b.offer(t.Context(), routes(r), translate.Statuses{})
	if got := s.field(refOf(kindHTTPRoute, r), "parents"); got != "["+theirs+"]" {
		t.Errorf("parents = %s", got)
	}
}

func TestAListThatOthersHaveFilledIsLeftAsItIs(t *testing.T) {
	policy := &gatewayv1.BackendTLSPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "p", Generation: 1}}
	var entries []string
	for i := range policyAncestorsMax {
		entries = append(entries, fmt.Sprintf(`{"ancestorRef":{"name":"g%d"},"controllerName":"example.com/x","conditions":[]}`, i))
	}
	s := newSimulated()
	s.add(kindBackendTLSPolicy, policy, `{"ancestors":[`+strings.Join(entries, ",")+`]}`)
	s.read(t, kindBackendTLSPolicy, policy, &policy.Status)
	b := newBench(s)
	want := translate.Statuses{BackendTLSPolicies: []translate.PolicyStatus{{Namespace: "shop", Name: "p",
		Ancestors: []gatewayv1.PolicyAncestorStatus{{AncestorRef: gatewayv1.ParentReference{Name: "web"}, ControllerName: ours}}}}}
	b.offer(t.Context(), &translate.Objects{BackendTLSPolicies: []*gatewayv1.BackendTLSPolicy{policy}}, want)
	b.offer(t.Context(), &translate.Objects{BackendTLSPolicies: []*gatewayv1.BackendTLSPolicy{policy}}, want)
	if s.writes() != 0 || s.gets != 1 {
		t.Errorf("%d writes, %d reads; want one look", s.writes(), s.gets)
	}
	s.set(refOf(kindBackendTLSPolicy, policy), func(st *stored) {
		st.status["ancestors"] = json.RawMessage("[" + strings.Join(entries[1:], ",") + "]")
	})
	policy = policy.DeepCopy()
	s.read(t, kindBackendTLSPolicy, policy, &policy.Status)
	b.offer(t.Context(), &translate.Objects{BackendTLSPolicies: []*gatewayv1.BackendTLSPolicy{policy}}, want)
	if s.writes() != 1 || !strings.Contains(s.field(refOf(kindBackendTLSPolicy, policy), "ancestors"), ours) {
		t.Error("there is room again, and the entry is not written")
	}
}

func TestAConflictIsReadAgainAndWhatOthersWroteMeanwhileStays(t *testing.T) {
	s, r := newSimulated(), route("cart")
	s.add(kindHTTPRoute, r, "")
	once := true
	s.before = func(o id) {
		if once {
			once = false
			s.set(o, func(st *stored) {
				st.status = map[string]json.RawMessage{"parents": json.RawMessage("[" + theirs + "]")}
			})
		}
	}
	b := newBench(s)
	b.offer(t.Context(), routes(r), routeStatus(r, accepted("web", 1)))
	got := s.field(refOf(kindHTTPRoute, r), "parents")
	if !strings.HasPrefix(got, "["+theirs+",") || !strings.Contains(got, `"web"`) {
		t.Errorf("parents = %s", got)
	}
	if st := b.Stats(kindHTTPRoute); st.Conflicts != 1 || st.Writes != 2 || st.Failures != 0 {
		t.Errorf("Stats() = %+v", st)
	}
}

func TestAnOlderGenerationIsNeverWrittenOverANewerOne(t *testing.T) {
	t.Run("the object has changed since", func(t *testing.T) {
		s, r := newSimulated(), route("cart")
		s.add(kindHTTPRoute, r, "")
		s.set(refOf(kindHTTPRoute, r), func(st *stored) { st.generation = 2 })
		newBench(s).offer(t.Context(), routes(r), routeStatus(r, accepted("web", 1)))
		if s.field(refOf(kindHTTPRoute, r), "parents") != "" {
			t.Error("a status of generation 1 was written to an object of generation 2")
		}
	})
	t.Run("another leader has written about it", func(t *testing.T) {
		s, r := newSimulated(), route("cart")
		s.add(kindHTTPRoute, r, `{"parents":[{"parentRef":{"name":"web"},"controllerName":"`+ours+
			`","conditions":[{"type":"Accepted","status":"False","reason":"X","message":"","observedGeneration":7,"lastTransitionTime":null}]}]}`)
		s.read(t, kindHTTPRoute, r, &r.Status)
		b := newBench(s)
		b.offer(t.Context(), routes(r), routeStatus(r, accepted("web", 1)))
		if s.writes() != 0 || b.Stats(kindHTTPRoute).Failures != 0 {
			t.Error("a status of generation 1 was written over one of generation 7")
		}
	})
	t.Run("it is another object of the same name", func(t *testing.T) {
		s, r := newSimulated(), route("cart")
		s.add(kindHTTPRoute, r, "")
		s.add(kindHTTPRoute, route("cart"), "")
		newBench(s).offer(t.Context(), routes(r), routeStatus(r, accepted("web", 1)))
		if s.field(refOf(kindHTTPRoute, r), "parents") != "" {
			t.Error("the status of an object that is gone was written to its successor")
		}
	})
}

func TestARefusedWriteHurtsNoOtherAndIsTriedAgainWhenTheObjectChanges(t *testing.T) {
	s := newSimulated()
	bad, good := route("bad"), route("good")
	s.add(kindHTTPRoute, bad, "")
	s.add(kindHTTPRoute, good, "")
	s.refuse = func(o id) error {
		if o.Name == "bad" {
			return apierrors.NewInvalid(schema.GroupKind{Kind: o.Kind}, o.Name, nil)
		}
		return nil
	}
	b := newBench(s)
	want := translate.Statuses{HTTPRoutes: []*translate.RouteStatus{
		{Namespace: "shop", Name: "bad", Parents: []gatewayv1.RouteParentStatus{accepted("web", 1)}},
		{Namespace: "shop", Name: "good", Parents: []gatewayv1.RouteParentStatus{accepted("web", 1)}}}}
	if pause := b.offer(t.Context(), routes(bad, good), want); pause != retryMin {
		t.Errorf("the next look is after %s, want %s", pause, retryMin)
	}
	if len(parentsOf(t, s, good)) != 1 {
		t.Error("the good route has no status")
	}
	if !strings.Contains(b.log.String(), "HTTPRoute shop/bad") || b.Waiting() != 1 {
		t.Errorf("log: %s, Waiting() = %d", b.log, b.Waiting())
	}
	before := s.writes()
	b.offer(t.Context(), routes(bad, good), want)
	if s.writes() != before {
		t.Error("it was tried again at once, although nothing changed")
	}
	b.time = b.time.Add(retryMin)
	b.round(t.Context())
	if s.writes() != before+1 || strings.Count(b.log.String(), "could not be written") != 1 {
		t.Errorf("%d tries, want one more; log: %s", s.writes()-before, b.log)
	}
	s.refuse = nil
	s.set(refOf(kindHTTPRoute, bad), func(*stored) {})
	bad = bad.DeepCopy()
	s.read(t, kindHTTPRoute, bad, &bad.Status)
	b.offer(t.Context(), routes(bad, good), want)
	if len(parentsOf(t, s, bad)) != 1 || b.Waiting() != 0 {
		t.Error("a newer version of the object has no status")
	}
}

func TestAnAPIServerThatDoesNotAnswerIsAskedAgainAndMakesOneLogLine(t *testing.T) {
	s := newSimulated()
	var list []*gatewayv1.HTTPRoute
	want := translate.Statuses{}
	for i := range 100 {
		r := route(fmt.Sprintf("r%03d", i))
		s.add(kindHTTPRoute, r, "")
		list = append(list, r)
		want.HTTPRoutes = append(want.HTTPRoutes, routeStatus(r, accepted("web", 1)).HTTPRoutes...)
	}
	s.refuse = func(id) error { return errors.New("connection refused") }
	b := newBench(s)
	if pause := b.offer(t.Context(), routes(list...), want); pause != retryMin {
		t.Errorf("the next look is after %s, want %s", pause, retryMin)
	}
	if n := s.writes(); n > 3*writesAtOnce {
		t.Errorf("%d requests to a server that does not answer", n)
	}
	b.round(t.Context())
	if n := strings.Count(b.log.String(), "\n"); n != 1 {
		t.Errorf("%d log lines, want 1:\n%s", n, b.log)
	}
	s.refuse = nil
	b.round(t.Context())
	for _, r := range list {
		if len(parentsOf(t, s, r)) != 1 {
			t.Fatalf("%s has no status", r.Name)
		}
	}
}

func TestAKindThatTheAPIServerDoesNotKnowYetIsTriedAgainSoonAndInSilence(t *testing.T) {
	s, r := newSimulated(), route("r")
	s.add(kindHTTPRoute, r, "")
	s.refuse = func(o id) error {
		return fmt.Errorf("find the API version of %s: %w", o.Kind, &meta.NoKindMatchError{GroupKind: schema.GroupKind{Kind: o.Kind}})
	}
	b := newBench(s)
	if pause := b.offer(t.Context(), routes(r), routeStatus(r, accepted("web", 1))); pause != kindsAfter {
		t.Errorf("the next look is after %s, want %s", pause, kindsAfter)
	}
	s.refuse = nil
	b.round(t.Context())
	if len(parentsOf(t, s, r)) != 1 {
		t.Error("there is no status although the kind is known now")
	}
	if b.log.Len() > 0 {
		t.Errorf("it was logged: %s", b.log)
	}
}

func TestFiveHundredRoutesAreWrittenAFewAtATime(t *testing.T) {
	s := newSimulated()
	var list []*gatewayv1.HTTPRoute
	want := translate.Statuses{}
	for i := range 500 {
		r := route(fmt.Sprintf("r%03d", i))
		s.add(kindHTTPRoute, r, "")
		list = append(list, r)
		want.HTTPRoutes = append(want.HTTPRoutes, routeStatus(r, accepted("web", 1)).HTTPRoutes...)
	}
	b := newBench(s)
	b.offer(t.Context(), routes(list...), want)
	for _, r := range list {
		if len(parentsOf(t, s, r)) != 1 {
			t.Fatalf("%s has no status", r.Name)
		}
	}
	if s.most > writesAtOnce || s.writes() != 500 {
		t.Errorf("%d writes, up to %d at once; want 500, and %d at most", s.writes(), s.most, writesAtOnce)
	}
}

func TestAnotherLeaderWritesNothingThatIsRight(t *testing.T) {
	s, r := newSimulated(), route("cart")
	s.add(kindHTTPRoute, r, "")
	want := routeStatus(r, accepted("web", 1))
	newBench(s).offer(t.Context(), routes(r), want)
	before := s.field(refOf(kindHTTPRoute, r), "parents")
	next := newBench(s)
	next.time = next.time.Add(time.Hour)
	next.offer(t.Context(), routes(r), want) // its cache is behind
	if after := s.field(refOf(kindHTTPRoute, r), "parents"); after != before {
		t.Errorf("the next leader wrote %s, where there was %s", after, before)
	}
}

func gatewayObject(class string) *gatewayv1.Gateway {
	g := &gatewayv1.Gateway{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", Generation: 1}}
	g.Spec.GatewayClassName = gatewayv1.ObjectName(class)
	return g
}

func gatewayStatus(generation int64, listeners ...gatewayv1.ListenerStatus) translate.Statuses {
	kind := gatewayv1.IPAddressType
	return translate.Statuses{Gateways: []translate.GatewayStatus{{Namespace: "shop", Name: "web", Status: gatewayv1.GatewayStatus{
		Addresses:  []gatewayv1.GatewayStatusAddress{{Type: &kind, Value: "192.0.2.1"}},
		Conditions: []metav1.Condition{condition("Accepted", true, "Accepted", generation, "served"), condition("Programmed", true, "Programmed", generation, "live")},
		Listeners:  listeners,
	}}}}
}

func listenerStatus(name string) gatewayv1.ListenerStatus {
	return gatewayv1.ListenerStatus{Name: gatewayv1.SectionName(name), SupportedKinds: []gatewayv1.RouteGroupKind{},
		Conditions: []metav1.Condition{condition("Programmed", true, "Programmed", 1, "configured")}}
}

func readGateway(t *testing.T, s *simulated, g *gatewayv1.Gateway) *gatewayv1.Gateway {
	t.Helper()
	g = g.DeepCopy()
	g.Status = gatewayv1.GatewayStatus{}
	s.read(t, kindGateway, g, &g.Status)
	return g
}

func TestAGatewayKeepsConditionsOfOthersAndFieldsOfNewerVersions(t *testing.T) {
	s, g := newSimulated(), gatewayObject("rauta")
	s.add(kindGateway, g, `{"conditions":[{"type":"Accepted","status":"Unknown","reason":"Pending","message":"Waiting for controller","lastTransitionTime":"1970-01-01T00:00:00Z"},`+
		`{"type":"example.com/Billed","status":"True","reason":"Paid","message":"","lastTransitionTime":"2026-01-01T00:00:00Z"}],"future":{"a":1}}`)
	s.read(t, kindGateway, g, &g.Status)
	b := newBench(s)
	b.offer(t.Context(), &translate.Objects{Gateways: []*gatewayv1.Gateway{g}}, gatewayStatus(1, listenerStatus("http")))
	g = readGateway(t, s, g)
	if len(g.Status.Conditions) != 3 || g.Status.Conditions[0].Status != metav1.ConditionTrue || g.Status.Conditions[1].Type != "example.com/Billed" {
		t.Errorf("conditions = %+v", g.Status.Conditions)
	}
	if s.field(refOf(kindGateway, g), "future") != `{"a":1}` || len(g.Status.Listeners) != 1 || g.Status.Addresses[0].Value != "192.0.2.1" {
		t.Errorf("status = %+v", g.Status)
	}
	b.offer(t.Context(), &translate.Objects{Gateways: []*gatewayv1.Gateway{g}}, gatewayStatus(1, listenerStatus("http")))
	if s.writes() != 1 {
		t.Errorf("%d writes, want 1", s.writes())
	}
}

func TestAGatewayThatIsNotOursAnyMoreIsGivenBack(t *testing.T) {
	setUp := func(t *testing.T) (*simulated, *bench, *gatewayv1.Gateway) {
		s, g := newSimulated(), gatewayObject("rauta")
		s.add(kindGateway, g, "")
		b := newBench(s)
		b.offer(t.Context(), &translate.Objects{Gateways: []*gatewayv1.Gateway{g}}, gatewayStatus(1, listenerStatus("http")))
		s.set(refOf(kindGateway, g), func(st *stored) { st.generation = 2 })
		return s, b, readGateway(t, s, g)
	}
	t.Run("nobody else has it", func(t *testing.T) {
		s, b, g := setUp(t)
		b.offer(t.Context(), &translate.Objects{Gateways: []*gatewayv1.Gateway{g}}, translate.Statuses{})
		g = readGateway(t, s, g)
		if len(g.Status.Addresses)+len(g.Status.Listeners) != 0 || len(g.Status.Conditions) != 2 || g.Status.Conditions[0].Status != metav1.ConditionUnknown {
			t.Errorf("status = %+v", g.Status)
		}
		before := s.writes()
		b.offer(t.Context(), &translate.Objects{Gateways: []*gatewayv1.Gateway{g}}, translate.Statuses{})
		if s.writes() != before {
			t.Error("it is given back twice")
		}
	})
	t.Run("another controller has written", func(t *testing.T) {
		s, b, g := setUp(t)
		s.set(refOf(kindGateway, g), func(st *stored) {
			st.status["conditions"] = json.RawMessage(`[{"type":"Accepted","status":"True","reason":"Accepted","message":"by another","observedGeneration":2,"lastTransitionTime":"2026-01-01T00:00:00Z"}]`)
		})
		before := s.writes()
		b.offer(t.Context(), &translate.Objects{Gateways: []*gatewayv1.Gateway{readGateway(t, s, g)}}, translate.Statuses{})
		if s.writes() != before {
			t.Error("what another controller has written is overwritten")
		}
	})
	t.Run("it comes back before it was given back", func(t *testing.T) {
		s, b, g := setUp(t)
		b.Offer(Update{Objects: &translate.Objects{Gateways: []*gatewayv1.Gateway{g}}, Result: &translate.Result{}})
		b.offer(t.Context(), &translate.Objects{Gateways: []*gatewayv1.Gateway{g}}, gatewayStatus(2, listenerStatus("http")))
		g = readGateway(t, s, g)
		if g.Status.Conditions[0].Status != metav1.ConditionTrue || g.Status.Conditions[0].ObservedGeneration != 2 {
			t.Errorf("status = %+v", g.Status)
		}
	})
}

func TestAnIngressGetsItsAddressesAndGivesThemBack(t *testing.T) {
	s := newSimulated()
	o := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", Generation: 1}}
	s.add(kindIngress, o, "")
	b := newBench(s)
	want := networkingv1.IngressStatus{LoadBalancer: networkingv1.IngressLoadBalancerStatus{Ingress: []networkingv1.IngressLoadBalancerIngress{{IP: "192.0.2.1"}}}}
	objects := &translate.Objects{Ingresses: []*networkingv1.Ingress{o}}
	b.offer(t.Context(), objects, translate.Statuses{Ingresses: []translate.IngressStatus{{Namespace: "shop", Name: "web", Status: want}}})
	if got := s.field(refOf(kindIngress, o), "loadBalancer"); got != `{"ingress":[{"ip":"192.0.2.1"}]}` {
		t.Errorf("loadBalancer = %s", got)
	}
	b.offer(t.Context(), objects, translate.Statuses{})
	if got := s.field(refOf(kindIngress, o), "loadBalancer"); got != `{"ingress":null}` {
		t.Errorf("loadBalancer = %s", got)
	}
}

func TestAListenerThatThisReplicaDoesNotServeIsNotProgrammed(t *testing.T) {
	s, g := newSimulated(), gatewayObject("rauta")
	s.add(kindGateway, g, "")
	b := newBench(s)
	statuses := gatewayStatus(1, listenerStatus("http"), listenerStatus("https"))
	offer := func(unserved map[string]error) *gatewayv1.Gateway {
		b.Offer(Update{Objects: &translate.Objects{Gateways: []*gatewayv1.Gateway{g}}, Result: &translate.Result{Statuses: statuses}, Unserved: unserved})
		b.round(t.Context())
		g = readGateway(t, s, g)
		return g
	}
	taken := errors.New("port 80 is taken")
	got := offer(map[string]error{"shop/web/http@192.0.2.1": taken})
	if c := got.Status.Listeners[0].Conditions[0]; c.Status != metav1.ConditionFalse || !strings.Contains(c.Message, "taken") {
		t.Errorf("listener http: %+v", c)
	}
	if got.Status.Listeners[1].Conditions[0].Status != metav1.ConditionTrue || got.Status.Conditions[1].Status != metav1.ConditionTrue {
		t.Errorf("the other listener and the Gateway are served: %+v", got.Status)
	}
	got = offer(map[string]error{"shop/web/http": taken, "shop/web/https": taken})
	if got.Status.Conditions[1].Status != metav1.ConditionFalse {
		t.Errorf("nothing is served, and the Gateway is programmed: %+v", got.Status.Conditions)
	}
	if statuses.Gateways[0].Status.Listeners[0].Conditions[0].Status != metav1.ConditionTrue {
		t.Error("the result of translation was changed")
	}
}

func TestClassesAndAllKindsOfRoutesGetTheirStatus(t *testing.T) {
	s := newSimulated()
	class := &gatewayv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: "rauta", Generation: 1}}
	meta := metav1.ObjectMeta{Namespace: "shop", Name: "r", Generation: 1}
	o := &translate.Objects{
		GatewayClasses: []*gatewayv1.GatewayClass{class},
		GRPCRoutes:     []*gatewayv1.GRPCRoute{{ObjectMeta: meta}}, TLSRoutes: []*gatewayv1.TLSRoute{{ObjectMeta: meta}},
		TCPRoutes: []*gatewayv1.TCPRoute{{ObjectMeta: meta}}, UDPRoutes: []*gatewayv1.UDPRoute{{ObjectMeta: meta}},
	}
	s.add(kindGatewayClass, class, "")
	s.add(kindGRPCRoute, o.GRPCRoutes[0], "")
	s.add(kindTLSRoute, o.TLSRoutes[0], "")
	s.add(kindTCPRoute, o.TCPRoutes[0], "")
	s.add(kindUDPRoute, o.UDPRoutes[0], "")
	one := []*translate.RouteStatus{{Namespace: "shop", Name: "r", Parents: []gatewayv1.RouteParentStatus{accepted("web", 1)}}}
	newBench(s).offer(t.Context(), o, translate.Statuses{
		GatewayClasses: []translate.GatewayClassStatus{{Name: "rauta", Status: gatewayv1.GatewayClassStatus{
			Conditions: []metav1.Condition{condition("Accepted", true, "Accepted", 1, "")}, SupportedFeatures: []gatewayv1.SupportedFeature{{Name: "HTTPRoute"}}}}},
		GRPCRoutes: one, TLSRoutes: one, TCPRoutes: one, UDPRoutes: one,
	})
	for ref, st := range s.objects {
		if len(st.status) == 0 {
			t.Errorf("%s has no status", name(ref))
		}
	}
	if got := s.field(id{Kind: kindGatewayClass, Name: "rauta"}, "supportedFeatures"); got != `[{"name":"HTTPRoute"}]` {
		t.Errorf("supportedFeatures = %s", got)
	}
}

func TestAListenerSetGetsItsStatusAndGivesItBack(t *testing.T) {
	s := newSimulated()
	o := &gatewayv1.ListenerSet{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "more", Generation: 1}}
	s.add(kindListenerSet, o, "")
	b := newBench(s)
	statuses := translate.Statuses{ListenerSets: []translate.ListenerSetStatus{{Namespace: "shop", Name: "more", Status: gatewayv1.ListenerSetStatus{
		Conditions: []metav1.Condition{condition("Accepted", true, "Accepted", 1, "added"), condition("Programmed", true, "Programmed", 1, "live")},
		Listeners:  []gatewayv1.ListenerEntryStatus{gatewayv1.ListenerEntryStatus(listenerStatus("http"))},
	}}}}
	offer := func(s2 translate.Statuses, unserved map[string]error) {
		b.Offer(Update{Objects: &translate.Objects{ListenerSets: []*gatewayv1.ListenerSet{o}}, Result: &translate.Result{Statuses: s2}, Unserved: unserved})
		b.round(t.Context())
		o = o.DeepCopy()
		o.Status = gatewayv1.ListenerSetStatus{}
		s.read(t, kindListenerSet, o, &o.Status)
	}
	offer(statuses, nil)
	if len(o.Status.Listeners) != 1 || o.Status.Conditions[1].Status != metav1.ConditionTrue {
		t.Errorf("status = %+v", o.Status)
	}
	if s.field(refOf(kindListenerSet, o), "addresses") != "" {
		t.Error("a ListenerSet has addresses")
	}
	offer(statuses, nil)
	if s.writes() != 1 {
		t.Errorf("%d writes, want 1", s.writes())
	}
	offer(statuses, map[string]error{"listenerset/shop/more/http": errors.New("port 80 is taken")})
	if o.Status.Conditions[1].Status != metav1.ConditionFalse || o.Status.Listeners[0].Conditions[0].Status != metav1.ConditionFalse {
		t.Errorf("not served: status = %+v", o.Status)
	}
	offer(statuses, nil)
	offer(translate.Statuses{}, nil)
	if len(o.Status.Listeners) != 0 || o.Status.Conditions[0].Status != metav1.ConditionUnknown {
		t.Errorf("given back: status = %+v", o.Status)
	}
}
