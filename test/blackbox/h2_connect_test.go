package blackbox

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// switching is a 101 that answers the key of a request head.
func switching(head string) string {
	req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(head)))
	if err != nil {
		return ""
	}
	return "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: " +
		acceptOf(req.Header.Get("Sec-WebSocket-Key")) + "\r\n"
}

// acceptOf is the answer to a key (RFC 6455 section 4.2.2).
func acceptOf(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// switchingEcho opens a tunnel on every connection and sends back what comes, until the client closes its half.
func switchingEcho(c *conn) {
	c.write(switching(c.head()) + "\r\n")
	io.Copy(c.Conn, c.r)
}

func TestHTTP2ConnectBecomesAnUpgrade(t *testing.T) {
	b := newBackend(t, switchingEcho)
	r := start(t, []string{b.addr})
	tn, reply := r.tunnel(t, h2connect("sec-websocket-protocol: chat", "sec-websocket-key: ignored", "te: trailers"), "")
	if reply.status != 200 || reply.get("upgrade") != "" || reply.get("connection") != "" || reply.get("content-length") != "" ||
		reply.get("sec-websocket-accept") != "" {
		t.Fatalf("%+v", reply)
	}
	head := b.seen()[0]
	req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(head)))
	if err != nil {
		t.Fatalf("%q: %v", head, err)
	}
	for name, want := range map[string]string{
		"Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Protocol": "chat", "Content-Length": "",
		"Transfer-Encoding": "", "X-Forwarded-For": "127.0.0.1",
	} {
		if got := strings.Join(req.Header.Values(name), "|"); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	nonce, err := base64.StdEncoding.DecodeString(req.Header.Get("Sec-WebSocket-Key"))
	if !strings.HasPrefix(head, "GET / HTTP/1.1\r\nHost: a.example\r\n") || !strings.EqualFold(req.Header.Get("Connection"), "upgrade") ||
		len(nonce) != 16 || err != nil || len(req.Header.Values("Sec-WebSocket-Key")) != 1 {
		t.Errorf("the back end got %q", head)
	}
	io.WriteString(tn, "hello")
	got := make([]byte, 5)
	if _, err := io.ReadFull(tn, got); err != nil || string(got) != "hello" {
		t.Fatalf("%q %v", got, err)
	}
	tn.CloseWrite()
	if rest, err := io.ReadAll(tn); err != nil || len(rest) > 0 {
		t.Errorf("then came %q, %v", rest, err)
	}
}

func TestHTTP2TunnelsAreMultiplexedWithRequests(t *testing.T) {
	b := newBackend(t, func(c *conn) {
		for head := c.head(); head != ""; head = c.head() {
			if strings.Contains(head, "Upgrade") {
				c.write(switching(head) + "\r\n")
				io.Copy(c.Conn, c.r)
				return
			}
			c.write(ok)
		}
	})
	c := start(t, []string{b.addr}).h2()
	c.headers(1, false, h2connect())
	if f, isHead := c.next().(*http2.HeadersFrame); !isHead || f.StreamEnded() {
		t.Fatalf("%v", f)
	}
	c.must(c.WriteData(1, false, []byte("x")))
	if d, isData := c.next().(*http2.DataFrame); !isData || string(d.Data()) != "x" {
		t.Fatalf("%v", d)
	}
	for id := uint32(3); id < 9; id += 2 {
		c.alive(id)
	}
	c.must(c.WriteData(1, true, []byte("y")))
	if reply := c.response(1); reply.reset || reply.body != "y" {
		t.Errorf("%+v", reply)
	}
	c.alive(9)
}

func TestHTTP2MalformedConnectsAreReset(t *testing.T) { // attack row 24, RFC 8441 section 4
	b := newBackend(t, answering(ok))
	r := start(t, []string{b.addr})
	without := func(name string) []string {
		var lines []string
		for _, l := range h2connect() {
			if !strings.HasPrefix(l, name) {
				lines = append(lines, l)
			}
		}
		return lines
	}
	for name, lines := range map[string][]string{
		"GET with protocol":          append([]string{":protocol: websocket"}, h2get()...),
		"no scheme":                  without(":scheme"),
		"no path":                    without(":path"),
		"no authority":               without(":authority"),
		"only a host":                append(without(":authority"), "host: a.example"),
		"no protocol but a path":     without(":protocol"),
		"two protocols":              append([]string{":protocol: websocket"}, h2connect()...),
		"protocol after regular":     append(without(":protocol"), ":protocol: websocket"),
		"content-length":             h2connect("content-length: 0"),
		"upgrade":                    h2connect("upgrade: websocket"),
		"connection":                 h2connect("connection: upgrade"),
		"bad scheme":                 append([]string{":scheme: ws://"}, without(":scheme")...),
		"line break in the protocol": append([]string{":protocol: websocket\r\nX: y"}, without(":protocol")...),
	} {
		t.Run(name, func(t *testing.T) {
			c := r.h2()
			c.t = t
			c.headers(1, false, lines)
			c.wantReset(1, http2.ErrCodeProtocol)
		})
	}
	if seen := b.seen(); len(seen) > 0 {
		t.Errorf("the back end saw %q", seen)
	}
}

func TestHTTP2TunnelsOfUnknownProtocolsAreNotImplemented(t *testing.T) { // RFC 9220 section 3
	b := newBackend(t, answering(ok))
	r := start(t, []string{b.addr})
	for _, protocol := range []string{"connect-udp", "h2c", "websocketx", "storm"} {
		c := r.h2()
		c.headers(1, true, append([]string{":protocol: " + protocol}, append(h2connect()[:1:1], h2connect()[2:]...)...))
		if reply := c.response(1); reply.status != 501 || reply.reset {
			t.Errorf("%s: %+v", protocol, reply)
		}
		c.alive(3)
	}
	if seen := b.seen(); len(seen) != 4 {
		t.Errorf("the back end saw %q", seen)
	}
}

func TestHTTP2SettingsAnnounceExtendedConnect(t *testing.T) { // RFC 8441 section 3
	f, err := start(t, []string{echo(t)}).h2().ReadFrame()
	s, isSettings := f.(*http2.SettingsFrame)
	if err != nil || !isSettings {
		t.Fatalf("%v %v", f, err)
	}
	if v, announced := s.Value(http2.SettingEnableConnectProtocol); !announced || v != 1 {
		t.Errorf("%v", s)
	}
}

// TestHTTP2RefusedTunnelsAreOrdinaryResponses: what the client has sent already is thrown away, the back end gets none of it.
func TestHTTP2RefusedTunnelsAreOrdinaryResponses(t *testing.T) {
	for name, c := range map[string]struct {
		response string
		status   int
	}{
		"sized":          {"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", 403},
		"chunked":        {"HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 13\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n", 426},
		"redirect":       {"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 2\r\n\r\nno", 302},
		"until the end":  {"HTTP/1.1 401 Unauthorized\r\n\r\nno", 401},
		"ignored":        {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno", 502},
		"other protocol": {"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\nno", 502},
		"no accept":      {"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nno", 502},
		"wrong accept": {"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n" +
			"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nno", 502},
	} {
		t.Run(name, func(t *testing.T) {
			rest := make(chan string, 1)
			b := newBackend(t, func(bc *conn) {
				bc.head()
				bc.write(c.response)
				bc.Conn.(*net.TCPConn).CloseWrite()
				s, _ := io.ReadAll(bc.r)
				rest <- string(s)
			})
			tn, reply := start(t, []string{b.addr}).tunnel(t, h2connect(), "too early")
			if reply.status != c.status {
				t.Fatalf("%+v", reply)
			}
			body, err := io.ReadAll(tn)
			want := "no"
			if c.status == 502 {
				want = "502 Bad Gateway\n"
			}
			if string(body) != want || err != nil {
				t.Errorf("%q %v", body, err)
			}
			if s := <-rest; s != "" {
				t.Errorf("the back end got %q", s)
			}
		})
	}
}

func TestHTTP2TunnelDataBeforeTheSwitchIsHeld(t *testing.T) {
	go101, early := make(chan bool), make(chan string, 1)
	b := newBackend(t, func(c *conn) {
		head := c.head()
		<-go101
		c.write(switching(head) + "\r\nfirst ") // the tunnel's first bytes come with the 101
		early <- c.read(len("early and more"))
		c.write("second")
	})
	r := start(t, []string{b.addr})
	c := r.h2()
	c.headers(1, false, h2connect())
	c.must(c.WriteData(1, false, []byte("early ")))
	c.must(c.WriteData(1, true, []byte("and more"))) // even the end of the client's half
	c.must(c.WritePing(false, [8]byte{1}))
	for { // everything has been read
		f, err := c.ReadFrame()
		c.must(err)
		if p, isPing := f.(*http2.PingFrame); isPing && p.IsAck() {
			break
		}
	}
	close(go101)
	if got := <-early; got != "early and more" {
		t.Errorf("the back end got %q", got)
	}
	if reply := c.response(1); reply.status != 200 || reply.body != "first second" || reply.reset {
		t.Errorf("%+v", reply)
	}
}

func TestHTTP2TunnelsEndOneHalfAtATime(t *testing.T) {
	b := newBackend(t, func(c *conn) {
		c.write(switching(c.head()) + "\r\n")
		c.Conn.(*net.TCPConn).CloseWrite() // nothing to say
		rest, _ := io.ReadAll(c.r)
		if string(rest) != "all of it" {
			t.Errorf("the back end got %q", rest)
		}
		c.b.mu.Lock()
		c.b.requests = append(c.b.requests, "done")
		c.b.mu.Unlock()
	})
	tn, _ := start(t, []string{b.addr}).tunnel(t, h2connect(), "")
	if rest, err := io.ReadAll(tn); len(rest) > 0 || err != nil {
		t.Fatalf("%q %v", rest, err)
	}
	io.WriteString(tn, "all ")
	io.WriteString(tn, "of it")
	tn.CloseWrite()
	until(t, "the back end to have had everything", func() bool { return len(b.seen()) == 2 })
}

// TestHTTP2TunnelsThatAreResetAreResetOnTheOtherSide: RFC 8441 section 5, a reset of TCP is RST_STREAM with CANCEL.
func TestHTTP2TunnelsThatAreResetAreResetOnTheOtherSide(t *testing.T) {
	ended := make(chan string, 2)
	b := newBackend(t, func(c *conn) {
		c.write(switching(c.head()) + "\r\n")
		got := c.read(2)
		if got == "go" {
			reset(c)
			return
		}
		rest, err := io.ReadAll(c.r)
		if err == nil {
			ended <- string(rest)
		} else {
			ended <- "reset"
		}
	})
	r := start(t, []string{b.addr})
	tn, _ := r.tunnel(t, h2connect(), "")
	io.WriteString(tn, "go")
	if _, err := io.ReadAll(tn); err != (errReset{http2.ErrCodeCancel}) {
		t.Errorf("%v", err)
	}
	tn, _ = r.tunnel(t, h2connect(), "")
	io.WriteString(tn, "hi")
	tn.Reset(http2.ErrCodeCancel)
	<-ended
	tn.mu.Lock()
	defer tn.mu.Unlock()
	if tn.goAway || tn.end != nil {
		t.Errorf("the connection has gone: %v", tn.end)
	}
}

func TestHTTP2TunnelsHaveNoTrailers(t *testing.T) {
	b := newBackend(t, switchingEcho)
	c := start(t, []string{b.addr}).h2()
	c.headers(1, false, h2connect())
	if _, isHead := c.next().(*http2.HeadersFrame); !isHead {
		t.Fatal("no head")
	}
	c.headers(1, true, []string{"a: b"})
	c.wantReset(1, http2.ErrCodeProtocol)
}

// TestHTTP2TunnelsLoseNoLastWords of a client that ends its half and closes the connection at once.
func TestHTTP2TunnelsLoseNoLastWords(t *testing.T) {
	got := make(chan string, 1)
	b := newBackend(t, func(c *conn) {
		c.write(switching(c.head()) + "\r\n")
		rest, _ := io.ReadAll(c.r)
		got <- string(rest)
	})
	r := start(t, []string{b.addr})
	for _, size := range []int{10, 100 << 10, 500 << 10} {
		tn, _ := r.tunnel(t, h2connect(), "")
		words := pattern("w", size)
		io.WriteString(tn, words)
		tn.endAll()
		if rest := <-got; rest != words {
			t.Errorf("%d bytes of %d", len(rest), size)
		}
	}
}

func TestHTTP2TunnelsHoldBackTheFasterEnd(t *testing.T) {
	stopped, done := make(chan bool, 1), make(chan bool)
	b := newBackend(t, func(c *conn) {
		c.write(switching(c.head()) + "\r\n")
		if c.n == 0 {
			_, ok := flood(c)
			stopped <- ok
			return
		}
		<-done // takes nothing
	})
	r := start(t, []string{b.addr})
	c := r.h2() // opens no window
	c.headers(1, false, h2connect())
	if !<-stopped {
		t.Error("the back end could send everything to a client that takes nothing")
	}
	defer close(done)
	tn, _ := r.tunnel(t, h2connect(), "")
	sent := make(chan int, 1)
	go func() {
		n, _ := tn.Write(make([]byte, floodBytes))
		sent <- n
	}()
	left := func() int {
		tn.mu.Lock()
		defer tn.mu.Unlock()
		return min(tn.stream, tn.conn)
	}
	until(t, "the client's windows to stay closed", func() bool {
		if left() > 0 {
			return false
		}
		time.Sleep(300 * time.Millisecond) // as long as flood waits
		return left() <= 0
	})
	tn.c.TCPConn.Close()
	if n := <-sent; n == floodBytes {
		t.Error("the client could send everything to a back end that takes nothing")
	}
}
