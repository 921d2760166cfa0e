package snapshot

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
	"unsafe"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/upstream"
)

func TestAnUnchangedConfigurationIsNotANewGeneration(t *testing.T) {
	l := newLive()
	first := publish(t, l, two())
	again, changed, removed, err := l.Publish(two(), nil)
	if again != first || changed || removed != nil || err != nil || l.Current() != first {
		t.Fatal(changed, removed, err)
	}
}

func TestGenerationsShareWhatDidNotChange(t *testing.T) {
	l := newLive()
	a := publish(t, l, two())
	cfg := two()
	cfg.Routes[2].Rules[0].Matches[0].Path.Value = "/new"
	b := publish(t, l, cfg)

	if b.Generation != a.Generation+1 || b.Hash == a.Hash {
		t.Error("generation and hash did not move on")
	}
	if at(a, 8001) != at(b, 8001) || at(a, 8002) == at(b, 8002) {
		t.Error("want the port of the unchanged routes shared, the other one new")
	}
	if a.Routes[0] != b.Routes[0] || a.Routes[1] != b.Routes[1] || a.Routes[2] == b.Routes[2] {
		t.Error("want the unchanged routes shared, the changed one new")
	}
	for name, c := range a.Clusters {
		if b.Clusters[name] != c {
			t.Errorf("cluster %s is new", name)
		}
	}
	if unsafe.StringData(a.Config.Routes[0].Name) != unsafe.StringData(b.Config.Routes[0].Name) ||
		&a.Config.Routes[0].Rules[0] != &b.Config.Routes[0].Rules[0] {
		t.Error("the text of an unchanged route is held twice")
	}
	if old, now := match(a, 8002, "GET h/new"), match(b, 8002, "GET h/new"); old != "b: no rule" || now != "b: r2/0" {
		t.Errorf("before %s, after %s", old, now)
	}
}

func TestAShiftOfWeightsKeepsTheTable(t *testing.T) {
	l := newLive()
	a := publish(t, l, two())
	cfg := two()
	cfg.Routes[0].Rules[0].Backends = append(cfg.Routes[0].Rules[0].Backends, config.Backend{Cluster: "c1", Weight: 9})
	b := publish(t, l, cfg)
	if at(a, 8001).sites[0].table != at(b, 8001).sites[0].table {
		t.Error("the table was built again")
	}
	rule, _, _ := at(b, 8001).Match(request("GET h/r0"))
	if len(rule.Backends) != 2 {
		t.Error("the old rule is served")
	}
}

func TestTheTableIsBuiltAgainWhenMatchesOrTheirOrderChange(t *testing.T) {
	for name, change := range map[string]func(*config.Config){
		"a method": func(c *config.Config) { c.Routes[0].Rules[0].Matches[0].Method = "GET" },
		"a header": func(c *config.Config) { c.Routes[0].Rules[0].Matches[0].Headers = []config.ValueMatch{{Name: "a"}} },
		"a query":  func(c *config.Config) { c.Routes[0].Rules[0].Matches[0].Query = []config.ValueMatch{{Name: "a"}} },
		"a further match": func(c *config.Config) {
			c.Routes[0].Rules[0].Matches = append(c.Routes[0].Rules[0].Matches, prefix("/"))
		},
		"a further rule": func(c *config.Config) { c.Routes[0].Rules = append(c.Routes[0].Rules, rule("1", "c0", prefix("/"))) },
		"a hostname":     func(c *config.Config) { c.Listeners[0].Attached[0].Hostnames = []string{"x"} },
		"an attachment":  func(c *config.Config) { c.Listeners[0].Attached = attach("r0") },
		"the order":      func(c *config.Config) { c.Routes[0], c.Routes[1] = c.Routes[1], c.Routes[0] },
	} {
		l := newLive()
		a := publish(t, l, two())
		cfg := two()
		change(cfg)
		b := publish(t, l, cfg)
		if at(a, 8001).sites[0].table == at(b, 8001).sites[0].table {
			t.Errorf("%s: the table is the old one", name)
		}
		if at(a, 8002) != at(b, 8002) {
			t.Errorf("%s: the other port is new", name)
		}
	}
}

func TestAClusterWithNewSettingsReachesItsRulesAndKeepsItsEndpoints(t *testing.T) {
	l := newLive()
	eps := config.Endpoints{"c0": {{Address: "127.0.0.1:1"}}}
	a, _, _, err := l.Publish(two(), eps)
	if err != nil {
		t.Fatal(err)
	}
	cfg := two()
	cfg.Clusters[0].Policy = config.PolicyRoundRobin
	b, _, removed, err := l.Publish(cfg, eps)
	if err != nil || len(removed) != 0 {
		t.Fatal(removed, err)
	}
	if a.Clusters["c0"] == b.Clusters["c0"] || b.Routes[0].Rules[0].Backends[0].Cluster != b.Clusters["c0"] {
		t.Error("the rule does not use the new cluster")
	}
	if a.Clusters["c0"].Set().Endpoints()[0] != b.Clusters["c0"].Set().Endpoints()[0] {
		t.Error("the endpoint was not carried over")
	}
	if a.Routes[1] != b.Routes[1] {
		t.Error("a route that does not use the cluster is new")
	}
}

func names(list []*upstream.Endpoint) []string {
	var out []string
	for _, e := range list {
		out = append(out, e.Name)
	}
	slices.Sort(out)
	return out
}

func TestEndpointsThatVanishAreReported(t *testing.T) {
	l := newLive()
	one, twoEps := []config.Endpoint{{Address: "127.0.0.1:1"}}, []config.Endpoint{{Address: "127.0.0.1:1"}, {Address: "127.0.0.1:2"}}
	eps := config.Endpoints{"c0": twoEps, "c1": {{Address: "127.0.0.1:3"}}}
	s, _, removed, err := l.Publish(two(), eps)
	if err != nil || len(removed) != 0 {
		t.Fatal(removed, err)
	}
	if got := names(l.SetEndpoints("c0", one)); !slices.Equal(got, []string{"127.0.0.1:2"}) {
		t.Errorf("SetEndpoints removed %v", got)
	}
	if l.Current() != s {
		t.Error("new endpoints are a new generation")
	}
	if got := l.SetEndpoints("nobody", one); got != nil {
		t.Errorf("an unknown cluster removed %v", names(got))
	}

	// The same configuration with other endpoints.
	_, changed, removed, _ := l.Publish(two(), config.Endpoints{"c0": twoEps})
	if got := names(removed); changed || !slices.Equal(got, []string{"127.0.0.1:3"}) || s.Clusters["c0"].Set().Len() != 2 {
		t.Errorf("changed %v, removed %v", changed, got)
	}

	// A configuration without the cluster.
	cfg := two()
	cfg.Clusters = cfg.Clusters[1:]
	_, _, removed, _ = l.Publish(cfg, nil)
	if got := names(removed); !slices.Equal(got, []string{"127.0.0.1:1", "127.0.0.1:2"}) {
		t.Errorf("a cluster that vanished removed %v", got)
	}
	if s.Clusters["c0"].Set().Len() != 2 {
		t.Error("exchanges of the old generation lost their endpoints")
	}
}

func TestEndpointsThatAreAsTheyShouldBeAreNotSetAgain(t *testing.T) {
	l := newLive()
	eps := config.Endpoints{"c0": {{Address: "127.0.0.1:1"}, {Address: "127.0.0.1:2"}}}
	s, _, _, _ := l.Publish(two(), eps)
	set := s.Clusters["c0"].Set()
	l.Publish(two(), config.Endpoints{"c0": slices.Clone(eps["c0"])})
	if s.Clusters["c0"].Set() != set {
		t.Fatal("the set was replaced by an equal one")
	}
}

func TestRequestsMatchWhileGenerationsAreReplaced(t *testing.T) {
	l := newLive()
	publish(t, l, two())
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			host, req := request("GET h/r0/x")
			for {
				select {
				case <-done:
					return
				default:
				}
				s := l.Current()
				rule, listener, _ := at(s, 8001).Match(host, req)
				if rule == nil || rule.Route != "r0" || listener.Name != "a" || rule.Pick(1).Cluster.Set() == nil {
					t.Errorf("generation %d: %v", s.Generation, rule)
					return
				}
				at(s, 8001).Explain(host, req)
			}
		})
	}
	for i := range 200 {
		cfg := two()
		cfg.Routes[i%3].Created = int64(i)
		cfg.Routes[0].Rules[0].Backends[0].Weight = uint32(i + 1)
		cfg.Routes[1].Rules[0].Matches[0].Path.Value = fmt.Sprint("/r1/", i%5)
		cfg.Clusters[0].PendingMax = 1 + i%2
		if _, _, _, err := l.Publish(cfg, config.Endpoints{"c0": {{Address: fmt.Sprint("127.0.0.1:", 1+i%3)}}}); err != nil {
			t.Fatal(err)
		}
		l.SetEndpoints("c0", []config.Endpoint{{Address: fmt.Sprint("127.0.0.1:", 1+i%4)}})
	}
	close(done)
	readers.Wait()
}

// large has n routes, each with a hostname, cluster and endpoint of its own.
func large(n int, weight uint32) (*config.Config, config.Endpoints) {
	c, eps := new(config.Config), config.Endpoints{}
	c.Listeners = []config.Listener{{Name: "a", Port: 80, Protocol: config.ProtocolHTTP}}
	for i := range n {
		name, cluster := fmt.Sprintf("httproute/default/r%05d", i), fmt.Sprintf("default/c%05d:80", i)
		c.Clusters = append(c.Clusters, config.Cluster{Name: cluster})
		eps[cluster] = []config.Endpoint{{Address: "127.0.0.1:80"}}
		c.Routes = append(c.Routes, &config.Route{Name: name, Rules: []config.Rule{rule("0", cluster, prefix("/"))}})
		c.Listeners[0].Attached = append(c.Listeners[0].Attached, config.Attachment{Route: name, Hostnames: []string{fmt.Sprintf("r%05d.example.com", i)}})
	}
	c.Routes[n/2].Rules[0].Backends[0].Weight = weight
	return c, eps
}

func BenchmarkPublishOneOf10000RoutesChanged(b *testing.B) {
	l := newLive()
	first, eps := large(10_000, 1)
	second, _ := large(10_000, 2)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%2 == 0 {
			l.Publish(first, eps)
		} else {
			l.Publish(second, eps)
		}
	}
}

// BenchmarkPublishOneChangeAfterTheOther has routes, clusters and attachments in the memory of the last configuration, as a
// translation of a cluster's objects has them.
func BenchmarkPublishOneChangeAfterTheOther(b *testing.B) {
	benchmarkChanges(b, withWeight)
}

// BenchmarkPublishOneMatchAfterTheOther is the same where what a route takes changes, so that the table does.
func BenchmarkPublishOneMatchAfterTheOther(b *testing.B) { benchmarkChanges(b, withPath) }

func benchmarkChanges(b *testing.B, change func(*config.Config, int, uint32) *config.Config) {
	l := newLive()
	cfg, eps := large(10_000, 1)
	l.Publish(cfg, eps)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		cfg = change(cfg, i%10_000, uint32(2+i))
		if _, changed, _, err := l.Revise(cfg, eps, nil); !changed || err != nil {
			b.Fatal(changed, err)
		}
	}
}

// withPath is withWeight with another path instead.
func withPath(c *config.Config, route int, n uint32) *config.Config {
	next := *c
	next.Routes = slices.Clone(c.Routes)
	own := *c.Routes[route]
	r := own.Rules[0]
	r.Matches = []config.Match{prefix(fmt.Sprint("/", n)), prefix("/")}
	own.Rules = []config.Rule{r}
	next.Routes[route] = &own
	return &next
}

// TestAChangeOfOneRouteAllocatesForItAlone counts allocations, of which a table that is built anew needs several for each host.
func TestAChangeOfOneRouteAllocatesForItAlone(t *testing.T) {
	const allocationsMax = 200
	for what, change := range map[string]func(*config.Config, int, uint32) *config.Config{"weight": withWeight, "path": withPath} {
		l := newLive()
		cfg, eps := large(1_000, 1)
		publish(t, l, cfg)
		i := 0
		if got := testing.AllocsPerRun(20, func() {
			i++
			cfg = change(cfg, i, uint32(2+i))
			l.Revise(cfg, eps, nil)
		}); got > allocationsMax {
			t.Errorf("a change of a %s allocates %.0f times, want at most %d", what, got, allocationsMax)
		}
		want := fmt.Sprintf("a: httproute/default/r%05d/0", 3)
		if got := match(l.Current(), 80, "GET r00003.example.com/"); got != want {
			t.Errorf("%s: %s, want %s", what, got, want)
		}
	}
}

// withWeight is c with another weight in one route, and everything else in the same memory.
func withWeight(c *config.Config, route int, weight uint32) *config.Config {
	next := *c
	next.Routes = slices.Clone(c.Routes)
	own := *c.Routes[route]
	r := own.Rules[0]
	r.Backends = []config.Backend{{Cluster: r.Backends[0].Cluster, Weight: weight}}
	own.Rules = []config.Rule{r}
	next.Routes[route] = &own
	return &next
}

func TestMetricsOfWhatVanishedAreForgottenAfterTheirGrace(t *testing.T) {
	now := time.Unix(1e9, 0)
	reg := observe.NewRegistry(observe.Options{Now: func() time.Time { return now }})
	l := NewLive(Options{Workers: 1, Registry: reg})
	if _, _, _, err := l.Publish(two(), config.Endpoints{"c0": {{Address: "127.0.0.1:1"}}, "c1": {{Address: "127.0.0.1:2"}}}); err != nil {
		t.Fatal(err)
	}
	route0, route1 := reg.Route("r0"), reg.Route("r1")
	kept, gone := reg.Endpoint("c1", "127.0.0.1:2"), reg.Endpoint("c0", "127.0.0.1:1")
	cfg := two()
	cfg.Routes = cfg.Routes[1:]
	cfg.Listeners[0].Attached = attach("r1")
	l.Publish(cfg, config.Endpoints{"c1": {{Address: "127.0.0.1:2"}}})
	now = now.Add(time.Hour)
	l.SetEndpoints("c2", []config.Endpoint{{Address: "127.0.0.1:9"}})
	l.SetEndpoints("c2", nil) // something vanishes: the registry looks at its clock
	if reg.Route("r0") == route0 || reg.Endpoint("c0", "127.0.0.1:1") == gone {
		t.Error("what vanished is still known an hour later")
	}
	if reg.Route("r1") != route1 || reg.Endpoint("c1", "127.0.0.1:2") != kept {
		t.Error("what is in use was forgotten")
	}
}

func TestTheTextOfAnUnchangedAttachmentIsHeldOnce(t *testing.T) {
	l := newLive()
	cfg := func(prefix string) *config.Config {
		c := two()
		c.Routes[0].Rules[0].Matches[0].Path.Value = prefix
		c.Listeners[0].Attached[1].Hostnames = []string{fmt.Sprint("a", ".example.com")}
		return c
	}
	a, b := publish(t, l, cfg("/x")), publish(t, l, cfg("/y"))
	if unsafe.StringData(a.Config.Listeners[0].Attached[1].Hostnames[0]) != unsafe.StringData(b.Config.Listeners[0].Attached[1].Hostnames[0]) {
		t.Fatal("it is held twice")
	}
}

// TestTenThousandRoutesFitTheirBudget counts live bytes after a collection, which doesn't depend on timing. The budget
// is half of the 50 MB that a whole process may take.
func TestTenThousandRoutesFitTheirBudget(t *testing.T) {
	const routes, budgetBytes = 10_000, 2600
	live := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	l := newLive()
	before := live()
	for generation := range 3 { // what generations share must not pile up
		cfg, eps := large(routes, uint32(generation)+1)
		if _, changed, _, err := l.Publish(cfg, eps); err != nil || !changed {
			t.Fatal(changed, err)
		}
	}
	each := (live() - before) / routes
	runtime.KeepAlive(l)
	t.Logf("%d bytes each", each)
	if each > budgetBytes {
		t.Errorf("a route with a hostname, cluster and endpoint of its own takes %d bytes, budget %d", each, budgetBytes)
	}
}
