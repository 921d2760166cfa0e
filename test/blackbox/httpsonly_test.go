package blackbox

import (
	"net/http"
	"net/netip"
	"testing"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/exchange"
)

const policy = "max-age=31536000; includeSubDomains"

func filters(list ...config.Filter) option {
	return rule(func(r *config.Rule) { r.Filters = list })
}

func TestResponsesOverHTTPSTellBrowsersToStayThere(t *testing.T) {
	hsts := config.Filter{HSTS: &config.HSTS{Value: policy}}
	backend := handled(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Strict-Transport-Security", "max-age=1") })
	own := config.Filter{Answer: &config.Answer{Status: 403, Reason: "test"}}
	for what, c := range map[string]struct {
		status  int
		filters []config.Filter
	}{
		"of the back end": {200, []config.Filter{hsts}}, "of RAUTA": {403, []config.Filter{hsts, own}},
	} {
		r := startTLS(t, backend, filters(c.filters...))
		for _, http2 := range []bool{false, true} {
			resp, err := r.as(http2, nil).Get("https://" + r.addr)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if got := resp.Header["Strict-Transport-Security"]; resp.StatusCode != c.status || len(got) != 1 || got[0] != policy {
				t.Errorf("a response %s: %d %q", what, resp.StatusCode, got)
			}
		}
		plain := start(t, []string{backend}, filters(c.filters...))
		resp, err := http.Get("http://" + plain.addr)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := resp.Header.Get("Strict-Transport-Security"); got == policy {
			t.Errorf("a response %s over plain HTTP: %q", what, got)
		}
	}
}

func TestRequestsOverPlainHTTPAreSentToHTTPS(t *testing.T) {
	secure := filters(config.Filter{RequireHTTPS: &config.RequireHTTPS{Status: 308, Port: 8443}})
	for _, c := range []struct {
		what, proto, location string
		settings              exchange.Settings
	}{
		{"a client", "", "https://a.test:8443/x?y=1", exchange.Settings{}},
		{"a client that lies", "https", "https://a.test:8443/x?y=1", exchange.Settings{}},
		{"a trusted proxy's client over HTTPS", "https", "", exchange.Settings{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}},
		{"a trusted proxy's client over HTTP", "http", "https://a.test:8443/x?y=1", exchange.Settings{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}},
	} {
		r := start(t, []string{hello(t)}, secure, settings(c.settings))
		req, err := http.NewRequest("POST", "http://"+r.addr+"/x?y=1", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "a.test:80"
		if c.proto != "" {
			req.Header.Set("X-Forwarded-Proto", c.proto)
		}
		resp, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		status := 308
		if c.location == "" {
			status = 200
		}
		if resp.StatusCode != status || resp.Header.Get("Location") != c.location {
			t.Errorf("%s: %d %q", c.what, resp.StatusCode, resp.Header.Get("Location"))
		}
	}
	r := startTLS(t, hello(t), secure)
	resp, err := r.as(true, nil).Get("https://" + r.addr)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("over HTTPS: %v, %v", resp, err)
	}
	resp.Body.Close()
}
