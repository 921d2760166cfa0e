package watch

import (
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"rauta.io/rauta/control/translate"
	"rauta.io/rauta/internal/testrig"
)

// Paths of collections.
const (
	routes     = "/apis/gateway.networking.k8s.io/v1/httproutes"
	gateways   = "/apis/gateway.networking.k8s.io/v1/gateways"
	services   = "/api/v1/services"
	epSlices   = "/apis/discovery.k8s.io/v1/endpointslices"
	secrets    = "/api/v1/secrets"
	configMaps = "/api/v1/configmaps"
	namespaces = "/api/v1/namespaces"
)

// eventually waits for something that must come true, with a bound that no slow machine reaches.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// text is a log that several goroutines write.
type text struct{ testrig.Buffer }

func (l *text) count(s string) int { return strings.Count(l.String(), s) }

func follow(t *testing.T, s *apiServer, opt ClusterOptions) *Cluster {
	t.Helper()
	if opt.Log == nil {
		opt.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if opt.DiscoveryTime == 0 {
		opt.DiscoveryTime = 20 * time.Millisecond
	}
	if opt.EmptyTime == 0 {
		opt.EmptyTime = 50 * time.Millisecond
	}
	c, err := NewCluster(&rest.Config{Host: s.URL}, opt)
	if err != nil {
		t.Fatal(err)
	}
	testrig.Run(t, c.Run)
	return c
}

func synced(t *testing.T, c *Cluster) {
	t.Helper()
	eventually(t, "everything has been read", func() bool { ok, _ := c.Synced(); return ok })
}

// followRoute follows an API server that has one HTTPRoute, and has read it.
func followRoute(t *testing.T, opt ClusterOptions) (*apiServer, *Cluster) {
	t.Helper()
	s := newAPIServer(t)
	s.serve("v1", "httproutes")
	s.put(routes, route("a", "a.test", 1))
	c := follow(t, s, opt)
	synced(t, c)
	return s, c
}

func route(name, hostname string, generation int) string {
	return fmt.Sprintf(`{"metadata":{"name":%q,"namespace":"d","generation":%d},"spec":{"hostnames":[%q]}}`, name, generation, hostname)
}

// hostnames of all HTTPRoutes, in order.
func hostnames(o *translate.Objects) (out []string) {
	for _, r := range o.HTTPRoutes {
		for _, h := range r.Spec.Hostnames {
			out = append(out, string(h))
		}
	}
	slices.Sort(out)
	return out
}

func TestObjectsAreReadAndTheirChangesFollowed(t *testing.T) {
	s, c := followRoute(t, ClusterOptions{})
	if got := hostnames(c.Objects()); !slices.Equal(got, []string{"a.test"}) {
		t.Fatalf("read %v", got)
	}
	c.Take()
	s.put(routes, route("b", "b.test", 1))
	eventually(t, "a new route is seen", func() bool { return len(hostnames(c.Objects())) == 2 })
	if change := c.Take(); !change.Objects || change.Since.IsZero() {
		t.Errorf("the change is %+v", change)
	}
	s.put(routes, route("a", "new.test", 2))
	eventually(t, "a change is seen", func() bool { return slices.Contains(hostnames(c.Objects()), "new.test") })
	s.remove(routes, "d/a")
	eventually(t, "a removal is seen", func() bool { return slices.Equal(hostnames(c.Objects()), []string{"b.test"}) })
}

func TestObjectsAreInOrderWhateverHasHappenedToThem(t *testing.T) {
	s := newAPIServer(t)
	s.serve("v1", "httproutes")
	s.put(routes, route("m", "m.test", 1))
	c := follow(t, s, ClusterOptions{})
	synced(t, c)
	names := func() (out []string) {
		for _, r := range c.Objects().HTTPRoutes {
			out = append(out, r.Name)
		}
		return out
	}
	names() // from now on the list is kept in order
	for i, step := range []struct {
		name   string
		remove bool
		want   []string
	}{
		{"z", false, []string{"m", "z"}}, {"a", false, []string{"a", "m", "z"}}, {"n", false, []string{"a", "m", "n", "z"}},
		{"m", true, []string{"a", "n", "z"}}, {"z", false, []string{"a", "n", "z"}}, {"a", true, []string{"n", "z"}}, {"z", true, []string{"n"}},
	} {
		if step.remove {
			s.remove(routes, "d/"+step.name)
		} else {
			s.put(routes, route(step.name, fmt.Sprintf("h%d.test", i), i+2))
		}
		eventually(t, fmt.Sprintf("%v after step %d", step.want, i), func() bool { return slices.Equal(names(), step.want) })
	}
}

func TestNothingIsSyncedBeforeEverythingHasBeenRead(t *testing.T) {
	s := newAPIServer(t)
	s.serve("v1", "httproutes")
	s.interrupt(true, false)
	log := &text{}
	c := follow(t, s, ClusterOptions{Log: slog.New(slog.NewTextHandler(log, nil))})
	eventually(t, "the outage is told", func() bool { return log.count("can't be read") > 0 })
	if ok, why := c.Synced(); ok || why == "" {
		t.Errorf("synced without an API server: %v, %q", ok, why)
	}
	s.interrupt(false, false)
	synced(t, c)
	eventually(t, "the end of the outage is told", func() bool { return log.count("can be read again") == 1 })
	if n := log.count("can't be read"); n != 1 {
		t.Errorf("the outage was told %d times, want once", n)
	}
}

func TestAStatusThatIsWrittenIsNoChangeOfObjects(t *testing.T) {
	s := newAPIServer(t)
	s.serve("v1", "httproutes", "gateways")
	s.put(gateways, `{"metadata":{"name":"g","namespace":"d","generation":1}}`)
	c := follow(t, s, ClusterOptions{})
	synced(t, c)
	c.Take()
	s.put(gateways, `{"metadata":{"name":"g","namespace":"d","generation":1},"status":{"conditions":[{"type":"Programmed","status":"True"}]}}`)
	eventually(t, "the status is seen", func() bool { return len(c.Objects().Gateways[0].Status.Conditions) == 1 })
	if change := c.Take(); change.Objects || !change.Statuses {
		t.Errorf("the change is %+v", change)
	}
	s.put(gateways, `{"metadata":{"name":"g","namespace":"d","generation":1},"status":{"addresses":[{"value":"192.0.2.1"}]}}`)
	eventually(t, "the address is seen", func() bool { return len(c.Objects().Gateways[0].Status.Addresses) == 1 })
	if change := c.Take(); !change.Objects {
		t.Errorf("the change of an address is %+v, but Translate has to know", change)
	}
}

// TestAnAPIServerThatIsStartingHasNotSaidYetWhatThereIs: what was served before would be given up otherwise.
func TestAnAPIServerThatIsStartingHasNotSaidYetWhatThereIs(t *testing.T) {
	s := newAPIServer(t)
	s.serve("v1", "httproutes")
	s.put(routes, route("a", "a.test", 1))
	s.starting = true
	c := follow(t, s, ClusterOptions{})
	eventually(t, "the API server has been asked", func() bool { return s.asked("/readyz") >= 2*goneTimes })
	if ok, _ := c.Synced(); ok {
		t.Fatal("everything has been read of an API server that does not know its kinds yet")
	}
	s.mu.Lock()
	s.starting = false
	s.mu.Unlock()
	synced(t, c)
	if got := hostnames(c.Objects()); !slices.Equal(got, []string{"a.test"}) {
		t.Errorf("%v", got)
	}
}

// TestKindsThatComeOneByOneAreWaitedFor: an API server may be ready before discovery has all kinds.
func TestKindsThatComeOneByOneAreWaitedFor(t *testing.T) {
	s := newAPIServer(t)
	c := follow(t, s, ClusterOptions{DiscoveryTime: 300 * time.Millisecond})
	eventually(t, "the first look", func() bool { return s.asked("/apis/"+gatewayGroup) > 0 })
	if ok, _ := c.Synced(); ok {
		t.Fatal("one look was enough")
	}
	synced(t, c)
	if n := s.asked("/apis/" + gatewayGroup); n < goneTimes {
		t.Errorf("%d looks", n)
	}
}

func TestKindsMayAppearInAnotherVersionAndDisappear(t *testing.T) {
	s := newAPIServer(t)
	s.put("/apis/gateway.networking.k8s.io/v1alpha2/tlsroutes", `{"metadata":{"name":"t","namespace":"d"},"spec":{"hostnames":["alpha.test"]}}`)
	s.put("/apis/gateway.networking.k8s.io/v1/tlsroutes", `{"metadata":{"name":"t","namespace":"d"},"spec":{"hostnames":["one.test"]}}`)
	c := follow(t, s, ClusterOptions{})
	synced(t, c)
	if n := len(c.Objects().TLSRoutes); n != 0 {
		t.Fatalf("%d routes of a kind that is not there", n)
	}
	is := func(want ...string) func() bool {
		return func() bool {
			var got []string
			for _, r := range c.Objects().TLSRoutes {
				got = append(got, string(r.Spec.Hostnames[0]))
			}
			return slices.Equal(got, want)
		}
	}
	s.serve("v1alpha2", "tlsroutes")
	eventually(t, "v1alpha2 is read", is("alpha.test"))
	s.put("/apis/gateway.networking.k8s.io/v1/tlsroutes", `{"metadata":{"name":"t","namespace":"d","generation":2},"spec":{"hostnames":["one.test"]}}`)
	s.serve("v1", "tlsroutes")
	eventually(t, "v1 is read instead", is("one.test"))
	s.serve("v1alpha2")
	s.serve("v1", "httproutes")
	eventually(t, "the routes of a kind that is gone are gone", is())
}

func TestAnEmptyListAfterAnOutageRemovesNothingUntilItIsSure(t *testing.T) {
	log := &text{}
	s, c := followRoute(t, ClusterOptions{Log: slog.New(slog.NewTextHandler(log, nil)), EmptyTime: 500 * time.Millisecond})
	c.Take()
	c.restartAll()
	s.interrupt(false, true)
	c.restartAll()
	eventually(t, "the empty list is told", func() bool { return log.count("lists no object") > 0 })
	if got := hostnames(c.Objects()); len(got) != 1 {
		t.Fatalf("an empty list has left %v", got)
	}
	s.interrupt(false, false) // it was wrong
	time.Sleep(3 * c.opt.EmptyTime)
	if got := hostnames(c.Objects()); len(got) != 1 {
		t.Fatalf("an empty list that was wrong has left %v", got)
	}
	s.interrupt(false, true)
	c.restartAll()
	eventually(t, "an empty list that goes on is believed", func() bool { return len(hostnames(c.Objects())) == 0 })
}

// restartAll lists everything again, as after an outage that lasted too long for a watch to go on.
func (c *Cluster) restartAll() {
	for _, t := range c.tables {
		for _, s := range t.sources {
			c.restart(s)
		}
	}
}

func TestEndpointSlicesAreFoundByTheirService(t *testing.T) {
	s := newAPIServer(t)
	s.put(services, `{"metadata":{"name":"app","namespace":"d"},"spec":{"ports":[{"port":80}]}}`)
	slice := func(service, address string) string {
		return fmt.Sprintf(`{"metadata":{"name":"app-1","namespace":"d","labels":{"kubernetes.io/service-name":%q}},
			"addressType":"IPv4","endpoints":[{"addresses":[%q]}],"ports":[{"port":8080}]}`, service, address)
	}
	s.put(epSlices, slice("app", "10.0.0.1"))
	c := follow(t, s, ClusterOptions{})
	synced(t, c)
	app, other := ServiceName{"d", "app"}, ServiceName{"d", "other"}
	if svc, list, ok := c.EndpointSlices(app); !ok || svc.Name != "app" || len(list) != 1 {
		t.Fatalf("got %v, %v, %v", svc, list, ok)
	}
	c.Take()
	s.put(epSlices, slice("app", "10.0.0.2"))
	eventually(t, "new endpoints are seen", func() bool {
		_, list, _ := c.EndpointSlices(app)
		return len(list) == 1 && list[0].Endpoints[0].Addresses[0] == "10.0.0.2"
	})
	if change := c.Take(); change.Objects || !slices.Equal(change.Services, []ServiceName{app}) {
		t.Errorf("the change is %+v", change)
	}
	s.put(epSlices, slice("other", "10.0.0.2"))
	eventually(t, "a slice has moved", func() bool { _, list, _ := c.EndpointSlices(app); return len(list) == 0 })
	if change := c.Take(); len(change.Services) != 2 || !slices.Contains(change.Services, other) {
		t.Errorf("the change is %+v", change)
	}
	if _, _, ok := c.EndpointSlices(other); ok {
		t.Error("a Service that does not exist was found")
	}
}

func TestSecretsOfOtherTypesAndConfigMapsAreReadWhenTheyAreReferredTo(t *testing.T) {
	s := newAPIServer(t)
	s.put(secrets, `{"metadata":{"name":"cert","namespace":"d"},"type":"kubernetes.io/tls"}`)
	s.put(secrets, `{"metadata":{"name":"ca","namespace":"d"},"type":"Opaque"}`)
	s.put(secrets, `{"metadata":{"name":"password","namespace":"d"},"type":"Opaque"}`)
	s.put(configMaps, `{"metadata":{"name":"ca","namespace":"d"}}`)
	s.put(configMaps, `{"metadata":{"name":"other","namespace":"d"}}`)
	c := follow(t, s, ClusterOptions{})
	synced(t, c)
	names := func() (out []string) {
		for _, one := range c.Objects().Secrets {
			out = append(out, one.Name)
		}
		for _, one := range c.Objects().ConfigMaps {
			out = append(out, "map "+one.Name)
		}
		slices.Sort(out)
		return out
	}
	if got := names(); !slices.Equal(got, []string{"cert"}) {
		t.Fatalf("read %v without a reference", got)
	}
	refs := []translate.ObjectRef{
		{Kind: "ConfigMap", Namespace: "d", Name: "ca"}, {Kind: "Secret", Namespace: "d", Name: "ca"},
		{Kind: "Secret", Namespace: "d", Name: "cert"}, {Kind: "Secret", Namespace: "d", Name: "missing"},
	}
	eventually(t, "what is referred to is read", func() bool { return c.Refer(refs) })
	if got := names(); !slices.Equal(got, []string{"ca", "cert", "map ca"}) {
		t.Errorf("read %v", got)
	}
	s.put(secrets, `{"metadata":{"name":"missing","namespace":"d"},"type":"Opaque"}`)
	eventually(t, "a Secret that came later is read", func() bool { return slices.Contains(names(), "missing") })
	c.Refer(refs[2:3])
	if got := names(); !slices.Equal(got, []string{"cert"}) {
		t.Errorf("kept %v without a reference", got)
	}
}

func TestOnlyNamespacesThatAreAskedForAreRead(t *testing.T) {
	s := newAPIServer(t)
	s.serve("v1", "httproutes")
	s.put(namespaces, `{"metadata":{"name":"d","labels":{"team":"a"}}}`)
	s.put(namespaces, `{"metadata":{"name":"e","labels":{"team":"b"}}}`)
	s.put(routes, route("r", "d.test", 1))
	s.put(routes, strings.Replace(route("r", "e.test", 1), `"namespace":"d"`, `"namespace":"e"`, 1))
	selector, err := ParseSelector("team=b")
	if err != nil {
		t.Fatal(err)
	}
	for want, opt := range map[string]ClusterOptions{"d.test": {Namespaces: []string{"d"}}, "e.test": {Selector: selector}} {
		c := follow(t, s, opt)
		synced(t, c)
		if got := hostnames(c.Objects()); !slices.Equal(got, []string{want}) {
			t.Errorf("%+v: read %v, want %s", opt, got, want)
		}
		if opt.Selector != nil {
			s.put(namespaces, `{"metadata":{"name":"d","labels":{"team":"b"}}}`)
			eventually(t, "a namespace that is selected later is read", func() bool { return len(hostnames(c.Objects())) == 2 })
		}
	}
}

func TestStrippingKeepsWhatIsUsedAndIsDoneOnce(t *testing.T) {
	s := newAPIServer(t)
	s.put(services, `{"metadata":{"name":"app","namespace":"d","labels":{"x":"y"},
		"annotations":{"rauta.io/load-balancer":"random","cloud.example.com/id":"7","kubectl.kubernetes.io/last-applied-configuration":"{}"},
		"managedFields":[{"manager":"m"}]},
		"spec":{"selector":{"app":"app"},"sessionAffinity":"None","ports":[{"name":"http","port":80,"appProtocol":"h2c"}]}}`)
	c := follow(t, s, ClusterOptions{})
	synced(t, c)
	svc := c.Objects().Services[0]
	if len(svc.Annotations) != 1 || svc.Annotations["rauta.io/load-balancer"] != "random" || svc.ManagedFields != nil || svc.Labels != nil ||
		svc.Spec.Selector != nil || len(svc.Spec.Ports) != 1 || *svc.Spec.Ports[0].AppProtocol != "h2c" {
		t.Errorf("kept %+v", svc)
	}
	again := svc.DeepCopy()
	for _, tb := range c.tables {
		if tb.kind == "Service" {
			tb.strip(again)
			if !tb.equal(svc, again) || again.Spec.Ports[0].Port != 80 {
				t.Errorf("stripped twice: %+v", again)
			}
		}
	}
}

func TestNamesThatNoObjectCanHaveAreNotAskedForAndNobodyWaitsForThem(t *testing.T) {
	s := newAPIServer(t)
	s.put(configMaps, `{"metadata":{"name":"ca","namespace":"d"},"data":{"ca.crt":"x"}}`)
	c := follow(t, s, ClusterOptions{})
	synced(t, c)
	refs := []translate.ObjectRef{{Kind: "ConfigMap", Namespace: "d", Name: "ca"}}
	for _, hostile := range []string{"../../etc/passwd", "a,metadata.name=ca", "a=b", "a\nb", "", "A", "\x1b[31m", "a,type!=x"} {
		refs = append(refs, translate.ObjectRef{Kind: "Secret", Namespace: "d", Name: hostile},
			translate.ObjectRef{Kind: "ConfigMap", Namespace: "d", Name: hostile}, translate.ObjectRef{Kind: "Secret", Namespace: "../d", Name: "a"})
	}
	eventually(t, "what can exist has been read", func() bool { return c.Refer(refs) })
	if n := len(c.Objects().ConfigMaps); n != 1 {
		t.Errorf("%d ConfigMaps were read", n)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, table := range c.tables {
		for at := range table.sources {
			if at.name != "" && at.name != "ca" {
				t.Errorf("%q is asked for", at.fields)
			}
		}
	}
}
