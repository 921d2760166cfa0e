package blackbox

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/server"
)

// TestEveryFaultOfABackEndHasItsAnswer runs each fault with a request that may be repeated and one that may not. Then the
// back end becomes healthy, and everything must work again.
func TestEveryFaultOfABackEndHasItsAnswer(t *testing.T) {
	overTLSToo(t, func(t *testing.T, m combination) {
		t.Parallel() // many faults are noticed by waiting
		r := m.start(t, nil)
		healthy := m.healthy(t)
		all := faults()
		if m.ca != nil {
			all = append(all, faultsTLS()...)
		}
		for _, f := range all {
			if !f.in(m) {
				continue
			}
			for _, method := range []string{"GET", "POST"} {
				t.Run(f.name+" "+method, func(t *testing.T) {
					b := m.faulty(t, f)
					r.timeout(f.requestTimeout())
					r.publish(b.addr)
					c := m.dial(t, r)
					got := c.do(t, method, faultBody)
					switch {
					case f.status == 0 && (got.status != 200 || !got.truncated):
						t.Errorf("%v; want a truncated 200", got)
					case f.status != 0 && (got.status != f.status && got.status != f.or || got.truncated):
						t.Errorf("%v; want %d", got, f.status)
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
						if got := c.do(t, method, faultBody); got.status != 200 || got.body != "ok" || got.truncated {
							t.Fatalf("a healthy back end: %v", got)
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

// faulty is a back end with the fault.
func (m combination) faulty(t *testing.T, f fault) *backend {
	if m.backend == 2 && f.h2 != nil {
		return m.serves2(t, f.h2)
	}
	b := m.serves1(t, func(c *conn) { f.h1(c) })
	if f.h1 == nil {
		b.l.Close()
	}
	return b
}

// TestAFaultOnAUsedConnectionIsRetriedOnlyWhereThatIsSafe: the back end closes a connection under the second request.
func TestAFaultOnAUsedConnectionIsRetriedOnlyWhereThatIsSafe(t *testing.T) {
	overTLSToo(t, func(t *testing.T, m combination) {
		for _, c := range []struct {
			method, part string
			size         int
			status       int
			times        int
		}{
			{"GET", "", 0, 200, 2},
			{"HEAD", "", 0, 200, 2},
			{"OPTIONS", "", 0, 200, 2},
			{"OPTIONS", "x", 1, 502, 1},
			{"DELETE", "", 0, 502, 1},
			{"PUT", "x", 1, 502, 1},
			{"POST", "", 0, 502, 1},
			{"POST", "x", -1, 502, 1},
		} {
			t.Run(fmt.Sprint(c.method, c.size), func(t *testing.T) {
				b := m.closesUnderTheSecond(t)
				r := m.start(t, []string{b.addr}, func(o *server.Options, _ *config.Config) { o.Workers = 1 })
				cl := m.dial(t, r)
				cl.do(t, "GET", "")
				cl.begin(t, c.method, c.part, c.size)
				cl.end(t)
				if got := cl.receive(t); got.status != c.status {
					t.Errorf("%v, want %d", got, c.status)
				}
				if n := len(b.seen()) - 1; n != c.times {
					t.Errorf("the back end saw the request %d times, want %d", n, c.times)
				}
				if got := cl.do(t, "GET", ""); got.status != 200 {
					t.Errorf("afterwards: %v", got)
				}
			})
		}
	})
}

// closesUnderTheSecond is a back end whose first connection ends when the second request has come.
func (m combination) closesUnderTheSecond(t *testing.T) *backend {
	if m.backend == 1 {
		return m.serves1(t, func(c *conn) {
			for i := 0; c.head() != ""; i++ {
				if c.n == 0 && i == 1 {
					return
				}
				c.write(ok)
			}
		})
	}
	return m.serves2(t, func(p *h2peer) {
		p.WriteSettings()
		i := 0
		for q := p.request(); q != nil; q = p.request() {
			if p.n == 0 && i == 1 {
				return
			}
			p.ok(q)
			i++
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

// TestWhenTheClientGoesTheBackEndKnows cuts the client off at each stage of an exchange. An HTTP/1.1 back end sees the
// connection end, and it is not used again; an HTTP/2 one sees the stream reset, and the connection goes on.
func TestWhenTheClientGoesTheBackEndKnows(t *testing.T) {
	overTLSToo(t, func(t *testing.T, m combination) {
		for _, s := range []struct {
			name   string
			method string
			part   string
			size   int
			h1     string // what the back end has sent by then
			h2     wire2
			status int // the client has seen that much; 0 for nothing
		}{
			{"in the request body", "POST", "abc", 10, "", nothing, 0},
			{"in a streamed request body", "POST", "abc", -1, "", nothing, 0},
			{"while it waits", "GET", "", 0, "", nothing, 0},
			{"after an interim response", "GET", "", 0, interim1, interim2, 103},
			{"in a sized response body", "GET", "", 0, sized1, sized2, 200},
			{"in a streamed response body", "GET", "", 0, chunked1, streamed2, 200},
			{"in both bodies", "POST", "abc", 10, chunked1, streamed2, 200},
		} {
			t.Run(s.name, func(t *testing.T) {
				skipDifference(t)
				ended := make(chan string, 1)
				b := m.untilGone(t, ended, s.h1, s.h2)
				r := m.start(t, []string{b.addr}, func(o *server.Options, _ *config.Config) { o.Workers = 1 })
				c := m.dial(t, r)
				c.begin(t, s.method, s.part, s.size)
				until(t, "the request", func() bool { return len(b.seen()) == 1 })
				c.sees(t, s.status)
				c.leave(t)
				select {
				case rest := <-ended:
					if rest == "whole" || strings.Contains(rest, "0\r\n\r\n") {
						t.Errorf("the back end sees %q as a complete body", rest)
					}
				case <-time.After(patience):
					t.Fatal("the exchange goes on without a client")
				}
				if got := m.dial(t, r).do(t, "GET", ""); got.status != 200 {
					t.Errorf("afterwards: %v", got)
				}
				if n := b.connections(); n != 3-m.backend {
					t.Errorf("%d connections, want %d", n, 3-m.backend)
				}
			})
		}
	})
}

// untilGone is a back end that answers its first request with a part of a response, and tells what it gets after that.
func (m combination) untilGone(t *testing.T, ended chan<- string, part1 string, part2 wire2) *backend {
	if m.backend == 1 {
		return m.serves1(t, func(c *conn) {
			if c.n > 0 {
				answering(ok)(c)
				return
			}
			c.head()
			c.write(part1)
			rest, _ := io.ReadAll(c.r)
			ended <- string(rest)
		})
	}
	return m.serves2(t, func(p *h2peer) {
		p.WriteSettings()
		first := p.request()
		part2(p, first)
		rest, isThere := p.reset(first)
		if !isThere {
			rest = "the connection has ended"
		}
		ended <- rest
		for q := p.request(); q != nil; q = p.request() {
			p.ok(q)
		}
	})
}

// TestAResponseThatComesBeforeTheRequestIsComplete is delivered. A connection of HTTP/1.1 ends then, on both sides; with
// HTTP/2 only the rest of the request is called off.
func TestAResponseThatComesBeforeTheRequestIsComplete(t *testing.T) {
	overTLSToo(t, func(t *testing.T, m combination) {
		for name, response := range map[string]struct {
			h1 string
			h2 wire2
		}{
			"sized": {"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno", func(p *h2peer, q *h2request) {
				p.respond(q.id, false, ":status: 401", "content-length: 2")
				p.WriteData(q.id, true, []byte("no"))
			}},
			"streamed": {"HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n",
				func(p *h2peer, q *h2request) {
					p.respond(q.id, false, ":status: 401")
					p.WriteData(q.id, true, []byte("no"))
				}},
			"until the end": {"HTTP/1.1 401 Unauthorized\r\n\r\nno", nil},
			"with a reset": {"", func(p *h2peer, q *h2request) { // RFC 9113 section 8.1
				p.respond(q.id, false, ":status: 401")
				p.WriteData(q.id, true, []byte("no"))
				p.WriteRSTStream(q.id, http2.ErrCodeNo)
			}},
		} {
			if m.backend == 1 && response.h1 == "" || m.backend == 2 && response.h2 == nil {
				continue
			}
			t.Run(name, func(t *testing.T) {
				b := m.early(t, response.h1, response.h2)
				r := m.start(t, []string{b.addr})
				c := m.dial(t, r)
				for _, size := range []int{100_000, -1} {
					c.begin(t, "POST", "part", size)
					got := c.receive(t)
					if got.status != 401 || got.body != "no" || got.truncated || got.closes != (m.client == 1) {
						t.Errorf("%v", got)
					}
					c.endsAfterEarly(t)
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

// early answers the head of every request.
func (m combination) early(t *testing.T, part1 string, part2 wire2) *backend {
	if m.backend == 1 {
		return m.serves1(t, func(c *conn) {
			c.head()
			c.write(part1) // and closes with the body unread
			if strings.HasSuffix(part1, "\r\n\r\nno") && !strings.Contains(part1, "Content-Length") {
				// Such a close is a reset, which is no end that a response may have: it ends in an orderly way.
				c.Conn.(interface{ CloseWrite() error }).CloseWrite() // with TLS: close_notify
				c.hang()
			}
		})
	}
	return m.serves2(t, func(p *h2peer) {
		p.WriteSettings()
		for q := p.request(); q != nil; q = p.request() {
			part2(p, q)
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
