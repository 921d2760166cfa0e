package watch

import (
	"log/slog"
	"slices"
	"testing"
)

// unfit is a route that no validation has seen.
const unfit = `{"metadata":{"name":"unfit","namespace":"d","generation":1},"spec":{"hostnames":{"a":["b\n"]},"rules":7}}`

func TestAnObjectThatDoesNotHaveTheFormOfItsKindIsLeftOutAndTheOthersAreRead(t *testing.T) {
	s := newAPIServer(t)
	s.serve("v1", "httproutes", "gateways")
	s.put(routes, unfit)
	s.put(routes, route("a", "a.test", 1))
	var log text
	c := follow(t, s, ClusterOptions{Log: slog.New(slog.NewTextHandler(&log, nil))})
	reads := func(what string, want ...string) {
		t.Helper()
		eventually(t, what, func() bool { return slices.Equal(hostnames(c.Objects()), want) })
	}
	misfits := func(want int) {
		t.Helper()
		eventually(t, "misfits are counted", func() bool { n := c.Numbers(); return n.Misfits["HTTPRoute"] == want })
	}
	synced(t, c)
	reads("the route beside it, from a list", "a.test")
	misfits(1)

	s.put(routes, route("b", "b.test", 1))
	reads("a route that came after it", "a.test", "b.test")
	s.put(routes, `{"metadata":{"name":"b","namespace":"d","generation":2},"spec":[]}`)
	reads("one that has become unfit is as if it did not exist", "a.test")
	misfits(2)
	s.put(routes, route("c", "c.test", 1))
	reads("the watch goes on", "a.test", "c.test")
	s.put(routes, route("unfit", "fit.test", 2))
	reads("what has been mended is read", "a.test", "c.test", "fit.test")
	misfits(1)
	s.remove(routes, "d/b")
	misfits(0)
	if n := log.count("does not have the form of its kind"); n != 2 {
		t.Errorf("it is told %d times, not once for each misfit", n)
	}
	if log.count("kind=HTTPRoute namespace=d name=unfit") != 1 {
		t.Error("the log does not name the object")
	}
}

func TestAListOfNothingButMisfitsIsNotAnEmptyList(t *testing.T) {
	s := newAPIServer(t)
	s.serve("v1", "httproutes")
	s.put(routes, unfit)
	var log text
	c := follow(t, s, ClusterOptions{Log: slog.New(slog.NewTextHandler(&log, nil))})
	synced(t, c)
	eventually(t, "the misfit is counted", func() bool { n := c.Numbers(); return n.Misfits["HTTPRoute"] == 1 })
	if log.count("lists no object") != 0 {
		t.Error("the list is told to be empty")
	}
}
