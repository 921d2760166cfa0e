package route

import (
	"fmt"
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

func TestAWildcardOfOneLabelLeavesDeeperNamesToOthers(t *testing.T) {
	one := func(host string) Entry { return Entry{Hostname: host, OneLabel: true, Match: prefix("/")} }
	tab := table(t, one("*.a.test"), on("*.test", prefix("/")), one("*.b.test"), on("*.b.test", prefix("/")))
	for host, rule := range map[string]int32{"x.a.test": 0, "x.y.a.test": 1, "a.test": 1, ".a.test": 1, "x.b.test": 2, "x.y.b.test": 3} {
		expect(t, tab, host, request("GET /"), rule)
	}
	if why := tab.Explain([]byte("x.y.a.test"), request("GET /"))[0].Why; !strings.Contains(why, "one label") {
		t.Errorf("the reason is %q", why)
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

func TestAPrefixMatchesElementsNotBytes(t *testing.T) {
	for _, c := range []struct {
		prefix, path string
		covered      int // -1: no match
	}{
		{"/", "/", 0}, {"/", "/a", 0}, {"/", "/a/b", 0}, {"/", "*", 0},
		{"/a", "/a", 2}, {"/a", "/a/", 2}, {"/a", "/a/b", 2}, {"/a", "/ab", -1}, {"/a", "/", -1}, {"/a", "*", -1}, {"/a", "/A", -1},
		{"/a/", "/a", 2}, {"/a/", "/a/b", 2}, {"/a/", "/ab", -1},
		{"/a/b", "/a", -1}, {"/a/b", "/a/b/c", 4}, {"/a/b", "/a/bc", -1}, {"/a%2Fb", "/a/b", -1},
	} {
		tab := table(t, on("", prefix(c.prefix)))
		r, ok := tab.Lookup(nil, request("GET "+c.path))
		if ok != (c.covered >= 0) || ok && r.Prefix != c.covered {
			t.Errorf("prefix %q, path %q: %+v %v, want covered %d", c.prefix, c.path, r, ok, c.covered)
		}
	}
}

func TestExactAndRegexCoverTheWholePath(t *testing.T) {
	tab := table(t, on("", exact("/a")), on("", exact("/a/")), on("", regexPath("/b.*")))
	for target, want := range map[string]struct {
		rule    int32
		covered int
		path    string
	}{"GET /a": {0, 2, "/a"}, "GET /a/": {1, 3, "/a/"}, "GET /bcd": {2, 4, "/b.*"}} {
		if r, ok := tab.Lookup(nil, request(target)); !ok || r.Rule != want.rule || r.Prefix != want.covered || r.Path.Value != want.path {
			t.Errorf("%s: %+v %v, want %+v", target, r, ok, want)
		}
	}
	expect(t, tab, "", request("GET /a/b"), -1)
}

func TestAServiceByNameWinsOverPatternsForServicesAndMethods(t *testing.T) {
	grpc := func(pattern string, rank uint32) config.Match {
		return config.Match{Path: config.PathMatch{Kind: config.PathGRPC, Value: pattern, Rank: rank}}
	}
	tab := table(t,
		on("", prefix("/")),
		on("", grpc("/[^/]+/Ping", 4)),
		on("", grpc("/(?:p\\.E.*)/[^/]+", 6<<12)),
		on("", prefix("/p.Echo")),
		on("", exact("/p.Echo/Ping")),
		on("", with(grpc("/[^/]+/Ping", 4), "", "h:x-a=1")),
	)
	for target, rule := range map[string]int32{
		"POST /p.Echo/Ping": 4, "POST /p.Echo/Say": 3, "POST /p.Else/Ping": 2, "POST /q/Ping": 1, "POST /q/Pong": 0,
		"POST /q/Ping/x": 0, "OPTIONS *": 0,
	} {
		expect(t, tab, "", request(target), rule)
	}
	expect(t, tab, "", request("POST /q/Ping", "x-a: 1"), 5)
}

func TestExactWinsOverRegexAndRegexOverPrefix(t *testing.T) {
	tab := table(t,
		on("", prefix("/")),
		on("", prefix("/a/b")),
		on("", with(prefix("/a"), "GET", "h:x-a=1", "h:x-b=2")),
		on("", regexPath("/a/[0-9]+")),
		on("", regexPath("/a/.*")),
		on("", exact("/a/1")),
	)
	for target, rule := range map[string]int32{
		"GET /": 0, "GET /a": 2, "GET /a/b": 4, "GET /a/b/c": 4, "GET /a/2": 3, "GET /a/1": 5, "GET /b": 0, "OPTIONS *": 0,
	} {
		expect(t, tab, "", request(target, "X-A: 1", "X-B: 2"), rule)
	}
}

func TestWithOnePathTheMethodThenHeadersThenQueryThenOrderDecide(t *testing.T) {
	p := prefix("/")
	tab := table(t,
		on("", p),
		on("", p), // same match, later order: never
		on("", with(p, "q:a=1")),
		on("", with(p, "q:a=1", "q:b=2")),
		on("", with(p, "h:x-a=1")),
		on("", with(p, "h:x-a=1", "q:a=1")),
		on("", with(p, "h:x-a=1", "h:x-b=2")),
		on("", with(p, "GET")),
	)
	expect(t, tab, "", request("POST /"), 0)
	expect(t, tab, "", request("POST /?a=1"), 2)
	expect(t, tab, "", request("POST /?b=2&a=1"), 3)
	expect(t, tab, "", request("POST /?b=2&a=1", "X-A: 1"), 5)
	expect(t, tab, "", request("POST /?b=2", "X-A: 1"), 4)
	expect(t, tab, "", request("POST /?b=2&a=1", "X-A: 1", "x-b: 2"), 6)
	expect(t, tab, "", request("GET /?b=2&a=1", "X-A: 1", "x-b: 2"), 7)
}

func TestMethodsAreComparedByteForByte(t *testing.T) {
	tab := table(t, on("", with(prefix("/"), "GET")), on("", with(prefix("/"), "PURGE")), on("", with(prefix("/"), "purge")))
	for target, rule := range map[string]int32{
		"GET /": 0, "get /": -1, "HEAD /": -1, "PURGE /": 1, "purge /": 2, "PURGED /": -1, "Purge /": -1,
	} {
		expect(t, tab, "", request(target), rule)
	}
}

func TestHeaderNamesIgnoreCaseAndValuesDoNot(t *testing.T) {
	tab := table(t, on("", with(prefix("/"), "h:x-a=One")), on("", with(prefix("/"), "h:accept=a/b")))
	expect(t, tab, "", request("GET /", "X-A: One"), 0)
	expect(t, tab, "", request("GET /", "x-a: one"), -1)
	expect(t, tab, "", request("GET /", "x-a: One "), -1)
	expect(t, tab, "", request("GET /", "ACCEPT: a/b"), 1)
	expect(t, tab, "", request("GET /", "X-AB: One"), -1)
}

func TestTheLinesOfARepeatedHeaderAreCombined(t *testing.T) {
	tab := table(t,
		on("", with(prefix("/"), "h:x-a=1, 2")),
		on("", with(prefix("/"), "h~:x-b=[0-9]+, [0-9]+")),
		on("", with(prefix("/"), "h:cookie=a=1; b=2")),
	)
	expect(t, tab, "", request("GET /", "X-A: 1, 2"), 0)
	expect(t, tab, "", request("GET /", "X-A: 1", "Accept: x", "x-a: 2"), 0)
	expect(t, tab, "", request("GET /", "X-A: 2", "x-a: 1"), -1)
	expect(t, tab, "", request("GET /", "X-A: 1"), -1)
	expect(t, tab, "", request("GET /", "X-A: 1, 2", "x-a: 3"), -1)
	expect(t, tab, "", request("GET /", "X-A: 1", "x-a: "), -1)
	expect(t, tab, "", request("GET /", "x-b: 17", "X-B: 4"), 1)
	expect(t, tab, "", request("GET /", "x-b: 17"), -1)
	expect(t, tab, "", request("GET /", "cookie: a=1", "cookie: b=2"), 2)
	long := strings.Repeat("1", regexInputMax/2)
	expect(t, tab, "", request("GET /", "x-b: "+long, "x-b: "+long), -1)
}

func TestOnlyTheFirstMatchOfANameCounts(t *testing.T) {
	tab := table(t,
		on("", with(prefix("/h"), "h:x-a=1", "h:x-a=2")),
		on("", with(prefix("/q"), "q:a=1", "q:a=2")),
		on("", with(prefix("/h"), "h:x-a=1", "h:x-b=2")),
	)
	expect(t, tab, "", request("GET /h", "x-a: 1"), 0)
	expect(t, tab, "", request("GET /h", "x-a: 2"), -1)
	expect(t, tab, "", request("GET /q?a=1"), 1)
	expect(t, tab, "", request("GET /h", "x-a: 1", "x-b: 2"), 2)
}

func TestHeadersThatEnginesTakeOutOfTheListCanBeMatched(t *testing.T) {
	tab := table(t, on("", with(prefix("/"), "h:host=a.example.com:8080")), on("", with(prefix("/"), "h~:upgrade=(?i)websocket")))
	req := request("GET /")
	req.Authority = req.StoreString("a.example.com:8080")
	expect(t, tab, "a.example.com", req, 0)
	req = request("GET /")
	expect(t, tab, "a.example.com", req, -1)
	req.Upgrade = req.StoreString("WebSocket")
	expect(t, tab, "a.example.com", req, 1)
}

func TestQueryParametersAreComparedDecodedAndTheFirstOfANameCounts(t *testing.T) {
	tab := table(t,
		on("", with(prefix("/"), "q:a=x y")),
		on("", with(prefix("/"), "q:b=")),
		on("", with(prefix("/"), "q~:c=[0-9]+ [0-9]+")),
		on("", with(prefix("/"), "q:d e=%z")),
		on("", with(prefix("/"), "q:A=1=2&3")),
	)
	for query, rule := range map[string]int32{
		"a=x+y": 0, "a=x%20y": 0, "%61=%78+%79": 0, "z=1&a=x+y": 0, "a=x y": 0, "a=1&a=x+y": -1, "a=x+y&a=1": 0, "a=x+yz": -1,
		"a": -1, "aa=x+y": -1, "": -1, "b": 1, "b=": 1, "b&x": 1, "b==": -1, "&&b": 1, "bb": -1,
		"c=1+2": 2, "c=12%2034": 2, "c=1+": -1, "c=12": -1, "d+e=%z": 3, "d%20e=%25z": 3, "d%2": -1, "%": -1,
		"A=1=2%263": 4, "a=1=2%263": -1, "A=1=2&3": -1,
		"c=1+" + strings.Repeat("2", regexInputMax): -1,
	} {
		expect(t, tab, "", request("GET /?"+query), rule)
	}
}

func TestARegexMatchesTheWholePathAndNoLongOne(t *testing.T) {
	tab := table(t, on("", regexPath("/a|/b")), on("", regexPath("/c.*")), on("", regexPath(`/d\Q.*`)), on("", regexPath("(?i)/E")))
	for path, rule := range map[string]int32{
		"/a": 0, "/b": 0, "/ab": -1, "/a/": -1, "/c": 1, "/x/c": -1, "/d.*": 2, "/dxx": -1, "/e": 3, "/E": 3,
		"/c" + strings.Repeat("c", regexInputMax-2): 1,
		"/c" + strings.Repeat("c", regexInputMax-1): -1,
	} {
		expect(t, tab, "", request("GET "+path), rule)
	}
}

// Of all a program's instructions every one is alive at every byte of such a value: 40 of these patterns took half a minute.
func TestTheRegexesOfOneLookupCostABoundedAmountTogether(t *testing.T) {
	dear := func(i int) string { return strings.Repeat(".*a", 1000) + fmt.Sprint(i) }
	var entries []Entry
	for i := range 40 {
		entries = append(entries, on("a.test", regexPath("/"+dear(i))))
	}
	entries = append(entries, on("a.test", prefix("/")), on("b.test", with(prefix("/"), "h~:x-a="+dear(0))), on("b.test", prefix("/b")), on("c.test", prefix("/")),
		on("d.test", with(prefix("/"), "q~:v="+dear(0))), on("d.test", prefix("/d")))
	tab := table(t, entries...)
	long := "/" + strings.Repeat("a", regexInputMax-1)
	expect(t, tab, "a.test", request("GET /short"), 40)
	expect(t, tab, "a.test", request("GET "+long), -1) // not 40: one that was not asked might have won
	expect(t, tab, "b.test", request("GET /x", "X-A: "+long), -1)
	expect(t, tab, "b.test", request("GET /b", "X-A: "+long), 42) // the longer prefix is asked first
	expect(t, tab, "c.test", request("GET "+long), 43)
	expect(t, tab, "d.test", request("GET /x?v="+long), -1)
	expect(t, tab, "d.test", request("GET /x?v=%61"+long), -1)
	if got := steps(tab, "a.test", "GET "+long)[0]; !strings.Contains(got, "costs more than 4194304 instructions times bytes") {
		t.Errorf("the first step is %q", got)
	}
}

func TestAnEmptyTableFindsNothing(t *testing.T) {
	tab := table(t)
	expect(t, tab, "a", request("GET /"), -1)
	if got := BuildHosts(nil).Lookup([]byte("a")); got != -1 {
		t.Errorf("no patterns: %d, want -1", got)
	}
}
