package blackbox

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"rauta.io/rauta/proxy/config"
)

// fault is something that goes wrong at the back end.
type fault struct {
	name string
	// serve is run for each connection until it returns; nil means that nothing listens.
	serve func(c *conn)
	// status is what the client gets, 0 for a response that it must see as truncated.
	status int
	// or is another status that is as good, where the kernel decides how soon we see what happens; 0 for none.
	or int
	// gets and posts are how often a GET and a POST with a body may reach the back end.
	gets, posts int
}

func reset(c *conn) { c.Conn.(*net.TCPConn).SetLinger(0) }

// drain reads the body that the requests of the matrix have.
func (c *conn) drain(head string) {
	if strings.HasPrefix(head, "POST") {
		c.read(len(faultBody))
	}
}

const faultBody = "0123456789"

func faults() []fault {
	partly := func(s string) func(*conn) {
		return func(c *conn) { c.drain(c.head()); c.write(s) }
	}
	stall := func(s string) func(*conn) {
		return func(c *conn) { c.drain(c.head()); c.write(s); io.Copy(io.Discard, c.r) }
	}
	resetAfter := func(s string) func(*conn) {
		return func(c *conn) {
			c.drain(c.head())
			c.write(s)
			time.Sleep(20 * time.Millisecond) // let the bytes out before RST overtakes them
			reset(c)
		}
	}
	const sized, chunked = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"
	return []fault{
		{"refuses", nil, 503, 0, 0, 0},
		{"closes at once", func(*conn) {}, 502, 0, 0, 0},
		{"resets at once", func(c *conn) { reset(c) }, 502, 503, 0, 0},
		{"closes after the head", func(c *conn) { c.head() }, 502, 0, 2, 1},
		{"closes after the request", partly(""), 502, 0, 2, 1},
		{"resets after the request", resetAfter(""), 502, 0, 2, 1},
		{"closes in the status line", partly("HTTP/1.1 2"), 502, 0, 1, 1},
		{"closes in the head", partly("HTTP/1.1 200 OK\r\nContent-"), 502, 0, 1, 1},
		{"resets in the head", resetAfter("HTTP/1.1 200 OK\r\nContent-"), 502, 0, 1, 1},
		{"closes after an interim head", partly("HTTP/1.1 100 Continue\r\n\r\n"), 502, 0, 1, 1},
		{"closes in a sized body", partly(sized), 0, 0, 1, 1},
		{"resets in a sized body", resetAfter(sized), 0, 0, 1, 1},
		{"closes in a chunked body", partly(chunked), 0, 0, 1, 1},
		{"closes in a chunk", partly(chunked + "5\r\nab"), 0, 0, 1, 1},
		{"closes before the end of the trailers", partly(chunked + "0\r\nA: b\r\n"), 0, 0, 1, 1},
		{"resets in a chunked body", resetAfter(chunked), 0, 0, 1, 1},
		{"resets in a body until the end", resetAfter("HTTP/1.1 200 OK\r\n\r\nabc"), 0, 0, 1, 1},
		{"stalls before the head", stall(""), 504, 0, 1, 1},
		{"stalls in the head", stall("HTTP/1.1 200 OK\r\nConte"), 504, 0, 1, 1},
		{"stalls after an interim head", stall("HTTP/1.1 100 Continue\r\n\r\n"), 504, 0, 1, 1},
		{"stalls in a sized body", stall(sized), 0, 0, 1, 1},
		{"stalls in a chunked body", stall(chunked), 0, 0, 1, 1},
	}
}

// TestEveryFaultOfABackEndHasItsAnswer runs each fault with a request that may be repeated and one that may not. Then the
// back end becomes healthy, and everything must work again.
func TestEveryFaultOfABackEndHasItsAnswer(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		r := start(t, nil, rule(func(r *config.Rule) { r.Timeouts.Request = config.Duration(300 * time.Millisecond) }))
		healthy := newRecorder(t)
		for _, f := range faults() {
			for _, request := range []string{get, post(faultBody, fmt.Sprint("Content-Length: ", len(faultBody)))} {
				method, _, _ := strings.Cut(request, " ")
				t.Run(f.name+" "+method, func(t *testing.T) {
					b := newBackend(t, func(c *conn) { f.serve(c) })
					if f.serve == nil {
						b.l.Close()
					}
					r.publish(b.addr)
					c := r.dial()
					c.send(request)
					got := c.receive(method)
					switch {
					case f.status == 0 && (got.StatusCode != 200 || got.err == nil):
						t.Errorf("%d, body %q, error %v; want a truncated 200", got.StatusCode, got.body, got.err)
					case f.status != 0 && (got.StatusCode != f.status && got.StatusCode != f.or || got.err != nil):
						t.Errorf("%d, error %v; want %d", got.StatusCode, got.err, f.status)
					}
					allowed := f.gets
					if method == "POST" {
						allowed = f.posts
					}
					if n := len(b.seen()); n > allowed {
						t.Errorf("the back end saw the request %d times, %d are safe", n, allowed)
					}
					r.publish(healthy.addr)
					before := healthy.connections()
					for range 6 {
						if got := r.dial().do(request); got.StatusCode != 200 || got.body != "ok" {
							t.Fatalf("a healthy back end: %d %q", got.StatusCode, got.body)
						}
					}
					if n := healthy.connections() - before; n > 2 {
						t.Errorf("%d connections of two workers to the healthy back end: they are not used again", n)
					}
				})
			}
		}
	})
}

// TestAFaultOnAUsedConnectionIsRetriedOnlyWhereThatIsSafe: the back end closes a connection under the second request.
func TestAFaultOnAUsedConnectionIsRetriedOnlyWhereThatIsSafe(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		for _, c := range []struct {
			request string
			status  int
			times   int
		}{
			{get, 200, 2},
			{"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", 200, 2},
			{"OPTIONS / HTTP/1.1\r\nHost: a\r\n\r\n", 200, 2},
			{get1("Content-Length: 1") + "x", 502, 1},
			{"DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", 502, 1},
			{"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", 502, 1},
			{post("", "Content-Length: 0"), 502, 1},
			{post("1\r\nx\r\n0\r\n\r\n", chunkedLine), 502, 1},
		} {
			method, rest, _ := strings.Cut(c.request, " ")
			t.Run(method+fmt.Sprint(len(rest)), func(t *testing.T) {
				b := newBackend(t, func(bc *conn) {
					for i := 0; bc.head() != ""; i++ {
						if bc.n == 0 && i == 1 {
							return
						}
						bc.write(ok)
					}
				})
				cl := start(t, []string{b.addr}).dial()
				cl.do(get)
				if got := cl.do(c.request); got.StatusCode != c.status {
					t.Errorf("%d, want %d", got.StatusCode, c.status)
				}
				if n := len(b.seen()) - 1; n != c.times {
					t.Errorf("the back end saw the request %d times, want %d", n, c.times)
				}
				if got := cl.do(get); got.StatusCode != 200 {
					t.Errorf("afterwards: %d", got.StatusCode)
				}
			})
		}
	})
}

// TestAConnectionThatClosesWhileIdleCostsNoRequest: most closes are seen before the next request is sent, and what is
// not may be repeated, because nothing of it can have been read.
func TestAConnectionThatClosesWhileIdleCostsNoRequest(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		closed := make(chan bool)
		b := newBackend(t, func(c *conn) {
			c.head()
			c.write(ok)
			c.Close()
			closed <- true
		})
		c := start(t, []string{b.addr}).dial()
		for i := range 20 {
			if got := c.do(post("", "Content-Length: 0")); got.StatusCode != 200 {
				t.Fatalf("request %d: %d", i, got.StatusCode)
			}
			<-closed
			time.Sleep(5 * time.Millisecond)
		}
	})
}

// TestWhenTheClientGoesTheBackEndConnectionIsNotUsedAgain cuts the client off at each stage of an exchange.
func TestWhenTheClientGoesTheBackEndConnectionIsNotUsedAgain(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		r := start(t, nil)
		for name, s := range map[string]struct {
			request string
			serve   func(c *conn)
			reach   func(t *testing.T, c *client, b *backend)
		}{
			"in the request body":       {post("abc", "Content-Length: 10"), func(c *conn) { c.head() }, nil},
			"in a chunked request body": {post("3\r\nabc\r\n", chunkedLine), func(c *conn) { c.head() }, nil},
			"while it waits":            {get, func(c *conn) { c.head() }, nil},
			"after an interim response": {get, func(c *conn) { c.head(); c.write("HTTP/1.1 103 Early Hints\r\n\r\n") },
				func(t *testing.T, c *client, _ *backend) { c.receive("GET") }},
			"in the response body": {get, func(c *conn) { c.head(); c.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc") },
				func(t *testing.T, c *client, _ *backend) { c.r.ReadString('c') }},
			"in a tunnel": {get1("Connection: upgrade", "Upgrade: x"), func(c *conn) {
				c.head()
				c.write("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
			}, func(t *testing.T, c *client, _ *backend) { c.receive("GET") }},
		} {
			t.Run(name, func(t *testing.T) {
				ended := make(chan string, 1)
				b := newBackend(t, func(c *conn) {
					if c.n > 0 {
						answering(ok)(c)
						return
					}
					s.serve(c)
					rest, _ := io.ReadAll(c.r)
					ended <- string(rest)
				})
				r.publish(b.addr)
				c := r.dial()
				c.t = t
				c.send(s.request)
				until(t, "the request", func() bool { return len(b.seen()) == 1 })
				if s.reach != nil {
					s.reach(t, c, b)
				}
				c.SetLinger(0)
				c.Close()
				select {
				case rest := <-ended:
					if strings.Contains(rest, "0\r\n\r\n") {
						t.Errorf("the back end sees %q as a complete body", rest)
					}
				case <-time.After(patience):
					t.Fatal("the exchange goes on without a client")
				}
				if got := r.dial().do(get); got.StatusCode != 200 {
					t.Errorf("afterwards: %d", got.StatusCode)
				}
				if n := b.connections(); n != 2 {
					t.Errorf("%d connections, want 2", n)
				}
			})
		}
	})
}

// TestAResponseThatComesBeforeTheRequestIsComplete is delivered, and both connections end unless the request was at hand.
func TestAResponseThatComesBeforeTheRequestIsComplete(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		for name, response := range map[string]string{
			"sized":         "HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno",
			"chunked":       "HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
			"until the end": "HTTP/1.1 401 Unauthorized\r\n\r\nno",
		} {
			t.Run(name, func(t *testing.T) {
				b := newBackend(t, func(c *conn) {
					c.head()
					c.write(response) // and closes with the body unread
					if name == "until the end" {
						// Such a close is a reset, which is no end that a response may have: it ends in an orderly way.
						c.Conn.(*net.TCPConn).CloseWrite()
						io.Copy(io.Discard, c.r)
					}
				})
				r := start(t, []string{b.addr})
				for _, request := range []string{
					post("part", "Content-Length: 100000"), post("4\r\npart\r\n", chunkedLine),
				} {
					c := r.dial()
					c.send(request)
					if got := c.receive("POST"); got.StatusCode != 401 || got.body != "no" || got.err != nil || !got.Close {
						t.Errorf("%d %q %v close=%v", got.StatusCode, got.body, got.err, got.Close)
					}
					io.WriteString(c.TCPConn, canary)
					if rest, closed := c.closedByPeer(); !closed || len(rest) > 0 {
						t.Errorf("closed=%v, then came %q", closed, rest)
					}
				}
				for _, head := range b.seen() {
					if strings.Contains(head, "canary") {
						t.Error("what followed was taken for a request")
					}
				}
			})
		}
	})
}

func TestATunnelThatIsResetIsNotClosedInOrder(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		b := newBackend(t, func(c *conn) {
			c.head()
			c.write("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
			c.read(2)
			reset(c)
		})
		c := start(t, []string{b.addr}).dial()
		c.send(get1("Connection: upgrade", "Upgrade: x"))
		c.receive("GET")
		c.send("hi")
		if _, err := io.ReadAll(c.r); err == nil {
			t.Error("the client sees an orderly end")
		}
	})
}
