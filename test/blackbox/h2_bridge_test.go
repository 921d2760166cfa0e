package blackbox

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"
)

// bridgeH2 is a back end that takes extended CONNECT and asks a server of HTTP/1.1 for the upgrade that it stands for: a
// WebSocket server for HTTP/2. It keeps to the windows of the proxy.
func bridgeH2(t *testing.T, server string) *backend {
	enable := http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1}
	return newH2BackendWith(t, func(p *h2peer) {
		b := &bridge{p: p, server: server, conn: 65535, initial: 65535, streams: map[uint32]*bridged{}}
		b.change.L = &b.mu
		b.serve()
	}, enable)
}

// bridge is a connection of a bridgeH2.
type bridge struct {
	p      *h2peer
	server string

	mu      sync.Mutex // also held while frames are written
	change  sync.Cond  // of windows
	conn    int        // what may be sent
	initial int        // on a new stream
	streams map[uint32]*bridged
	over    bool
}

// bridged is a tunnel.
type bridged struct {
	id     uint32
	c      *net.TCPConn
	window int // what may be sent
	gone   bool
}

func (b *bridge) serve() {
	for {
		f, err := b.p.ReadFrame()
		b.mu.Lock()
		if err != nil {
			b.over = true
			for _, s := range b.streams {
				s.c.Close()
			}
		} else {
			b.onFrame(f)
		}
		b.change.Broadcast()
		b.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (b *bridge) onFrame(f http2.Frame) {
	s := b.streams[f.Header().StreamID]
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if v, is := f.Value(http2.SettingInitialWindowSize); is {
			for _, s := range b.streams {
				s.window += int(v) - b.initial
			}
			b.initial = int(v)
		}
		if !f.IsAck() {
			b.p.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			b.p.WritePing(true, f.Data)
		}
	case *http2.WindowUpdateFrame:
		if s != nil {
			s.window += int(f.Increment)
		} else if f.StreamID == 0 {
			b.conn += int(f.Increment)
		}
	case *http2.HeadersFrame:
		if q := b.p.begin(f); q != nil {
			b.open(q)
		}
	case *http2.RSTStreamFrame:
		if s != nil {
			s.gone = true
			s.c.SetLinger(0)
			s.c.Close()
		}
	case *http2.DataFrame:
		if s == nil {
			return
		}
		s.c.Write(f.Data())
		if n := uint32(len(f.Data())); n > 0 {
			b.p.WriteWindowUpdate(0, n)
			b.p.WriteWindowUpdate(s.id, n)
		}
		if f.StreamEnded() {
			s.c.CloseWrite()
		}
	}
}

// open asks the server for what the request asks for.
func (b *bridge) open(q *h2request) {
	nc, err := net.Dial("tcp", b.server)
	if err != nil || q.get(":method") != "CONNECT" || q.get(":protocol") != "websocket" || q.get("sec-websocket-key") != "" {
		b.p.respond(q.id, true, ":status: 400")
		return
	}
	head := "GET " + q.get(":path") + " HTTP/1.1\r\nHost: " + q.get(":authority") + "\r\nConnection: Upgrade\r\n" +
		"Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	for _, f := range q.fields {
		if strings.HasPrefix(f.Name, "sec-websocket-") {
			head += f.Name + ": " + f.Value + "\r\n"
		}
	}
	io.WriteString(nc, head+"\r\n")
	s := &bridged{id: q.id, c: nc.(*net.TCPConn), window: b.initial}
	b.streams[q.id] = s
	go b.carry(s)
}

// carry passes on what the server answers.
func (b *bridge) carry(s *bridged) {
	defer s.c.Close()
	in := bufio.NewReader(s.c)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return
	}
	body := io.Reader(in)
	lines := []string{":status: 200"}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		lines[0], body = fmt.Sprint(":status: ", resp.StatusCode), resp.Body
	}
	if protocol := resp.Header.Get("Sec-WebSocket-Protocol"); protocol != "" {
		lines = append(lines, "sec-websocket-protocol: "+protocol)
	}
	b.mu.Lock()
	b.p.respond(s.id, false, lines...)
	b.mu.Unlock()
	buf := make([]byte, 16<<10)
	for err == nil {
		var n int
		n, err = body.Read(buf)
		for part := buf[:n]; len(part) > 0; {
			sent, ok := b.send(s, part)
			if !ok {
				return
			}
			part = part[sent:]
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case s.gone:
	case err == io.EOF:
		b.p.WriteData(s.id, true, nil)
	default:
		b.p.WriteRSTStream(s.id, http2.ErrCodeCancel)
	}
}

// send sends as much of p as the windows allow, once they do.
func (b *bridge) send(s *bridged, p []byte) (n int, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for !b.over && !s.gone {
		if n = min(len(p), s.window, b.conn); n > 0 {
			s.window -= n
			b.conn -= n
			return n, b.p.WriteData(s.id, false, p[:n]) == nil
		}
		b.change.Wait()
	}
	return 0, false
}

// TestAWebSocketThatIsAskedForAgainIsAcceptedWithTheClientsKey: the key of an HTTP/1.1 client is not sent to a back end that
// speaks HTTP/2, but must be answered, also after a retry.
func TestAWebSocketThatIsAskedForAgainIsAcceptedWithTheClientsKey(t *testing.T) {
	enable := http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1}
	b := newH2BackendWith(t, func(p *h2peer) {
		q := p.request()
		if p.n == 0 || q == nil {
			return
		}
		p.respond(q.id, false, ":status: 200")
		p.linger()
	}, enable)
	c := start(t, []string{b.addr}, overH2).dial()
	const key = "dGhlIHNhbXBsZSBub25jZQ=="
	c.send(get1("Connection: upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: "+key, "Sec-WebSocket-Version: 13"))
	got := c.receive("GET")
	if accept := got.Header.Get("Sec-WebSocket-Accept"); got.StatusCode != 101 || accept != acceptOf(key) {
		t.Errorf("%d, accepted with %q, want %q", got.StatusCode, accept, acceptOf(key))
	}
	if seen := b.seen(); len(seen) != 2 || strings.Contains(seen[0]+seen[1], "sec-websocket-key") {
		t.Errorf("the back end saw %q", seen)
	}
}

// TestTunnelsToHTTP2BackEndsLoseNoLastWords of a client that ends its half and closes the connection at once.
func TestTunnelsToHTTP2BackEndsLoseNoLastWords(t *testing.T) {
	const size = 500 << 10
	got := make(chan string, 1)
	enable := http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1}
	b := newH2BackendWith(t, func(p *h2peer) {
		q := p.request()
		p.respond(q.id, false, ":status: 200")
		body, _ := p.body(q)
		got <- body
	}, enable)
	r := start(t, []string{b.addr}, overH2)
	tn, _ := r.tunnel(t, h2connect(), "")
	words := pattern("w", size)
	io.WriteString(tn, words)
	tn.endAll()
	if rest := <-got; rest != words {
		t.Errorf("%d bytes of %d", len(rest), size)
	}
}
