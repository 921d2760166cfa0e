package upstream

import (
	"slices"
	"testing"
	"time"
	"unsafe"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/observe"
)

func TestEndpointsAreCarriedOverWithTheirPools(t *testing.T) {
	c, w := newTestCluster(config.Cluster{}, 1, 3), newTestWorker(0)
	w.dialer.atOnce = true
	e := c.Set().Endpoints()[1]
	s := acquire(e.Pool(w.Worker))
	e.Pool(w.Worker).Release(s.conn)

	eps := addresses(5)[1:]
	eps[0].Terminating = true
	removed := c.SetEndpoints(eps)
	if len(removed) != 1 || removed[0].Name != addresses(1)[0].Address {
		t.Fatalf("removed %v", removed)
	}
	if !slices.Contains(c.Set().Endpoints(), e) {
		t.Fatal("an endpoint that became terminating was made anew")
	}
	if !slices.Contains(c.Set().Infos(), eps[0]) {
		t.Fatal("the set does not say that an endpoint is terminating")
	}

	n := NewCluster(config.Cluster{Name: c.Name(), ConnectTimeout: config.Duration(time.Second)}, nil, 1, c)
	if !slices.Equal(n.Set().Endpoints(), c.Set().Endpoints()) {
		t.Fatal("new settings lost endpoints")
	}
	if got := e.Pool(w.Worker).ConnectTimeout(); got != 5e9 {
		t.Fatalf("connect timeout %d before the new cluster is used", got)
	}
	for range 100 {
		n.Pick(w.Worker, 0, nil)
	}
	live := n.Pick(w.Worker, 0, nil)
	if got := live.Pool(w.Worker).ConnectTimeout(); got != 1e9 {
		t.Fatalf("connect timeout %d after the new cluster picked", got)
	}
	if got := acquire(e.Pool(w.Worker)); got.conn != s.conn {
		t.Fatal("the pool did not survive")
	}
}

func TestNewSettingsMayChangeThePolicy(t *testing.T) {
	c, w := newTestCluster(config.Cluster{}, 1, 5), newTestWorker(0).Worker
	for _, policy := range policies {
		c = NewCluster(config.Cluster{Name: c.Name(), Policy: policy}, nil, 1, c)
		if counts := spread(c, w, 1000, nil); len(counts) != 5 {
			t.Errorf("%s: %d endpoints, want 5", policy, len(counts))
		}
	}
}

func TestTheMaglevTableIsSharedWhileTheEndpointsStayTheSame(t *testing.T) {
	c := maglevCluster(5)
	table := &c.Set().table.entries[0]
	n := NewCluster(c.Config(), nil, 1, c)
	n.SetEndpoints(addresses(5))
	if &n.Set().table.entries[0] != table {
		t.Error("built again for the same endpoints")
	}
	eps := append(addresses(5), config.Endpoint{Address: "10.9.9.9:80", Terminating: true})
	n.SetEndpoints(eps)
	if &n.Set().table.entries[0] != table {
		t.Error("built again when a terminating endpoint came")
	}
	n.SetEndpoints(addresses(4))
	if &n.Set().table.entries[0] == table {
		t.Error("not built again for other endpoints")
	}
	if p2c := newTestCluster(config.Cluster{}, 1, 5); len(p2c.Set().table.entries) != 0 {
		t.Error("built without need")
	}
}

func TestAnEndpointThatComesBackIsANewOne(t *testing.T) {
	c := newTestCluster(config.Cluster{}, 1, 2)
	old := c.Set().Endpoints()[1]
	c.SetEndpoints(addresses(1))
	c.SetEndpoints(addresses(2))
	if c.Set().Endpoints()[1] == old {
		t.Fatal("want a new endpoint: workers retire the old one")
	}
}

func TestAnotherPodAtTheSameAddressIsANewEndpoint(t *testing.T) {
	c := newTestCluster(config.Cluster{}, 1, 0)
	at := func(pod string) []config.Endpoint { return []config.Endpoint{{Address: "10.0.0.1:80", Pod: pod}} }
	c.SetEndpoints(at("a"))
	if removed := c.SetEndpoints(at("")); len(removed) != 0 {
		t.Error("removed although nothing says that the pod is another one")
	}
	if removed := c.SetEndpoints(at("b")); len(removed) != 1 || removed[0].Pod != "a" {
		t.Errorf("removed %v, want the endpoint of pod a", removed)
	}
}

func TestAddressesAreNormalisedDeduplicatedAndChecked(t *testing.T) {
	c := newTestCluster(config.Cluster{}, 1, 0)
	c.SetEndpoints([]config.Endpoint{
		{Address: "10.0.0.2:80", Terminating: true},
		{Address: "[::ffff:10.0.0.1]:80"},
		{Address: "10.0.0.1:80", Terminating: true},
		{Address: "10.0.0.2:80"},
		{Address: "[2001:db8::1]:80", Terminating: true},
		{Address: "example.com:80"},
		{Address: "10.0.0.3"},
		{Address: "10.0.0.3:0"},
	})
	s := c.Set()
	var names []string
	for _, e := range s.Endpoints() {
		names = append(names, e.Name)
	}
	if want := []string{"10.0.0.1:80", "10.0.0.2:80", "[2001:db8::1]:80"}; !slices.Equal(names, want) {
		t.Errorf("endpoints %v, want %v", names, want)
	}
	if s.Ready() != 2 {
		t.Errorf("%d ready, want 2", s.Ready())
	}
	if want := []string{"example.com:80", "10.0.0.3", "10.0.0.3:0"}; !slices.Equal(s.Rejected(), want) {
		t.Errorf("rejected %v, want %v", s.Rejected(), want)
	}
}

func TestDefaultsAreFilledInAndTheSettingsStayAsGiven(t *testing.T) {
	given := config.Cluster{Name: "ns/svc:80"}
	c := NewCluster(given, nil, 1, nil)
	if c.ConnectTimeout() != 5e9 || c.policy != config.PolicyP2C || c.Name() != given.Name || c.Config() != given {
		t.Fatalf("connect timeout %d, policy %s, name %s, settings %+v", c.ConnectTimeout(), c.policy, c.Name(), c.Config())
	}
}

func TestEndpointsHaveTheRegistrysHandles(t *testing.T) {
	reg := observe.NewRegistry(observe.Options{Workers: 1})
	c := NewCluster(config.Cluster{Name: "ns/svc:80"}, reg, 1, nil)
	c.SetEndpoints(addresses(2))
	for _, e := range c.Set().Endpoints() {
		if e.Stats == nil || e.Stats != reg.Endpoint("ns/svc:80", e.Name) {
			t.Errorf("%s has the handle %v", e.Name, e.Stats)
		}
	}
	c.SetEndpoints(nil)
}

func TestASetHasNoCopyOfWhatItWasMadeFrom(t *testing.T) {
	c := newTestCluster(config.Cluster{}, 1, 0)
	eps := addresses(3)
	c.SetEndpoints(eps)
	if &c.Set().Infos()[0] != &eps[0] || unsafe.StringData(c.Set().Endpoints()[0].Name) != unsafe.StringData(eps[0].Address) {
		t.Error("endpoints, or their addresses, are kept twice")
	}
	slices.Reverse(eps)
	eps = append(slices.Clone(eps), eps[0])
	c.SetEndpoints(eps)
	if got := c.Set().Infos(); len(got) != 3 || got[0] != eps[2] || got[2] != eps[0] {
		t.Errorf("out of order and twice: %v", got)
	}
}
