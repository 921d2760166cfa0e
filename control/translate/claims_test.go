package translate

import (
	"fmt"
	"math/rand"
	"testing"
)

func TestClaimsExcludeWhatAScanOfAllOfThemWouldExclude(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	names := []string{"", "*.test", "*.a.test", "a.test", "b.a.test", "c.b.a.test", "b.test", "other.example"}
	some := func() (out []string) {
		for range 1 + r.Intn(2) {
			out = append(out, names[r.Intn(len(names))])
		}
		return out
	}
	for range 5000 {
		var c claims
		type one struct {
			kind      string
			hostnames []string
		}
		var all []one
		for i := range r.Intn(4) {
			k := one{[]string{"HTTPRoute", "GRPCRoute"}[r.Intn(2)], some()}
			all = append(all, k)
			c.add(k.kind, fmt.Sprint("d/", i), k.hostnames)
		}
		asked := some()
		want := false
		for _, k := range all {
			for _, h := range asked {
				want = want || k.kind != "HTTPRoute" && len(intersect(h, k.hostnames)) > 0
			}
		}
		if got := c.against("HTTPRoute", asked); (got != nil) != want {
			t.Fatalf("%v against %v: got %v, want %v", asked, all, got, want)
		}
	}
}
