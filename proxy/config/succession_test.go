package config

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

// village is a configuration in which things refer to each other.
func village(n int) *Config {
	c := &Config{
		Listeners:    []Listener{{Name: "a", Port: 80, Protocol: ProtocolHTTP}, {Name: "b", Port: 81, Protocol: ProtocolHTTP}},
		Certificates: []Certificate{{Name: "x", Chain: "chain", Key: Secret("key")}},
	}
	for i := range n {
		name, cluster := fmt.Sprint("r", i), fmt.Sprintf("c%02d", i)
		c.Clusters = append(c.Clusters, Cluster{Name: cluster})
		c.Routes = append(c.Routes, &Route{Name: name, Source: Source{Kind: "HTTPRoute", Name: name}, Rules: []Rule{{Name: "0",
			Matches:  []Match{{Path: PathMatch{Kind: PathPrefix, Value: "/"}}},
			Backends: []Backend{{Cluster: cluster, Weight: 1}}}}})
		l := &c.Listeners[i%2]
		l.Attached = append(l.Attached, Attachment{Route: name, Hostnames: []string{name + ".example.com"}})
	}
	return c
}

// successor changes one thing, in memory of its own; everything else is shared, as translations share it.
func successor(random *rand.Rand, before *Config) *Config {
	c := *before
	c.Routes, c.Clusters, c.Listeners = slices.Clone(c.Routes), slices.Clone(c.Clusters), slices.Clone(c.Listeners)
	c.Certificates = slices.Clone(c.Certificates)
	l := &c.Listeners[random.IntN(len(c.Listeners))]
	l.Attached = slices.Clone(l.Attached)
	kind := random.IntN(18)
	// Lists in which nothing changes are the same, or equal.
	own := func(changes ...int) bool { return slices.Contains(changes, kind) || random.IntN(4) == 0 }
	defer func() {
		if !own(12, 13, 15) {
			c.Listeners = before.Listeners
		}
		if !own(9, 10, 11) {
			c.Clusters = before.Clusters
		}
		if !own(14) {
			c.Certificates = before.Certificates
		}
	}()
	if len(c.Routes) < 2 || len(c.Clusters) < 2 || len(l.Attached) < 2 {
		return village(6)
	}
	i, j := random.IntN(len(c.Routes)), random.IntN(len(c.Clusters))
	route, a := *c.Routes[i], &l.Attached[random.IntN(len(l.Attached))]
	r := &route
	c.Routes[i] = r
	r.Rules = slices.Clone(r.Rules)
	switch kind {
	case 0:
		r.Rules[0].Backends = []Backend{{Cluster: fmt.Sprintf("c%02d", random.IntN(8)), Weight: 2}}
	case 1:
		r.Rules[0].Filters = []Filter{{Mirror: &Mirror{Cluster: fmt.Sprintf("c%02d", random.IntN(8))}}}
	case 2:
		r.Rules[0].Matches = []Match{{Path: PathMatch{Kind: PathPrefix, Value: []string{"/x", "bad"}[random.IntN(2)]}}}
	case 3:
		r.Created = random.Int64N(3)
	case 4:
		r.Source.Name += "x"
	case 5:
		r.Name = fmt.Sprint("r", random.IntN(8))
	case 6:
		c.Routes = slices.Delete(c.Routes, i, i+1)
	case 7:
		c.Routes = slices.Insert(c.Routes, i, village(8).Routes[random.IntN(8)])
	case 8:
		k := random.IntN(len(c.Routes))
		c.Routes[i], c.Routes[k] = c.Routes[k], c.Routes[i]
	case 9:
		c.Clusters = slices.Delete(c.Clusters, j, j+1)
	case 10:
		c.Clusters[j].PendingMax = random.IntN(3) - 1
	case 11:
		c.Clusters[j].TLS = &BackendTLS{SystemRoots: true, ServerName: "a.example.com", ClientCertificate: []string{"x", "y"}[random.IntN(2)]}
	case 12:
		a.Hostnames = []string{[]string{"new.example.com", "-"}[random.IntN(2)]}
	case 13:
		a.Route = fmt.Sprint("r", random.IntN(8))
	case 14:
		c.Certificates[0].Name = []string{"x", "y"}[random.IntN(2)]
	case 15:
		l.Protocol = []Protocol{ProtocolHTTP, ProtocolTCP}[random.IntN(2)]
	case 16:
		c.TicketKeySets = []TicketKeySet{{Name: "s", Keys: []Secret{Secret(fmt.Sprintf("%032d", random.IntN(3)))}}}
	case 17:
		c.TicketKeys = []Secret{Secret(fmt.Sprintf("%032d", random.IntN(3)))}
	}
	return &c
}

// TestWhatIsKnownOfTheConfigurationBeforeChangesNoResult compares digests and problems with those of a whole look, over long
// chains of changes.
func TestWhatIsKnownOfTheConfigurationBeforeChangesNoResult(t *testing.T) {
	followChain(t, 6, 6_000)
	followChain(t, 2*groupLen+3, 2_000) // several groups
}

func followChain(t *testing.T, routes, steps int) {
	random := rand.New(rand.NewPCG(1, 2))
	before := village(routes)
	spared, valid, invalid := 0, 0, 0
	for step := range steps {
		after := successor(random, before)
		s := Follow(before, after)
		known := NewDigest(before)
		got := s.Digest(func(route int) ([32]byte, bool) {
			return known.Routes[route], true
		}, known.Others)
		want := NewDigest(after)
		spared += len(after.Routes) - len(got.Routes)
		for i := range after.Routes {
			if _, ok := got.Routes[i]; !ok {
				got.Routes[i] = known.Routes[int(s.Routes[i])]
			}
		}
		if got.All != want.All || !maps.Equal(got.Routes, want.Routes) || !reflect.DeepEqual(got.Others, want.Others) {
			t.Fatalf("step %d: the digest is another one", step)
		}
		problems := fmt.Sprint(Validate(after))
		if got := fmt.Sprint(s.Validate()); got != problems {
			t.Fatalf("step %d: problems\n%s\nwant\n%s", step, got, problems)
		}
		if problems == "[]" {
			valid, before = valid+1, after
		} else {
			invalid++ // the next one follows a configuration without problems
		}
	}
	if spared < steps || valid < steps/4 || invalid < steps/8 {
		t.Errorf("of %d steps, %d had no problems, %d had some, and %d routes were not hashed: the test tries too little", steps, valid, invalid, spared)
	}
}

func TestARouteIsFoundWhereOthersHaveComeOrGone(t *testing.T) {
	before := village(20)
	after := *before
	after.Routes = slices.Concat(before.Routes[2:5], []*Route{{Name: "new"}}, before.Routes[5:])
	s := Follow(before, &after)
	for i := range after.Routes {
		if found := s.SameRoute(i); found != (after.Routes[i].Name != "new") {
			t.Errorf("%s: found %v", after.Routes[i].Name, found)
		}
	}
	if s.SameNames {
		t.Error("the names are said to be the same")
	}
}
