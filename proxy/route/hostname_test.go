package route

import (
	"math/rand/v2"
	"strings"
	"testing"
)

func TestMatchHostname(t *testing.T) {
	for _, c := range []struct {
		pattern, host string
		want          bool
	}{
		{"", "", true}, {"", "a.com", true}, {"", strings.Repeat("a", 300), true},
		{"a.com", "a.com", true}, {"a.com", "b.a.com", false}, {"a.com", "", false},
		{"*.a.com", "b.a.com", true}, {"*.a.com", "c.b.a.com", true}, {"*.a.com", "a.com", false}, {"*.a.com", ".a.com", false},
		{"*.a.com", "ba.com", false}, {"*.a.com", "a.com.b", false},
		{"*.a.com", strings.Repeat("b", 247) + ".a.com", true}, {"*.a.com", strings.Repeat("b", 248) + ".a.com", false},
	} {
		if got := MatchHostname(c.pattern, c.host); got != c.want {
			t.Errorf("%q, %q: %v", c.pattern, c.host, got)
		}
		index := BuildHosts([]string{c.pattern}).Lookup([]byte(c.host))
		if (index == 0) != c.want {
			t.Errorf("Hosts of %q, %q: %d", c.pattern, c.host, index)
		}
	}
}

func TestSpecificityRisesFromAnyOverLongerWildcardsToExact(t *testing.T) {
	order := []string{"", "*.c", "*.bc", "*.b.c", "*." + strings.Repeat("a", 251), "c"}
	for i := 1; i < len(order); i++ {
		if HostnameSpecificity(order[i-1]) >= HostnameSpecificity(order[i]) {
			t.Errorf("%q is not above %q", order[i], order[i-1])
		}
	}
	if HostnameSpecificity("a.b") != HostnameSpecificity("a.b.c") {
		t.Error("exact names differ")
	}
}

func TestHostsPicksTheMostSpecificPatternAndTheFirstOfEqualOnes(t *testing.T) {
	for seed := range uint64(300) {
		g := generator{rand.New(rand.NewPCG(seed, 3))}
		var patterns []string
		for i := range g.IntN(12) {
			patterns = append(patterns, g.entry(i).Hostname)
		}
		h := BuildHosts(patterns)
		for range 20 {
			host, want := g.hostname(), -1
			for i, p := range patterns {
				if MatchHostname(p, host) && (want < 0 || HostnameSpecificity(p) > HostnameSpecificity(patterns[want])) {
					want = i
				}
			}
			if got := h.Lookup([]byte(host)); got != want {
				t.Fatalf("%q among %q: %d, want %d", host, patterns, got, want)
			}
		}
	}
}
