package blackbox

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"rauta.io/rauta/proxy/config"
)

// twice asks with HTTP/1.1 and with HTTP/2; both do what f says.
func twice(t *testing.T, f func(t *testing.T, client *http.Client)) {
	for name, http2 := range map[string]bool{"HTTP1": false, "HTTP2": true} {
		t.Run(name, func(t *testing.T) {
			var protocols http.Protocols
			protocols.SetHTTP1(!http2)
			protocols.SetUnencryptedHTTP2(http2)
			client := &http.Client{Transport: &http.Transport{Protocols: &protocols}, Timeout: patience}
			defer client.CloseIdleConnections()
			f(t, client)
		})
	}
}

func TestAResponseThatTheRuleRetriesIsNotSeenByTheClient(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		var requests, failures atomic.Int64
		backend := handled(t, func(w http.ResponseWriter, r *http.Request) {
			requests.Add(1)
			body, _ := io.ReadAll(r.Body)
			if failures.Add(-1) >= 0 {
				http.Error(w, strings.Repeat("sorry ", 1000), http.StatusServiceUnavailable)
				return
			}
			w.Write(body)
		})
		r := start(t, []string{backend}, rule(func(r *config.Rule) {
			r.Retry = &config.Retry{Attempts: 3, Codes: []int{503}, Backoff: config.Duration(time.Millisecond)}
		}))
		twice(t, func(t *testing.T, client *http.Client) {
			for _, c := range []struct{ failures, status, requests int64 }{{0, 200, 1}, {2, 200, 3}, {3, 200, 4}, {4, 503, 4}} {
				requests.Store(0)
				failures.Store(c.failures)
				resp, err := client.Post("http://"+r.addr, "text/plain", strings.NewReader(strings.Repeat("body ", 2000)))
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || resp.StatusCode != int(c.status) || requests.Load() != c.requests {
					t.Errorf("%d failures: status %d after %d requests, %v; want %d after %d", c.failures, resp.StatusCode, requests.Load(), err, c.status, c.requests)
				}
				if c.status == 200 && len(body) != 10000 {
					t.Errorf("%d failures: the last attempt got %d bytes of the body", c.failures, len(body))
				}
			}
		})
	})
}

func TestARetriedResponseDoesNotCostItsConnection(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		b := newBackend(t, func(c *conn) {
			for n := 0; c.head() != ""; n++ {
				if n%2 == 0 {
					c.write("HTTP/1.1 500 Sorry\r\nContent-Length: 5\r\n\r\nsorry")
				} else {
					c.write(ok)
				}
			}
		})
		r := start(t, []string{b.addr}, rule(func(r *config.Rule) { r.Retry = &config.Retry{Attempts: 1, Codes: []int{500}} }))
		c := r.dial()
		for range 5 {
			if got := c.do(get); got.StatusCode != 200 || got.body != "ok" {
				t.Fatalf("%d %q", got.StatusCode, got.body)
			}
		}
		if n := b.connections(); n != 1 {
			t.Errorf("%d connections to the back end, want 1", n)
		}
	})
}

func TestRetriesEndWithTheTimeoutOfTheRequest(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		b := newBackend(t, answering("HTTP/1.1 500 Sorry\r\nContent-Length: 5\r\n\r\nsorry"))
		r := start(t, []string{b.addr}, rule(func(r *config.Rule) {
			r.Retry = &config.Retry{Attempts: 100, Codes: []int{500}, Backoff: config.Duration(50 * time.Millisecond)}
			r.Timeouts.Request = config.Duration(200 * time.Millisecond)
		}))
		c := r.dial()
		for range 2 {
			if got := c.do(get); got.StatusCode != 504 {
				t.Fatalf("%d, want 504", got.StatusCode)
			}
		}
	})
}

func TestAnErrorPageWithoutAnEndIsGivenUpForTheNextAttempt(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		b := newBackend(t, func(c *conn) {
			c.head()
			if c.n > 0 {
				c.write(ok)
				return
			}
			c.write("HTTP/1.1 500 Sorry\r\nTransfer-Encoding: chunked\r\n\r\n")
			for {
				if _, err := io.WriteString(c, "5\r\nsorry\r\n"); err != nil {
					return
				}
			}
		})
		r := start(t, []string{b.addr}, rule(func(r *config.Rule) { r.Retry = &config.Retry{Attempts: 1, Codes: []int{500}} }))
		if got := r.dial().do(get); got.StatusCode != 200 || got.body != "ok" {
			t.Fatalf("%d %q", got.StatusCode, got.body)
		}
	})
}
