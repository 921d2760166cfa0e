package fair

import (
	"strings"
	"testing"
)

func TestGroupsTakeTurns(t *testing.T) {
	for given, want := range map[string]string{
		"":                     "",
		"a1":                   "a1",
		"a1 a2 a3":             "a1 a2 a3",
		"a1 a2 a3 b1 c1 c2":    "a1 b1 c1 a2 c2 a3",
		"z1 a1 z2 a2 z3 b1 a3": "z1 a1 b1 z2 a2 z3 a3",
	} {
		all := strings.Fields(given)
		Turns(all, func(one string) string { return one[:1] })
		if got := strings.Join(all, " "); got != want {
			t.Errorf("%q came to %q, want %q", given, got, want)
		}
	}
}
