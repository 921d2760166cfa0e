package blackbox

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"rauta.io/rauta/fastpath"
)

func TestABadRequestLineIsRefused(t *testing.T) {
	line := func(s string) string { return s + "\r\nHost: a\r\n\r\n" }
	refuse(t, []attack{
		{"line feed in the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n", 400},
		{"only line feeds", "GET / HTTP/1.1\nHost: a\n\n", 400},
		{"carriage return in the request line", "GET /\rx HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		{"line feed first", "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		{"two empty lines first", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		{"space first", line(" GET / HTTP/1.1"), 400},
		{"two spaces", line("GET  / HTTP/1.1"), 400},
		{"two spaces before the version", line("GET /  HTTP/1.1"), 400},
		{"tab", line("GET\t/ HTTP/1.1"), 400},
		{"space after the version", line("GET / HTTP/1.1 "), 400},
		{"no version", line("GET /"), 400},
		{"no target", line("GET HTTP/1.1"), 400},
		{"version in lower case", line("GET / http/1.1"), 400},
		{"long version", line("GET / HTTP/1.10"), 400},
		{"HTTP/2.0", line("GET / HTTP/2.0"), 505},
		{"HTTP/0.9", line("GET / HTTP/0.9"), 505},
		{"HTTP/1.2", line("GET / HTTP/1.2"), 505},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400},
		{"method with a delimiter", line("GE(T / HTTP/1.1"), 400},
		{"method with a control character", line("GE\x00T / HTTP/1.1"), 400},
		{"method too long", line(strings.Repeat("A", 33) + " / HTTP/1.1"), 400},
		{"asterisk for GET", line("GET * HTTP/1.1"), 400},
		{"authority form", line("GET a:80 HTTP/1.1"), 400},
		{"relative", line("GET a HTTP/1.1"), 400},
		{"query only", line("GET ?a HTTP/1.1"), 400},
		{"CONNECT", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 405},
		{"CONNECT with a path", "CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", 405},
		{"other scheme", line("GET ftp://a/ HTTP/1.1"), 400},
		{"absolute form for another host", line("GET http://b/ HTTP/1.1"), 400},
		{"absolute form with another port", line("GET http://a:81/ HTTP/1.1"), 400},
		{"absolute form with userinfo", line("GET http://u@a/ HTTP/1.1"), 400},
		{"absolute form without a host", line("GET http:///x HTTP/1.1"), 400},
		{"fragment", line("GET /a#b HTTP/1.1"), 400},
		{"fragment in the query", line("GET /a?b#c HTTP/1.1"), 400},
		{"not ASCII", line("GET /\xc3\xa4 HTTP/1.1"), 400},
		{"not ASCII in the query", line("GET /?\xc3\xa4 HTTP/1.1"), 400},
		{"zero byte", line("GET /\x00 HTTP/1.1"), 400},
		{"DEL", line("GET /\x7f HTTP/1.1"), 400},
		{"escaped zero byte", line("GET /a%00b HTTP/1.1"), 400},
		{"cut escape", line("GET /a%2 HTTP/1.1"), 400},
		{"bad escape", line("GET /a%zz HTTP/1.1"), 400},
		{"unicode escape", line("GET /a%u002f HTTP/1.1"), 400},
	})
}

func TestABadFieldLineIsRefused(t *testing.T) {
	refuse(t, []attack{
		{"line feed", "GET / HTTP/1.1\r\nHost: a\nA: b\r\n\r\n", 400},
		{"line feed at the end", "GET / HTTP/1.1\r\nHost: a\r\n\n", 400},
		{"carriage return", get1("A: b\rc"), 400},
		{"carriage return at the end", get1("A: b\r"), 400},
		{"folded", get1("A: b\r\n c"), 400},
		{"folded with a tab", get1("A: b\r\n\tc"), 400},
		{"first line folded", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400},
		{"first line of a space", "GET / HTTP/1.1\r\n \r\nHost: a\r\n\r\n", 400},
		{"space before the colon", get1("A : b"), 400},
		{"tab before the colon", get1("A\t: b"), 400},
		{"no colon", get1("Abc"), 400},
		{"no name", get1(": b"), 400},
		{"zero byte", get1("A: b\x00c"), 400},
		{"control character", get1("A: b\x01c"), 400},
		{"vertical tab", get1("A: b\x0bc"), 400},
		{"escape", get1("A: b\x1b[2J"), 400},
		{"DEL", get1("A: b\x7fc"), 400},
		{"name with a space", get1("A b: c"), 400},
		{"name with a delimiter", get1("A(b): c"), 400},
		{"name with a slash", get1("A/b: c"), 400},
		{"name not ASCII", get1("\xc3\xa4: c"), 400},
		{"name with a zero byte", get1("A\x00: c"), 400},
		{"request line again", "GET / HTTP/1.1\r\nGET /canary HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		{"expectation that is unknown", get1("Expect: 200-ok"), 417},
		{"expectation in disguise", post("", "Expect: y 100-continue", "Content-Length: 0"), 417},
		{"expectation twice", post("a", "Expect: 100-continue", "Expect: 100-continue", "Content-Length: 1"), 417},
		{"list of expectations", post("a", "Expect: 100-continue, x", "Content-Length: 1"), 417},
		{"many options of Connection", get1("Connection: " + strings.Repeat("x,", 100)), 400},
	})
}

func TestABadHostIsRefused(t *testing.T) {
	attacks := []attack{
		{"none", "GET / HTTP/1.1\r\nA: b\r\n\r\n", 400},
		{"none with the absolute form", "GET http://a/ HTTP/1.1\r\nA: b\r\n\r\n", 400},
		{"two", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
		{"two the same", "GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", 400},
		{"two with the absolute form", "GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
		{"space before the colon", "GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400},
	}
	for name, host := range map[string]string{
		"empty": "", "list": "a,b", "userinfo": "user@a", "path": "a/b", "space": "a b", "backslash": `a\b`, "query": "a?b",
		"fragment": "a#b", "port with letters": "a:x", "port zero": "a:0", "port too large": "a:65536", "two ports": "a:1:2",
		"empty port": "a:", "zone": "[::1%25x]", "no end of brackets": "[::1", "not an address": "[a]", "escape": "a%00",
		"port only": ":80", "not ASCII": "\xc3\xa4", "empty label": "a..b", "leading dot": ".a", "semicolon": "a;b",
		"too long": strings.Repeat("a", 260), "quote": `a"b`, "IPv6 without brackets": "::1", "scheme": "http://a",
		"IPv4 in brackets": "[127.0.0.1]", "bytes after brackets": "[::1]x", "dollar": "${a}",
	} {
		attacks = append(attacks, attack{name, "GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n", 400})
	}
	refuse(t, attacks)
}

func TestTooManyCookiesAreRefused(t *testing.T) {
	crumbs := strings.TrimSuffix(strings.Repeat("a=b; ", 201), "; ")
	var lines []string
	for range 67 {
		lines = append(lines, "Cookie: a=b; c=d; e=f")
	}
	refuse(t, []attack{
		{"in one line", get1("Cookie: " + crumbs), 431},
		{"in many lines", get1(lines...), 431},
	})
}

func TestStrictNamesRefuseLookAlikes(t *testing.T) {
	strict := limits(func(l *fastpath.Limits) { l.Request.StrictNames = true })
	var attacks []attack
	for _, name := range []string{
		"Content_Length", "Transfer_Encoding", "X_Forwarded_For", "X-Forwarded_For", "X.Forwarded.For", "X_Real_IP",
		"Transfer.Encoding", "x_anything",
	} {
		attacks = append(attacks, attack{name, get1(name + ": 1"), 400})
	}
	refuse(t, attacks, strict)
}

// TestLeniencyHasOneReading lists what is not quite the grammar and still accepted, because it can be read in one way.
func TestLeniencyHasOneReading(t *testing.T) {
	b := newRecorder(t)
	r := start(t, []string{b.addr})
	for name, raw := range map[string]string{
		"one empty line first":       "\r\n" + get,
		"no space after the colon":   "GET / HTTP/1.1\r\nHost:a\r\n\r\n",
		"tabs around a value":        "GET / HTTP/1.1\r\nHost:\t a\t \r\n\r\n",
		"bytes above ASCII in value": get1("A: \xff\xfe\x80"),
		"empty value":                get1("A:"),
		"absolute form":              "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
		"absolute form, other case":  "GET HTTP://A/ HTTP/1.1\r\nHost: a\r\n\r\n",
		"HTTP/1.0 without a host":    "GET / HTTP/1.0\r\n\r\n",
		"HTTP/1.0 with an expect":    "GET / HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
		"expect without a body":      get1("Expect: 100-Continue"),
		"IPv6":                       "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
		"unknown method":             "PURGE / HTTP/1.1\r\nHost: a\r\n\r\n",
		"asterisk":                   "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
		"root dot in the host":       "GET / HTTP/1.1\r\nHost: a.example.:80\r\n\r\n",
		"stray percent in the query": "GET /?100% HTTP/1.1\r\nHost: a\r\n\r\n",
		"look-alikes":                get1("X_Forwarded_For: 1.2.3.4", "Content_Length: 5"),
	} {
		t.Run(name, func(t *testing.T) {
			before := len(b.served())
			for _, cut := range splits(len(raw)) {
				c := r.dial()
				c.sendSplit(raw, cut)
				if got := c.receive("GET"); got.StatusCode != 200 && !strings.HasPrefix(raw, "OPTIONS *") {
					t.Fatalf("cut at %d: %d", cut, got.StatusCode)
				}
			}
			if n := len(b.served()) - before; n != len(splits(len(raw))) && !strings.HasPrefix(raw, "OPTIONS *") {
				t.Errorf("%d requests were served, want %d", n, len(splits(len(raw))))
			}
		})
	}
}

// TestNothingAfterAnErrorIsServed: the answers to what came before a bad request arrive, in order, then the connection
// ends, whatever follows in the pipeline.
func TestNothingAfterAnErrorIsServed(t *testing.T) {
	b := newRecorder(t)
	r := start(t, []string{b.addr})
	for _, good := range []int{0, 1, 3, 100} {
		c := r.dial()
		go io.WriteString(c.TCPConn, strings.Repeat(get, good)+get1("Content-Length: x")+strings.Repeat(canary, 50))
		for i := range good {
			if got := c.receive("GET"); got.StatusCode != 200 {
				t.Fatalf("response %d is %d", i, got.StatusCode)
			}
		}
		if got := c.receive("GET"); got.StatusCode != 400 {
			t.Fatalf("%d, want 400", got.StatusCode)
		}
		if rest, closed := c.closedByPeer(); !closed || len(rest) > 0 {
			t.Errorf("closed=%v, after the answer came %q", closed, rest)
		}
	}
	if strings.Contains(b.bytes(), "canary") {
		t.Error("the back end got what follows a bad request")
	}
}

// TestOneRequestOfAConnectionIsUnderWayAtATime: pipelined requests are passed on one by one.
func TestOneRequestOfAConnectionIsUnderWayAtATime(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		asked, answer := make(chan string, 10), make(chan bool)
		b := newBackend(t, func(c *conn) {
			for {
				head := c.head()
				if head == "" {
					return
				}
				asked <- strings.Fields(head)[1]
				<-answer
				c.write(ok)
			}
		})
		c := start(t, []string{b.addr}).dial()
		for i := range 3 {
			c.send(fmt.Sprintf("GET /%d HTTP/1.1\r\nHost: a\r\n\r\n", i))
		}
		for i := range 3 {
			if got := <-asked; got != fmt.Sprintf("/%d", i) {
				t.Fatalf("request %d is for %s", i, got)
			}
			if n := len(b.seen()); n != i+1 {
				t.Fatalf("%d requests are under way at once", n-i)
			}
			answer <- true
			if got := c.receive("GET"); got.body != "ok" {
				t.Fatal(got.body)
			}
		}
	})
}
