package snapshot

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"rauta.io/rauta/proxy/config"
)

var update = flag.Bool("update", false, "write the golden files")

// shop has a bit of everything that an explanation shows.
func shop() (*config.Config, config.Endpoints) {
	c := &config.Config{
		Listeners: []config.Listener{
			{Name: "default/gw/any", Port: 8080, Protocol: config.ProtocolHTTP, Attached: attach("httproute/default/fallback")},
			{Name: "default/gw/shop", Port: 8080, Protocol: config.ProtocolHTTP, Hostname: "*.example.com", Attached: []config.Attachment{
				{Route: "httproute/default/shop", Hostnames: []string{"shop.example.com"}},
				{Route: "httproute/default/old", Hostnames: []string{"*.example.com"}},
			}},
		},
		Routes: []*config.Route{
			{Name: "httproute/default/fallback", Source: config.Source{Kind: "HTTPRoute", Namespace: "default", Name: "fallback"},
				Rules: []config.Rule{{Name: "0", Matches: []config.Match{prefix("/")}}}},
			{Name: "httproute/default/old", Source: config.Source{Kind: "HTTPRoute", Namespace: "default", Name: "old"},
				Rules: []config.Rule{{Name: "move", Matches: []config.Match{prefix("/old")}, Filters: []config.Filter{{Redirect: &config.Redirect{
					Scheme: "https", Hostname: "shop.example.com", Port: 8443, Status: 308,
					Path: &config.PathModifier{Kind: config.PathPrefix, Value: "/new"},
				}}}}}},
			{Name: "httproute/default/shop", Source: config.Source{Kind: "HTTPRoute", Namespace: "default", Name: "shop"},
				Rules: []config.Rule{
					{
						Name:    "canary",
						Matches: []config.Match{{Path: config.PathMatch{Kind: config.PathPrefix, Value: "/cart"}, Method: "POST", Headers: []config.ValueMatch{{Name: "x-canary", Value: "y.*", Regex: true}}}},
						Filters: []config.Filter{
							{Mirror: &config.Mirror{Cluster: "default/cart-next:80", Numerator: 1, Denominator: 10}},
							{Mirror: &config.Mirror{Cluster: "default/cart:80"}},
							{CORS: &config.CORS{AllowOrigins: []string{"https://shop.example.com", "https://*.example.org"}, AllowCredentials: true}},
							{Rewrite: &config.Rewrite{Hostname: "cart.internal", Path: &config.PathModifier{Kind: config.PathPrefix, Value: "/"}}},
							{RequestHeaders: &config.HeaderEdit{Remove: []string{"Cookie"}, Set: []config.Header{{Name: "Authorization", Value: "Basic c2VjcmV0"}}, Add: []config.Header{{Name: "X-From", Value: "edge"}}}},
						},
						Backends: []config.Backend{
							{Cluster: "default/cart:80", Weight: 90},
							{Cluster: "default/cart-next:80", Weight: 9, Filters: []config.Filter{{ResponseHeaders: &config.HeaderEdit{Set: []config.Header{{Name: "X-Next", Value: "1"}}}}}},
							{Weight: 1, Invalid: "service default/gone does not exist"},
						},
						Timeouts:     config.Timeouts{Request: 3e9, BackendRequest: -1},
						BodyBytesMax: 1024,
						Retry:        &config.Retry{Attempts: 3, Codes: []int{502, 503}, Backoff: config.Duration(100e6)},
					},
					{Name: "1", Matches: []config.Match{prefix("/cart"), {Path: config.PathMatch{Kind: config.PathExact, Value: "/"}, Query: []config.ValueMatch{{Name: "q", Value: "1"}}}},
						Backends: []config.Backend{{Cluster: "default/cart:80", Weight: 1}}},
				}},
		},
		Clusters: []config.Cluster{
			{Name: "default/cart-next:80", TLS: &config.BackendTLS{SystemRoots: true, ServerName: "a", SubjectAltNames: []config.SubjectAltName{
				{Hostname: "cart.internal"}, {URI: "spiffe://internal/cart"},
			}}},
			{Name: "default/cart:80", TLS: &config.BackendTLS{SystemRoots: true, ServerName: "cart.internal"}},
		},
	}
	return c, config.Endpoints{"default/cart:80": {{Address: "127.0.0.1:1"}, {Address: "127.0.0.1:2"}, {Address: "127.0.0.1:3", Terminating: true}}}
}

func shopPort(t testing.TB) *Port {
	t.Helper()
	c, eps := shop()
	s, _, _, err := newLive().Publish(c, eps)
	if err != nil {
		t.Fatal(err)
	}
	return at(s, 8080)
}

func TestExplainReadsLikeTheGoldenFiles(t *testing.T) {
	p := shopPort(t)
	for name, r := range map[string][]string{
		"forward":    {"POST shop.example.com/cart/7?x=1", "x-canary: yes"},
		"redirect":   {"GET www.example.com/old/a?b"},
		"no-rule":    {"GET shop.example.com/nothing"},
		"no-backend": {"GET elsewhere.org/"},
	} {
		e := p.Explain(request(r[0], r[1:]...))
		text, err := json.MarshalIndent(e, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		got := e.Text() + "\n" + string(text) + "\n"
		path := filepath.Join("testdata", "explain-"+name+".txt")
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s differs from %s (go test -update writes it):\n%s", name, path, got)
		}
		if strings.Contains(got, "c2VjcmV0") {
			t.Errorf("%s shows a credential", name)
		}
	}
}

func TestExplainLeavesTheRequestAlone(t *testing.T) {
	p := shopPort(t)
	host, req := request("POST shop.example.com/cart/7", "x-canary: yes", "cookie: a=b")
	before, fields := string(req.Bytes(req.Path))+string(req.Bytes(req.Authority)), slices.Clone(req.Fields)
	if e := p.Explain(host, req); e.Outcome.Path != "/7" {
		t.Fatalf("the filters did not run: %+v", e.Outcome)
	}
	if after := string(req.Bytes(req.Path)) + string(req.Bytes(req.Authority)); after != before || !slices.Equal(req.Fields, fields) {
		t.Fatalf("before %s %v, after %s %v", before, fields, after, req.Fields)
	}
}

func TestExplainNamesTheRuleThatMatchFinds(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	oneOf := func(list ...string) string { return list[rng.IntN(len(list))] }
	hosts := []string{"", "a.example.com", "*.example.com", "*.a.example.com", "example.com"}
	paths := []string{"/", "/a", "/a/b", "/a/b/c", "/b"}
	found := 0
	for range 60 {
		c := new(config.Config)
		for i, h := range hosts[:1+rng.IntN(len(hosts))] {
			c.Listeners = append(c.Listeners, config.Listener{Name: fmt.Sprint("l", i), Port: 80, Protocol: config.ProtocolHTTP, Hostname: h})
		}
		for i := range 12 {
			r := &config.Route{Name: fmt.Sprint("r", i)}
			for j := range 1 + rng.IntN(2) {
				m := config.Match{Path: config.PathMatch{Kind: config.PathKind(oneOf("Prefix", "Exact", "Regex")), Value: oneOf(paths...)}, Method: oneOf("", "", "GET")}
				if rng.IntN(3) == 0 {
					m.Headers = []config.ValueMatch{{Name: "x", Value: oneOf("1", "2")}}
				}
				r.Rules = append(r.Rules, config.Rule{Name: fmt.Sprint(j), Matches: []config.Match{m}})
			}
			c.Routes = append(c.Routes, r)
			l := &c.Listeners[rng.IntN(len(c.Listeners))]
			l.Attached = append(l.Attached, config.Attachment{Route: r.Name, Hostnames: []string{oneOf("", l.Hostname)}})
		}
		p := publish(t, newLive(), c).Ports[0]
		for range 100 {
			host, req := request(oneOf("GET ", "PUT ")+oneOf("a.example.com", "b.example.com", "x.a.example.com", "example.com", "other")+oneOf(paths...), "x: "+oneOf("1", "2", "3"))
			rule, listener, res := p.Match(host, req)
			e := p.Explain(host, req)
			checkAgainstMatch(t, &e, rule, listener, res.Prefix)
			if rule != nil {
				found++
			}
		}
	}
	if found < 1000 {
		t.Fatalf("only %d of 6000 requests matched: the test asks too little", found)
	}
}

func checkAgainstMatch(t *testing.T, e *Explanation, rule *Rule, listener *Listener, prefixLen int) {
	t.Helper()
	var won []Candidate
	for _, c := range e.Candidates {
		if c.Won {
			won = append(won, c)
		}
	}
	chosen := ""
	for _, l := range e.Listeners {
		if l.Chosen {
			chosen = l.Name
		}
	}
	if (listener == nil) != (chosen == "") || listener != nil && listener.Name != chosen {
		t.Fatalf("match says listener %v, explain %q", listener, chosen)
	}
	if rule == nil {
		if len(won) != 0 || e.Rule != nil || e.Outcome.Status != 404 {
			t.Fatalf("match finds no rule, explain says %+v", e)
		}
		return
	}
	if len(won) != 1 || won[0].Route != rule.Route || won[0].Rule != rule.Name || won[0].Listener != listener.Name ||
		e.Rule.Route != rule.Route || e.Rule.Rule != rule.Name || e.Rule.PrefixBytes != prefixLen {
		t.Fatalf("match finds %s/%s, explain says %+v", rule.Route, rule.Name, e)
	}
}
