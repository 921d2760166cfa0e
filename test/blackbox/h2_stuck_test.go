package blackbox

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"rauta.io/rauta/fastpath"
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/server"
)

// Peers that open every window and then stop reading: TCP is what is full.

var writeIdleSoon = limits(func(l *fastpath.Limits) { l.WriteIdle = int64(300 * time.Millisecond) })

var openWindow = http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1}

// endless is a body that has no end.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestAnHTTP2BackEndThatStopsReadingIsCut(t *testing.T) {
	ca := newIssuer(t)
	for _, m := range []combination{plain(1, 2), plain(2, 2), {client: 1, backend: 2, ca: ca}, {client: 2, backend: 2, ca: ca}} {
		t.Run(m.String(), func(t *testing.T) {
			answered, ended := make(chan bool), make(chan error, 1)
			b := m.serves2(t, func(p *h2peer) {
				p.WriteSettings(openWindow)
				p.WriteWindowUpdate(0, 1<<30)
				if p.n > 0 {
					p.answerAll()
					return
				}
				p.request()
				<-answered
				_, err := io.Copy(io.Discard, p.Conn)
				ended <- err
			})
			r := m.start(t, []string{b.addr}, writeIdleSoon, func(o *server.Options, _ *config.Config) { o.Workers = 1 })
			status := postEndless(t, m, r)
			close(answered)
			if status != 504 {
				t.Errorf("%d, want 504", status)
			}
			select {
			case err := <-ended:
				if err == nil {
					t.Error("the back end sees an orderly end")
				}
			case <-time.After(patience):
				t.Fatal("the connection goes on")
			}
			if got := m.dial(t, r).do(t, "GET", ""); got.status != 200 || b.connections() != 2 {
				t.Errorf("then %v over %d connections, want a new one", got, b.connections())
			}
			until(t, "the reason", func() bool { return r.shows(`rauta_exchange_reasons_total{reason="upstream_timeout"} 1`) })
		})
	}
}

// postEndless sends a body that has no end, and returns the status of the answer that comes all the same.
func postEndless(t *testing.T, m combination, r *rig) int {
	t.Helper()
	if m.client == 1 { // by hand: a client of net/http may see that it can't go on sending before it sees the answer
		c := r.dial()
		c.t = t
		c.send(post("", "Content-Length: 1000000000000"))
		go io.Copy(c.TCPConn, endless{})
		return c.receive("POST").StatusCode
	}
	client := &http.Client{Transport: h2transport(t), Timeout: patience}
	resp, err := client.Post("http://"+r.addr+"/", "text/plain", endless{})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func TestAnHTTP2ClientThatStopsReadingAResponseIsCut(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprint("TLS=", secure), func(t *testing.T) {
			held := make(chan int, 1)
			b := newBackend(t, func(c *conn) {
				c.head()
				c.write("HTTP/1.1 200 OK\r\n\r\n")
				part, n := strings.Repeat("x", 1<<20), 0
				for {
					m, err := io.WriteString(c, part)
					if n += m; err != nil {
						held <- n
						return
					}
				}
			})
			var r *rig
			var transport net.Conn
			var c *h2client
			if secure {
				s := startTLS(t, b.addr, writeIdleSoon)
				r = s.rig
				raw := r.dial().TCPConn
				transport = tls.Client(raw, &tls.Config{RootCAs: s.roots, ServerName: "a.test", NextProtos: []string{"h2"}})
				c = r.h2over(raw, transport, openWindow)
			} else {
				r = start(t, []string{b.addr}, writeIdleSoon)
				raw := r.dial().TCPConn
				transport = raw
				c = r.h2over(raw, raw, openWindow)
			}
			c.must(c.WriteWindowUpdate(0, 1<<30))
			head := h2get()
			if secure {
				head = []string{":method: GET", ":scheme: https", ":path: /", ":authority: a.test"}
			}
			c.headers(1, true, head)
			select {
			case n := <-held:
				if n > 64<<20 {
					t.Errorf("%d bytes were taken for a client that reads nothing", n)
				}
			case <-time.After(patience):
				t.Fatal("the back end is still held")
			}
			if _, err := io.Copy(io.Discard, transport); err == nil {
				t.Error("the client sees an orderly end")
			}
			until(t, "the reason", func() bool { return r.shows(`rauta_exchange_reasons_total{reason="client_write_timeout"} 1`) })
		})
	}
}
