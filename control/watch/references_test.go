package watch

import (
	"fmt"
	"log/slog"
	"testing"

	"rauta.io/rauta/control/translate"
)

func configMapRefs(namespace string, n int) (refs []translate.ObjectRef) {
	for i := range n {
		refs = append(refs, translate.ObjectRef{Kind: "ConfigMap", Namespace: namespace, Name: fmt.Sprintf("m-%04d", i)})
	}
	return refs
}

func TestReferencesOfOneNamespaceDoNotKeepThoseOfOthersFromBeingRead(t *testing.T) {
	s := newAPIServer(t)
	for i := range namedMax + 10 {
		s.put(configMaps, fmt.Sprintf(`{"metadata":{"name":"m-%04d","namespace":"a"}}`, i))
	}
	s.put(configMaps, `{"metadata":{"name":"m-0000","namespace":"z"}}`)
	var log text
	c := follow(t, s, ClusterOptions{Log: slog.New(slog.NewTextHandler(&log, nil))})
	synced(t, c)
	refs := append(configMapRefs("a", namedMax+10), configMapRefs("z", 1)...)
	eventually(t, "what is within the limit has been read", func() bool { return c.Refer(refs) })
	read := map[string]int{}
	for _, m := range c.Objects().ConfigMaps {
		read[m.Namespace]++
	}
	if read["z"] != 1 || read["a"] != namedMax-1 {
		t.Errorf("of the namespaces were read: %v", read)
	}
	unread := c.Objects().Unread
	if len(unread) != 11 || unread[10].ObjectRef != refs[namedMax+9] || unread[10].Reason != "is not read, because more than 500 of its kind are referred to in this cluster" {
		t.Errorf("unread are %v", unread)
	}
	if !c.Take().Objects || !c.Refer(refs) || c.Take().Objects {
		t.Error("it is not told once that some are not read")
	}
	if n := log.count("more objects of a kind are referred to"); n != 1 {
		t.Errorf("%d lines say that there are too many", n)
	}
}

func TestWhatHasNotBeenReadYetIsNotSaidNotToExist(t *testing.T) {
	s := newAPIServer(t)
	c := follow(t, s, ClusterOptions{})
	synced(t, c)
	s.interrupt(true, false)
	refs := configMapRefs("a", 1)
	if c.Refer(refs) {
		t.Fatal("it has been read from an API server that does not answer")
	}
	if unread := c.Objects().Unread; len(unread) != 1 || unread[0].ObjectRef != refs[0] || unread[0].Reason != "has not been read yet" {
		t.Errorf("unread are %v", unread)
	}
	c.Take()
	s.interrupt(false, false)
	eventually(t, "it is known that it does not exist", func() bool { return c.Refer(refs) })
	if unread := c.Objects().Unread; len(unread) != 0 || !c.Take().Objects {
		t.Errorf("unread are %v, or nobody is told that this has changed", unread)
	}
}
