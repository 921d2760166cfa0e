package blackbox

import (
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"rauta.io/rauta/proxy/exchange"
)

// requestID is the only part of a forwarded head that a test can't know.
var requestID = regexp.MustCompile(`X-Request-Id: [0-9a-f]{32}\r\n`)

// added is what RAUTA puts behind the client's fields for a client at 127.0.0.1.
func added(host string) string {
	forwarded := `Forwarded: for=127.0.0.1;host="` + host + `";proto=http` + "\r\n"
	hostLine := "X-Forwarded-Host: " + host + "\r\n"
	if host == "" {
		forwarded, hostLine = "Forwarded: for=127.0.0.1;proto=http\r\n", ""
	}
	return "X-Forwarded-For: 127.0.0.1\r\nX-Real-IP: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nVia: 1.1 rauta\r\n" +
		"X-Request-Id: ID\r\n" + forwarded + hostLine
}

// TestTheBackEndGetsExactlyTheCanonicalRequest compares every byte.
func TestTheBackEndGetsExactlyTheCanonicalRequest(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		line := func(target, rest string) string { return "GET " + target + " HTTP/1.1\r\nHost: a\r\n" + rest + "\r\n" }
		old := func(fields string) string { return strings.Replace(fields, "Via: 1.1", "Via: 1.0", 1) }
		canonical := func(target string) string { return line(target, added("a")) }
		cases := []struct{ name, raw, want string }{
			{"plain", line("/", ""), canonical("/")},
			{"query", line("/a?b=c&d", ""), canonical("/a?b=c&d")},
			{"empty query", line("/a?", ""), canonical("/a?")},
			{"two question marks", line("/a?b?c", ""), canonical("/a?b?c")},
			{"dot segments", line("/a/./b/../c", ""), canonical("/a/c")},
			{"escaped dot segments", line("/a/%2e/b/%2E%2e/c", ""), canonical("/a/c")},
			{"mixed dot segments", line("/a/b/.%2e/c/%2e./d", ""), canonical("/a/d")},
			{"dot segments over the root", line("/../../etc/passwd", ""), canonical("/etc/passwd")},
			{"dot segment last", line("/a/b/..", ""), canonical("/a/")},
			{"dot segments in the query", line("/a?/../b", ""), canonical("/a?/../b")},
			{"no dot segments", line("/.a/..b/...", ""), canonical("/.a/..b/...")},
			{"two slashes", line("//a//b", ""), canonical("//a//b")},
			{"escaped slash and backslash", line("/a%2fb%5Cc", ""), canonical("/a%2fb%5Cc")},
			{"backslash", line(`/a\b`, ""), canonical(`/a\b`)},
			{"path parameters", line("/a;x=y/..;/b", ""), canonical("/a;x=y/..;/b")},
			{"escaped percent", line("/%252e%252e/a", ""), canonical("/%252e%252e/a")},
			{"escapes stay", line("/%41%7e%C3%A4", ""), canonical("/%41%7e%C3%A4")},
			{"absolute form", "GET http://a/x?y HTTP/1.1\r\nHost: a\r\n\r\n", canonical("/x?y")},
			{"absolute form without a path", "GET http://a?y HTTP/1.1\r\nHost: a\r\n\r\n", canonical("/?y")},
			{"HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\n\r\n", line("/", old(added("a")))},
			{"HTTP/1.0 without a host", "GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.1\r\nHost: \r\n" + old(added("")) + "\r\n"},
			{"host as it came", "GET / HTTP/1.1\r\nHOST: \t A.Example:8080 \r\n\r\n",
				"GET / HTTP/1.1\r\nHost: A.Example:8080\r\n" + added("A.Example:8080") + "\r\n"},
			{"fields in order", line("/", "B: 1\r\na:2\r\nB:\t3 \r\nA: \xff\r\n"), line("/", "B: 1\r\na: 2\r\nB: 3\r\nA: \xff\r\n"+added("a"))},
			{"hop by hop", line("/", "Connection: keep-alive, x-own\r\nKeep-Alive: timeout=5\r\nX-Own: 1\r\nTE: trailers\r\n"+
				"Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic x\r\nProxy-Authenticate: x\r\nTrailer: x\r\n"+
				"Upgrade: x\r\nHTTP2-Settings: x\r\nA: b\r\n"), line("/", "A: b\r\n"+added("a"))},
			{"Connection names what it must not", line("/", "connection: x-forwarded-for, X-REAL-IP, host, Content-Length, authorization, Cookie, close, Forwarded, X-Forwarded-Host, via\r\n"+
				"Authorization: Basic x\r\nCookie: a=b\r\nX-Real-IP: 1.1.1.1\r\n"),
				line("/", "Authorization: Basic x\r\nCookie: a=b\r\n"+added("a"))},
			{"spoofed forwarding", line("/", "X-Forwarded-For: 1.1.1.1\r\nx-forwarded-for: 2.2.2.2\r\nX-Forwarded-Proto: https\r\n"+
				"X-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\nX-Forwarded-Prefix: /evil\r\nX-Forwarded-Ssl: on\r\n"+
				"Forwarded: for=1.1.1.1\r\nX-Real-IP: 1.1.1.1\r\nX-Request-Id: evil\r\nX_Forwarded_For: 1.1.1.1\r\nX-Forwarded_For: 1.1.1.1\r\n"+
				"X.Forwarded.For: 1.1.1.1\r\nX_Real_IP: 1.1.1.1\r\nX-Real_IP: 1.1.1.1\r\nx_request_id: evil\r\n"), canonical("/")},
			{"look-alikes of framing", line("/", "Content_Length: 5\r\nTransfer_Encoding: chunked\r\nTransfer.Encoding: chunked\r\n"), canonical("/")},
			{"expectation", "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi",
				"POST / HTTP/1.1\r\nHost: a\r\n" + added("a") + "Content-Length: 2\r\n\r\nhi"},
			{"POST without a body", "POST / HTTP/1.1\r\nHost: a\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\n" + added("a") + "Content-Length: 0\r\n\r\n"},
			{"zeros in the length", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 002\r\n\r\nhi",
				"POST / HTTP/1.1\r\nHost: a\r\n" + added("a") + "Content-Length: 2\r\n\r\nhi"},
			{"chunked", "PUT / HTTP/1.1\r\nHost: a\r\nTRANSFER-ENCODING: Chunked\r\n\r\n0002;x=\"y\";z\r\nhi\r\n000;q\r\nT: 1\r\n\r\n",
				"PUT / HTTP/1.1\r\nHost: a\r\n" + added("a") + "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"},
			{"GET with a body", line("/", "Content-Length: 2\r\n") + "hi", line("/", added("a")+"Content-Length: 2\r\n") + "hi"},
		}
		b := newRecorder(t)
		r := start(t, []string{b.addr})
		seen := 0
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				cl := r.dial()
				method, _, _ := strings.Cut(c.raw, " ")
				cl.send(c.raw)
				got := cl.receive(method)
				for got.StatusCode == 100 {
					got = cl.receive(method)
				}
				if got.StatusCode != 200 {
					t.Fatal(got.StatusCode)
				}
				all := b.bytes()
				if bytes := requestID.ReplaceAllString(all[seen:], "X-Request-Id: ID\r\n"); bytes != c.want {
					t.Errorf("the back end got\n%q\nwant\n%q", bytes, c.want)
				}
				seen = len(all)
			})
		}
		if n := b.connections(); n > 2 {
			t.Errorf("%d connections to the back end for %d requests one after the other by two workers", n, len(cases))
		}
	})
}

// TestTheClientGetsExactlyTheCanonicalResponse: no hop-by-hop field of the back end, our own framing, a date.
func TestTheClientGetsExactlyTheCanonicalResponse(t *testing.T) {
	const date = "Date: Mon, 23 Nov 2026 00:00:00 GMT\r\n"
	r := start(t, nil)
	for name, c := range map[string]struct{ response, want string }{
		"sized": {"HTTP/1.1 200 Fine\r\nServer: x\r\n" + date + "Content-Length: 2\r\n\r\nok",
			"HTTP/1.1 200 OK\r\nServer: x\r\n" + date + "Content-Length: 2\r\n\r\nok"},
		"hop by hop": {"HTTP/1.1 200 OK\r\nConnection: keep-alive, x-own\r\nKeep-Alive: timeout=5\r\nX-Own: 1\r\nUpgrade: h2c\r\n" +
			"Proxy-Authenticate: x\r\nTrailer: x\r\nTE: x\r\n" + date + "content-length: 002\r\n\r\nok",
			"HTTP/1.1 200 OK\r\n" + date + "Content-Length: 2\r\n\r\nok"},
		"chunked": {"HTTP/1.1 200 OK\r\n" + date + "Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\nT: 1\r\n\r\n",
			"HTTP/1.1 200 OK\r\n" + date + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"},
		"cookies stay apart": {"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\n" + date + "Content-Length: 0\r\n\r\n",
			"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\n" + date + "Content-Length: 0\r\n\r\n"},
		"unknown status": {"HTTP/1.1 299\r\n" + date + "Content-Length: 0\r\n\r\n",
			"HTTP/1.1 299 \r\n" + date + "Content-Length: 0\r\n\r\n"},
		"no content": {"HTTP/1.1 204 No Content\r\n" + date + "Content-Length: 0\r\n\r\n", "HTTP/1.1 204 No Content\r\n" + date + "\r\n"},
		"HTTP/1.0":   {"HTTP/1.0 200 OK\r\n" + date + "Content-Length: 2\r\n\r\nok", "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 2\r\n\r\nok"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBackend(t, answering(c.response))
			r.publish(b.addr)
			cl := r.dial()
			cl.send(get)
			got := make([]byte, len(c.want))
			for n := 0; n < len(got); {
				m, err := cl.r.Read(got[n:])
				if n += m; err != nil {
					t.Fatalf("%v after %q", err, got[:n])
				}
			}
			if string(got) != c.want {
				t.Errorf("the client got\n%q\nwant\n%q", got, c.want)
			}
			// The next bytes must be the next response.
			if next := cl.do(get); next.StatusCode == 0 || cl.r.Buffered() > 0 {
				t.Errorf("%d, %d bytes follow", next.StatusCode, cl.r.Buffered())
			}
		})
	}
}

func TestATrustedPeerIsBelieved(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		b := newBackend(t, answering(ok))
		r := start(t, []string{b.addr}, settings(exchange.Settings{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}))
		r.dial().do(get1("X-Forwarded-For: 8.8.8.8, 192.0.2.7", "X-Forwarded-For: 127.0.0.9", "X-Forwarded-Proto: https", "X-Forwarded-Host: outside",
			"X-Real-IP: 9.9.9.9", "X-Request-Id: theirs", "Forwarded: for=192.0.2.7", "X_Forwarded_For: 1.1.1.1",
			"Connection: X-Forwarded-For, X-Forwarded-Proto, X-Real-IP"))
		head := b.seen()[0]
		for _, want := range []string{
			"X-Forwarded-For: 8.8.8.8, 192.0.2.7, 127.0.0.9, 127.0.0.1\r\n", "X-Real-IP: 192.0.2.7\r\n", "X-Forwarded-Proto: https\r\n",
			"X-Forwarded-Host: outside\r\n", "X-Request-Id: theirs\r\n", "Forwarded: for=192.0.2.7, for=127.0.0.1;host=\"a\";proto=http\r\n",
		} {
			name, _, _ := strings.Cut(want, ":")
			if !strings.Contains(head, "\r\n"+want) || strings.Count(strings.ToLower(head), "\r\n"+strings.ToLower(name)+":") != 1 {
				t.Errorf("want %q once in %q", want, head)
			}
		}
		if strings.Contains(head, "1.1.1.1") || strings.Contains(head, "9.9.9.9") {
			t.Errorf("a spoofed field came through: %q", head)
		}
	})
}

func TestAResponseWithoutADateGetsOne(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		b := newBackend(t, answering(ok))
		got := start(t, []string{b.addr}).dial().do(get)
		date, err := http.ParseTime(got.Header.Get("Date"))
		if err != nil || time.Since(date).Abs() > time.Minute {
			t.Errorf("Date: %q", got.Header.Get("Date"))
		}
		if len(got.Header.Values("Server")) > 0 {
			t.Error("RAUTA claims to be the server of somebody else's response")
		}
	})
}

func TestOwnAnswersSayNothingAboutTheInside(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		c := start(t, nil).dial()
		got := c.do(get)
		if got.StatusCode != 503 || got.Header.Get("Server") != "rauta" || got.Header.Get("Date") == "" || got.Header.Get("Retry-After") == "" {
			t.Errorf("%d %v", got.StatusCode, got.Header)
		}
		if got.body != "503 Service Unavailable\n" {
			t.Errorf("%q", got.body)
		}
	})
}

func TestViaNamesTheVersionThatTheRequestCameIn(t *testing.T) {
	overEveryCombination(t, func(t *testing.T, m combination) {
		b := newBackend(t, answering(ok))
		if m.backend == 2 {
			b = newH2Backend(t, answeringH2)
		}
		m.dial(t, m.start(t, []string{b.addr})).do(t, "GET", "")
		want := [...]string{1: "via: 1.1 rauta", 2: "via: 2.0 rauta"}[m.client]
		if seen := b.seen(); len(seen) != 1 || !strings.Contains(strings.ToLower(seen[0]), want) {
			t.Errorf("the back end got %q, want %q in it", seen, want)
		}
	})
}
