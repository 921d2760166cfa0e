package blackbox

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

const get = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"

func TestAConnectionServesManyRequestsOverOneBackEndConnection(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		b := newBackend(t, answering(ok))
		c := start(t, []string{b.addr}).dial()
		for range 50 {
			if r := c.do(get); r.StatusCode != 200 || r.body != "ok" {
				t.Fatalf("%d %q", r.StatusCode, r.body)
			}
		}
		if n := b.connections(); n != 1 {
			t.Errorf("%d connections to the back end, want 1", n)
		}
	})
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		const n = 1000
		b := newBackend(t, func(c *conn) {
			for {
				head := c.head()
				if head == "" {
					return
				}
				target := strings.Fields(head)[1]
				c.write(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(target), target))
			}
		})
		c := start(t, []string{b.addr}).dial()
		go func() {
			var all strings.Builder
			for i := range n {
				fmt.Fprintf(&all, "GET /%d HTTP/1.1\r\nHost: a\r\n\r\n", i)
			}
			io.WriteString(c.TCPConn, all.String())
		}()
		for i := range n {
			if r := c.receive("GET"); r.body != fmt.Sprintf("/%d", i) {
				t.Fatalf("response %d is %q", i, r.body)
			}
		}
	})
}

func TestBodiesArriveUnchangedInBothDirections(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		r := start(t, []string{echo(t)})
		for _, size := range []int{0, 1, 1000, 16 << 10, 64 << 10, 65<<10 + 1, 1 << 20, 5 << 20} {
			body := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
			for _, mode := range []string{"sized", "chunked"} {
				t.Run(fmt.Sprintf("%s %d", mode, size), func(t *testing.T) {
					var reader io.Reader = bytes.NewReader(body)
					url := "http://" + r.addr + "/"
					if mode == "chunked" {
						reader = struct{ io.Reader }{reader}
						url += "?chunked=1"
					}
					resp, err := http.Post(url, "application/octet-stream", reader)
					if err != nil {
						t.Fatal(err)
					}
					got, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					if err != nil || !bytes.Equal(got, body) {
						t.Fatalf("%d of %d bytes came back, error %v", len(got), size, err)
					}
				})
			}
		}
	})
}

func TestResponsesWithoutABodyKeepTheConnectionInStep(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		b := newBackend(t, func(c *conn) {
			for {
				head := c.head()
				switch {
				case head == "":
					return
				case strings.HasPrefix(head, "HEAD"):
					c.write("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n")
				case strings.Contains(head, "/204"):
					c.write("HTTP/1.1 204 No Content\r\n\r\n")
				case strings.Contains(head, "/304"):
					c.write("HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\nETag: \"x\"\r\n\r\n")
				default:
					c.write(ok)
				}
			}
		})
		c := start(t, []string{b.addr}).dial()
		if r := c.do("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"); r.ContentLength != 1234 {
			t.Errorf("HEAD: Content-Length %d, want 1234", r.ContentLength)
		}
		if r := c.do("GET /204 HTTP/1.1\r\nHost: a\r\n\r\n"); r.StatusCode != 204 || r.Header.Get("Content-Length") != "" {
			t.Errorf("204: %v", r.Header)
		}
		if r := c.do("GET /304 HTTP/1.1\r\nHost: a\r\n\r\n"); r.StatusCode != 304 || r.Header.Get("Etag") != `"x"` {
			t.Errorf("304: %d %v", r.StatusCode, r.Header)
		}
		if r := c.do(get); r.body != "ok" {
			t.Errorf("after them: %q", r.body)
		}
		if n := b.connections(); n != 1 {
			t.Errorf("%d connections to the back end, want 1", n)
		}
	})
}

func TestAnHTTP10ClientGetsABodyThatEndsWithTheConnection(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		b := newBackend(t, answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"))
		r := start(t, []string{b.addr})
		c := r.dial()
		got := c.do("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
		if got.body != "abcde" || got.Header.Get("Transfer-Encoding") != "" || len(got.TransferEncoding) > 0 {
			t.Errorf("%q %v", got.body, got.Header)
		}
		if _, closed := c.closedByPeer(); !closed {
			t.Error("the connection stays open, so the client can't see the end of the body")
		}
	})
}

func TestAnHTTP10ClientThatAsksForItKeepsItsConnection(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		b := newBackend(t, answering(ok))
		c := start(t, []string{b.addr}).dial()
		for range 2 {
			r := c.do("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
			if r.body != "ok" || !strings.EqualFold(r.Header.Get("Connection"), "keep-alive") {
				t.Fatalf("%q %v", r.body, r.Header)
			}
		}
		if r := c.do("GET / HTTP/1.0\r\nHost: a\r\n\r\n"); r.body != "ok" {
			t.Fatalf("%q", r.body)
		}
		if _, closed := c.closedByPeer(); !closed {
			t.Error("HTTP/1.0 without keep-alive must be closed")
		}
	})
}

func TestInterimResponsesReachTheClient(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		b := newBackend(t, answering("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"+ok))
		c := start(t, []string{b.addr}).dial()
		c.send(get)
		if r := c.receive("GET"); r.StatusCode != 103 || r.Header.Get("Link") != "</a.css>" {
			t.Fatalf("%d %v", r.StatusCode, r.Header)
		}
		if r := c.receive("GET"); r.StatusCode != 200 || r.body != "ok" {
			t.Fatalf("%d %q", r.StatusCode, r.body)
		}
	})
}

func TestAClientThatWaitsFor100IsToldToGoOn(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		r := start(t, []string{echo(t)})
		c := r.dial()
		c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
		if got := c.receive("POST"); got.StatusCode != 100 {
			t.Fatalf("%d, want 100", got.StatusCode)
		}
		c.send("hello")
		if got := c.receive("POST"); got.StatusCode != 200 || got.body != "hello" {
			t.Fatalf("%d %q", got.StatusCode, got.body)
		}
		if got := c.do(get); got.StatusCode != 200 {
			t.Errorf("the connection is of no more use: %d", got.StatusCode)
		}
	})
}

func TestAHalfClosedClientStillGetsItsAnswer(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		asked, answer := make(chan bool), make(chan bool)
		b := newBackend(t, func(c *conn) {
			c.head()
			asked <- true
			<-answer
			c.write(ok)
		})
		c := start(t, []string{b.addr}).dial()
		c.send(get)
		c.CloseWrite()
		<-asked
		answer <- true
		if r := c.receive("GET"); r.body != "ok" {
			t.Fatalf("%q", r.body)
		}
		if _, closed := c.closedByPeer(); !closed {
			t.Error("the connection stays open")
		}
	})
}

func TestAnUpgradeBecomesATunnel(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		b := newBackend(t, func(c *conn) {
			if head := c.head(); !strings.Contains(head, "Upgrade: websocket") {
				t.Errorf("the back end was not asked to upgrade: %q", head)
			}
			c.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhi ")
			io.Copy(c, c.r)
		})
		c := start(t, []string{b.addr}).dial()
		c.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		if r := c.receive("GET"); r.StatusCode != 101 || !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
			t.Fatalf("%d %v", r.StatusCode, r.Header)
		}
		payload := strings.Repeat("0123456789", 100_000)
		go func() {
			c.send(payload)
			c.CloseWrite()
		}()
		got, _ := io.ReadAll(c.r)
		if string(got) != "hi "+payload {
			t.Errorf("%d bytes came back, want %d", len(got), len(payload)+3)
		}
	})
}
