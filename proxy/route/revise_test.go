package route

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"rauta.io/rauta/proxy/config"
)

// TestATableThatIsRevisedAgreesWithANaiveMatcher changes the matches of rules, one after the other, and compares each table with
// the naive matcher; those before it must stay as they were.
func TestATableThatIsRevisedAgreesWithANaiveMatcher(t *testing.T) {
	revised, built, found := 0, 0, 0
	for seed := range uint64(60) {
		g := generator{rand.New(rand.NewPCG(seed, 3))}
		var entries []Entry
		for i := range 30 + g.IntN(50) {
			entries = append(entries, g.entry(i))
			entries[i].Order = i * 10
		}
		tab, err := Build(slices.Clone(entries))
		if err != nil {
			t.Fatal(err)
		}
		type generation struct {
			tab     *Table
			entries []Entry
		}
		past := []generation{{tab, slices.Clone(entries)}}
		for range 12 {
			from := past[len(past)-1-g.IntN(min(2, len(past)))] // also twice from the same
			next := slices.Clone(from.entries)
			i := g.IntN(len(next))
			rule, hostname, oneLabel := next[i].Rule, next[i].Hostname, next[i].OneLabel
			order := next[i].Order / 10 * 10
			next = slices.DeleteFunc(next, func(e Entry) bool { return e.Rule == rule })
			var fresh []Entry
			for n := range 1 + g.IntN(3) {
				e := g.entry(int(rule))
				e.Hostname, e.OneLabel, e.Order = hostname, oneLabel, order+n
				fresh = append(fresh, e)
			}
			next = append(next, fresh...)
			table, err := from.tab.Revise(func(r int32) bool { return r == rule }, fresh)
			if err != nil {
				t.Fatal(err)
			}
			if table == nil {
				built++
				if table, err = Build(slices.Clone(next)); err != nil {
					t.Fatal(err)
				}
			} else {
				revised++
			}
			past = append(past, generation{table, next})
		}
		for n, at := range past {
			for range 15 {
				p := g.plain()
				req := p.request()
				got, ok := at.tab.Lookup([]byte(p.host), req)
				want, wantOK := naiveLookup(at.entries, p)
				if ok != wantOK || got.Rule != want.Rule || got.Prefix != want.Prefix || ok && *got.Path != *want.Path {
					t.Fatalf("seed %d, generation %d, request %+v: got %+v %v, want %+v %v\nentries %+v", seed, n, *p, got, ok, want, wantOK, at.entries)
				}
				if ok {
					found++
				}
				if live := len(at.tab.entries) - at.tab.dead; live != len(at.entries) {
					t.Fatalf("seed %d, generation %d: %d entries are live, want %d", seed, n, live, len(at.entries))
				}
				if len(at.tab.Explain([]byte(p.host), req)) != len(at.entries) {
					t.Fatalf("seed %d, generation %d: Explain lists others", seed, n)
				}
			}
		}
	}
	if revised < 200 || built < 50 || found < 1000 {
		t.Errorf("%d tables were revised, %d built, %d requests found a rule: the test tries too little", revised, built, found)
	}
}

func TestARevisionThatCannotBeIsRefused(t *testing.T) {
	var entries []Entry
	for i := range 20 {
		entries = append(entries, Entry{Hostname: fmt.Sprintf("h%d.test", i), Match: prefix("/"), Rule: int32(i), Order: i})
	}
	tab := table(t, entries...)
	all := func(int32) bool { return true }
	if next, err := tab.Revise(all, []Entry{on("new.test", prefix("/"))}); next != nil || err != nil {
		t.Errorf("a new hostname: %v %v, want neither table nor error", next, err)
	}
	bad := config.Match{Path: config.PathMatch{Kind: config.PathRegex, Value: "("}}
	if next, err := tab.Revise(all, []Entry{on("h3.test", bad)}); next != nil || err == nil {
		t.Errorf("a bad regex: %v %v, want an error", next, err)
	}
	expect(t, tab, "h3.test", request("GET /"), 3)
}
