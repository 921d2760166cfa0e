package route

import (
	"fmt"
	"strings"
	"testing"
)

// steps writes Explain's answer as "rule why", the winner with a star.
func steps(tab *Table, host, target string, lines ...string) []string {
	var out []string
	for _, s := range tab.Explain([]byte(host), request(target, lines...)) {
		star := ""
		if s.Won {
			star = "*"
		}
		out = append(out, fmt.Sprintf("%d%s %s", s.Entry.Rule, star, s.Why))
	}
	return out
}

func TestExplainListsCandidatesInTheOrderOfTheLookupAndThenTheRest(t *testing.T) {
	p := prefix("/a")
	tab := table(t,
		on("other.com", prefix("/")),
		on("", prefix("/")),
		on("a.com", prefix("/")),
		on("a.com", p),
		on("a.com", p),
		on("a.com", with(p, "q:v=1")),
		on("a.com", with(p, "q:w=1", "q~:v=[0-9]")),
		on("a.com", with(p, "h:x-a=1")),
		on("a.com", with(p, "h:x-a=1", "h~:x-b=[0-9]")),
		on("a.com", with(p, "h:x-a=2", "h:x-c=2")),
		on("a.com", with(p, "POST")),
		on("a.com", with(p, "GET", "h:x-a=1")),
		on("a.com", regexPath("/b.*")),
		on("a.com", exact("/a")),
		on("a.com", prefix("/b")),
		on("*.com", regexPath("/.*")),
		on("*.com", regexPath("/a.*")),
	)
	got := strings.Join(steps(tab, "a.com", "GET /a/x?v=a", "x-a: 1", "x-b: b"), "\n")
	want := strings.TrimPrefix(`
12 path: it does not match the regex "/b.*"
11* matches
10 method: it is not POST
8 header "x-b": it does not match the regex "[0-9]"
9 header "x-a": it is not "2"
7 lower precedence: no method match
6 query parameter "w": it is absent
5 query parameter "v": it is not "1"
3 lower precedence: no method match
4 lower precedence: no method match
2 lower precedence: a shorter path prefix
16 lower precedence: a less specific hostname
15 lower precedence: a less specific hostname
1 lower precedence: a less specific hostname
13 path: it is not "/a"
14 path: it is not below the prefix "/b"
0 hostname: it is not "other.com"`, "\n")
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestExplainNamesWhatAnEqualMatchLacks(t *testing.T) {
	tab := table(t,
		on("", with(prefix("/"), "h:x-a=1", "h:x-b=1")), on("", with(prefix("/"), "h:x-a=1")),
		on("", regexPath("/a.*")), on("", regexPath("/.*")),
		on("", with(exact("/q"), "q:a=1")), on("", exact("/q")), on("", exact("/q")),
	)
	for target, want := range map[string][]string{
		"GET /":      {"3*", "0 lower precedence: a path match of a kind", "1 lower precedence: a path match of a kind"},
		"GET /ab":    {"2*", "3 lower precedence: a shorter path regex"},
		"GET /q?a=1": {"4*", "5 lower precedence: fewer query matches", "6 lower precedence: fewer query matches"},
		"GET /q":     {"4 query parameter", "5*", "6 lower precedence: an equal match that comes later"},
	} {
		all := strings.Join(steps(tab, "", target, "x-a: 1", "x-b: 1"), "\n")
		at := 0
		for _, w := range want {
			i := strings.Index("\n"+all[at:], "\n"+w)
			if i < 0 {
				t.Errorf("%s: no %q after byte %d of\n%s", target, w, at, all)
				break
			}
			at += i
		}
	}
}

func TestExplainSaysHowManyItLeavesOut(t *testing.T) {
	var entries []Entry
	for i := range explainStepsMax + 50 {
		entries = append(entries, on(fmt.Sprintf("h%d.com", i), prefix("/")))
	}
	tab := table(t, append(entries, on("a.com", exact("/x")))...)
	got := steps(tab, "a.com", "GET /")
	if len(got) != explainStepsMax+1 || !strings.HasPrefix(got[explainStepsMax], "-1 51 more entries") {
		t.Errorf("%d steps, the last one %q", len(got), got[len(got)-1])
	}
	if !strings.Contains(got[0], `path: it is not "/x"`) {
		t.Errorf("the entry of the matching hostname is not listed first, but %q", got[0])
	}
}
