package route

import (
	"strings"
	"testing"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/message"
)

// request builds a head from "METHOD /path?query" and "name: value" lines.
func request(target string, lines ...string) *message.Request {
	r := new(message.Request)
	method, uri, _ := strings.Cut(target, " ")
	path, query, has := strings.Cut(uri, "?")
	r.Method, r.MethodID = r.StoreString(method), message.LookupMethod([]byte(method))
	r.Path, r.Query, r.HasQuery = r.StoreString(path), r.StoreString(query), has
	for _, l := range lines {
		name, value, _ := strings.Cut(l, ": ")
		r.Add(name, value, message.LookupIDString(name))
	}
	return r
}

func exact(p string) config.Match {
	return config.Match{Path: config.PathMatch{Kind: config.PathExact, Value: p}}
}
func prefix(p string) config.Match {
	return config.Match{Path: config.PathMatch{Kind: config.PathPrefix, Value: p}}
}
func regexPath(p string) config.Match {
	return config.Match{Path: config.PathMatch{Kind: config.PathRegex, Value: p}}
}

// with adds conditions: "GET" a method, "h:name=value" a header, "q:name=value" a query parameter, "~" after the letter a regex.
func with(m config.Match, conditions ...string) config.Match {
	for _, c := range conditions {
		kind, text, ok := strings.Cut(c, ":")
		if !ok {
			m.Method = c
			continue
		}
		name, value, _ := strings.Cut(text, "=")
		v := config.ValueMatch{Name: name, Value: value, Regex: strings.HasSuffix(kind, "~")}
		if kind[0] == 'h' {
			m.Headers = append(m.Headers, v)
		} else {
			m.Query = append(m.Query, v)
		}
	}
	return m
}

// table numbers the entries in the order given, which is also their Order.
func table(tb testing.TB, entries ...Entry) *Table {
	tb.Helper()
	for i := range entries {
		entries[i].Rule, entries[i].Order = int32(i), i
	}
	t, err := Build(entries)
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

func on(host string, m config.Match) Entry { return Entry{Hostname: host, Match: m} }

// expect fails unless Lookup gives rule (-1 for none) and Explain says the same.
func expect(t *testing.T, tab *Table, host string, req *message.Request, rule int32) {
	t.Helper()
	got, ok := tab.Lookup([]byte(host), req)
	if !ok {
		got.Rule = -1
	}
	if got.Rule != rule {
		t.Errorf("host %q %s %s?%s: rule %d, want %d", host, req.Bytes(req.Method), req.Bytes(req.Path), req.Bytes(req.Query), got.Rule, rule)
	}
	won := int32(-1)
	for _, s := range tab.Explain([]byte(host), req) {
		if s.Won {
			won = s.Entry.Rule
		}
	}
	if won != got.Rule {
		t.Errorf("host %q %s: Explain says rule %d, Lookup %d", host, req.Bytes(req.Path), won, got.Rule)
	}
}

func TestAnExactHostnameWinsOverWildcardsAndTheLongestWildcardOverShorterOnes(t *testing.T) {
	tab := table(t,
		on("", prefix("/")),
		on("*.com", prefix("/")),
		on("*.example.com", prefix("/")),
		on("a.example.com", prefix("/")),
	)
	for host, rule := range map[string]int32{
		"a.example.com": 3, "b.example.com": 2, "x.a.example.com": 2, "example.com": 1, "other.com": 1, "com": 0, "": 0,
		".example.com": 1, "notexample.com": 1, "a.example.com.": 0, "example.org": 0,
		strings.Repeat("a.", 130) + "example.com": 0,
	} {
		expect(t, tab, host, request("GET /"), rule)
	}
}

func TestARequestFallsThroughToALessSpecificHostname(t *testing.T) {
	tab := table(t,
		on("a.example.com", prefix("/only")),
		on("*.example.com", with(prefix("/"), "POST")),
		on("", exact("/last")),
	)
	expect(t, tab, "a.example.com", request("GET /only/x"), 0)
	expect(t, tab, "a.example.com", request("POST /x"), 1)
	expect(t, tab, "a.example.com", request("GET /last"), 2)
	expect(t, tab, "a.example.com", request("GET /x"), -1)
}
