package watch

import (
	"slices"
	"testing"
)

func TestObjectsThatAppearOrVanishAreToldApartFromNewStates(t *testing.T) {
	s, c := followRoute(t, ClusterOptions{})
	c.Take()
	next := func(what string, members bool) {
		t.Helper()
		var change Change
		eventually(t, what, func() bool { change = c.Take(); return change.Objects })
		if change.Members != members {
			t.Errorf("%s: told that objects have appeared or vanished: %v", what, change.Members)
		}
	}
	s.put(routes, route("a", "b.test", 2))
	next("a new state", false)
	s.put(routes, route("b", "c.test", 1))
	next("a new route", true)
	s.remove(routes, "d/b")
	next("a route that is gone", true)
}

func TestListsAreSharedUntilSomethingChangesAndNeverChangeThemselves(t *testing.T) {
	s := newAPIServer(t)
	s.serve("v1", "httproutes")
	s.put(services, `{"metadata":{"name":"s","namespace":"d"}}`)
	s.put(routes, route("a", "a.test", 1))
	c := follow(t, s, ClusterOptions{})
	synced(t, c)
	before := c.Objects()
	if again := c.Objects(); &again.HTTPRoutes[0] != &before.HTTPRoutes[0] {
		t.Error("a list is made anew although nothing has changed")
	}
	kept := slices.Clone(before.HTTPRoutes)
	s.put(routes, route("a", "b.test", 2))
	eventually(t, "the new state", func() bool { return slices.Equal(hostnames(c.Objects()), []string{"b.test"}) })
	after := c.Objects()
	if !slices.Equal(before.HTTPRoutes, kept) {
		t.Error("a list has changed in the hands of who has it")
	}
	if &after.Services[0] != &before.Services[0] {
		t.Error("the list of Services is made anew although a route alone has changed")
	}
}
