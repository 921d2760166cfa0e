package route

import (
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/message"
)

// plain is a request as text, for the naive matcher, which shares no code with the package.
type plain struct {
	host, method, path, query string
	headers                   [][2]string
}

func (p *plain) request() *message.Request {
	var lines []string
	for _, h := range p.headers {
		lines = append(lines, h[0]+": "+h[1])
	}
	return request(p.method+" "+p.path+"?"+p.query, lines...)
}

// naiveLookup filters all entries and sorts what is left: the text of the specification, line by line.
func naiveLookup(entries []Entry, p *plain) (Result, bool) {
	var takers []*Entry
	for i := range entries {
		e := &entries[i]
		if naiveHost(e.Hostname, p.host, e.OneLabel) && naivePath(e.Match.Path, p.path) && naiveRest(e.Match, p) {
			takers = append(takers, e)
		}
	}
	if len(takers) == 0 {
		return Result{}, false
	}
	slices.SortStableFunc(takers, func(a, b *Entry) int { return slices.Compare(naiveOrder(*a), naiveOrder(*b)) })
	w := takers[0]
	covered := len(p.path)
	if w.Match.Path.Kind == config.PathPrefix {
		covered = len(strings.TrimSuffix(w.Match.Path.Value, "/"))
	}
	return Result{w.Rule, covered, &w.Match.Path}, true
}

func naiveHost(pattern, host string, oneLabel bool) bool {
	if pattern == "" || pattern == host {
		return true
	}
	rest, isWild := strings.CutPrefix(pattern, "*")
	before, ends := strings.CutSuffix(host, rest)
	return isWild && ends && before != "" && !(oneLabel && strings.Contains(before, "."))
}

func naivePath(m config.PathMatch, path string) bool {
	switch {
	case path == "*":
		return m.Kind == config.PathPrefix && m.Value == "/"
	case m.Kind == config.PathExact:
		return m.Value == path
	case m.Kind == config.PathRegex, m.Kind == config.PathGRPC:
		return naiveRegex(m.Value, path)
	}
	want := strings.Split(strings.TrimSuffix(m.Value, "/"), "/")
	have := strings.Split(path, "/")
	return len(have) >= len(want) && slices.Equal(have[:len(want)], want)
}

// naiveRegex: when the whole value is a match, it is the longest of the leftmost ones.
func naiveRegex(pattern, value string) bool {
	re := regexp.MustCompile(pattern)
	re.Longest()
	return slices.Equal(re.FindStringIndex(value), []int{0, len(value)})
}

func naiveRest(m config.Match, p *plain) bool {
	if m.Method != "" && m.Method != p.method {
		return false
	}
	fields := map[string][]string{}
	for _, h := range p.headers {
		name := strings.ToLower(h[0])
		fields[name] = append(fields[name], h[1])
	}
	parameters := map[string][]string{}
	for _, pair := range strings.Split(p.query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		parameters[naiveDecode(name)] = append(parameters[naiveDecode(name)], naiveDecode(value))
	}
	return naiveValues(m.Headers, func(name string) (string, bool) {
		sep := ", "
		if name == "cookie" {
			sep = "; "
		}
		return strings.Join(fields[name], sep), fields[name] != nil
	}) && naiveValues(m.Query, func(name string) (string, bool) {
		if parameters[name] == nil {
			return "", false
		}
		return parameters[name][0], true
	})
}

func naiveValues(matches []config.ValueMatch, get func(string) (string, bool)) bool {
	seen := map[string]bool{}
	for _, m := range matches {
		value, ok := get(m.Name)
		if !seen[m.Name] && (!ok || m.Regex && !naiveRegex(m.Value, value) || !m.Regex && m.Value != value) {
			return false
		}
		seen[m.Name] = true
	}
	return true
}

func naiveDecode(s string) string {
	s = strings.ReplaceAll(s, "+", " ")
	return regexp.MustCompile(`%[0-9A-Fa-f]{2}`).ReplaceAllStringFunc(s, func(esc string) string {
		digits := "0123456789abcdef"
		esc = strings.ToLower(esc)
		return string([]byte{byte(strings.IndexByte(digits, esc[1])<<4 | strings.IndexByte(digits, esc[2]))})
	})
}

// naiveOrder is smaller for what wins.
func naiveOrder(e Entry) []int {
	host := []int{2, 0}
	switch {
	case strings.HasPrefix(e.Hostname, "*."):
		host = []int{1, -len(e.Hostname)}
	case e.Hostname != "":
		host = []int{0, 0}
	}
	path := map[config.PathKind][]int{
		config.PathExact:  {0, 0},
		config.PathRegex:  {1, -len(e.Match.Path.Value)},
		config.PathPrefix: {2, -len(strings.TrimSuffix(e.Match.Path.Value, "/"))},
		config.PathGRPC:   {3, -int(e.Match.Path.Rank)},
	}[e.Match.Path.Kind]
	if e.Match.Path == prefix("/").Path {
		path = []int{4, 0}
	}
	method := 1
	if e.Match.Method != "" {
		method = 0
	}
	names := func(values []config.ValueMatch) int {
		set := map[string]bool{}
		for _, v := range values {
			set[v.Name] = true
		}
		return len(set)
	}
	return slices.Concat(host, path, []int{method, -names(e.Match.Headers), -names(e.Match.Query), e.Order})
}

// generator draws entries and requests from alphabets so small that they meet all the time.
type generator struct{ *rand.Rand }

func (g generator) pick(choices ...string) string { return choices[g.IntN(len(choices))] }

func (g generator) hostname() string {
	labels := []string{"com", "a", "b", "ab", "x"}
	name := g.pick("com", "org")
	for range g.IntN(4) {
		name = labels[g.IntN(len(labels))] + "." + name
	}
	return name
}

func (g generator) path() string {
	if g.IntN(8) == 0 {
		return "/"
	}
	var b strings.Builder
	for range 1 + g.IntN(4) {
		b.WriteString("/" + g.pick("", "a", "b", "ab", "abc", "a%20", "\xff"))
	}
	return b.String()
}

func (g generator) entry(i int) Entry {
	e := Entry{Rule: int32(i), Order: g.IntN(1 << 20)}
	switch g.IntN(4) {
	case 0:
		e.Hostname, e.OneLabel = "*."+g.hostname(), g.IntN(2) == 0
	case 1, 2:
		e.Hostname = g.hostname()
	}
	switch g.IntN(7) {
	case 6:
		e.Match.Path = config.PathMatch{Kind: config.PathGRPC, Rank: uint32(g.IntN(3)),
			Value: g.pick("/(?:a.*)/[^/]+", "/[^/]+/(?:ab?)", "/(?:a|b)/(?:b)", "/.*")}
	case 0:
		e.Match = regexPath(g.pick("/a.*", "/(a|b)", "/a|/b", ".*", "(?i)/A.*", "/[^/]+/b", "/ab?", `\Q/a`, "/.*b$", "(?m)^/a$", ""))
	case 1, 2:
		e.Match = exact(g.path())
	default:
		e.Match = prefix(g.path())
	}
	if g.IntN(3) == 0 {
		e.Match.Method = g.pick("GET", "POST", "PURGE", "REPORT")
	}
	for range max(0, g.IntN(5)-2) {
		e.Match.Headers = append(e.Match.Headers, g.value("x-a", "x-b", "accept", "cookie", "x-forwarded-for"))
	}
	for range max(0, g.IntN(5)-2) {
		e.Match.Query = append(e.Match.Query, g.value("q", "p", "a b", "é"))
	}
	return e
}

func (g generator) value(names ...string) config.ValueMatch {
	v := config.ValueMatch{Name: g.pick(names...)}
	if v.Regex = g.IntN(3) == 0; v.Regex {
		v.Value = g.pick("1.*", "1|2", ".*", "", "1, 2", "(1|2)[,;] ?2?", `\d`, "é")
		return v
	}
	v.Value = g.pick("1", "2", "1, 2", "1; 2", "", "1 2", "é", "%zz")
	return v
}

func (g generator) plain() *plain {
	p := &plain{host: g.hostname(), method: g.pick("GET", "GET", "POST", "PURGE", "REPORT"), path: g.path()}
	switch g.IntN(20) {
	case 0:
		p.host = ""
	case 1:
		p.path, p.method = "*", "OPTIONS"
	}
	for range g.IntN(5) {
		p.headers = append(p.headers, [2]string{
			g.pick("x-a", "X-B", "Accept", "Cookie", "cookie", "X-Forwarded-For", "x-ab"), g.pick("1", "2", "", "1, 2", "é"),
		})
	}
	var pairs []string
	for range g.IntN(5) {
		pairs = append(pairs, g.pick("q", "p", "a+b", "a%20b", "%C3%a9", "é", "%70", "")+
			g.pick("=1", "=2", "", "=", "=%31", "=1+2", "=%zz", "=%2", "=1=2", "=%c3%a9"))
	}
	p.query = strings.Join(pairs, "&")
	return p
}

// sameAsNaive compares one table with the naive matcher on several requests and returns how many of them had a winner.
func sameAsNaive(t *testing.T, g generator, entryCount, requests int) int {
	t.Helper()
	var entries []Entry
	for i := range entryCount {
		entries = append(entries, g.entry(i))
	}
	// Orders are unique, so that the winner is.
	for i, o := range g.Perm(entryCount) {
		entries[i].Order = o
	}
	tab, err := Build(entries)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for range requests {
		p := g.plain()
		req := p.request()
		got, ok := tab.Lookup([]byte(p.host), req)
		want, wantOK := naiveLookup(entries, p)
		if got != want || ok != wantOK {
			t.Fatalf("request %+v: got %+v %v, want %+v %v\nentries %+v", *p, got, ok, want, wantOK, entries)
		}
		explainAgrees(t, tab, p, req, got, ok)
		if ok {
			found++
		}
	}
	return found
}

// explainAgrees checks Explain against Lookup, and each of its steps against the naive matcher.
func explainAgrees(t *testing.T, tab *Table, p *plain, req *message.Request, got Result, ok bool) {
	t.Helper()
	steps := tab.Explain([]byte(p.host), req)
	if len(steps) != len(tab.entries)-tab.dead {
		t.Fatalf("request %+v: %d steps for %d entries, %d of them dead", *p, len(steps), len(tab.entries), tab.dead)
	}
	listed := map[int32]bool{}
	won := false
	for _, s := range steps {
		_, takes := naiveLookup([]Entry{s.Entry}, p)
		lower := strings.HasPrefix(s.Why, "lower precedence: ")
		switch {
		case listed[s.Entry.Rule]:
			t.Fatalf("request %+v: entry %+v is listed twice", *p, s.Entry)
		case s.Won && (won || !ok || s.Entry.Rule != got.Rule):
			t.Fatalf("request %+v: Explain lets %+v win, Lookup says %+v", *p, s.Entry, got)
		case takes != (s.Won || lower):
			t.Fatalf("request %+v: entry %+v takes it: %v, but %q", *p, s.Entry, takes, s.Why)
		case lower && !won:
			t.Fatalf("request %+v: entry %+v is asked before the winner, but %q", *p, s.Entry, s.Why)
		}
		listed[s.Entry.Rule] = true
		won = won || s.Won
	}
	if won != ok {
		t.Fatalf("request %+v: Explain has a winner: %v, Lookup: %v", *p, won, ok)
	}
}

func TestLookupAndExplainAgreeWithANaiveMatcher(t *testing.T) {
	found, asked := 0, 0
	for seed := range uint64(150) {
		g := generator{rand.New(rand.NewPCG(seed, 1))}
		found += sameAsNaive(t, g, 1+g.IntN(80), 20)
		asked += 20
	}
	if found < asked/4 || found == asked {
		t.Errorf("%d of %d requests found a rule: the generator tests little", found, asked)
	}
}

// bytesSource lets fuzz data choose instead of chance. It goes on when the data ends, because rand draws again and again
// when it dislikes a number.
type bytesSource struct {
	data  []byte
	drawn uint64
}

func (s *bytesSource) Uint64() uint64 {
	s.drawn++
	low := s.drawn * 0x9e3779b97f4a7c15 >> 8
	if len(s.data) == 0 {
		return low
	}
	high := uint64(s.data[0]) << 56
	s.data = s.data[1:]
	return high | low
}

func FuzzLookup(f *testing.F) {
	for seed := range uint64(4) {
		g := rand.New(rand.NewPCG(seed, 2))
		data := make([]byte, 200)
		for i := range data {
			data[i] = byte(g.Uint32())
		}
		f.Add(data, "a.b.com", "/a/b", "q=1&p=%32", "1, 2")
	}
	f.Fuzz(func(t *testing.T, data []byte, host, path, query, value string) {
		g := generator{rand.New(&bytesSource{data: data})}
		var entries []Entry
		for i := range 8 {
			e := g.entry(i)
			e.Order = i
			entries = append(entries, e)
		}
		tab, err := Build(entries)
		if err != nil {
			t.Fatal(err)
		}
		if len(host) > hostnameBytesMax || len(path)+len(query)+len(value) > regexInputMax/2 ||
			strings.ContainsAny(path, "? \n") || strings.Contains(path, "*") || strings.Contains(value, "\n") {
			return
		}
		p := &plain{host: host, method: "GET", path: "/" + path, query: query,
			headers: [][2]string{{"X-A", value}, {"x-b", value}, {"X-b", "2"}}}
		got, ok := tab.Lookup([]byte(host), p.request())
		want, wantOK := naiveLookup(entries, p)
		if got != want || ok != wantOK {
			t.Fatalf("request %+v: got %+v %v, want %+v %v\nentries %+v", *p, got, ok, want, wantOK, entries)
		}
		explainAgrees(t, tab, p, p.request(), got, ok)
	})
}
