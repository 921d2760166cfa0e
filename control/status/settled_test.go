package status

import (
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"slices"
	"testing"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"rauta.io/rauta/control/translate"
)

// planned says of each job whose it is, and what is wanted.
func planned(u *Update, seed maphash.Seed, settled settledRoutes) map[id]uint64 {
	left := newDeparted()
	p := planner{controller: ours, seed: seed, settled: settled}
	out := map[id]uint64{}
	for _, j := range p.plan(u, &left) {
		out[j.id] = j.fingerprint
	}
	return out
}

// routesAndStatuses change, as those of a cluster do.
type routesAndStatuses struct {
	random  *rand.Rand
	routes  []*gatewayv1.HTTPRoute
	wanted  []*translate.RouteStatus
	created int
}

// change does one of the things that happen to routes, all of which leave what they do not concern in its memory.
func (c *routesAndStatuses) change() {
	c.routes, c.wanted = slices.Clone(c.routes), slices.Clone(c.wanted)
	what := c.random.IntN(6)
	if what == 0 || len(c.routes) == 0 {
		c.created++
		r := route(fmt.Sprintf("r%d", c.random.IntN(50)*1000+c.created))
		at, _ := slices.BinarySearchFunc(c.routes, r, func(a, b *gatewayv1.HTTPRoute) int { return compare(refOf("", a), refOf("", b)) })
		c.routes = slices.Insert(c.routes, at, r)
		c.wanted = slices.Insert(c.wanted, at, &translate.RouteStatus{Namespace: r.Namespace, Name: r.Name})
		return
	}
	i := c.random.IntN(len(c.routes))
	switch what {
	case 1:
		c.routes, c.wanted = slices.Delete(c.routes, i, i+1), slices.Delete(c.wanted, i, i+1)
	case 2: // another status is wanted
		c.wanted[i].Parents = []gatewayv1.RouteParentStatus{accepted(fmt.Sprint("web", c.random.IntN(2)), int64(c.random.IntN(2)))}
	case 3: // none is
		c.wanted[i].Parents = nil
	case 4: // what is wanted has been written
		c.routes[i] = c.routes[i].DeepCopy()
		c.routes[i].Status.Parents = c.wanted[i].Parents
	case 5: // somebody has written something else
		c.routes[i] = c.routes[i].DeepCopy()
		c.routes[i].Status.Parents = []gatewayv1.RouteParentStatus{accepted("web0", 7)}
	}
}

func TestWhatIsPlannedDoesNotDependOnWhatWasSettledBefore(t *testing.T) {
	for n := range 20 {
		c := &routesAndStatuses{random: rand.New(rand.NewPCG(uint64(n), 1))}
		seed, remembered := maphash.MakeSeed(), settledRoutes{}
		for step := range 300 {
			for range 1 + c.random.IntN(3) {
				c.change()
			}
			wanted := c.wanted
			if c.random.IntN(4) == 0 { // routes that are not ours have none
				wanted = slices.DeleteFunc(slices.Clone(wanted), func(*translate.RouteStatus) bool { return c.random.IntN(3) == 0 })
			}
			given := slices.Clone(c.routes)
			if c.random.IntN(8) == 0 { // whoever reads the objects should have them in order, and need not
				c.random.Shuffle(len(given), func(i, j int) { given[i], given[j] = given[j], given[i] })
			}
			u := &Update{Objects: routes(given...), Result: &translate.Result{Statuses: translate.Statuses{HTTPRoutes: wanted}}}
			got, want := planned(u, seed, remembered), planned(u, seed, settledRoutes{})
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("%d, step %d: with a memory\n%v\nwithout\n%v", n, step, got, want)
			}
		}
	}
}

// manySettled is an Update of routes that all have the status that is wanted.
func manySettled(count int) *Update {
	u := &Update{Objects: &translate.Objects{}, Result: &translate.Result{}}
	for i := range count {
		r := route(fmt.Sprintf("r%05d", i))
		want := routeStatus(r, accepted("web", 1))
		r.Status.Parents = []gatewayv1.RouteParentStatus{accepted("web", 1)}
		u.Objects.HTTPRoutes = append(u.Objects.HTTPRoutes, r)
		u.Result.Statuses.HTTPRoutes = append(u.Result.Statuses.HTTPRoutes, want.HTTPRoutes...)
	}
	return u
}

// TestOnlyWhatHasChangedIsCompared makes what is right wrong behind the planner's back, which nobody may do: it does not look.
func TestOnlyWhatHasChangedIsCompared(t *testing.T) {
	u := manySettled(100)
	seed, settled := maphash.MakeSeed(), settledRoutes{}
	if jobs := planned(u, seed, settled); len(jobs) != 0 {
		t.Fatalf("%d jobs of routes that are right", len(jobs))
	}
	for _, r := range u.Objects.HTTPRoutes {
		r.Status.Parents[0].Conditions[0].Message = "changed"
	}
	u.Objects.HTTPRoutes = slices.Clone(u.Objects.HTTPRoutes)
	u.Objects.HTTPRoutes[7] = u.Objects.HTTPRoutes[7].DeepCopy()
	if jobs := planned(u, seed, settled); len(jobs) != 1 {
		t.Errorf("%d routes were compared, want the one that has changed", len(jobs))
	}
	if jobs := planned(u, seed, settled); len(jobs) != 1 {
		t.Errorf("%d jobs, want that of the route that is still not right", len(jobs))
	}
}

func BenchmarkPlanOneChangeOfTenThousandRoutes(b *testing.B) {
	u := manySettled(10_000)
	w := newWriter(nil, nil, Options{ControllerName: ours})
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		next := *u
		objects := *u.Objects
		next.Objects, objects.HTTPRoutes = &objects, slices.Clone(u.Objects.HTTPRoutes)
		r := objects.HTTPRoutes[i%10_000].DeepCopy()
		r.Status.Parents = nil
		objects.HTTPRoutes[i%10_000] = r
		left := newDeparted()
		p := planner{controller: ours, seed: w.seed, settled: w.settled}
		if jobs := p.plan(&next, &left); len(jobs) < 1 {
			b.Fatal("a change was not seen")
		}
	}
}
