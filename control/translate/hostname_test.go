package translate

import (
	"slices"
	"strings"
	"testing"
)

// matches says what a host name pattern means, as plainly as possible.
func matches(pattern, host string) bool {
	if suffix, wildcard := strings.CutPrefix(pattern, "*"); wildcard {
		return strings.HasSuffix(host, suffix) && len(host) > len(suffix)
	}
	return pattern == "" || pattern == host
}

func TestAHostMatchesTheIntersectionIfItMatchesBothSides(t *testing.T) {
	patterns := []string{"", "a.b", "b", "x.a.b", "*.a.b", "*.b", "*.x.a.b", "xa.b", "*.c", "c"}
	hosts := []string{"a.b", "b", "x.a.b", "y.x.a.b", "xa.b", "q.b", "c", "x.c", "unrelated", "z.y.x.a.b"}
	for _, listener := range patterns {
		for _, first := range patterns {
			for _, second := range patterns {
				got := intersect(listener, []string{first, second})
				for _, host := range hosts {
					want := matches(listener, host) && (matches(first, host) || matches(second, host))
					if slices.ContainsFunc(got, func(p string) bool { return matches(p, host) }) != want {
						t.Fatalf("listener %q, route %q and %q: %q, which is wrong for %q", listener, first, second, got, host)
					}
				}
			}
		}
	}
}

func TestARouteTakesTheHostsOfAListenerThatItNamesAndKeepsItsOwnNames(t *testing.T) {
	patterns := []string{"", "a.b", "b", "x.a.b", "*.a.b", "*.b", "*.x.a.b", "xa.b", "*.c", "c"}
	hosts := []string{"a.b", "b", "x.a.b", "y.x.a.b", "xa.b", "q.b", "c", "x.c", "unrelated", "z.y.x.a.b"}
	for _, listener := range patterns {
		for _, first := range patterns {
			for _, second := range patterns {
				route := []string{first, second}
				got := meet(listener, route)
				for _, one := range got {
					if !slices.Contains(route, one) {
						t.Fatalf("listener %q, route %q: %q is none of the route's", listener, route, one)
					}
				}
				for _, host := range hosts {
					if !matches(listener, host) {
						continue // never comes to the listener
					}
					want := matches(first, host) || matches(second, host)
					if slices.ContainsFunc(got, func(p string) bool { return matches(p, host) }) != want {
						t.Fatalf("listener %q, route %q: %q, which is wrong for %q", listener, route, got, host)
					}
				}
			}
		}
		if got := meet(listener, nil); !slices.Equal(got, []string{""}) {
			t.Errorf("listener %q, a route without hostnames: %q", listener, got)
		}
	}
}

func TestHostnamesAreLowerCaseDNSNames(t *testing.T) {
	for _, good := range []string{"a", "a-b.c", "*.a", "1.a", strings.Repeat("a", 63) + ".b"} {
		if problem := hostnameError(good, true); problem != "" {
			t.Errorf("%q %s", good, problem)
		}
	}
	for _, bad := range []string{"", "*", "*a.b", "a.*", "*.*.a", "A", "a_b", "a..b", ".a", "a.", "-a", "a-", "a:80", "1.2.3.4",
		"::1", "a b", "é", strings.Repeat("a", 64), strings.Repeat("a.", 127) + "a"} {
		if hostnameError(bad, true) == "" {
			t.Errorf("%q is taken for a host name", bad)
		}
	}
	if hostnameError("*.a", false) == "" {
		t.Error("a wildcard is taken for a precise host name")
	}
}

func TestNamesOfObjectsAreThoseThatKubernetesAllows(t *testing.T) {
	for name, valid := range map[string]bool{
		"a": true, "a-b.c": true, "10.0.0.1": true, "2001": true, strings.Repeat("a", 253): true,
		"": false, "A": false, "-a": false, "a-": false, "a.-b": false, "a..b": false, ".a": false, "a.": false, "a/b": false, "a_b": false,
		"é": false, strings.Repeat("a", 254): false,
	} {
		if validName(name) != valid {
			t.Errorf("%q: %v", name, !valid)
		}
	}
}
