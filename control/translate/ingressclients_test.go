package translate

import (
	"slices"
	"testing"

	"rauta.io/rauta/proxy/config"
)

func TestTheHostsAboveAreThoseThatRequestsFallBackTo(t *testing.T) {
	for host, want := range map[string][]string{
		"a.b.c": {"*.b.c", "*.c", ""}, "*.b.c": {"*.c", ""}, "c": {""}, "": nil,
	} {
		if got := above(host); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", host, got, want)
		}
	}
}

func TestTheMostSpecificHostWithRulesSaysWhatIsAsked(t *testing.T) {
	wide, narrow := &config.ClientAuth{CA: "wide"}, &config.ClientAuth{CA: "narrow"}
	c := &ingressClients{
		asks:  map[string]ingressAsk{"*.b.c": {auth: wide}, "x.b.c": {auth: narrow}},
		ruled: map[string]bool{"*.b.c": true, "x.b.c": true, "open.b.c": true, "*.c": true},
	}
	for name, want := range map[string]*config.ClientAuth{
		"x.b.c": narrow, "y.b.c": wide, "y.z.b.c": wide, "*.b.c": wide, "*.z.b.c": wide, "open.b.c": nil, "b.c": nil, "other": nil, "": nil,
	} {
		if got := c.of(name); got != want {
			t.Errorf("%q: %v, want %v", name, got, want)
		}
	}
}
