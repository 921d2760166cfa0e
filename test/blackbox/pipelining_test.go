package blackbox

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"rauta.io/rauta/internal/testrig"
	"rauta.io/rauta/proxy/config"
)

func TestAConnectionGoesOnAfterARequestWithBodyCouldNotBeSent(t *testing.T) {
	dead := testrig.DeadAddress(t)
	c := start(t, []string{dead}).dial()
	for i := range 3 {
		got := c.do(post("hello", "Content-Length: 5"))
		if got.StatusCode != 503 || got.Close {
			t.Fatalf("request %d: %d close=%v, want 503 on a connection that stays", i, got.StatusCode, got.Close)
		}
	}
}

// TestAPipelineWhoseAnswersAreNotTakenIsHeldBack: answers that RAUTA makes itself must not pile up either. The client
// sends until it is held back for a while; what it got rid of by then is bounded by the buffers of the kernel.
func TestAPipelineWhoseAnswersAreNotTakenIsHeldBack(t *testing.T) {
	r := start(t, nil, rule(func(r *config.Rule) { r.BodyBytesMax = 1 }))
	c := r.dial()
	const enough = 32 << 20 // bytes, several times what kernels buffer
	// A power of two, so that reads of the proxy end where a request does, and every body is at hand with its head.
	request := post("", "Content-Length: 200")
	request += strings.Repeat("x", 256-len(request))
	request = strings.Replace(request, "200", fmt.Sprint(strings.Count(request, "x")), 1)
	sent := 0
	for sent < enough {
		c.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
		n, err := io.WriteString(c.TCPConn, request)
		sent += n
		if err != nil {
			break
		}
	}
	if sent >= enough {
		t.Error("the proxy takes requests without end from a client that takes no answers")
	}
}

// TestAResponseThatBreaksOffDoesNotDestroyTheOneBeforeIt has the back end break off the second of three pipelined requests while
// the client has not read the answer to the first, and more of the third is in RAUTA's socket than RAUTA has read: a close
// would make the kernel reset the connection and drop all that the client has not got.
func TestAResponseThatBreaksOffDoesNotDestroyTheOneBeforeIt(t *testing.T) {
	const size = 64 << 10  // of the first answer: more than the client's window, less than RAUTA's kernel keeps for it
	const more = 200 << 10 // of the third request: more than RAUTA reads ahead, less than it reads of what nobody asked for
	first := pattern("first", size)
	over1 := func(part string) func(*testing.T) *backend {
		return func(t *testing.T) *backend {
			return newBackend(t, func(c *conn) {
				c.head()
				c.write(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", size, first))
				c.head()
				c.write(part)
				reset(c)
			})
		}
	}
	for name, c := range map[string]struct {
		backend func(*testing.T) *backend
		speaks  int
	}{
		"sized":       {over1("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\npart"), 1},
		"chunked":     {over1("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n"), 1},
		"until close": {over1("HTTP/1.1 200 OK\r\n\r\npart"), 1}, // towards the client it is chunked
		"HTTP2": {func(t *testing.T) *backend {
			return newH2Backend(t, func(p *h2peer) {
				p.WriteSettings()
				q := p.request()
				p.respond(q.id, false, ":status: 200")
				for body := first; body != ""; body = body[16<<10:] {
					p.WriteData(q.id, len(body) == 16<<10, []byte(body[:16<<10]))
				}
				q = p.request()
				p.respond(q.id, false, ":status: 200")
				p.WriteData(q.id, false, []byte("part"))
				p.WriteRSTStream(q.id, http2.ErrCodeInternal)
				p.linger()
			})
		}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			b := c.backend(t)
			r := combination{backend: c.speaks}.start(t, []string{b.addr})
			c := r.dialNarrow()
			go io.WriteString(c.TCPConn, get+get+post(strings.Repeat("x", more), fmt.Sprintf("Content-Length: %d", more)))
			until(t, "the second response to break off", func() bool { return len(b.seen()) == 2 && r.usage().Exchanges == 0 })

			got := c.receive("GET")
			if got.err != nil || got.body != first {
				t.Errorf("first response: %d of %d bytes, %v", len(got.body), size, got.err)
			}
			if got := c.receive("GET"); got.err == nil || got.body != "part" {
				t.Errorf("second response: %q, %v; want the part that has come, and no end", got.body, got.err)
			}
		})
	}
}

// dialNarrow is dial with a receive window of a few KiB.
func (r *rig) dialNarrow() *client {
	r.t.Helper()
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10) })
	}}
	c, err := d.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(patience))
	r.t.Cleanup(func() { c.Close() })
	return &client{r.t, c.(*net.TCPConn), bufio.NewReader(c)}
}
