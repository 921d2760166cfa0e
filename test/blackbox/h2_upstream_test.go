package blackbox

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/server"
)

func TestARequestReachesAnHTTP2BackEnd(t *testing.T) {
	b := newH2Backend(t, answeringH2)
	r := start(t, []string{b.addr}, overH2)
	c := r.dial()
	reply := c.do("POST /some/path?q=1 HTTP/1.1\r\nHost: a.example\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n" +
		"Keep-Alive: 5\r\nTE: trailers\r\nCookie: a=1; b=2\r\nX-Kept: Yes\r\nContent-Length: 4\r\n\r\nbody")
	if reply.StatusCode != 200 || reply.body != "ok" || reply.ContentLength != 2 {
		t.Fatalf("%d %q", reply.StatusCode, reply.body)
	}
	seen := b.seen()[0]
	for _, want := range []string{
		":method: POST\n:scheme: http\n:authority: a.example\n:path: /some/path?q=1\n", "\nx-kept: Yes\n", "\ncookie: a=1; b=2\n",
		"\nte: trailers\n", "\ncontent-length: 4\n",
	} {
		if !strings.Contains("\n"+seen, want) {
			t.Errorf("the back end saw %q, want %q in it", seen, want)
		}
	}
	for _, not := range []string{"x-hop", "connection", "keep-alive", "\nhost", "transfer-encoding"} {
		if strings.Contains(seen, not) {
			t.Errorf("the back end saw %q, which has %q", seen, not)
		}
	}
	if reply := c.do(get); reply.StatusCode != 200 || b.connections() != 1 {
		t.Errorf("%d over %d connections", reply.StatusCode, b.connections())
	}
	h := r.h2()
	h.headers(1, true, h2get())
	if reply := h.response(1); reply.status != 200 || reply.body != "ok" {
		t.Errorf("%+v", reply)
	}
}

func TestStreamsShareFewConnectionsToAnHTTP2BackEnd(t *testing.T) {
	const streams = 60
	b := newH2BackendWith(t, func(c *h2peer) {
		var all []*h2request
		for range streams {
			q := c.request()
			if q == nil {
				return
			}
			all = append(all, q)
		}
		for _, q := range all {
			c.ok(q)
		}
		c.linger()
	})
	r := start(t, []string{b.addr}, overH2)
	h := r.h2()
	for i := range uint32(streams) {
		h.headers(2*i+1, true, h2get())
	}
	for i := range uint32(streams) {
		if reply := h.response(2*i + 1); reply.status != 200 {
			t.Fatalf("stream %d: %+v", i, reply)
		}
	}
	if n := b.connections(); n != 1 {
		t.Errorf("%d connections for %d streams of one client", n, streams)
	}
}

// TestABackEndsStreamLimitIsKept: the requests beyond it use other connections or wait.
func TestABackEndsStreamLimitIsKept(t *testing.T) {
	over := make(chan int, 100)
	b := newH2BackendWith(t, func(c *h2peer) {
		open := 0
		for {
			q := c.request()
			if q == nil {
				return
			}
			c.writing.Lock()
			if open++; open > 3 {
				over <- open
			}
			c.writing.Unlock()
			time.AfterFunc(5*time.Millisecond, func() { // others come meanwhile
				c.writing.Lock()
				defer c.writing.Unlock()
				open--
				c.ok(q)
			})
		}
	}, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 3})
	r := start(t, []string{b.addr}, overH2)
	h := r.h2()
	const streams = 60
	for i := range uint32(streams) {
		h.headers(2*i+1, true, h2get())
	}
	for id, reply := range h.responses(streams) {
		if reply.status != 200 || reply.body != "ok" {
			t.Fatalf("stream %d: %+v", id, reply)
		}
	}
	select {
	case n := <-over:
		t.Errorf("%d streams on one connection, the back end allows 3", n)
	default:
	}
}

// TestAHeadThatAnHTTP2BackEndDoesNotTakeIs431: what its settings say is kept, and other requests on the connection go on.
func TestAHeadThatAnHTTP2BackEndDoesNotTakeIs431(t *testing.T) {
	for _, client := range []int{1, 2} {
		m := plain(client, 2)
		t.Run(m.String(), func(t *testing.T) {
			const most = 2000
			b := newH2BackendWith(t, (*h2peer).answerAll, http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: most})
			r := m.start(t, []string{b.addr}, func(o *server.Options, _ *config.Config) { o.Workers = 1 })
			transport := &http.Transport{}
			if client == 2 {
				transport = h2transport(t)
			}
			t.Cleanup(transport.CloseIdleConnections)
			do := func(size int) int {
				req, _ := http.NewRequest("POST", "http://"+r.addr+"/", strings.NewReader("body"))
				req.Header.Set("X-Large", strings.Repeat("x", size))
				resp, err := transport.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				return resp.StatusCode
			}
			sizeOf := func(request string) (n int) {
				for _, line := range strings.Split(strings.TrimSuffix(request, "\n"), "\n") {
					n += len(line) - len(": ") + 32
				}
				return n
			}
			if got := do(1); got != 200 {
				t.Fatalf("a small head: %d", got)
			}
			room := most - sizeOf(b.seen()[0]) + 1
			if got := do(room); got != 200 || sizeOf(b.seen()[1]) != most {
				t.Errorf("a head of %d bytes, all that is allowed: %d", sizeOf(b.seen()[1]), got)
			}
			for range 8 { // more than an endpoint may fail
				if got := do(room + 1); got != 431 {
					t.Errorf("a byte more: %d, want 431", got)
				}
			}
			if got := do(1); got != 200 || len(b.seen()) != 3 || b.connections() != 1 {
				t.Errorf("then %d; %d requests over %d connections", got, len(b.seen()), b.connections())
			}
		})
	}
}

func TestBodiesLargerThanAllWindowsPassBothWays(t *testing.T) {
	const size = 3 << 20
	body := strings.Repeat("0123456789abcdef", size/16)
	r := start(t, []string{echoH2(t)}, overH2)
	c := r.dial()
	go c.TCPConn.Write([]byte(fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", size, body)))
	if reply := c.receive("POST"); reply.StatusCode != 200 || reply.body != body || reply.err != nil {
		t.Fatalf("%d, %d bytes, %v", reply.StatusCode, len(reply.body), reply.err)
	}
	go c.TCPConn.Write([]byte(fmt.Sprintf("POST /?chunked=1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", size, body)))
	if reply := c.receive("POST"); reply.StatusCode != 200 || reply.body != body || reply.err != nil {
		t.Fatalf("chunked: %d, %d bytes, %v", reply.StatusCode, len(reply.body), reply.err)
	}
}

func TestTrailersPassBetweenHTTP2Sides(t *testing.T) {
	seen := make(chan *h2request, 1)
	b := newH2BackendWith(t, func(c *h2peer) {
		for {
			q := c.request()
			if q == nil {
				return
			}
			f := c.next()
			for data, isData := f.(*http2.DataFrame); isData && !data.StreamEnded(); data, isData = f.(*http2.DataFrame) {
				f = c.next()
			}
			if last, isHead := f.(*http2.HeadersFrame); isHead {
				seen <- c.begin(last)
			} else {
				seen <- &h2request{}
			}
			c.respond(q.id, false, ":status: 200", "content-type: application/grpc")
			c.WriteData(q.id, false, []byte("message"))
			c.respond(q.id, true, "grpc-status: 7", "grpc-message: no", "content-length: 5", "set-cookie: a=b")
		}
	})
	r := start(t, []string{b.addr}, overH2)
	h := r.h2()
	h.headers(1, false, h2post("te: trailers"))
	h.must(h.WriteData(1, false, []byte("x")))
	h.headers(1, true, []string{"checksum: 1", "authorization: Basic eDp5"})
	reply := h.response(1)
	if got := <-seen; len(got.fields) != 1 || got.get("checksum") != "1" {
		t.Errorf("the back end got the trailers %v", got.fields)
	}
	if reply.body != "message" || len(reply.fields) != 2 || reply.get("grpc-status") != "7" || reply.get("grpc-message") != "no" {
		t.Errorf("the client got %+v", reply)
	}
	c := r.dial() // HTTP/1 does not carry them
	if reply := c.do("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"); reply.body != "message" || len(reply.Trailer) != 0 {
		t.Errorf("%q with %v", reply.body, reply.Trailer)
	}
	if got := <-seen; len(got.fields) != 0 {
		t.Errorf("trailers from HTTP/1: %v", got.fields)
	}
}

// TestAResponseInTrailersOnlyStaysOne: gRPC answers so.
func TestAResponseInTrailersOnlyStaysOne(t *testing.T) {
	b := newH2BackendWith(t, func(c *h2peer) {
		for {
			q := c.request()
			if q == nil {
				return
			}
			c.respond(q.id, true, ":status: 200", "content-type: application/grpc", "grpc-status: 12")
		}
	})
	r := start(t, []string{b.addr}, overH2)
	h := r.h2()
	h.headers(1, true, h2get())
	f, isHead := h.next().(*http2.HeadersFrame)
	if !isHead || !f.StreamEnded() {
		t.Fatalf("want one HEADERS frame with END_STREAM, got %v", f)
	}
	fields, err := h.dec.DecodeFull(f.HeaderBlockFragment())
	h.must(err)
	for _, field := range fields {
		if field.Name == "content-length" {
			t.Error("a length was added")
		}
	}
	if reply := r.dial().do(get); reply.StatusCode != 200 || reply.ContentLength != 0 {
		t.Errorf("on HTTP/1: %d, length %d", reply.StatusCode, reply.ContentLength)
	}
}

func TestResetsAreCountedByTheirWay(t *testing.T) {
	b := newH2BackendWith(t, func(c *h2peer) {
		for {
			q := c.request()
			if q == nil {
				return
			}
			switch q.get(":path") {
			case "/reset":
				c.WriteRSTStream(q.id, http2.ErrCodeInternal)
			case "/early":
				c.respond(q.id, true, ":status: 200")
			}
		}
	})
	r := start(t, []string{b.addr}, overH2)
	h := r.h2()
	h.headers(1, true, []string{":method: POST", ":scheme: http", ":path: /reset", ":authority: a"})
	h.response(1)
	h.headers(3, false, []string{":method: POST", ":scheme: http", ":path: /early", ":authority: a"})
	h.response(3)
	h.wantReset(3, http2.ErrCodeNo)
	h.headers(5, true, h2post())
	until(t, "the request", func() bool { return len(b.seen()) == 3 })
	h.must(h.WriteRSTStream(5, http2.ErrCodeCancel))
	want := `rauta_http2_resets_total{way="from_backend"} 1
rauta_http2_resets_total{way="from_client"} 1
rauta_http2_resets_total{way="to_backend"} 2
rauta_http2_resets_total{way="to_client"} 1
`
	until(t, "the counters", func() bool {
		var text strings.Builder
		r.registry.WritePrometheus(&text)
		return strings.Contains(text.String(), want)
	})
}

// TestSlowClientsDoNotHoldUpOthersOnTheSameConnection: clients can't be trusted to read, and share connections with others.
func TestSlowClientsDoNotHoldUpOthersOnTheSameConnection(t *testing.T) {
	r := start(t, []string{serveH2(t, func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/large" {
			w.Write(make([]byte, 1<<20))
		}
		w.Write([]byte("ok"))
	})}, overH2)
	slow := r.h2(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	const streams = 90
	for i := range uint32(streams) {
		slow.headers(2*i+1, true, []string{":method: GET", ":scheme: http", ":path: /large", ":authority: a"})
	}
	for heads := 0; heads < streams; {
		if _, isHead := slow.next().(*http2.HeadersFrame); isHead {
			heads++
		}
	}
	time.Sleep(100 * time.Millisecond) // their bodies come as far as they can
	c := r.dial()
	for range 20 {
		if reply := c.do("GET /large HTTP/1.1\r\nHost: a\r\n\r\n"); reply.StatusCode != 200 || len(reply.body) != 1<<20+2 {
			t.Fatalf("%d, %d bytes, %v", reply.StatusCode, len(reply.body), reply.err)
		}
	}
}
