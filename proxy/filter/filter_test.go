package filter

import (
	"fmt"
	"strings"
	"testing"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/message"
)

// request builds a head from "authority/path?query" and "name: value" lines.
func request(target string, lines ...string) *message.Request {
	r := new(message.Request)
	authority, rest, _ := strings.Cut(target, "/")
	path, query, has := strings.Cut("/"+rest, "?")
	r.Authority, r.Path = r.StoreString(authority), r.StoreString(path)
	r.Query, r.HasQuery = r.StoreString(query), has
	for _, l := range lines {
		name, value, _ := strings.Cut(l, ": ")
		r.Add(name, value, message.LookupIDString(name))
	}
	return r
}

// lines returns the fields as they would be written.
func lines(h *message.Head) string {
	var out []string
	for _, f := range h.Fields {
		if f.ID != message.Removed {
			out = append(out, fmt.Sprintf("%s: %s", h.Bytes(f.Name), h.Bytes(f.Value)))
		}
	}
	return strings.Join(out, "|")
}

func compile(t testing.TB, filters ...config.Filter) *Chain {
	t.Helper()
	c, err := Compile(filters)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func prefixRewrite(value string) config.Filter {
	return config.Filter{Rewrite: &config.Rewrite{Path: &config.PathModifier{Kind: config.PathPrefix, Value: value}}}
}

func TestPrefixReplacementFollowsTheTableOfTheGatewayAPI(t *testing.T) {
	for _, c := range []struct{ path, prefix, replacement, want string }{
		{"/foo/bar", "/foo", "/xyz", "/xyz/bar"},
		{"/foo/bar", "/foo", "/xyz/", "/xyz/bar"},
		{"/foo/bar", "/foo/", "/xyz", "/xyz/bar"},
		{"/foo/bar", "/foo/", "/xyz/", "/xyz/bar"},
		{"/foo", "/foo", "/xyz", "/xyz"},
		{"/foo/", "/foo", "/xyz", "/xyz/"},
		{"/foo/bar", "/foo", "", "/bar"},
		{"/foo/", "/foo", "", "/"},
		{"/foo", "/foo", "", "/"},
		{"/foo/", "/foo", "/", "/"},
		{"/foo", "/foo", "/", "/"},
		// Beyond the table.
		{"/foo/bar", "/foo", "/", "/bar"},
		{"/foo", "/foo", "/xyz/", "/xyz/"},
		{"/bar", "/", "/xyz", "/xyz/bar"},
		{"/", "/", "/xyz", "/xyz/"},
		{"/foo//bar", "/foo", "/xyz", "/xyz//bar"},
	} {
		// The router counts the prefix without its trailing slash; with it must come to the same.
		for _, n := range []int{len(strings.TrimSuffix(c.prefix, "/")), min(len(c.prefix), len(c.path))} {
			req := request("h" + c.path)
			compile(t, prefixRewrite(c.replacement)).Request(req, &Context{PrefixLen: n})
			if got := string(req.Bytes(req.Path)); got != c.want {
				t.Errorf("%s with prefix %s (%d bytes) replaced by %q = %s, want %s", c.path, c.prefix, n, c.replacement, got, c.want)
			}
		}
	}
}

func TestRewriteChangesHostAndWholePathAndKeepsTheQuery(t *testing.T) {
	req := request("a.example:8080/old/path?x=1")
	c := compile(t, config.Filter{Rewrite: &config.Rewrite{
		Hostname: "b.example", Path: &config.PathModifier{Kind: config.PathExact, Value: "/new"},
	}})
	if a := c.Request(req, &Context{PrefixLen: 4}); a != nil {
		t.Fatalf("answered %+v", a)
	}
	got := fmt.Sprintf("%s%s?%s", req.Bytes(req.Authority), req.Bytes(req.Path), req.Bytes(req.Query))
	if want := "b.example/new?x=1"; got != want || !req.HasQuery {
		t.Fatalf("got %s, want %s", got, want)
	}
}

func TestABackEndsPrefixReplacementContinuesFromTheRules(t *testing.T) {
	req := request("h/foo/bar")
	ctx := Context{PrefixLen: 4}
	compile(t, prefixRewrite("/one/two")).Request(req, &ctx)
	compile(t, prefixRewrite("/three")).Request(req, &ctx)
	if got := string(req.Bytes(req.Path)); got != "/three/bar" {
		t.Fatal(got)
	}
}

func TestTheAsteriskOfOptionsIsNotRewritten(t *testing.T) {
	req := request("h/")
	req.Path = req.StoreString("*")
	compile(t, prefixRewrite("/x")).Request(req, &Context{})
	if got := string(req.Bytes(req.Path)); got != "*" {
		t.Fatal(got)
	}
}

func TestRedirectLocation(t *testing.T) {
	full := &config.PathModifier{Kind: config.PathExact, Value: "/new"}
	prefix := &config.PathModifier{Kind: config.PathPrefix, Value: "/xyz"}
	remove := &config.PathModifier{Kind: config.PathPrefix, Value: "/"}
	https, http := message.SchemeHTTPS, message.SchemeHTTP
	for _, c := range []struct {
		name     string
		target   string
		listener uint16
		scheme   message.Scheme
		redirect config.Redirect
		want     string
	}{
		{"the scheme's well-known port is not the listener's", "a.example:8080/p?q=1", 8080, http, config.Redirect{Scheme: "https"}, "https://a.example/p?q=1"},
		{"the given scheme is the request's", "a.example:8080/p", 8080, http, config.Redirect{Scheme: "http"}, "http://a.example/p"},
		{"a given port wins", "a.example/p", 80, http, config.Redirect{Scheme: "https", Port: 8443}, "https://a.example:8443/p"},
		{"port 443 is not written with https", "a.example/p", 80, http, config.Redirect{Scheme: "https", Port: 443}, "https://a.example/p"},
		{"port 443 is written with http", "a.example/p", 80, http, config.Redirect{Port: 443}, "http://a.example:443/p"},
		{"port 80 is written with https", "a.example/p", 80, http, config.Redirect{Scheme: "https", Port: 80}, "https://a.example:80/p"},
		{"port 80 is not written with http", "a.example:8080/p", 8080, http, config.Redirect{Port: 80}, "http://a.example/p"},
		{"without scheme and port it is the listener's", "a.example/p", 8080, http, config.Redirect{Hostname: "b.example"}, "http://b.example:8080/p"},
		{"listener port 80 is not written", "a.example:1234/p", 80, http, config.Redirect{Hostname: "b.example"}, "http://b.example/p"},
		{"listener port 443 is not written with https", "a.example/p", 443, https, config.Redirect{Hostname: "b.example"}, "https://b.example/p"},
		{"the whole path", "a.example/foo/bar?q", 80, http, config.Redirect{Path: full}, "http://a.example/new?q"},
		{"the matched prefix", "a.example/foo/bar?q=1", 80, http, config.Redirect{Path: prefix}, "http://a.example/xyz/bar?q=1"},
		{"an empty query stays", "a.example/foo?", 80, http, config.Redirect{Path: prefix}, "http://a.example/xyz?"},
		{"an IPv6 address keeps its brackets", "[::1]:8080/p", 8080, http, config.Redirect{Scheme: "https"}, "https://[::1]/p"},
		{"an IPv6 address without a port", "[::1]/p", 8080, http, config.Redirect{}, "http://[::1]:8080/p"},
		{"without a host the reference is relative", "/p?q=1", 80, http, config.Redirect{Scheme: "https"}, "/p?q=1"},
		{"a relative reference never names a host", "//evil.example/p", 80, http, config.Redirect{}, "/evil.example/p"},
		{"nor after a prefix is taken away", "/foo//evil.example", 80, http, config.Redirect{Path: remove}, "/evil.example"},
	} {
		c.redirect.Status = 301
		req := request(c.target)
		a := compile(t, config.Filter{Redirect: &c.redirect}).Request(req, &Context{PrefixLen: 4, ListenerPort: c.listener, Scheme: c.scheme})
		if a == nil || string(a.Location) != c.want || a.Status != 301 || a.Reason != "redirect" {
			t.Errorf("%s: %+v, want location %s", c.name, a, c.want)
		}
	}
}

func TestHeaderEditsRemoveThenSetThenAdd(t *testing.T) {
	edit := &config.HeaderEdit{
		Remove: []string{"X-Gone", "Server"},
		Set:    []config.Header{{Name: "X-One", Value: "new"}, {Name: "x-one", Value: "ignored"}, {Name: "X-Gone", Value: "back"}},
		Add:    []config.Header{{Name: "Via", Value: "2"}, {Name: "Via", Value: "3"}},
	}
	before := []string{"x-one: a", "X-ONE: b", "x-gone: c", "Server: s", "via: 1", "keep: k"}
	want := "via: 1|keep: k|X-One: new|X-Gone: back|Via: 2|Via: 3"

	req := request("h/", before...)
	c := compile(t, config.Filter{RequestHeaders: edit})
	c.Request(req, &Context{})
	if got := lines(&req.Head); got != want {
		t.Errorf("request: %s\n   want: %s", got, want)
	}
	if c.EditsResponse() {
		t.Error("a request edit claims to edit responses")
	}

	resp := &message.Response{Head: request("h/", before...).Head}
	c = compile(t, config.Filter{ResponseHeaders: edit})
	c.Response(resp)
	if got := lines(&resp.Head); got != want || !c.EditsResponse() {
		t.Errorf("response: %s\n    want: %s", got, want)
	}
}

func TestSettingHostChangesTheAuthorityAndAddsNoField(t *testing.T) {
	req := request("a.example/")
	compile(t, config.Filter{RequestHeaders: &config.HeaderEdit{Set: []config.Header{{Name: "Host", Value: "b.example:81"}}}}).Request(req, &Context{})
	if got := string(req.Bytes(req.Authority)); got != "b.example:81" || lines(&req.Head) != "" {
		t.Fatal(got, lines(&req.Head))
	}
}

func TestFiltersAfterAnAnswerDoNotRun(t *testing.T) {
	c := compile(t,
		config.Filter{RequestHeaders: &config.HeaderEdit{Add: []config.Header{{Name: "before", Value: "1"}}}},
		config.Filter{Answer: &config.Answer{Status: 503, Reason: "maintenance"}},
		config.Filter{RequestHeaders: &config.HeaderEdit{Add: []config.Header{{Name: "after", Value: "1"}}}})
	req := request("h/")
	a := c.Request(req, &Context{})
	if a == nil || a.Status != 503 || a.Reason != "maintenance" || a.Location != nil || lines(&req.Head) != "before: 1" {
		t.Fatalf("%+v, %s", a, lines(&req.Head))
	}
}

func TestANilChainDoesNothing(t *testing.T) {
	c, err := Compile(nil)
	if c != nil || err != nil {
		t.Fatal(c, err)
	}
	req, resp := request("h/", "a: b"), new(message.Response)
	if a := c.Request(req, &Context{}); a != nil || lines(&req.Head) != "a: b" {
		t.Fatal(a)
	}
	c.Response(resp)
	if c.EditsResponse() {
		t.Fatal("edits responses")
	}
}

func TestRefuseAnswersEveryRequest(t *testing.T) {
	if a := Refuse(500, "why").Request(request("h/"), &Context{}); a == nil || a.Status != 500 || a.Reason != "why" {
		t.Fatalf("%+v", a)
	}
}

func TestCompileNamesTheFilterThatItRefuses(t *testing.T) {
	_, err := Compile([]config.Filter{prefixRewrite("/ok"), {RequestHeaders: &config.HeaderEdit{Remove: []string{"Content-Length"}}}})
	if err == nil || !strings.HasPrefix(err.Error(), `filters[1]: requestHeaders: remove[0]: header "Content-Length" belongs to the connection`) {
		t.Fatal(err)
	}
}

func TestEditsAndRedirectsDoNotAllocate(t *testing.T) {
	edits := compile(t,
		config.Filter{RequestHeaders: &config.HeaderEdit{
			Remove: []string{"x-a"}, Set: []config.Header{{Name: "X-B", Value: "1"}, {Name: "Host", Value: "h2"}}, Add: []config.Header{{Name: "Accept", Value: "2"}},
		}},
		config.Filter{ResponseHeaders: &config.HeaderEdit{Set: []config.Header{{Name: "Server", Value: "x"}}}},
		config.Filter{Rewrite: &config.Rewrite{Hostname: "b.example", Path: &config.PathModifier{Kind: config.PathPrefix, Value: "/x"}}},
		config.Filter{Redirect: &config.Redirect{Scheme: "https", Port: 8443, Status: 301}})
	req, resp := new(message.Request), new(message.Response)
	ctx := new(Context)
	received := []byte("GET /foo/bar HTTP/1.1\r\nx-a: 1\r\naccept: 2\r\n")
	run := func() {
		req.Reset()
		resp.Reset()
		req.Received = received
		req.Path = message.Span{Off: 4, Len: 8}
		req.Append(message.Span{Off: 23, Len: 3}, message.Span{Off: 28, Len: 1}, message.Unknown)
		*ctx = Context{PrefixLen: 4}
		if a := edits.Request(req, ctx); a == nil || string(a.Location) != "https://b.example:8443/x/bar" {
			t.Fatalf("%+v", a)
		}
		edits.Response(resp)
	}
	run() // grows the arenas
	if n := testing.AllocsPerRun(100, run); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}
