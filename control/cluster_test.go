package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"rauta.io/rauta/control/translate"
	"rauta.io/rauta/control/watch"
	"rauta.io/rauta/internal/testrig"
	"rauta.io/rauta/proxy/config"
)

// source is an API server that says what a test wants.
type source struct {
	changed chan struct{}

	mu       sync.Mutex
	synced   bool
	objects  translate.Objects
	change   watch.Change
	complete bool
	referred []translate.ObjectRef
}

func (s *source) Run(ctx context.Context)  { <-ctx.Done() }
func (s *source) Changed() <-chan struct{} { return s.changed }

func (s *source) Take() watch.Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.change
	s.change = watch.Change{}
	return taken
}

func (s *source) Synced() (bool, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.synced, "objects"
}

func (s *source) Objects() *translate.Objects {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.objects
	return &o
}

func (s *source) Refer(refs []translate.ObjectRef) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.referred = refs
	if !s.complete {
		s.objects.Unread = nil
		for _, ref := range refs {
			s.objects.Unread = append(s.objects.Unread, translate.Unread{ObjectRef: ref, Reason: "has not been read yet"})
		}
	}
	return s.complete
}

func (s *source) EndpointSlices(of watch.ServiceName) (*corev1.Service, []*discoveryv1.EndpointSlice, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, svc := range s.objects.Services {
		if svc.Namespace == of.Namespace && svc.Name == of.Name {
			return svc, s.objects.EndpointSlices, true
		}
	}
	return nil, nil, false
}

// set changes what the API server says, and tells of it.
func (s *source) set(change func(*source)) {
	s.mu.Lock()
	change(s)
	if s.change.Since.IsZero() {
		s.change.Since = time.Now()
	}
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// dataPlane says what happens to it.
type dataPlane struct {
	published chan *config.Config
	endpoints chan []config.Endpoint

	mu      sync.Mutex
	eps     config.Endpoints
	revised [][]string // of each call of Revise
	err     error
}

func (p *dataPlane) Publish(cfg *config.Config, eps config.Endpoints) error {
	p.mu.Lock()
	p.eps = eps
	err := p.err
	p.mu.Unlock()
	p.published <- cfg
	return err
}

func (p *dataPlane) Revise(cfg *config.Config, eps config.Endpoints, changed []string) error {
	p.mu.Lock()
	p.revised = append(p.revised, changed)
	p.mu.Unlock()
	return p.Publish(cfg, eps)
}

// last is what it was told last: all endpoints, and which of them are new in revisions.
func (p *dataPlane) last() (config.Endpoints, [][]string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.eps, p.revised
}

func (p *dataPlane) SetEndpoints(_ string, eps []config.Endpoint) { p.endpoints <- eps }
func (p *dataPlane) Failed(error)                                 {}

// updates is a Sink.
type updates chan Update

func (u updates) Published(one Update) { u <- one }

const testTime = 30 * time.Second // more than any machine needs

func receive[T any](t *testing.T, what string, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(testTime):
		t.Fatalf("never: %s", what)
	}
	return v
}

// quietly fails if there is something to receive after a while.
func quietly[T any](t *testing.T, what string, from <-chan T) {
	t.Helper()
	select {
	case v := <-from:
		t.Fatalf("%s: %+v", what, v)
	case <-time.After(100 * time.Millisecond):
	}
}

func slice(addresses ...string) *discoveryv1.EndpointSlice {
	port := int32(8080)
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "app-1", Namespace: "d", Labels: map[string]string{discoveryv1.LabelServiceName: "app"}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Port: &port}},
	}
	for _, a := range addresses {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}})
	}
	return s
}

// served is a Gateway on a port, with a route to a Service.
func served(port gatewayv1.PortNumber, address string) translate.Objects {
	backend := gatewayv1.PortNumber(80)
	return translate.Objects{
		GatewayClasses: []*gatewayv1.GatewayClass{{
			ObjectMeta: metav1.ObjectMeta{Name: "rauta"}, Spec: gatewayv1.GatewayClassSpec{ControllerName: translate.DefaultControllerName},
		}},
		Gateways: []*gatewayv1.Gateway{{
			ObjectMeta: metav1.ObjectMeta{Name: "gw", Namespace: "d"},
			Spec: gatewayv1.GatewaySpec{GatewayClassName: "rauta", Listeners: []gatewayv1.Listener{
				{Name: "http", Port: port, Protocol: gatewayv1.HTTPProtocolType}}},
		}},
		HTTPRoutes: []*gatewayv1.HTTPRoute{{
			ObjectMeta: metav1.ObjectMeta{Name: "r", Namespace: "d"},
			Spec: gatewayv1.HTTPRouteSpec{
				CommonRouteSpec: gatewayv1.CommonRouteSpec{ParentRefs: []gatewayv1.ParentReference{{Name: "gw"}}},
				Rules: []gatewayv1.HTTPRouteRule{{BackendRefs: []gatewayv1.HTTPBackendRef{{BackendRef: gatewayv1.BackendRef{
					BackendObjectReference: gatewayv1.BackendObjectReference{Name: "app", Port: &backend}}}}}},
			},
		}},
		Services: []*corev1.Service{{
			ObjectMeta: metav1.ObjectMeta{Name: "app", Namespace: "d"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
		}},
		EndpointSlices: []*discoveryv1.EndpointSlice{slice(address)},
	}
}

func live(t *testing.T, adjust func(*Cluster)) (*source, *dataPlane, updates) {
	t.Helper()
	s := &source{changed: make(chan struct{}, 1), complete: true}
	p := &dataPlane{published: make(chan *config.Config, 100), endpoints: make(chan []config.Endpoint, 100)}
	u := make(updates, 100)
	c := &Cluster{Source: s, To: p, Sink: u, Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	if adjust != nil {
		adjust(c)
	}
	testrig.Run(t, c.Run)
	return s, p, u
}

func TestNothingIsPublishedBeforeEverythingHasBeenRead(t *testing.T) {
	s, p, u := live(t, nil)
	s.set(func(s *source) { s.objects, s.change.Objects = served(80, "10.0.0.1"), true })
	quietly(t, "published from half of the objects", p.published)
	s.set(func(s *source) { s.synced = true })
	if cfg := receive(t, "the first configuration", p.published); len(cfg.Listeners) != 1 || cfg.Listeners[0].Port != 80 {
		t.Errorf("published %+v", cfg)
	}
	if one := receive(t, "the sink is told", u); one.Objects == nil || len(one.Result.Statuses.Gateways) != 1 || one.Err != nil {
		t.Errorf("told %+v", one)
	}
}

// TestAddressesThatAreKnownBeforeTheObjectsPublishNothing: an empty configuration would take away what is stored.
func TestAddressesThatAreKnownBeforeTheObjectsPublishNothing(t *testing.T) {
	addresses := make(chan []string)
	s, p, u := live(t, func(c *Cluster) { c.Addresses = addresses })
	addresses <- []string{"192.0.2.1"}
	quietly(t, "published without objects", p.published)
	s.set(func(s *source) { s.objects, s.synced = served(80, "10.0.0.1"), true })
	receive(t, "the first configuration", p.published)
	if got := receive(t, "the sink is told", u).Result.Statuses.Gateways[0].Status.Addresses; len(got) != 1 || got[0].Value != "192.0.2.1" {
		t.Errorf("the addresses are %v", got)
	}
}

func TestAClusterWithoutObjectsIsServedToo(t *testing.T) {
	s, p, _ := live(t, nil)
	s.set(func(s *source) { s.synced = true })
	receive(t, "the empty configuration", p.published)
}

func TestEndpointsAreSetWithoutATranslation(t *testing.T) {
	kept := make(chan struct{}, 100)
	s, p, _ := live(t, func(c *Cluster) { c.Changed = func() { kept <- struct{}{} } })
	s.set(func(s *source) { s.objects, s.synced = served(80, "10.0.0.1"), true })
	receive(t, "the first configuration", p.published)
	receive(t, "the keeper is told", kept)
	s.set(func(s *source) {
		s.objects.EndpointSlices = []*discoveryv1.EndpointSlice{slice("10.0.0.2", "10.0.0.3")}
		s.change.Services = []watch.ServiceName{{Namespace: "d", Name: "app"}}
	})
	eps := receive(t, "the new endpoints", p.endpoints)
	if len(eps) != 2 || eps[0].Address != "10.0.0.2:8080" || eps[1].Address != "10.0.0.3:8080" {
		t.Errorf("set %+v", eps)
	}
	receive(t, "the keeper is told of endpoints", kept)
	quietly(t, "endpoints alone were translated", p.published)
	s.set(func(s *source) {
		s.objects.EndpointSlices = nil
		s.change.Services = []watch.ServiceName{{Namespace: "d", Name: "app"}}
	})
	if eps := receive(t, "no endpoints", p.endpoints); len(eps) != 0 {
		t.Errorf("set %+v", eps)
	}
}

func TestAChangeOfObjectsIsPublishedWithTheNewestEndpoints(t *testing.T) {
	s, p, _ := live(t, nil)
	s.set(func(s *source) { s.objects, s.synced = served(80, "10.0.0.1"), true })
	receive(t, "the first configuration", p.published)
	s.set(func(s *source) {
		s.objects = served(81, "10.0.0.2")
		s.change.Objects, s.change.Services = true, []watch.ServiceName{{Namespace: "d", Name: "app"}}
	})
	if cfg := receive(t, "the change", p.published); cfg.Listeners[0].Port != 81 {
		t.Errorf("published %+v", cfg.Listeners)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if eps := p.eps["d/app:80"]; len(eps) != 1 || eps[0].Address != "10.0.0.2:8080" {
		t.Errorf("published endpoints %+v", p.eps)
	}
}

// anew is a new state of a route, which takes and leads to the same.
func anew(r *gatewayv1.HTTPRoute) *gatewayv1.HTTPRoute {
	next := r.DeepCopy()
	next.Generation++
	weight := int32(next.Generation)
	next.Spec.Rules[0].BackendRefs[0].Weight = &weight
	return next
}

func TestARevisionSaysWhoseEndpointsHaveChanged(t *testing.T) {
	s, p, _ := live(t, nil)
	objects := served(80, "10.0.0.1")
	s.set(func(s *source) { s.objects, s.synced, s.change.Objects = objects, true, true })
	receive(t, "the first configuration", p.published)
	objects.HTTPRoutes = []*gatewayv1.HTTPRoute{anew(objects.HTTPRoutes[0])}
	s.set(func(s *source) { s.objects, s.change.Objects = objects, true })
	receive(t, "another weight", p.published)
	objects.HTTPRoutes = []*gatewayv1.HTTPRoute{anew(objects.HTTPRoutes[0])}
	objects.EndpointSlices = []*discoveryv1.EndpointSlice{slice("10.0.0.2")} // which the source has not told yet
	s.set(func(s *source) { s.objects, s.change.Objects = objects, true })
	receive(t, "another endpoint", p.published)
	eps, revised := p.last()
	if len(revised) != 2 || len(revised[0]) != 0 || !slices.Equal(revised[1], []string{"d/app:80"}) {
		t.Errorf("revisions with other endpoints of %v", revised)
	}
	if list := eps["d/app:80"]; len(list) != 1 || list[0].Address != "10.0.0.2:8080" {
		t.Errorf("the endpoints are %v", eps)
	}
}

func TestARevisionOfWhatWasNotPublishedIsPublishedWhole(t *testing.T) {
	s, p, _ := live(t, nil)
	objects := served(80, "10.0.0.1")
	s.set(func(s *source) { s.objects, s.synced, s.change.Objects = objects, true, true })
	receive(t, "the first configuration", p.published)
	gateway := objects.Gateways[0].DeepCopy()
	gateway.Spec.Listeners = append(gateway.Spec.Listeners, gatewayv1.Listener{Name: "tls", Port: 443, Protocol: gatewayv1.HTTPSProtocolType,
		TLS: &gatewayv1.ListenerTLSConfig{CertificateRefs: []gatewayv1.SecretObjectReference{{Name: "c"}}}})
	other := *objects.Services[0]
	other.Name = "other"
	route := objects.HTTPRoutes[0].DeepCopy()
	route.Name, route.Spec.Rules[0].BackendRefs[0].Name = "s", "other"
	more := slice("10.0.0.3")
	more.Name, more.Labels = "other-1", map[string]string{discoveryv1.LabelServiceName: "other"}
	objects.Gateways, objects.Services = []*gatewayv1.Gateway{gateway}, append(objects.Services, &other)
	objects.EndpointSlices, objects.HTTPRoutes = append(objects.EndpointSlices, more), append(objects.HTTPRoutes, route)
	s.set(func(s *source) { s.objects, s.change.Objects, s.complete = objects, true, false })
	quietly(t, "published without a Secret", p.published)
	objects.HTTPRoutes = []*gatewayv1.HTTPRoute{anew(objects.HTTPRoutes[0]), route}
	s.set(func(s *source) { s.objects.HTTPRoutes, s.change.Objects, s.complete = objects.HTTPRoutes, true, true })
	receive(t, "everything", p.published)
	eps, revised := p.last()
	if len(revised) != 0 || len(eps["d/app:80"]) != 1 || len(eps["d/other:80"]) != 1 {
		t.Errorf("revisions %v, endpoints %v", revised, eps)
	}
}

func TestAPublicationWaitsForWhatIsReferredToForTheFirstTime(t *testing.T) {
	s, p, _ := live(t, nil)
	s.set(func(s *source) { s.objects, s.synced, s.complete = served(80, "10.0.0.1"), true, false })
	quietly(t, "published before a Secret was read", p.published)
	s.set(func(s *source) { s.complete = true })
	receive(t, "the first configuration", p.published)
}

func TestAPublicationThatHasWaitedInVainSaysWhatHasNotBeenRead(t *testing.T) {
	s, p, u := live(t, nil)
	s.set(func(s *source) { s.objects, s.synced = served(80, "10.0.0.1"), true })
	receive(t, "the first configuration", p.published)
	receive(t, "the sink is told", u)
	s.set(func(s *source) {
		s.objects.Gateways = []*gatewayv1.Gateway{s.objects.Gateways[0].DeepCopy()}
		l := &s.objects.Gateways[0].Spec.Listeners[0]
		l.Protocol, l.TLS = gatewayv1.HTTPSProtocolType, &gatewayv1.ListenerTLSConfig{CertificateRefs: []gatewayv1.SecretObjectReference{{Name: "c"}}}
		s.complete, s.change.Objects = false, true
	})
	quietly(t, "published before the Secret was read", p.published)
	one := receive(t, "the sink is told after a while", u)
	said := fmt.Sprint(one.Result.Problems)
	if !strings.Contains(said, "Secret d/c has not been read yet") || strings.Contains(said, "Secret d/c does not exist") {
		t.Errorf("the problems are %s", said)
	}
}

func TestWhatIsStoredIsServedWhileTheAPIServerIsAway(t *testing.T) {
	stored := &config.Config{Listeners: []config.Listener{{Name: "kept", Port: 82}}}
	s, p, u := live(t, func(c *Cluster) {
		c.Stored = func() (*config.Config, config.Endpoints, error) { return stored, nil, nil }
	})
	if cfg := receive(t, "what is stored", p.published); cfg != stored {
		t.Errorf("published %+v", cfg)
	}
	quietly(t, "statuses of what is stored", u)
	s.set(func(s *source) { s.objects, s.synced = served(80, "10.0.0.1"), true })
	if cfg := receive(t, "what the API server says", p.published); cfg.Listeners[0].Port != 80 {
		t.Errorf("published %+v", cfg)
	}
}

func TestListenersWithoutASocketAreToldAndTriedAgain(t *testing.T) {
	s, p, u := live(t, nil)
	taken := errors.New("the port is taken")
	p.err = &config.ListenerError{Listeners: []string{"d/gw/http"}, Err: taken}
	s.set(func(s *source) { s.objects, s.synced = served(80, "10.0.0.1"), true })
	first := receive(t, "the first configuration", p.published)
	if one := receive(t, "the sink is told", u); !errors.Is(one.Unserved[first.Listeners[0].Name], taken) {
		t.Errorf("told %+v", one)
	}
	p.mu.Lock()
	p.err = nil
	p.mu.Unlock()
	if again := receive(t, "another try", p.published); again != first {
		t.Error("another configuration was published")
	}
	if one := receive(t, "the sink is told of the success", u); one.Unserved != nil || one.Err != nil {
		t.Errorf("told %+v", one)
	}
}

func TestStatusesThatOthersWriteAreToldWithoutAPublication(t *testing.T) {
	s, p, u := live(t, nil)
	s.set(func(s *source) { s.objects, s.synced = served(80, "10.0.0.1"), true })
	receive(t, "the first configuration", p.published)
	first := receive(t, "the sink is told", u)
	s.set(func(s *source) {
		s.objects.Gateways = slices.Clone(s.objects.Gateways)
		s.objects.Gateways[0] = s.objects.Gateways[0].DeepCopy()
		s.objects.Gateways[0].ResourceVersion = "2"
		s.change.Statuses = true
	})
	if one := receive(t, "the sink is told", u); one.Objects.Gateways[0].ResourceVersion != "2" || one.Result.Config != first.Result.Config {
		t.Errorf("told %+v", one)
	}
	quietly(t, "a status was published", p.published)
}

func TestAPanicOfATranslationLeavesWhatIsServed(t *testing.T) {
	s, p, _ := live(t, nil)
	s.set(func(s *source) { s.objects, s.synced = served(80, "10.0.0.1"), true })
	receive(t, "the first configuration", p.published)
	s.set(func(s *source) { s.objects.Gateways, s.change.Objects = []*gatewayv1.Gateway{nil}, true })
	quietly(t, "something was published", p.published)
	s.set(func(s *source) { s.objects, s.change.Objects = served(81, "10.0.0.1"), true })
	if cfg := receive(t, "the next change", p.published); cfg.Listeners[0].Port != 81 {
		t.Errorf("published %+v", cfg)
	}
}

func TestAZoneThatIsKnownLaterTakesEffectOnEndpoints(t *testing.T) {
	zones := make(chan string)
	s, p, _ := live(t, func(c *Cluster) { c.Zone = zones })
	near, far := "near", "far"
	objects := served(8080, "10.0.0.1")
	prefer := corev1.ServiceTrafficDistributionPreferClose
	objects.Services[0].Spec.TrafficDistribution = &prefer
	objects.EndpointSlices = []*discoveryv1.EndpointSlice{slice("10.0.0.1", "10.0.0.2")}
	objects.EndpointSlices[0].Endpoints[0].Zone = &near
	objects.EndpointSlices[0].Endpoints[1].Zone = &far
	s.set(func(s *source) { s.synced, s.objects, s.change.Objects = true, objects, true })
	distant := func() (n int) {
		receive(t, "a publication", p.published)
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, eps := range p.eps {
			for _, e := range eps {
				if e.Distant {
					n++
				}
			}
		}
		return n
	}
	if n := distant(); n != 0 {
		t.Errorf("%d endpoints are distant although the zone is not known", n)
	}
	zones <- near
	if n := distant(); n != 1 {
		t.Errorf("%d endpoints are distant, want the one in the other zone", n)
	}
}

// TestANewStateIsTranslatedAtOnceAndNewObjectsAfterAMoment: those come together with others that they belong to.
func TestANewStateIsTranslatedAtOnceAndNewObjectsAfterAMoment(t *testing.T) {
	now := time.Now()
	c := &Cluster{}
	c.touchNow(now)
	if at := c.translateAt(); at.After(now) {
		t.Errorf("a new state waits for %s", at.Sub(now))
	}
	c.touch(now)
	if at := c.translateAt(); at.Before(now.Add(quietTime)) {
		t.Errorf("a new object waits for %s", at.Sub(now))
	}
	c.touchNow(now)
	if at := c.translateAt(); at.Before(now.Add(quietTime)) {
		t.Errorf("a new state that comes with a new object waits for %s", at.Sub(now))
	}
}

// TestWorkThatGoesOnTakesHalfOfTheTimeAndASingleRunWaitsForNothing: times are given, not measured.
func TestWorkThatGoesOnTakesHalfOfTheTimeAndASingleRunWaitsForNothing(t *testing.T) {
	c, now := &Cluster{}, time.Now()
	run := func(took time.Duration) (waited time.Duration) {
		at := now
		c.touchNow(now)
		if next := c.translateAt(); next.After(now) {
			at = next
		}
		waited = at.Sub(now)
		c.dirty = time.Time{}
		now = at.Add(took)
		c.worked(took, now)
		return waited
	}
	run(workAhead)
	if waited := run(time.Millisecond); waited != 0 {
		t.Errorf("a change after a long one waits for %s", waited)
	}
	begun, worked := now, 1000*time.Millisecond
	for range 1000 {
		run(time.Millisecond)
	}
	if all := now.Sub(begun); all < 2*worked-workAhead || all > 2*worked+workAhead {
		t.Errorf("work of %s without end took %s, want half of the time", worked, all)
	}
	for range 10 {
		run(time.Minute)
	}
	if waited := run(0); waited > restTimeMax {
		t.Errorf("a change waits for %s after the longest work", waited)
	}
}
