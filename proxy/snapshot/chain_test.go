package snapshot

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"rauta.io/rauta/proxy/config"
)

// street is two with eight routes, and with a listener beside a that shares its site.
func street() *config.Config {
	c := two()
	for i := 3; i < 8; i++ {
		c.Routes = append(c.Routes, &config.Route{Name: fmt.Sprint("r", i), Rules: []config.Rule{rule("0", fmt.Sprint("c", i%3), prefix(fmt.Sprint("/r", i)))}})
	}
	c.Listeners[0].Attached = attach("r0", "r1", "r2", "r3")
	c.Listeners[1].Attached = attach("r2", "r4", "r5")
	c.Listeners = append(c.Listeners, config.Listener{Name: "c", Port: 8001, Protocol: config.ProtocolHTTP, Attached: attach("r3", "r6", "r7")})
	return c
}

// changed returns c with one thing changed in memory of its own; everything else is shared, as translations share it.
func changed(random *rand.Rand, c *config.Config) *config.Config {
	next := *c
	next.Routes, next.Clusters, next.Listeners = slices.Clone(c.Routes), slices.Clone(c.Clusters), slices.Clone(c.Listeners)
	l := &next.Listeners[random.IntN(len(next.Listeners))]
	l.Attached = slices.Clone(l.Attached)
	if len(next.Routes) < 4 || len(next.Clusters) < 2 || len(l.Attached) < 2 || random.IntN(40) == 0 {
		return street()
	}
	i, j, k := random.IntN(len(next.Routes)), random.IntN(len(next.Clusters)), random.IntN(len(l.Attached))
	route, some := *next.Routes[i], fmt.Sprint("c", random.IntN(4))
	r := &route
	next.Routes[i] = r
	r.Rules = slices.Clone(r.Rules)
	what := random.IntN(20)
	if random.IntN(4) > 0 { // lists in which nothing changes are mostly the same
		defer func() {
			if what < 16 {
				next.Listeners = c.Listeners
			}
			if what < 12 || what > 15 {
				next.Clusters = c.Clusters
			}
			if what > 11 {
				next.Routes = c.Routes
			}
		}()
	}
	switch what {
	case 0, 1, 2:
		r.Rules[0].Backends = []config.Backend{{Cluster: some, Weight: uint32(random.IntN(3))}}
	case 3:
		r.Rules[0].Filters = []config.Filter{{Mirror: &config.Mirror{Cluster: some}}}
	case 4, 5:
		r.Rules[0].Matches = []config.Match{prefix([]string{"/new", "/r1", "bad"}[random.IntN(3)])}
	case 6:
		m := prefix("/")
		m.Headers = []config.ValueMatch{{Name: "a", Value: "(", Regex: true}}
		r.Rules[0].Matches = []config.Match{m}
	case 7:
		r.Rules = append(r.Rules, rule("1", some, prefix("/second")))
	case 8:
		r.Rules = r.Rules[:1]
	case 9:
		next.Routes = slices.Delete(next.Routes, i, i+1)
	case 10:
		next.Routes = slices.Insert(next.Routes, i, &config.Route{Name: fmt.Sprint("r", random.IntN(10)), Rules: []config.Rule{rule("0", some, prefix("/in"))}})
	case 11:
		k := random.IntN(len(next.Routes))
		next.Routes[i], next.Routes[k] = next.Routes[k], next.Routes[i]
	case 12:
		next.Clusters = slices.Delete(next.Clusters, j, j+1)
	case 13, 14:
		next.Clusters[j].PendingMax = random.IntN(4) - 1
	case 15:
		next.Clusters[j].Protocol = []config.BackendProtocol{"", config.BackendH2}[random.IntN(2)]
	case 16:
		l.Attached[k].Hostnames = []string{[]string{"a.test", "*.test", "-"}[random.IntN(3)]}
	case 17:
		l.Attached[k].Route = fmt.Sprint("r", random.IntN(9))
	case 18:
		l.Attached = slices.Delete(l.Attached, k, k+1)
	case 19:
		l.Hostname = []string{"", "a.test"}[random.IntN(2)]
	}
	return &next
}

// copied returns an equal configuration that shares no route.
func copied(c *config.Config) *config.Config {
	next := *c
	next.Routes = slices.Clone(c.Routes)
	for i := range next.Routes {
		route := *next.Routes[i]
		route.Rules = slices.Clone(route.Rules)
		next.Routes[i] = &route
	}
	return &next
}

// view is everything that a generation does, as text.
func view(t *testing.T, s *Snapshot) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "%x %v\n", s.Hash, s.Problems)
	if config.Hash(s.Config) != s.Hash {
		t.Fatal("the configuration of the generation is not the one that was published")
	}
	for _, p := range s.Ports {
		fmt.Fprintln(&b, p.Addr)
		for _, host := range []string{"a.test", "b.test", "h"} {
			for _, path := range []string{"r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7", "new", "second", "in", "x"} {
				e := p.Explain(request("GET " + host + "/" + path))
				b.WriteString(e.Text())
			}
		}
	}
	for _, r := range s.Routes {
		for i := range r.Rules {
			for _, x := range r.Rules[i].Backends {
				fmt.Fprintf(&b, "%s %d %q", r.Name, x.Weight, x.Invalid)
				if x.Cluster == nil {
					continue
				}
				if s.Clusters[x.Cluster.Name()] != x.Cluster {
					t.Fatalf("%s leads to a cluster of another generation", r.Name)
				}
				fmt.Fprintln(&b, x.Cluster.Config())
			}
			for _, m := range r.Rules[i].Mirrors {
				if s.Clusters[m.name] != m.Cluster {
					t.Fatalf("%s mirrors to a cluster of another generation", r.Name)
				}
			}
		}
	}
	return b.String()
}

// TestAnyChainOfGenerationsServesWhatTheLastConfigurationSays compares each generation of a long chain with one that is
// made from nothing.
func TestAnyChainOfGenerationsServesWhatTheLastConfigurationSays(t *testing.T) {
	const steps = 800
	opt := Options{Workers: 1, WithoutBackendHTTP2: true}
	random := rand.New(rand.NewPCG(3, 4))
	l, cfg := NewLive(opt), street()
	steady, again := 0, 0
	var before *Snapshot
	for step := range steps {
		switch random.IntN(10) {
		case 0: // the same once more
		case 1: // the same in other memory
			cfg = copied(cfg)
		default:
			cfg = changed(random, cfg)
		}
		got, _, _, _ := l.Publish(cfg, nil)
		want, _, _, _ := NewLive(opt).Publish(cfg, nil)
		if before != nil && got != before && len(got.Config.Listeners) > 0 && &got.Config.Listeners[0] == &before.Config.Listeners[0] {
			again++
		}
		before = got
		if got.valid {
			steady++
		} else if random.IntN(3) == 0 {
			cfg = street()
		}
		if a, b := view(t, got), view(t, want); a != b {
			t.Fatalf("step %d: %s", step, firstDifference(a, b))
		}
	}
	if again < steps/20 {
		t.Errorf("the ports of the last generation were taken over %d times in %d steps: the test tries too little", again, steps)
	}
	if steady < steps/4 || steady > steps*3/4 {
		t.Errorf("%d of %d configurations had no problems: the test tries too little", steady, steps)
	}
}

func TestWhatIsTheSameIsKnownAlsoInMemoryThatTheGenerationDoesNotHave(t *testing.T) {
	l := newLive()
	publish(t, l, street())
	again := street() // as after a restart, or when everything has been translated anew
	if _, changed, _, err := l.Publish(again, nil); changed || err != nil {
		t.Fatal(changed, err)
	}
	next := withWeight(again, 0, 7)
	since := config.Follow(l.before(l.Current()), next)
	for i := range next.Routes {
		if since.SameRoute(i) != (i > 0) {
			t.Errorf("route %d: the same: %v", i, since.SameRoute(i))
		}
	}
	publish(t, l, next)
	runtime.KeepAlive(again)
	runtime.KeepAlive(next)
	next = nil
	runtime.GC()
	if l.before(l.Current()) != l.Current().Config {
		t.Error("a configuration that the publisher has dropped is still there")
	}
}

func firstDifference(got, want string) string {
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("after other generations\n%s\nfrom nothing\n%s", a[i], b[i])
		}
	}
	return "one has more lines"
}
