package blackbox

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/server"
)

// takesConnect is the setting of RFC 8441.
var takesConnect = http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1}

const upgrade = "GET /chat?room=1 HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: chat\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

// echoTunnel sends back what comes in a tunnel, until the other end closes its half.
func echoTunnel(p *h2peer) {
	q := p.request()
	if q == nil {
		return
	}
	p.respond(q.id, false, ":status: 200", "sec-websocket-protocol: chat")
	for {
		f := p.next()
		if f == nil {
			return
		}
		if d, isData := f.(*http2.DataFrame); isData {
			if len(d.Data()) > 0 {
				p.WriteWindowUpdate(0, uint32(len(d.Data())))
				p.WriteWindowUpdate(q.id, uint32(len(d.Data())))
			}
			p.WriteData(q.id, d.StreamEnded(), d.Data())
		}
	}
}

func TestAWebSocketOfAnHTTP1ClientReachesAnHTTP2BackEnd(t *testing.T) { // RFC 8441
	b := newH2BackendWith(t, echoTunnel, takesConnect)
	r := start(t, []string{b.addr}, overH2)
	c := r.dial()
	c.send(upgrade)
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 101 || resp.Header.Get("Upgrade") != "websocket" ||
		resp.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" || resp.Header.Get("Sec-WebSocket-Protocol") != "chat" {
		t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	seen := b.seen()[0]
	for _, want := range []string{":method: CONNECT\n", ":protocol: websocket\n", ":path: /chat?room=1\n", "sec-websocket-version: 13\n"} {
		if !strings.Contains(seen, want) {
			t.Errorf("the back end saw %q, want %q in it", seen, want)
		}
	}
	for _, not := range []string{"sec-websocket-key", "upgrade", "connection", "content-length"} {
		if strings.Contains(seen, not) {
			t.Errorf("the back end saw %q, which has %q", seen, not)
		}
	}
	message := strings.Repeat("0123456789", 20_000)
	go io.WriteString(c.TCPConn, message)
	got := make([]byte, len(message))
	if _, err := io.ReadFull(bufio.NewReader(c.r), got); err != nil || string(got) != message {
		t.Fatalf("%v", err)
	}
	c.CloseWrite()
	if rest, closed := c.closedByPeer(); !closed || len(rest) > 0 {
		t.Errorf("after the close: %q, closed: %v", rest, closed)
	}
}

func TestAWebSocketOfAnHTTP2ClientReachesAnHTTP2BackEnd(t *testing.T) {
	b := newH2BackendWith(t, echoTunnel, takesConnect)
	r := start(t, []string{b.addr}, overH2)
	tn, reply := r.tunnel(t, h2connect(), "early")
	if reply.status != 200 || reply.get("sec-websocket-accept") != "" {
		t.Fatalf("%+v", reply)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(tn, got); err != nil || string(got) != "early" {
		t.Fatalf("%q, %v", got, err)
	}
	if seen := b.seen()[0]; !strings.Contains(seen, ":protocol: websocket\n") {
		t.Errorf("the back end saw %q", seen)
	}
}

// TestAnUpgradeThatAnHTTP2BackEndDoesNotTakeIsRefused: 502, without a word to the back end, and the connection goes on.
func TestAnUpgradeThatAnHTTP2BackEndDoesNotTakeIsRefused(t *testing.T) {
	b := newH2Backend(t, answeringH2)
	r := start(t, []string{b.addr}, overH2)
	if reply := r.dial().do(upgrade); reply.StatusCode != 502 {
		t.Errorf("%d", reply.StatusCode)
	}
	if reply := r.dial().do(get); reply.StatusCode != 200 || b.connections() != 1 || len(b.seen()) != 1 {
		t.Errorf("then %d over %d connections", reply.StatusCode, b.connections())
	}
	b = newH2BackendWith(t, func(p *h2peer) { p.answerAll() }, takesConnect)
	r = start(t, []string{b.addr}, overH2)
	if reply := r.dial().do(strings.Replace(upgrade, "Upgrade: websocket", "Upgrade: other", 1)); reply.StatusCode != 502 {
		t.Errorf("another protocol: %d", reply.StatusCode)
	}
}

// TestATunnelThatEndsAtOnceHarmsNoOtherRequest of the connection to a back end that takes no tunnels: nothing of it is sent.
func TestATunnelThatEndsAtOnceHarmsNoOtherRequest(t *testing.T) {
	b := newH2Backend(t, answeringH2)
	r := start(t, []string{b.addr}, overH2, func(o *server.Options, _ *config.Config) { o.Workers = 1 })
	c := r.h2()
	c.alive(1)
	for id := uint32(3); id < 9; id += 2 {
		c.headers(id, true, h2connect())
		if reply := c.response(id); reply.status != 502 {
			t.Errorf("%+v", reply)
		}
	}
	c.headers(9, false, h2connect())
	c.must(c.WriteData(9, true, []byte("early")))
	if reply := c.response(9); reply.status != 502 {
		t.Errorf("%+v", reply)
	}
	c.alive(11)
	if len(b.seen()) != 2 || b.connections() != 1 {
		t.Errorf("%d requests over %d connections, want 2 over 1", len(b.seen()), b.connections())
	}
}

func TestAWebSocketThatAnHTTP2BackEndDeclinesIsAnswered(t *testing.T) {
	b := newH2BackendWith(t, func(p *h2peer) {
		for q := p.request(); q != nil; q = p.request() {
			p.respond(q.id, false, ":status: 403", "content-length: 2")
			p.WriteData(q.id, true, []byte("no"))
		}
	}, takesConnect)
	r := start(t, []string{b.addr}, overH2)
	if reply := r.dial().do(upgrade); reply.StatusCode != 403 || reply.body != "no" {
		t.Errorf("%d %q", reply.StatusCode, reply.body)
	}
}
