package blackbox

import (
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"rauta.io/rauta/fastpath"
)

func TestHTTP2MalformedRequestsAreResetAndReachNoBackEnd(t *testing.T) { // attack row 24
	b := newBackend(t, answering(ok))
	r := start(t, []string{b.addr})
	without := func(name string) []string {
		var lines []string
		for _, l := range h2get() {
			if !strings.HasPrefix(l, name) {
				lines = append(lines, l)
			}
		}
		return lines
	}
	for name, lines := range map[string][]string{
		"no method":                  without(":method"),
		"no scheme":                  without(":scheme"),
		"no path":                    without(":path"),
		"two methods":                append([]string{":method: GET"}, h2get()...),
		"two paths":                  append([]string{":path: /"}, h2get()...),
		"two authorities":            append([]string{":authority: a.example"}, h2get()...),
		"pseudo after regular":       append([]string{"a: b"}, h2get()...),
		"unknown pseudo":             append([]string{":protocol: websocket"}, h2get()...),
		"response pseudo":            append([]string{":status: 200"}, h2get()...),
		"upper-case name":            h2get("X-Upper: 1"),
		"colon in name":              h2get("a:b: 1"),
		"space in name":              h2get("a b: 1"),
		"empty path":                 append(without(":path"), ":path: "),
		"path without slash":         append(without(":path"), ":path: a"),
		"asterisk for GET":           append(without(":path"), ":path: *"),
		"scheme with junk":           append(without(":scheme"), ":scheme: http://a/"),
		"empty method":               append(without(":method"), ":method: "),
		"method with a space":        append(without(":method"), ":method: GET /x HTTP/1.1"),
		"CR in value":                h2get("a: b\rc"),
		"LF in value":                h2get("a: b\nc"),
		"NUL in value":               h2get("a: b\x00c"),
		"leading space":              h2get("a:  b"),
		"trailing space":             h2get("a: b "),
		"CRLF in path":               append(without(":path"), ":path: /\r\nX: y"),
		"te":                         h2get("te: gzip"),
		"connection":                 h2get("connection: close"),
		"keep-alive":                 h2get("keep-alive: 1"),
		"proxy-connection":           h2get("proxy-connection: 1"),
		"transfer-encoding":          h2get("transfer-encoding: chunked"),
		"upgrade":                    h2get("upgrade: h2c"),
		"content-length not digits":  h2get("content-length: +0"),
		"two content-lengths":        h2get("content-length: 0", "content-length: 0"),
		"content-length but no body": h2get("content-length: 5"),
	} {
		t.Run(name, func(t *testing.T) {
			c := r.h2()
			c.t = t
			c.headers(1, true, lines)
			c.wantReset(1, http2.ErrCodeProtocol)
		})
	}
	if seen := b.seen(); len(seen) > 0 {
		t.Errorf("the back end saw %q", seen)
	}
}

func TestHTTP2BadRequestsAreAnsweredLikeOnHTTP1(t *testing.T) {
	b := newBackend(t, answering(ok))
	r := start(t, []string{b.addr})
	path := func(p string) []string {
		return []string{":method: GET", ":scheme: http", ":path: " + p, ":authority: a.example"}
	}
	many := h2get()
	for range 101 {
		many = append(many, "a: b")
	}
	for name, c := range map[string]struct {
		lines  []string
		status int
	}{
		"host differs":        {h2get("host: b.example"), 400}, // attack row 25
		"two hosts":           {h2get("host: a.example", "host: a.example"), 400},
		"no host":             {[]string{":method: GET", ":scheme: http", ":path: /"}, 400},
		"bad authority":       {[]string{":method: GET", ":scheme: http", ":path: /", ":authority: u@a"}, 400},
		"bad escape":          {path("/%zz"), 400},
		"NUL escape":          {path("/%00"), 400},
		"fragment":            {path("/#a"), 400},
		"not ASCII":           {path("/\xff"), 400},
		"long path":           {path("/" + strings.Repeat("a", 8<<10)), 414},
		"large head":          {h2get("a: "+strings.Repeat("b", 20<<10), "c: "+strings.Repeat("d", 12<<10)), 431},
		"many fields":         {many, 431},
		"many cookies":        {h2get("cookie: " + strings.Repeat("a=b; ", 200) + "c=d"), 431},
		"unknown expectation": {h2get("expect: x"), 417},
		"connect":             {[]string{":method: CONNECT", ":authority: a.example:80"}, 405},
	} {
		t.Run(name, func(t *testing.T) {
			h := r.h2()
			h.t = t
			h.headers(1, true, c.lines)
			if reply := h.response(1); reply.status != c.status || reply.reset {
				t.Errorf("%+v, want %d", reply, c.status)
			}
			h.alive(3)
		})
	}
	for _, head := range b.seen() {
		if head != b.seen()[0] && !strings.HasPrefix(head, "GET / HTTP/1.1\r\nHost: a.example\r\n") {
			t.Errorf("the back end saw %q", head)
		}
	}
}

func TestHTTP2BodiesThatBelieTheirLengthCloseTheUpstream(t *testing.T) { // attack row 26
	for name, send := range map[string]func(c *h2client){
		"too long":  func(c *h2client) { c.must(c.WriteData(1, false, []byte("123456"))) },
		"too short": func(c *h2client) { c.must(c.WriteData(1, true, []byte("1234"))) },
		"trailers early": func(c *h2client) {
			c.headers(1, true, []string{"x-trailer: 1"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan bool, 1)
			b := newBackend(t, func(c *conn) {
				if c.n > 0 {
					answering(ok)(c)
					return
				}
				c.head()
				if body := c.read(5); body != "" {
					t.Errorf("the back end got %q", body)
				}
				ended <- true
			})
			r := start(t, []string{b.addr})
			c := r.h2()
			c.headers(1, false, h2post("content-length: 5"))
			until(t, "the head is at the back end", func() bool { return len(b.seen()) == 1 })
			send(c)
			c.wantReset(1, http2.ErrCodeProtocol)
			<-ended
			c.alive(3)
			if b.connections() != 2 {
				t.Errorf("%d connections at the back end", b.connections())
			}
		})
	}
}

func TestHTTP2TrailersEndABodyAndAreDropped(t *testing.T) { // attack row 14
	r := start(t, []string{echo(t)})
	c := r.h2()
	c.headers(1, false, h2post())
	c.must(c.WriteData(1, false, []byte("body")))
	c.headers(1, true, []string{"x-trailer: 1"})
	if reply := c.response(1); reply.body != "body" {
		t.Errorf("%+v", reply)
	}
	c.headers(3, false, h2post())
	c.headers(3, true, []string{":path: /"})
	c.wantReset(3, http2.ErrCodeProtocol)
	c.headers(5, false, h2post())
	c.headers(5, false, []string{"x-trailer: without end"})
	c.wantReset(5, http2.ErrCodeProtocol)
	c.alive(7)
}

func TestHTTP2StreamsAboveTheLimitAreRefused(t *testing.T) {
	release := make(chan bool)
	b := newBackend(t, func(c *conn) {
		for c.head() != "" {
			<-release
			c.write(ok)
		}
	})
	r := start(t, []string{b.addr})
	c := r.h2()
	for i := range 101 {
		c.headers(uint32(2*i+1), true, h2get())
	}
	c.wantReset(201, http2.ErrCodeRefusedStream)
	until(t, "100 requests are at the back end", func() bool { return len(b.seen()) == 100 })
	close(release)
	for range 100 {
		for {
			if d, isData := c.next().(*http2.DataFrame); isData && d.StreamEnded() {
				break
			}
		}
	}
	c.alive(203)
}

func TestHTTP2WindowsAreGivenBackAsBodiesMoveOn(t *testing.T) {
	b := newBackend(t, func(c *conn) {
		c.head()
		for c.read(1) != "" {
		}
	})
	r := start(t, []string{b.addr})
	c := r.h2()
	c.headers(1, false, h2post())
	await := func(credit int) {
		t.Helper()
		for c.credit[1] < credit {
			f, err := c.ReadFrame()
			c.must(err)
			if w, isUpdate := f.(*http2.WindowUpdateFrame); isUpdate {
				c.credit[w.StreamID] += int(w.Increment)
			}
		}
	}
	const size, window = 1 << 20, 64 << 10
	for sent := 0; sent < size; sent += 16 << 10 {
		await(sent + 16<<10 - window)
		c.must(c.WriteData(1, false, make([]byte, 16<<10)))
	}
	await(size) // the window has grown: it is open further than by what was sent, less what is not credited yet
}

func TestHTTP2ClientsThatIgnoreWindowsAreStopped(t *testing.T) {
	hold := make(chan bool)
	b := newBackend(t, func(c *conn) { c.head(); <-hold })
	defer close(hold)
	r := start(t, []string{b.addr})
	c := r.h2()
	big := make([]byte, 16<<10)
	c.headers(1, false, h2post())
	// What the kernel between RAUTA and the back end takes is credited: keep sending until the window must be gone.
	go func() {
		for range 4096 {
			if c.WriteData(1, false, big) != nil {
				return
			}
		}
	}()
	for {
		switch f := c.next().(type) {
		case nil:
			t.Fatal("the connection has ended without a word")
		case *http2.RSTStreamFrame:
			if f.ErrCode != http2.ErrCodeFlowControl {
				t.Errorf("%v", f)
			}
			return
		case *http2.GoAwayFrame:
			if f.ErrCode != http2.ErrCodeFlowControl {
				t.Errorf("%v", f)
			}
			return
		}
	}
}

func TestHTTP2ResponsesKeepWithinTheClientsWindows(t *testing.T) {
	body := strings.Repeat("x", 300<<10)
	b := newBackend(t, answering("HTTP/1.1 200 OK\r\nContent-Length: 307200\r\n\r\n"+body))
	r := start(t, []string{b.addr})
	c := r.h2(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
	c.headers(1, true, h2get())
	got := 0
	read := func(want int) {
		t.Helper()
		for got < want {
			if d, isData := c.next().(*http2.DataFrame); isData {
				got += len(d.Data())
			}
		}
		if got != want {
			t.Fatalf("%d bytes within a window of %d", got, want)
		}
	}
	read(10)
	c.must(c.WriteWindowUpdate(1, 5))
	read(15)
	c.must(c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 20}))
	read(25)
	c.must(c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}))
	c.must(c.WriteWindowUpdate(1, 21)) // the window was -20
	read(26)
	c.must(c.WriteWindowUpdate(1, 1<<20))
	read(65535) // of the connection
	c.must(c.WriteWindowUpdate(0, 1<<20))
	read(len(body))
}

func TestHTTP2StreamsShareTheWindowOfTheirConnection(t *testing.T) {
	body := strings.Repeat("x", 200<<10)
	b := newBackend(t, answering("HTTP/1.1 200 OK\r\nContent-Length: 204800\r\n\r\n"+body))
	r := start(t, []string{b.addr})
	c := r.h2(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	for id := uint32(1); id <= 7; id += 2 {
		c.headers(id, true, h2get())
	}
	got := map[uint32]int{}
	uncredited := 0
	for ended := 0; ended < 4; {
		d, isData := c.next().(*http2.DataFrame)
		if !isData {
			continue
		}
		n := len(d.Data())
		got[d.StreamID] += n
		if uncredited += n; uncredited > 32<<10 {
			c.must(c.WriteWindowUpdate(0, uint32(uncredited)))
			uncredited = 0
		}
		if d.StreamEnded() {
			ended++
		}
	}
	for id := uint32(1); id <= 7; id += 2 {
		if got[id] != len(body) {
			t.Errorf("stream %d got %d of %d bytes", id, got[id], len(body))
		}
	}
}

func TestHTTP2SlowBodiesAreGivenUp(t *testing.T) {
	b := newBackend(t, func(c *conn) {
		c.head()
		c.read(5)
	})
	r := start(t, []string{b.addr}, limits(func(l *fastpath.Limits) { l.BodyIdle = 1e9 }))
	c := r.h2()
	c.headers(1, false, h2post("content-length: 5"))
	c.must(c.WriteData(1, false, []byte("1")))
	if reply := c.response(1); reply.status != 408 {
		t.Errorf("%+v", reply)
	}
}
