package blackbox

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"rauta.io/rauta/proxy/config"
)

func TestPagesOfOtherOriginsGetWhatTheirPolicyAllows(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		backend := handled(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Access-Control-Allow-Origin", "https://set.by.back.end")
			io.WriteString(w, "secret")
		})
		r := start(t, []string{backend}, filters(config.Filter{CORS: &config.CORS{
			AllowOrigins: []string{"https://*.good.example"}, AllowMethods: []string{"PUT"}, AllowHeaders: []string{"*"}, AllowCredentials: true,
		}}))
		twice(t, func(t *testing.T, client *http.Client) {
			ask := func(method, origin string) (*http.Response, string) {
				req, err := http.NewRequest(method, "http://"+r.addr, nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Origin", origin)
				if method == "OPTIONS" {
					req.Header.Set("Access-Control-Request-Method", "PUT")
					req.Header.Set("Access-Control-Request-Headers", "authorization")
				}
				resp, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				body, err := io.ReadAll(resp.Body)
				if err != nil {
					t.Fatal(err)
				}
				return resp, string(body)
			}
			for _, c := range []struct {
				method, origin string
				status         int
				body, want     string
			}{
				{"OPTIONS", "https://a.good.example", 204, "", "https://a.good.example true PUT authorization 5"},
				{"OPTIONS", "https://bad.example", 204, "", "    "},
				{"PUT", "https://a.good.example", 200, "secret", "https://a.good.example true   "},
				{"PUT", "https://bad.example", 200, "secret", "    "},
			} {
				resp, body := ask(c.method, c.origin)
				var got []string
				for _, name := range []string{"Origin", "Credentials", "Methods", "Headers"} {
					got = append(got, strings.Join(resp.Header["Access-Control-Allow-"+name], "+"))
				}
				got = append(got, resp.Header.Get("Access-Control-Max-Age"))
				if s := strings.Join(got, " "); resp.StatusCode != c.status || body != c.body || s != c.want {
					t.Errorf("%s from %s: %d %q %q, want %d %q %q", c.method, c.origin, resp.StatusCode, body, s, c.status, c.body, c.want)
				}
				if vary := resp.Header.Get("Vary"); vary != "Origin" {
					t.Errorf("%s from %s: Vary is %q", c.method, c.origin, vary)
				}
			}
		})
	})
}

func TestAPreflightHasNoBodyAndTheConnectionGoesOn(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		r := start(t, []string{hello(t)}, filters(config.Filter{CORS: &config.CORS{AllowOrigins: []string{"*"}}}))
		c := r.dial()
		for range 2 {
			got := c.do("OPTIONS / HTTP/1.1\r\nHost: a\r\nOrigin: https://b.example\r\nAccess-Control-Request-Method: GET\r\n\r\n")
			if got.StatusCode != 204 || got.body != "" || got.Header.Get("Content-Length") != "" || got.Header.Get("Content-Type") != "" {
				t.Fatalf("%d %v %q", got.StatusCode, got.Header, got.body)
			}
		}
		if got := c.do(get); got.StatusCode != 200 || got.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Fatalf("%d %v", got.StatusCode, got.Header)
		}
	})
}

func TestPagesOfOtherOriginsMayReadWhyARequestFailed(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		r := start(t, nil, filters(config.Filter{CORS: &config.CORS{AllowOrigins: []string{"https://b.example"}}}))
		got := r.dial().do("GET / HTTP/1.1\r\nHost: a\r\nOrigin: https://b.example\r\n\r\n")
		if got.StatusCode != 503 || got.Header.Get("Access-Control-Allow-Origin") != "https://b.example" {
			t.Fatalf("%d %v", got.StatusCode, got.Header)
		}
	})
}
