package status

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"rauta.io/rauta/control/translate"
)

func problem(o metav1.Object, severity translate.Severity, field, message, hint string) translate.Problem {
	return translate.Problem{Severity: severity, Object: refOf(kindHTTPRoute, o), Field: field, Message: message, Hint: hint}
}

// tell makes an Update with problems the newest and sends what is due.
func (b *bench) tell(ctx context.Context, o *translate.Objects, problems ...translate.Problem) {
	b.events.take(&Update{Objects: o, Result: &translate.Result{Problems: problems}})
	b.events.send(ctx)
}

func (s *simulated) onlyEvent(t *testing.T) *eventsv1.Event {
	t.Helper()
	if len(s.events) != 1 {
		t.Fatalf("%d events, want 1: %v", len(s.events), s.events)
	}
	for _, e := range s.events {
		return e
	}
	return nil
}

func TestAProblemBecomesAnEventOnItsObject(t *testing.T) {
	s, r := newSimulated(), route("cart")
	s.add(kindHTTPRoute, r, "")
	b := newBench(s)
	p := problem(r, translate.Error, "spec.rules[0].backendRefs[0]", "there is no Service shop/cart", "create it")
	b.tell(t.Context(), routes(r), p)
	e := s.onlyEvent(t)
	if e.Namespace != "shop" || e.Reason != reasonError || e.Type != "Warning" || e.Action == "" || e.EventTime.IsZero() ||
		e.ReportingController == "" || e.ReportingInstance != "rauta-0" {
		t.Errorf("event = %+v", e)
	}
	if e.Note != "spec.rules[0].backendRefs[0]: there is no Service shop/cart (create it)" {
		t.Errorf("note = %q", e.Note)
	}
	if g := e.Regarding; g.Kind != kindHTTPRoute || g.Name != "cart" || g.UID != r.UID || g.APIVersion != "gateway.networking.k8s.io/v1" {
		t.Errorf("regarding = %+v", g)
	}
	// The same problem in the next Update is the same Event.
	b.tell(t.Context(), routes(r), p)
	if s.creates != 1 || s.again_ != 0 {
		t.Errorf("it was sent again: %d creates, %d more", s.creates, s.again_)
	}
}

func TestAnEventIsKeptAliveWhileItsProblemIsThere(t *testing.T) {
	s, r := newSimulated(), route("cart")
	s.add(kindHTTPRoute, r, "")
	b := newBench(s)
	p := problem(r, translate.Warning, "", "something", "")
	b.tell(t.Context(), routes(r), p)
	b.time = b.time.Add(eventRefresh)
	b.tell(t.Context(), routes(r), p)
	if e := s.onlyEvent(t); e.Series == nil || e.Series.Count != 2 || e.Reason != reasonWarning {
		t.Errorf("event = %+v", e)
	}
	clear(s.events) // the API server has forgotten it
	b.time = b.time.Add(eventRefresh)
	b.tell(t.Context(), routes(r), p)
	if e := s.onlyEvent(t); e.Series != nil || !e.EventTime.Time.Equal(b.time) {
		t.Errorf("event = %+v", e)
	}
}

func TestTheNextLeaderAddsToTheEventsOfTheLast(t *testing.T) {
	s, r := newSimulated(), route("cart")
	s.add(kindHTTPRoute, r, "")
	p := problem(r, translate.Error, "spec", "something", "")
	newBench(s).tell(t.Context(), routes(r), p)
	newBench(s).tell(t.Context(), routes(r), p)
	if e := s.onlyEvent(t); e.Series == nil || e.Series.Count != 2 {
		t.Errorf("event = %+v", e)
	}
}

func TestEventsAreValidWhateverObjectsSay(t *testing.T) {
	s := newSimulated()
	r := route(strings.Repeat("a", 199) + "." + strings.Repeat("b", 53))
	s.add(kindHTTPRoute, r, "")
	class := &gatewayv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: "rauta"}}
	s.add(kindGatewayClass, class, "")
	b := newBench(s)
	b.tell(t.Context(), &translate.Objects{HTTPRoutes: []*gatewayv1.HTTPRoute{r}, GatewayClasses: []*gatewayv1.GatewayClass{class}},
		translate.Problem{Severity: translate.Error, Object: refOf(kindGatewayClass, class), Message: "a\x00b\n\xff`$}"},
		problem(r, translate.Error, "spec", strings.Repeat("é", 2000), ""))
	if len(s.events) != 2 {
		t.Fatalf("%d events, want 2", len(s.events))
	}
	for _, e := range s.events {
		if problems := validation.IsDNS1123Subdomain(e.Name); problems != nil {
			t.Errorf("name %q: %v", e.Name, problems)
		}
		if len(e.Note) > noteBytesMax || strings.ToValidUTF8(e.Note, "") != e.Note {
			t.Errorf("note of %d bytes: %q", len(e.Note), e.Note)
		}
		if e.Regarding.Namespace == "" && e.Namespace != "default" {
			t.Errorf("an event about an object without namespace is in %q", e.Namespace)
		}
	}
}

func TestOneObjectGetsABoundedNumberOfEvents(t *testing.T) {
	s, r := newSimulated(), route("cart")
	s.add(kindHTTPRoute, r, "")
	b := newBench(s)
	var problems []translate.Problem
	for i := range eventsPerObject + 5 {
		problems = append(problems, problem(r, translate.Error, fmt.Sprintf("spec.rules[%d]", i), "x", ""))
	}
	problems = append(problems, problem(route("gone"), translate.Error, "", "its object is not there any more", ""))
	b.tell(t.Context(), routes(r), problems...)
	if len(s.events) != eventsPerObject+1 {
		t.Errorf("%d events, want %d", len(s.events), eventsPerObject+1)
	}
	more := 0
	for _, e := range s.events {
		if strings.Contains(e.Note, "5 more problems") {
			more++
		}
	}
	if more != 1 {
		t.Errorf("%d events say how many others there are, want 1", more)
	}
}

func TestAllEventsTogetherAreBounded(t *testing.T) {
	o := &translate.Objects{}
	var problems []translate.Problem
	for i := range eventsMax + 10 {
		r := route(fmt.Sprintf("r%05d", i))
		o.HTTPRoutes = append(o.HTTPRoutes, r)
		problems = append(problems, problem(r, translate.Error, "", "x", ""))
	}
	b := newBench(newSimulated())
	other := route("other")
	other.Namespace = "z"
	o.HTTPRoutes = append(o.HTTPRoutes, other)
	problems = append(problems, problem(other, translate.Error, "", "x", ""))
	b.events.take(&Update{Objects: o, Result: &translate.Result{Problems: problems}})
	if got := len(b.events.queue); got != eventsMax {
		t.Errorf("%d events, want %d", got, eventsMax)
	}
	if second := b.events.queue[1].event; second.Namespace != "z" {
		t.Errorf("the event of the other namespace does not come after the first one of %s", b.events.queue[0].event.Namespace)
	}
	if b.Events().Dropped != 11 {
		t.Errorf("Events() = %+v", b.Events())
	}
}

func TestTheFirstProblemOfEachObjectIsToldBeforeTheSecondOfAny(t *testing.T) {
	o := &translate.Objects{}
	var problems []translate.Problem
	for i := range eventsMax {
		r := route(fmt.Sprintf("r%05d", i))
		r.UID = types.UID(r.Name)
		o.HTTPRoutes = append(o.HTTPRoutes, r)
		problems = append(problems, problem(r, translate.Error, "", "x", ""), problem(r, translate.Error, "", "y", ""))
	}
	b := newBench(newSimulated())
	b.events.take(&Update{Objects: o, Result: &translate.Result{Problems: problems}})
	told := map[types.UID]bool{}
	for _, s := range b.events.queue {
		told[s.event.Regarding.UID] = true
	}
	if len(told) != eventsMax {
		t.Errorf("%d of %d objects are told something", len(told), eventsMax)
	}
}

func TestANamespaceThatIsBeingDeletedStopsNoEventsOfOthers(t *testing.T) {
	s, gone, stays := newSimulated(), route("gone"), route("stays")
	gone.Namespace, stays.Namespace = "a", "b"
	s.add(kindHTTPRoute, gone, "")
	s.add(kindHTTPRoute, stays, "")
	b := newBench(s)
	terminating := apierrors.NewForbidden(schema.GroupResource{Resource: "events"}, "x", errors.New("the namespace is being terminated"))
	terminating.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	s.refuseEvent = func(e *eventsv1.Event) error {
		if e.Namespace == "a" {
			return terminating
		}
		return nil
	}
	b.tell(t.Context(), routes(gone, stays), problem(gone, translate.Error, "", "x", ""), problem(stays, translate.Error, "", "x", ""))
	if e := s.onlyEvent(t); e.Namespace != "b" {
		t.Errorf("the event is %+v", e)
	}
	if b.log.Len() > 0 {
		t.Errorf("it is logged, which nobody can do anything about: %s", b.log)
	}
}

func TestANewProblemDoesNotWaitForThousandsOfOthers(t *testing.T) {
	s := newSimulated()
	b := newBench(s)
	flood := &translate.Objects{}
	var problems []translate.Problem
	for i := range eventsBurst*EventsPerSecond + 1000 {
		r := route(fmt.Sprintf("r%05d", i))
		s.add(kindHTTPRoute, r, "")
		flood.HTTPRoutes = append(flood.HTTPRoutes, r)
		problems = append(problems, problem(r, translate.Error, "", "x", ""))
	}
	other := route("other")
	other.Namespace = "z"
	s.add(kindHTTPRoute, other, "")
	ctx, stop := context.WithCancel(t.Context())
	sent := 0
	s.onEvent = func(e *eventsv1.Event) {
		switch sent++; {
		case sent == 10: // the flood is under way
			more := &translate.Objects{HTTPRoutes: append(slices.Clone(flood.HTTPRoutes), other)}
			b.events.offer(&Update{Objects: more, Result: &translate.Result{Problems: append(slices.Clone(problems), problem(other, translate.Error, "", "x", ""))}})
			b.time = b.time.Add(eventLook)
		case e.Namespace == "z":
			stop()
		}
	}
	b.tell(ctx, flood, problems...)
	if sent > 20 || ctx.Err() == nil {
		t.Errorf("%d events were sent before the new one, or it was not sent", sent)
	}
}

func TestEventsThatAreRefusedMakeOneLogLineAndAreTriedAgain(t *testing.T) {
	s, r := newSimulated(), route("cart")
	s.add(kindHTTPRoute, r, "")
	b := newBench(s)
	s.noEvent = errors.New("connection refused")
	p := problem(r, translate.Error, "", "x", "")
	b.tell(t.Context(), routes(r), p)
	b.tell(t.Context(), routes(r), p)
	if n := strings.Count(b.log.String(), "\n"); n != 1 || !strings.Contains(b.log.String(), "HTTPRoute shop/cart") {
		t.Errorf("%d log lines: %s", n, b.log)
	}
	s.noEvent = nil
	b.tell(t.Context(), routes(r), p)
	s.onlyEvent(t)
	if st := b.Events(); st.Sent != 1 || st.Failed != 2 {
		t.Errorf("Events() = %+v", st)
	}
}

func TestRunWritesAndSendsUntilItIsToldToStop(t *testing.T) {
	s, r := newSimulated(), route("cart")
	s.add(kindHTTPRoute, r, "")
	b := newBench(s)
	for range 2 { // two terms of one leader
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); b.Run(ctx) }()
		b.Offer(Update{Objects: routes(r), Result: &translate.Result{
			Statuses: routeStatus(r, accepted("web", 1)), Problems: []translate.Problem{problem(r, translate.Error, "", "x", "")}}})
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			s.mu.Lock()
			done := s.objects[refOf(kindHTTPRoute, r)].status["parents"] != nil && len(s.events) == 1
			s.mu.Unlock()
			if done {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("no status or no event")
			}
		}
		stop()
		<-ended
		s.mu.Lock()
		delete(s.objects[refOf(kindHTTPRoute, r)].status, "parents")
		clear(s.events)
		s.mu.Unlock()
	}
}

func TestStatusesWaitForTheAddresses(t *testing.T) {
	s, r := newSimulated(), route("cart")
	s.add(kindHTTPRoute, r, "")
	b := newBench(s)
	b.opt.Addresses = NewAddresses()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); b.Run(ctx) }()
	b.Offer(Update{Objects: routes(r), Result: &translate.Result{Statuses: routeStatus(r, accepted("web", 1))}})
	time.Sleep(2 * roundPause)
	if s.writes() != 0 {
		t.Error("a status was written before the addresses were known")
	}
	b.opt.Addresses.Set([]string{"192.0.2.1"})
	for deadline := time.Now().Add(time.Minute); s.writes() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no status is written")
		}
	}
	stop()
	<-ended
}

func TestHowManyEventsAreWrittenInASecondCanBeSaid(t *testing.T) {
	for said, want := range map[float64]struct {
		limit float64
		burst int
	}{0: {25, 100}, 0.1: {0.1, 1}, 400: {400, 1600}} {
		e := newEvents(nil, Options{EventsPerSecond: said}, nil)
		if got := float64(e.limit.Limit()); got != want.limit || e.limit.Burst() != want.burst {
			t.Errorf("%v: %v a second and %d at once, want %v", said, got, e.limit.Burst(), want)
		}
	}
}
