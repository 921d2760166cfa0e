package filter

import (
	"testing"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/message"
)

// cross runs a request through a policy; it returns the fields of the answer to a preflight, or those of a response of a
// back end that has the given fields.
func cross(t *testing.T, p config.CORS, method string, requestFields, responseFields []string) (fields, reason string) {
	t.Helper()
	req := request("h/", requestFields...)
	req.Method, req.MethodID = req.StoreString(method), message.LookupMethod([]byte(method))
	var ctx Context
	a := compile(t, config.Filter{CORS: &p}).Request(req, &ctx)
	if a != nil {
		if a.Status != 204 || !a.Preflight {
			t.Fatalf("%+v", a)
		}
		responseFields, reason = nil, a.Reason
	}
	h := &request("h/", responseFields...).Head
	ctx.CrossOrigin.Response(req, h)
	if a != nil {
		ctx.CrossOrigin.Preflight(req, h)
	}
	return lines(h), reason
}

func TestAnOriginIsComparedBySchemeHostAndPort(t *testing.T) {
	p := config.CORS{AllowOrigins: []string{"https://www.foo.com", "https://*.bar.com", "http://*:8080", "http://[::1]:3000"}}
	// The last pattern can't be configured; it is here for the brackets.
	compiled := newCORS(&p)
	for origin, want := range map[string]bool{
		"https://www.foo.com":           true,
		"HTTPS://WWW.Foo.com":           true,
		"https://www.foo.com:443":       true,
		"https://www.foo.com:8443":      false,
		"http://www.foo.com":            false,
		"https://foo.com":               false,
		"https://evilwww.foo.com":       false,
		"https://www.foo.com.evil":      false,
		"https://www.bar.com":           true,
		"https://xpto.www.bar.com":      true,
		"https://bar.com":               false,
		"https://.bar.com":              false,
		"https://evilbar.com":           false,
		"http://anything.example:8080":  true,
		"http://anything.example":       false,
		"https://anything.example:8080": false,
		"http://[::1]:3000":             true,
		"http://[::1]":                  false,
		"null":                          false,
		"":                              false,
		"https://":                      false,
		"https://www.foo.com:":          false,
		"https://evil.example/www.foo":  false,
	} {
		if got := compiled.allows([]byte(origin)); got != want {
			t.Errorf("%q is allowed: %t, want %t", origin, got, want)
		}
	}
}

func TestPreflightsAreAnsweredByThePolicy(t *testing.T) {
	listed := config.CORS{
		AllowOrigins: []string{"https://www.foo.com"}, AllowMethods: []string{"GET", "OPTIONS"},
		AllowHeaders: []string{"x-header-1", "x-header-2"}, ExposeHeaders: []string{"x-header-3"},
		AllowCredentials: true, MaxAge: 3600,
	}
	open := config.CORS{AllowOrigins: []string{"*"}, AllowMethods: []string{"*"}, AllowHeaders: []string{"*"}}
	openTrusting := open
	openTrusting.AllowCredentials = true
	ask := func(origin string) []string {
		return []string{"Origin: " + origin, "Access-Control-Request-Method: PUT", "Access-Control-Request-Headers: authorization, x-a"}
	}
	for _, c := range []struct {
		name         string
		policy       config.CORS
		request      []string
		want, reason string
	}{
		{"listed", listed, ask("https://www.foo.com"), "Vary: Origin|Access-Control-Allow-Origin: https://www.foo.com|" +
			"Access-Control-Allow-Credentials: true|Access-Control-Expose-Headers: x-header-3|Access-Control-Allow-Methods: GET, OPTIONS|" +
			"Access-Control-Allow-Headers: x-header-1, x-header-2|Access-Control-Max-Age: 3600", "cors_preflight"},
		{"another origin", listed, ask("https://foobar.com"), "Vary: Origin", "cors_preflight_denied"},
		{"no policy at all", config.CORS{}, ask("https://foobar.com"), "Vary: Origin", "cors_preflight_denied"},
		{"anything", open, ask("https://b.example:81"), "Access-Control-Allow-Origin: *|Access-Control-Allow-Methods: PUT|" +
			"Access-Control-Allow-Headers: authorization, x-a|Access-Control-Max-Age: 5", "cors_preflight"},
		{"anything with credentials", openTrusting, ask("https://b.example"), "Vary: Origin|Access-Control-Allow-Origin: https://b.example|" +
			"Access-Control-Allow-Credentials: true|Access-Control-Allow-Methods: PUT|Access-Control-Allow-Headers: authorization, x-a|" +
			"Access-Control-Max-Age: 5", "cors_preflight"},
		{"the opaque origin", open, ask("null"), "Access-Control-Allow-Origin: *|Access-Control-Allow-Methods: PUT|" +
			"Access-Control-Allow-Headers: authorization, x-a|Access-Control-Max-Age: 5", "cors_preflight"},
		{"the opaque origin with credentials", openTrusting, ask("null"), "Vary: Origin", "cors_preflight_denied"},
		{"no fields are asked for", open, ask("https://b.example")[:2], "Access-Control-Allow-Origin: *|Access-Control-Allow-Methods: PUT|" +
			"Access-Control-Max-Age: 5", "cors_preflight"},
	} {
		if got, reason := cross(t, c.policy, "OPTIONS", c.request, nil); got != c.want || reason != c.reason {
			t.Errorf("%s: %s, %s; want %s, %s", c.name, got, reason, c.want, c.reason)
		}
	}
}

func TestResponsesOfBackEndsAreMarkedForOriginsThatMayReadThem(t *testing.T) {
	policy := config.CORS{AllowOrigins: []string{"https://a.example"}, ExposeHeaders: []string{"X-A", "X-B"}, AllowMethods: []string{"PUT"}}
	anyone := config.CORS{AllowOrigins: []string{"*"}, ExposeHeaders: []string{"*"}}
	own := []string{"access-control-allow-origin: *", "Access-Control-Max-Age: 1", "keep: k"}
	for _, c := range []struct {
		name           string
		policy         config.CORS
		method, origin string
		response       []string
		want           string
	}{
		{"allowed", policy, "GET", "https://a.example", own, "keep: k|Vary: Origin|Access-Control-Allow-Origin: https://a.example|" +
			"Access-Control-Expose-Headers: X-A, X-B"},
		{"not allowed", policy, "GET", "https://b.example", own, "keep: k|Vary: Origin"},
		{"not cross-origin", policy, "GET", "", own, "keep: k|Vary: Origin"},
		{"OPTIONS that is no preflight", policy, "OPTIONS", "https://b.example", own, "keep: k|Vary: Origin"},
		{"the response varies already", policy, "GET", "", []string{"Vary: Accept", "Vary: Cookie , ORIGIN"}, "Vary: Accept|Vary: Cookie , ORIGIN"},
		{"it varies by something else", policy, "GET", "", []string{"Vary: Accept, Originally"}, "Vary: Accept, Originally|Vary: Origin"},
		{"it varies by everything", policy, "GET", "", []string{"Vary: *"}, "Vary: *"},
		{"anyone", anyone, "GET", "https://b.example", own, "keep: k|Access-Control-Allow-Origin: *|Access-Control-Expose-Headers: *"},
	} {
		var fields []string
		if c.origin != "" {
			fields = []string{"Origin: " + c.origin}
		}
		if got, reason := cross(t, c.policy, c.method, fields, c.response); got != c.want || reason != "" {
			t.Errorf("%s: %s, %s; want %s", c.name, got, reason, c.want)
		}
	}
}

func TestWithoutAPolicyNothingIsSaid(t *testing.T) {
	h := &request("h/", "Access-Control-Allow-Origin: *").Head
	if new(CrossOrigin).Response(request("h/"), h); lines(h) != "Access-Control-Allow-Origin: *" {
		t.Fatal(lines(h))
	}
}

func TestAPolicyDoesNotAllocate(t *testing.T) {
	c := compile(t, config.Filter{CORS: &config.CORS{
		AllowOrigins: []string{"https://b.example", "https://*.a.example"}, AllowCredentials: true, AllowMethods: []string{"*"},
	}})
	req, resp := new(message.Request), new(message.Response)
	ctx := new(Context)
	run := func() {
		req.Reset()
		resp.Reset()
		req.MethodID = message.MethodOptions
		req.Add("Origin", "https://WWW.a.example", message.Origin)
		req.Add("Access-Control-Request-Method", "PUT", message.Unknown)
		resp.Add("Access-Control-Allow-Origin", "*", message.Unknown)
		*ctx = Context{}
		if a := c.Request(req, ctx); a == nil || !ctx.CrossOrigin.allowed {
			t.Fatalf("%+v", a)
		}
		ctx.CrossOrigin.Response(req, &resp.Head)
		ctx.CrossOrigin.Preflight(req, &resp.Head)
	}
	run()
	if n := testing.AllocsPerRun(100, run); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}
