package watch

import (
	"fmt"
	"log/slog"
	"slices"
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
	if n := log.count("more objects of a kind are referred to"); n != 1 {
		t.Errorf("%d lines say that there are too many", n)
	}
}

func TestReferencesAreTakenFromEachNamespaceInTurn(t *testing.T) {
	refs := slices.Concat(configMapRefs("a", 5), configMapRefs("b", 1), configMapRefs("c", 3))
	name := func(namespace string, i int) translate.ObjectRef { return configMapRefs(namespace, i+1)[i] }
	want := []translate.ObjectRef{name("a", 0), name("b", 0), name("c", 0), name("a", 1), name("c", 1), name("a", 2), name("c", 2), name("a", 3), name("a", 4)}
	for max := range len(refs) + 2 {
		taken, beyond := inTurn(slices.Clone(refs), max)
		if !slices.Equal(taken, want[:min(max, len(want))]) {
			t.Errorf("of %d the first are %v", max, taken)
		}
		if !slices.Equal(beyond, want[min(max, len(want)):]) {
			t.Errorf("beyond %d are %v", max, beyond)
		}
	}
}
