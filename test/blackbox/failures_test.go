package blackbox

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"rauta.io/rauta/fastpath"
	"rauta.io/rauta/internal/testrig"
	"rauta.io/rauta/proxy/config"
)

func TestAStaleConnectionIsRetriedForASafeRequest(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		b := newBackend(t, func(c *conn) {
			c.head()
			c.write(ok)
			if c.n == 0 {
				c.head() // takes the second request and closes without an answer
			} else {
				for c.head() != "" {
					c.write(ok)
				}
			}
		})
		c := start(t, []string{b.addr}).dial()
		for range 2 {
			if r := c.do(get); r.StatusCode != 200 {
				t.Fatalf("%d", r.StatusCode)
			}
		}
		if n := b.connections(); n != 2 {
			t.Errorf("%d connections, want 2", n)
		}
	})
}

func TestAPostThatMayHaveBeenSeenIsNotRetried(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		b := newBackend(t, func(c *conn) { c.head() })
		c := start(t, []string{b.addr}).dial()
		if r := c.do("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"); r.StatusCode != 502 {
			t.Fatalf("%d, want 502", r.StatusCode)
		}
		if n := len(b.seen()); n != 1 {
			t.Errorf("the back end saw the request %d times", n)
		}
	})
}

func TestAConnectFailureIsRetriedElsewhereWhateverTheMethod(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		b := newBackend(t, func(c *conn) {
			for c.head() != "" {
				c.read(3)
				c.write(ok)
			}
		})
		dead := testrig.DeadAddress(t)
		r := start(t, []string{b.addr, dead})
		for range 20 {
			c := r.dial()
			if got := c.do("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"); got.StatusCode != 200 {
				t.Fatalf("%d, want 200", got.StatusCode)
			}
		}
	})
}

func TestFailuresHaveTheirStatus(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		dead := testrig.DeadAddress(t)
		stall := newBackend(t, func(c *conn) { c.head(); io.ReadAll(c.r) })
		garbage := newBackend(t, answering("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"))
		half := newBackend(t, func(c *conn) { c.head(); c.write("HTTP/1.1 200 OK\r\nContent-") })
		for _, c := range []struct {
			name      string
			endpoints []string
			status    int
			options   []option
		}{
			{"no endpoint", nil, 503, nil},
			{"connection refused", []string{dead}, 503, nil},
			{"no answer in time", []string{stall.addr}, 504, []option{rule(func(r *config.Rule) {
				r.Timeouts.Request = config.Duration(50 * time.Millisecond)
			})}},
			{"no answer of the attempt in time", []string{stall.addr}, 504, []option{rule(func(r *config.Rule) {
				r.Timeouts.BackendRequest = config.Duration(50 * time.Millisecond)
			})}},
			{"bad response", []string{garbage.addr}, 502, nil},
			{"response cut off in its head", []string{half.addr}, 502, nil},
		} {
			t.Run(c.name, func(t *testing.T) {
				cl := start(t, c.endpoints, c.options...).dial()
				for range 2 {
					if r := cl.do(get); r.StatusCode != c.status {
						t.Errorf("%d, want %d", r.StatusCode, c.status)
					}
				}
			})
		}
	})
}

func TestATruncatedResponseIsSeenAsTruncated(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		for name, response := range map[string]string{
			"sized":   "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
			"chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
		} {
			t.Run(name, func(t *testing.T) {
				b := newBackend(t, func(c *conn) { c.head(); c.write(response) })
				c := start(t, []string{b.addr}).dial()
				if r := c.do(get); r.err == nil {
					t.Errorf("the client takes %q for the whole body", r.body)
				}
			})
		}
	})
}

func TestAnEarlyResponseEndsBothConnections(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		b := newBackend(t, func(c *conn) {
			c.head()
			c.write("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
			io.ReadAll(c.r)
		})
		r := start(t, []string{b.addr})
		c := r.dial()
		c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nbeginning")
		got := c.receive("POST")
		if got.StatusCode != 403 || got.body != "no" || !got.Close {
			t.Fatalf("%d %q close=%v", got.StatusCode, got.body, got.Close)
		}
		io.WriteString(c.TCPConn, strings.Repeat("x", 1000)+get) // must not be taken for a request
		if rest, closed := c.closedByPeer(); !closed || len(rest) > 0 {
			t.Errorf("closed=%v, after the response came %q", closed, rest)
		}
		d := r.dial()
		if got := d.do("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"); got.StatusCode != 403 {
			t.Errorf("%d", got.StatusCode)
		}
		if n := b.connections(); n != 2 {
			t.Errorf("%d connections to the back end, want 2: the first must not be used again", n)
		}
	})
}

func TestWhenTheClientGoesTheBackEndIsToldSo(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		gone := make(chan bool, 1)
		b := newBackend(t, func(c *conn) {
			c.head()
			_, err := c.r.ReadByte()
			gone <- err != nil
		})
		c := start(t, []string{b.addr}).dial()
		c.send(get)
		until(t, "the request to arrive", func() bool { return len(b.seen()) == 1 })
		c.SetLinger(0)
		c.Close()
		select {
		case ended := <-gone:
			if !ended {
				t.Error("the back end got a byte more")
			}
		case <-time.After(patience):
			t.Error("the request to the back end goes on without a client")
		}
	})
}

func TestSlowHeadsAreCutOff(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		b := newBackend(t, answering(ok))
		short := limits(func(l *fastpath.Limits) { l.HeadTimeout = int64(100 * time.Millisecond) })
		r := start(t, []string{b.addr}, short)
		c := r.dial()
		if rest, closed := c.closedByPeer(); !closed || len(rest) > 0 {
			t.Errorf("without a byte: closed=%v, %q", closed, rest)
		}
		c = r.dial()
		c.send("GET / HTTP/1.1\r\nHo")
		if got := c.receive("GET"); got.StatusCode != 408 {
			t.Errorf("half a head: %d, want 408", got.StatusCode)
		}
		if _, closed := c.closedByPeer(); !closed {
			t.Error("half a head: the connection stays open")
		}
	})
}

func TestSlowBodiesAreCutOff(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		b := newBackend(t, func(c *conn) { c.head(); io.ReadAll(c.r) })
		short := limits(func(l *fastpath.Limits) { l.BodyIdle = int64(100 * time.Millisecond) })
		c := start(t, []string{b.addr}, short).dial()
		c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
		if got := c.receive("POST"); got.StatusCode != 408 {
			t.Errorf("%d, want 408", got.StatusCode)
		}
		if _, closed := c.closedByPeer(); !closed {
			t.Error("the connection stays open")
		}
	})
}

func TestASizedBodyOverTheLimitIsRefusedByItsHead(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		b := newBackend(t, func(c *conn) { c.head(); io.ReadAll(c.r) })
		c := start(t, []string{b.addr}, rule(func(r *config.Rule) { r.BodyBytesMax = 10 })).dial()
		if got := c.do("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n"); got.StatusCode != 413 {
			t.Errorf("%d, want 413", got.StatusCode)
		}
	})
}

func TestABodyOverTheLimitIsRefused(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		b := newBackend(t, func(c *conn) { c.head(); io.ReadAll(c.r) })
		r := start(t, []string{b.addr}, rule(func(r *config.Rule) { r.BodyBytesMax = 10 }))
		for name, body := range map[string]string{
			"sized":   "Content-Length: 11\r\n\r\n01234567890",
			"chunked": "Transfer-Encoding: chunked\r\n\r\nb\r\n01234567890\r\n",
		} {
			if got := r.dial().do("POST / HTTP/1.1\r\nHost: a\r\n" + body); got.StatusCode != 413 {
				t.Errorf("%s: %d, want 413", name, got.StatusCode)
			}
		}
	})
}

func TestAnIdleBackEndConnectionThatSpeaksUpIsClosed(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		b := newBackend(t, func(c *conn) {
			for c.head() != "" {
				c.write(ok + "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad")
			}
		})
		r := start(t, []string{b.addr})
		for range 5 {
			if got := r.dial().do(get); got.body != "ok" {
				t.Fatalf("%q: a response that nobody asked for was delivered", got.body)
			}
		}
	})
}

// TestAnAnswerThatWasSentBeforeTheBackEndClosedIsDeliveredWhole: the back end answers early with more than fits into one
// turn, and closes, so that sending the rest of the request fails while much of the answer is still to be read.
func TestAnAnswerThatWasSentBeforeTheBackEndClosedIsDeliveredWhole(t *testing.T) {
	const size = 2 << 20
	onEveryEngine(t, func(t *testing.T) {
		b := newBackend(t, func(c *conn) {
			c.head()
			c.write(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size))
			c.write(strings.Repeat("x", size))
			c.Conn.(*net.TCPConn).CloseWrite()
			io.ReadAll(c.r)
		})
		r := start(t, []string{b.addr})
		c := r.dial()
		c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\nbeginning")
		got := c.receive("POST")
		if got.StatusCode != 200 || got.err != nil || len(got.body) != size {
			t.Errorf("%d, %d of %d bytes, %v", got.StatusCode, len(got.body), size, got.err)
		}
	})
}
