package blackbox

import (
	"io"
	"strings"
	"testing"
)

// TestABadResponseIsA502AndItsConnectionIsNotUsedAgain covers what a back end must not send (attack row 34). Every one
// ends with a whole second response, which must never be delivered to anybody.
func TestABadResponseIsA502AndItsConnectionIsNotUsedAgain(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		const poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
		r := start(t, nil)
		head := func(lines ...string) string {
			return "HTTP/1.1 200 OK\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n"
		}
		for name, response := range map[string]string{
			"both framings":                head("Content-Length: 2", chunkedLine) + "0\r\n\r\n",
			"length twice":                 head("Content-Length: 2", "Content-Length: 2") + "ok",
			"two lengths":                  head("Content-Length: 2", "Content-Length: 3") + "ok",
			"list of lengths":              head("Content-Length: 2, 2") + "ok",
			"negative length":              head("Content-Length: -2") + "ok",
			"signed length":                head("Content-Length: +2") + "ok",
			"length with a letter":         head("Content-Length: 2b") + "ok",
			"empty length":                 head("Content-Length:") + "ok",
			"unknown coding":               head("Transfer-Encoding: gzip, chunked") + "0\r\n\r\n",
			"coding twice":                 head(chunkedLine, chunkedLine) + "0\r\n\r\n",
			"coding in HTTP/1.0":           "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
			"line feed in a field":         "HTTP/1.1 200 OK\r\nA: b\nContent-Length: 2\r\n\r\nok",
			"line feeds only":              "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
			"carriage return in a field":   head("A: b\rc", "Content-Length: 2") + "ok",
			"zero byte in a field":         head("A: b\x00c", "Content-Length: 2") + "ok",
			"control character in a field": head("A: b\x01c", "Content-Length: 2") + "ok",
			"folded field":                 head("A: b\r\n c", "Content-Length: 2") + "ok",
			"space before the colon":       head("Content-Length : 2") + "ok",
			"field without a colon":        head("Abc", "Content-Length: 2") + "ok",
			"field without a name":         head(": b", "Content-Length: 2") + "ok",
			"status with two digits":       "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok",
			"status with four digits":      "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok",
			"status below 100":             "HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok",
			"status with a letter":         "HTTP/1.1 2o0 OK\r\nContent-Length: 2\r\n\r\nok",
			"other protocol":               "ICY 200 OK\r\nContent-Length: 2\r\n\r\nok",
			"HTTP/2":                       "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
			"no version":                   "200 OK\r\nContent-Length: 2\r\n\r\nok",
			"empty line first":             "\r\n" + ok,
			"switch that nobody asked for": "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
			"too many fields":              head(strings.TrimSuffix(strings.Repeat("A: b\r\n", 101), "\r\n"), "Content-Length: 2") + "ok",
			"more than 32 interim ones":    strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 33) + ok,
			"more than 64 KiB of head":     head("A: "+strings.Repeat("b", 64<<10), "Content-Length: 2") + "ok",
			"more than 64 KiB in a line":   "HTTP/1.1 200 " + strings.Repeat("b", 64<<10) + "\r\n\r\n",
			"half a head, then the end":    "HTTP/1.1 200 OK\r\nContent-Le",
			"an interim one, then the end": "HTTP/1.1 100 Continue\r\n\r\n",
			"interim one with a body":      "HTTP/1.1 103 Early Hints\r\nContent-Length: 2\r\n\r\nok" + ok,
			"garbage":                      strings.Repeat("\xff\x00garbage", 100),
			"a request instead":            get,
			"TLS alert":                    "\x15\x03\x01\x00\x02\x02\x46",
			"many Connection options":      head("Connection: "+strings.Repeat("x,", 100), "Content-Length: 2") + "ok",
		} {
			t.Run(name, func(t *testing.T) {
				b := newBackend(t, func(c *conn) {
					c.head()
					c.write(response)
					if !strings.Contains(name, "then the end") {
						c.write(poison)
						io.Copy(io.Discard, c.r)
					}
				})
				r.publish(b.addr)
				c := r.dial()
				for i := range 2 {
					c.send(post("", "Content-Length: 0"))
					got := c.receive("POST")
					for got.StatusCode == 103 {
						got = c.receive("POST")
					}
					if got.StatusCode != 502 || strings.Contains(got.body, "poison") {
						t.Fatalf("request %d got %d %q, want 502", i, got.StatusCode, got.body)
					}
					if n := b.connections(); n != i+1 {
						t.Fatalf("%d connections to the back end after %d requests: a bad one was used again", n, i+1)
					}
				}
			})
		}
	})
}

// TestABadResponseBodyIsSeenAsTruncated: the head is on its way already, so all that is left is to cut the body off.
func TestABadResponseBodyIsSeenAsTruncated(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		r := start(t, nil)
		const head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
		for name, rest := range map[string]string{
			"bad size":              "x\r\n",
			"longer than its size":  "2\r\nxyz\r\n0\r\n\r\n",
			"line feed":             "2\nxy\r\n0\r\n\r\n",
			"bad trailer":           "0\r\nA\r\n\r\n",
			"too large an overhead": strings.Repeat("1;"+strings.Repeat("a", 200)+"\r\nx\r\n", 200) + "0\r\n\r\n",
		} {
			t.Run(name, func(t *testing.T) {
				b := newBackend(t, func(c *conn) {
					c.head()
					c.write(head + rest + ok)
					io.Copy(io.Discard, c.r)
				})
				r.publish(b.addr)
				c := r.dial()
				c.send(get)
				if raw, closed := c.closedByPeer(); !closed || strings.Contains(string(raw), "\r\n0\r\n") || strings.Contains(string(raw), "ok") {
					t.Errorf("closed=%v, the client sees %q", closed, raw)
				}
			})
		}
	})
}

// TestAResponseThatMustNotHaveABodyDoesNotShiftTheNext: the bytes come after a pause, when the connection could be in
// use for somebody else already.
func TestAResponseThatMustNotHaveABodyDoesNotShiftTheNext(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		const poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
		r := start(t, nil)
		for name, c := range map[string]struct{ request, head string }{
			"204 with a length":    {get, "HTTP/1.1 204 No Content\r\nContent-Length: 44\r\n\r\n"},
			"204 with a coding":    {get, "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"},
			"HEAD":                 {"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 44\r\n\r\n"},
			"304":                  {get, "HTTP/1.1 304 Not Modified\r\nContent-Length: 44\r\n\r\n"},
			"more than the length": {get, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"},
			"more than the chunks": {get, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"},
		} {
			t.Run(name, func(t *testing.T) {
				b := newBackend(t, func(bc *conn) {
					for bc.head() != "" {
						if bc.n == 0 {
							bc.write(c.head + poison)
						} else {
							bc.write(ok)
						}
					}
				})
				r.publish(b.addr)
				cl := r.dial()
				cl.do(c.request)
				for range 3 {
					if got := cl.do(get); got.body != "ok" {
						t.Fatalf("%d %q: what followed a response was taken for another", got.StatusCode, got.body)
					}
				}
				if n := b.connections(); n != 2 {
					t.Errorf("%d connections, want 2: the first is out of step", n)
				}
			})
		}
	})
}

// TestA204ThatAnnouncesABodyEndsItsConnection: the body may come after the connection was given to somebody else.
func TestA204ThatAnnouncesABodyEndsItsConnection(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		r := start(t, nil)
		for _, c := range []struct {
			line        string
			connections int
		}{{"Content-Length: 44", 3}, {chunkedLine, 3}, {"Content-Length: 0", 1}, {"A: b", 1}} {
			t.Run(c.line, func(t *testing.T) {
				b := newBackend(t, answering("HTTP/1.1 204 No Content\r\n"+c.line+"\r\n\r\n"))
				r.publish(b.addr)
				cl := r.dial()
				for range 3 {
					if got := cl.do(get); got.StatusCode != 204 {
						t.Fatal(got.StatusCode)
					}
				}
				if n := b.connections(); n != c.connections {
					t.Errorf("%d connections for three requests, want %d", n, c.connections)
				}
			})
		}
	})
}

// TestOnlyAnAskedSwitchMakesATunnel covers attack rows 22 and 23.
func TestOnlyAnAskedSwitchMakesATunnel(t *testing.T) {
	const switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
	r := start(t, nil)
	upgrade := func(lines ...string) string { return get1(append(lines, "Connection: Upgrade")...) }
	for name, c := range map[string]struct {
		request, response string
		status            int
	}{
		"no upgrade asked":        {get, switching + "Upgrade: websocket\r\n\r\n", 502},
		"another protocol":        {upgrade("Upgrade: websocket"), switching + "Upgrade: evil\r\n\r\n", 502},
		"no protocol":             {upgrade("Upgrade: websocket"), switching + "\r\n", 502},
		"two protocols":           {upgrade("Upgrade: websocket"), switching + "Upgrade: websocket, evil\r\n\r\n", 502},
		"two lines":               {upgrade("Upgrade: websocket"), switching + "Upgrade: websocket\r\nUpgrade: x\r\n\r\n", 502},
		"not named in Connection": {get1("Upgrade: websocket"), switching + "Upgrade: websocket\r\n\r\n", 502},
		"a list is asked for":     {upgrade("Upgrade: websocket, x"), switching + "Upgrade: websocket\r\n\r\n", 502},
		"h2c":                     {upgrade("Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"), switching + "Upgrade: h2c\r\n\r\n", 502},
		"HTTP/1.0": {"GET / HTTP/1.0\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
			switching + "Upgrade: websocket\r\n\r\n", 502},
		"body not sent": {post("", "Connection: Upgrade", "Upgrade: websocket", "Content-Length: 5"),
			switching + "Upgrade: websocket\r\n\r\n", 502},
		"chunked body not sent": {post("", "Connection: Upgrade", "Upgrade: websocket", chunkedLine),
			switching + "Upgrade: websocket\r\n\r\n", 502},
		"refused":           {upgrade("Upgrade: websocket"), "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", 403},
		"answered with 200": {upgrade("Upgrade: websocket"), ok, 200},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBackend(t, func(bc *conn) {
				bc.head()
				bc.write(c.response)
				bc.write("SECRET")
				io.Copy(io.Discard, bc.r)
			})
			r.publish(b.addr)
			cl := r.dial()
			cl.send(c.request)
			method, _, _ := strings.Cut(c.request, " ")
			got := cl.receive(method)
			if got.StatusCode != c.status {
				t.Fatalf("%d, want %d", got.StatusCode, c.status)
			}
			if strings.HasPrefix(name, "refused") || strings.HasPrefix(name, "answered") {
				// What a client sends behind an upgrade that did not happen is neither a tunnel nor a request.
				io.WriteString(cl.TCPConn, canary)
				if rest, closed := cl.closedByPeer(); !closed || len(rest) > 0 {
					t.Errorf("closed=%v, then came %q", closed, rest)
				}
			}
			r.dial().do(get)
			if n := b.connections(); n != 2 {
				t.Errorf("%d connections to the back end, want 2", n)
			}
			for _, s := range b.seen() {
				if strings.Contains(s, "canary") || strings.Contains(s, "HTTP2-Settings") || strings.Contains(s, "h2c") {
					t.Errorf("the back end got %q", s)
				}
			}
		})
	}
}

func TestBytesBeforeTheSwitchAreHeldUntilIt(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		early := make(chan bool)
		b := newBackend(t, func(c *conn) {
			c.head()
			<-early // the client has sent what belongs to the tunnel
			if c.r.Buffered() > 0 {
				t.Error("bytes of a tunnel came before the switch")
			}
			c.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			io.Copy(c, c.r)
		})
		c := start(t, []string{b.addr}).dial()
		c.send(get1("Connection: Upgrade", "Upgrade: websocket") + canary)
		early <- true
		if got := c.receive("GET"); got.StatusCode != 101 {
			t.Fatal(got.StatusCode)
		}
		echoed := make([]byte, len(canary))
		if _, err := io.ReadFull(c.r, echoed); err != nil || string(echoed) != canary {
			t.Errorf("%q, %v", echoed, err)
		}
		if n := len(b.seen()); n != 1 {
			t.Errorf("%d requests reached the back end", n)
		}
	})
}
