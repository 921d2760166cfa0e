package blackbox

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/server"
)

// messageMax is the largest message of the tests, in bytes.
const messageMax = 16 << 20

// overSockets runs f with WebSockets for every combination of what clients and back ends speak.
func overSockets(t *testing.T, f func(t *testing.T, m combination)) {
	overEveryCombination(t, func(t *testing.T, m combination) {
		if m.client == 2 && planeOf(t) != nil {
			t.Skip("x/net's server, which the reference engine has, takes extended CONNECT only with GODEBUG=http2xconnect=1")
		}
		f(t, m)
	})
}

// dialSocket opens a WebSocket through the rig.
func (m combination) dialSocket(t *testing.T, r *rig, path string, opt *websocket.DialOptions) (*websocket.Conn, *http.Response, error) {
	if opt == nil {
		opt = new(websocket.DialOptions)
	}
	if m.client == 2 {
		opt.HTTPClient = &http.Client{Transport: h2upgrader{t, func() *h2client { return r.h2() }}}
	}
	return websocket.Dial(patient(t), "ws://"+r.addr+path, opt)
}

// patient is a context for everything that a test does.
func patient(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// openSocket is dialSocket that must not fail.
func (m combination) openSocket(t *testing.T, r *rig) *websocket.Conn {
	t.Helper()
	c, _, err := m.dialSocket(t, r, "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadLimit(messageMax + 1)
	t.Cleanup(func() { c.CloseNow() })
	return c
}

// startSockets runs a data plane with a back end that accepts WebSockets and leaves them to serve.
func (m combination) startSockets(t *testing.T, serve func(ctx context.Context, c *websocket.Conn), options ...option) *rig {
	t.Helper()
	addr := socketServer(t, serve)
	if m.backend == 2 {
		addr = bridgeH2(t, addr).addr
	}
	return m.start(t, []string{addr}, options...)
}

// socketServer is a back end that accepts WebSockets and leaves them to serve.
func socketServer(t *testing.T, serve func(ctx context.Context, c *websocket.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refused" {
			http.Error(w, "not you", http.StatusForbidden)
			return
		}
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"chat"}})
		if err != nil {
			return
		}
		c.SetReadLimit(messageMax + 1)
		serve(r.Context(), c)
		c.CloseNow()
	})}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
	return l.Addr().String()
}

// socketEcho sends every message back.
func socketEcho(ctx context.Context, c *websocket.Conn) {
	for {
		kind, message, err := c.Read(ctx)
		if err != nil || c.Write(ctx, kind, message) != nil {
			return
		}
	}
}

func TestWebSocketMessagesOfAllSizesPassBothWays(t *testing.T) {
	overSockets(t, func(t *testing.T, m combination) {
		r := m.startSockets(t, socketEcho)
		c, ctx := m.openSocket(t, r), patient(t)
		for _, size := range []int{5, 0, 125, 126, 65535, 65536, 1 << 20, messageMax} {
			message := []byte(pattern("m", size+1)[:size])
			sent := make(chan error, 1)
			go func() { sent <- c.Write(ctx, websocket.MessageBinary, message) }()
			kind, got, err := c.Read(ctx)
			if err := errors.Join(err, <-sent); err != nil || kind != websocket.MessageBinary || !bytes.Equal(got, message) {
				t.Fatalf("%d bytes came back of %d: %v", len(got), size, err)
			}
		}
	})
}

func TestWebSocketMessagesInFragmentsPassBothWays(t *testing.T) {
	overSockets(t, func(t *testing.T, m combination) {
		r := m.startSockets(t, func(ctx context.Context, c *websocket.Conn) {
			kind, in, err := c.Reader(ctx)
			if err != nil {
				return
			}
			out, _ := c.Writer(ctx, kind)
			io.CopyBuffer(struct{ io.Writer }{out}, in, make([]byte, 1000)) // a frame for each piece
			out.Close()
			c.Read(ctx)
		})
		c, ctx := m.openSocket(t, r), patient(t)
		message := pattern("fragment", 200_000)
		go func() {
			w, _ := c.Writer(ctx, websocket.MessageText)
			for rest := message; len(rest) > 0; {
				n := min(len(rest), 777)
				io.WriteString(w, rest[:n])
				rest = rest[n:]
			}
			w.Close()
		}()
		if kind, got, err := c.Read(ctx); kind != websocket.MessageText || string(got) != message || err != nil {
			t.Errorf("%d bytes came back: %v", len(got), err)
		}
	})
}

func TestWebSocketPingsAreAnsweredByTheOtherEnd(t *testing.T) {
	overSockets(t, func(t *testing.T, m combination) {
		pinged := make(chan error, 1)
		r := m.startSockets(t, func(ctx context.Context, c *websocket.Conn) {
			go func() { pinged <- c.Ping(ctx) }()
			socketEcho(ctx, c)
		})
		c, ctx := m.openSocket(t, r), patient(t)
		go c.Read(ctx) // takes control frames meanwhile
		if err := c.Ping(ctx); err != nil {
			t.Errorf("the client's ping: %v", err)
		}
		if err := <-pinged; err != nil {
			t.Errorf("the back end's ping: %v", err)
		}
	})
}

func TestWebSocketCloseCodesPassBothWays(t *testing.T) {
	overSockets(t, func(t *testing.T, m combination) {
		seen := make(chan error, 1)
		r := m.startSockets(t, func(ctx context.Context, c *websocket.Conn) {
			_, message, err := c.Read(ctx)
			if string(message) == "bye" {
				c.Close(websocket.StatusPolicyViolation, "as you wish")
				return
			}
			seen <- err
		})
		c, ctx := m.openSocket(t, r), patient(t)
		c.Write(ctx, websocket.MessageText, []byte("bye"))
		_, _, err := c.Read(ctx)
		var end websocket.CloseError
		if !errors.As(err, &end) || end.Code != websocket.StatusPolicyViolation || end.Reason != "as you wish" {
			t.Errorf("closed with %v, want the back end's code", err)
		}
		c = m.openSocket(t, r)
		c.Close(4321, "had enough")
		if err := <-seen; !errors.As(err, &end) || end.Code != 4321 || end.Reason != "had enough" {
			t.Errorf("closed with %v, want the client's code", err)
		}
	})
}

func TestWebSocketHandshakesAreTheBackEndsMatter(t *testing.T) {
	overSockets(t, func(t *testing.T, m combination) {
		r := m.startSockets(t, socketEcho)
		_, resp, err := m.dialSocket(t, r, "/refused", nil)
		if err == nil || resp == nil || resp.StatusCode != http.StatusForbidden {
			t.Errorf("%v, %v", resp, err)
		}
		c, _, err := m.dialSocket(t, r, "/", &websocket.DialOptions{Subprotocols: []string{"other", "chat"}})
		if err != nil || c.Subprotocol() != "chat" {
			t.Fatalf("%v", err)
		}
		c.CloseNow()
	})
}

// TestWebSocketConnectionsAreNeverUsedAgain: neither after a tunnel, nor after a refused one.
func TestWebSocketConnectionsAreNeverUsedAgain(t *testing.T) {
	overSockets(t, func(t *testing.T, m combination) {
		if m.backend == 2 {
			t.Skip("a connection of HTTP/2 carries other streams meanwhile")
		}
		b := newBackend(t, func(c *conn) {
			for head := c.head(); head != ""; head = c.head() {
				switch {
				case strings.Contains(head, "/refused"):
					c.write("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
				case strings.Contains(head, "Upgrade"):
					c.write(switching(head) + "\r\n\x88\x02\x03\xe8")
					c.read(2 + 4 + 2) // the client's answer
					c.Conn.(*net.TCPConn).CloseWrite()
				default:
					c.write(ok)
				}
			}
		})
		r := start(t, []string{b.addr}, func(o *server.Options, _ *config.Config) { o.Workers = 1 })
		for range 3 {
			c := m.openSocket(t, r)
			if _, _, err := c.Read(patient(t)); websocket.CloseStatus(err) != websocket.StatusNormalClosure {
				t.Fatal(err)
			}
			if _, _, err := m.dialSocket(t, r, "/refused", nil); err == nil {
				t.Fatal("not refused")
			}
			if got := r.dial().do(get1("Connection: close")); got.StatusCode != 200 {
				t.Fatal(got.StatusCode)
			}
		}
		if n := b.connections(); n != 7 { // one for each of the six, and one that the others share
			t.Errorf("%d connections", n)
		}
	})
}

func TestWebSocketsThatAreSilentCloseWhereTheRuleSaysSo(t *testing.T) {
	overSockets(t, func(t *testing.T, m combination) {
		ended := make(chan error, 1)
		r := m.startSockets(t, func(ctx context.Context, c *websocket.Conn) {
			_, _, err := c.Read(ctx)
			ended <- err
		}, rule(func(r *config.Rule) { r.Timeouts.TunnelIdle = config.Duration(100 * time.Millisecond) }))
		_, _, err := m.openSocket(t, r).Read(patient(t))
		if websocket.CloseStatus(err) != websocket.StatusGoingAway {
			t.Errorf("the client sees %v", err)
		}
		if err := <-ended; websocket.CloseStatus(err) != websocket.StatusGoingAway {
			t.Errorf("the back end sees %v", err)
		}
		until(t, "the reason to be counted", func() bool {
			return r.shows(`rauta_exchange_reasons_total{reason="tunnel_idle_timeout"} 1`)
		})
	})
}

// TestWebSocketsAreToldOfADrain: they live until its time is nearly over, then both ends see 1001, whatever is under way.
func TestWebSocketsAreToldOfADrain(t *testing.T) {
	overSockets(t, func(t *testing.T, m combination) {
		t.Parallel() // it takes half of the time of a drain
		const sockets = 5
		ended := make(chan error, sockets)
		r := m.startSockets(t, func(ctx context.Context, c *websocket.Conn) {
			for {
				kind, message, err := c.Read(ctx)
				if err != nil {
					ended <- err
					return
				}
				c.Write(ctx, kind, message)
			}
		}, func(o *server.Options, _ *config.Config) { o.DrainTime = 6 * time.Second })
		var all []*websocket.Conn
		for range sockets {
			all = append(all, m.openSocket(t, r))
		}
		cut := make(chan int, 1)
		go func() { cut <- r.server.Drain(context.Background()) }()
		until(t, "the drain to begin", func() bool { ready, _ := r.server.Ready(); return !ready })
		ctx := patient(t)
		for _, c := range all { // they go on
			c.Write(ctx, websocket.MessageText, []byte("still here"))
			if _, got, err := c.Read(ctx); string(got) != "still here" {
				t.Fatalf("%q, %v", got, err)
			}
		}
		for _, c := range all {
			if _, _, err := c.Read(ctx); websocket.CloseStatus(err) != websocket.StatusGoingAway {
				t.Errorf("a client sees %v", err)
			}
			if err := <-ended; websocket.CloseStatus(err) != websocket.StatusGoingAway {
				t.Errorf("a back end sees %v", err)
			}
		}
		if n := <-cut; n != 0 {
			t.Errorf("%d connections were cut off", n)
		}
	})
}

// TestTunnelBytesWaitForTheSwitch over HTTP/1; h2_connect_test.go has the same over HTTP/2.
func TestTunnelBytesWaitForTheSwitch(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		goOn, early := make(chan bool), make(chan string, 2)
		b := newBackend(t, func(c *conn) {
			head := c.head()
			c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			first := make([]byte, 1)
			n, _ := c.Read(first)
			early <- string(first[:n])
			c.SetReadDeadline(time.Now().Add(patience))
			<-goOn
			c.write(switching(head) + "\r\nfirst ")
			early <- c.read(len("early and more"))
			c.write("second")
		})
		c := start(t, []string{b.addr}).dial()
		c.send(get1("Connection: upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==") + "early ")
		c.send("and more")
		c.CloseWrite()
		if got := <-early; got != "" {
			t.Errorf("the back end got %q before it had switched", got)
		}
		close(goOn)
		if got := c.receive("GET"); got.StatusCode != 101 {
			t.Fatal(got.StatusCode)
		}
		if got := <-early; got != "early and more" {
			t.Errorf("the back end got %q", got)
		}
		if rest, err := io.ReadAll(c.r); string(rest) != "first second" || err != nil {
			t.Errorf("%q, %v", rest, err)
		}
	})
}

func TestWebSocketsPassOverTLS(t *testing.T) {
	r := startTLS(t, socketServer(t, socketEcho), rule(func(r *config.Rule) {
		r.Timeouts.TunnelIdle = config.Duration(3 * time.Second) // longer than any pause of a busy machine
	}))
	for protocol, transport := range map[string]http.RoundTripper{
		"http/1.1": &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: r.roots, ServerName: "a.test"},
			DialContext:     func(context.Context, string, string) (net.Conn, error) { return net.Dial("tcp", r.addr) },
		},
		"h2": h2upgrader{t, r.dialH2},
	} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			ctx := patient(t)
			c, _, err := websocket.Dial(ctx, "wss://a.test/", &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}})
			if err != nil {
				t.Fatal(err)
			}
			defer c.CloseNow()
			c.SetReadLimit(messageMax + 1)
			message := []byte(pattern("tls", messageMax))
			sent := make(chan error, 1)
			go func() { sent <- c.Write(ctx, websocket.MessageBinary, message) }()
			if _, got, err := c.Read(ctx); errors.Join(err, <-sent) != nil || !bytes.Equal(got, message) {
				t.Fatalf("%d bytes came back: %v", len(got), err)
			}
			if _, _, err := c.Read(ctx); websocket.CloseStatus(err) != websocket.StatusGoingAway {
				t.Errorf("after silence: %v", err)
			}
		})
	}
}
