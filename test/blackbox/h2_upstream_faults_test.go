package blackbox

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/server"
)

// oneByOne answers the first request of the first connection with f, and all others with ok.
func oneByOne(f func(c *h2peer, q *h2request)) func(*h2peer) {
	return func(c *h2peer) {
		if c.n > 0 {
			c.answerAll()
			return
		}
		if q := c.request(); q != nil {
			f(c, q)
		}
		c.answerAll()
	}
}

const postNothing = "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 0\r\n\r\n"

func TestABadResponseHeadOfAnHTTP2BackEndIs502(t *testing.T) { // attack row 34
	for name, lines := range map[string][]string{
		"no status":             {"x-a: 1"},
		"two statuses":          {":status: 200", ":status: 200"},
		"status after a field":  {"x-a: 1", ":status: 200"},
		"status of two digits":  {":status: 20"},
		"status with a letter":  {":status: 2x0"},
		"switching protocols":   {":status: 101"},
		"request pseudo field":  {":status: 200", ":path: /"},
		"upper case":            {":status: 200", "X-A: 1"},
		"connection":            {":status: 200", "connection: close"},
		"transfer coding":       {":status: 200", "transfer-encoding: chunked"},
		"upgrade":               {":status: 200", "upgrade: websocket"},
		"line break in a value": {":status: 200", "x-a: 1\r\nx-b: 2"},
		"NUL in a value":        {":status: 200", "x-a: 1\x00"},
		"space around a value":  {":status: 200", "x-a:  1"},
		"two lengths":           {":status: 200", "content-length: 2", "content-length: 2"},
		"length with a sign":    {":status: 200", "content-length: +2"},
		"too large":             {":status: 200", "x-a: " + strings.Repeat("a", 32<<10), "x-b: " + strings.Repeat("b", 33<<10)},
		"too many fields":       append([]string{":status: 200"}, strings.Split(strings.Repeat("x-a: 1|", 101), "|")[:101]...),
		"no length but an end":  {":status: 200", "content-length: 2", "end"},
		"interim with an end":   {":status: 103", "end"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newH2BackendWith(t, oneByOne(func(c *h2peer, q *h2request) {
				end := lines[len(lines)-1] == "end"
				if end {
					c.respond(q.id, true, lines[:len(lines)-1]...)
					return
				}
				c.respond(q.id, false, lines...)
				c.WriteData(q.id, true, []byte("ok"))
			}))
			r := start(t, []string{b.addr}, overH2)
			c := r.dial()
			if reply := c.do(postNothing); reply.StatusCode != 502 {
				t.Errorf("%d, want 502", reply.StatusCode)
			}
			if reply := c.do(get); reply.StatusCode != 200 || b.connections() != 2 {
				t.Errorf("then %d over %d connections; want a new one", reply.StatusCode, b.connections())
			}
		})
	}
}

func TestAResponseOfAnotherLengthThanAnnouncedIsTruncated(t *testing.T) { // attack row 26
	for name, data := range map[string]string{"shorter": "o", "longer": "okk"} {
		t.Run(name, func(t *testing.T) {
			b := newH2BackendWith(t, oneByOne(func(c *h2peer, q *h2request) {
				c.respond(q.id, false, ":status: 200", "content-length: 2")
				c.WriteData(q.id, true, []byte(data))
			}))
			r := start(t, []string{b.addr}, overH2)
			c := r.dial()
			c.send(get)
			if all, closed := c.closedByPeer(); !closed || strings.HasSuffix(string(all), "ok") {
				t.Errorf("the client saw %q; closed: %v", all, closed)
			}
			if reply := r.dial().do(get); reply.StatusCode != 200 || b.connections() != 2 {
				t.Errorf("then %d over %d connections; want a new one", reply.StatusCode, b.connections())
			}
		})
	}
}

func TestWhatAnHTTP2BackEndHasNotLookedAtIsSentAgain(t *testing.T) {
	for name, refuse := range map[string]func(c *h2peer, q *h2request){
		"refused stream": func(c *h2peer, q *h2request) { c.WriteRSTStream(q.id, http2.ErrCodeRefusedStream) },
		"goaway":         func(c *h2peer, _ *h2request) { c.WriteGoAway(0, http2.ErrCodeNo, nil) },
		"goaway and close": func(c *h2peer, _ *h2request) {
			c.WriteGoAway(0, http2.ErrCodeEnhanceYourCalm, []byte("busy"))
			c.Close()
		},
	} {
		for what, request := range map[string]string{
			"": postNothing, " with a body": "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello",
		} {
			t.Run(name+what, func(t *testing.T) {
				b := newH2BackendWith(t, oneByOne(func(c *h2peer, q *h2request) {
					c.body(q) // it has been passed on
					refuse(c, q)
				}))
				r := start(t, []string{b.addr}, overH2)
				c := r.dial()
				if reply := c.do(request); reply.StatusCode != 200 || len(b.seen()) != 2 {
					t.Errorf("%d after %d requests", reply.StatusCode, len(b.seen()))
				}
			})
		}
	}
}

// TestABodyOfUpTo64KiBIsSentAgain to a back end that has not looked at the request, byte by byte the same.
func TestABodyOfUpTo64KiBIsSentAgain(t *testing.T) {
	for _, client := range []int{1, 2} {
		for _, size := range []int{5000, 64 << 10, 64<<10 + 1} {
			m := plain(client, 2)
			t.Run(fmt.Sprint(m, size), func(t *testing.T) {
				body := strings.Repeat("0123456789abcde\n", 5000)[:size]
				tries := 0
				b := newH2BackendWith(t, func(p *h2peer) {
					for q := p.request(); q != nil; q = p.request() {
						got, whole := p.body(q)
						if tries++; tries == 1 {
							p.WriteRSTStream(q.id, http2.ErrCodeRefusedStream)
						} else if whole && got == body {
							p.ok(q)
						} else {
							p.respond(q.id, true, ":status: 409")
						}
					}
				})
				r := m.start(t, []string{b.addr})
				transport := &http.Transport{DisableKeepAlives: true}
				if client == 2 {
					transport = h2transport(t)
				}
				resp, err := (&http.Client{Transport: transport}).Post("http://"+r.addr+"/", "text/plain", strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				want := 200
				if size > 64<<10 {
					want = 502
				}
				if resp.StatusCode != want {
					t.Errorf("%d, want %d", resp.StatusCode, want)
				}
			})
		}
	}
}

func TestAResetByAnHTTP2BackEndBeforeItsHead(t *testing.T) {
	for name, request := range map[string]struct {
		raw    string
		status int
	}{"may be retried": {get, 200}, "may have had an effect": {postNothing, 502}} {
		t.Run(name, func(t *testing.T) {
			b := newH2BackendWith(t, oneByOne(func(c *h2peer, q *h2request) { c.WriteRSTStream(q.id, http2.ErrCodeInternal) }))
			r := start(t, []string{b.addr}, overH2)
			if reply := r.dial().do(request.raw); reply.StatusCode != request.status || b.connections() != 1 {
				t.Errorf("%d over %d connections; a reset stream is no reason for another one", reply.StatusCode, b.connections())
			}
		})
	}
}

func TestAResetByAnHTTP2BackEndInTheBodyIsTruncation(t *testing.T) {
	b := newH2BackendWith(t, oneByOne(func(c *h2peer, q *h2request) {
		c.respond(q.id, false, ":status: 200")
		c.WriteData(q.id, false, []byte("part"))
		c.WriteRSTStream(q.id, http2.ErrCodeInternal)
	}))
	r := start(t, []string{b.addr}, overH2)
	c := r.dial()
	c.send(get)
	if all, closed := c.closedByPeer(); !closed || strings.HasSuffix(string(all), "0\r\n\r\n") {
		t.Errorf("the client saw %q; closed: %v", all, closed)
	}
	h := r.h2()
	h.alive(1)
}

func TestAnEarlyResponseOfAnHTTP2BackEndIsEnough(t *testing.T) {
	for _, tells := range []bool{true, false} {
		b := newH2BackendWith(t, oneByOne(func(c *h2peer, q *h2request) {
			c.respond(q.id, true, ":status: 413")
			if tells {
				c.WriteRSTStream(q.id, http2.ErrCodeNo)
			}
		}))
		r := start(t, []string{b.addr}, overH2)
		c := r.dial()
		c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\npart")
		if reply := c.receive("POST"); reply.StatusCode != 413 {
			t.Errorf("%d", reply.StatusCode)
		}
		if reply := r.dial().do(get); reply.StatusCode != 200 || b.connections() != 1 {
			t.Errorf("then %d over %d connections", reply.StatusCode, b.connections())
		}
	}
}

func TestAClientThatLeavesCancelsItsStreamOnly(t *testing.T) {
	arrived, cancelled := make(chan bool, 1), make(chan http2.ErrCode, 1)
	b := newH2BackendWith(t, oneByOne(func(c *h2peer, q *h2request) {
		arrived <- true
		for {
			switch f := c.next().(type) {
			case nil:
				return
			case *http2.RSTStreamFrame:
				cancelled <- f.ErrCode
				return
			}
		}
	}))
	r := start(t, []string{b.addr}, overH2)
	c := r.dial()
	c.send(get)
	<-arrived
	c.SetLinger(0) // a client that has only closed its half may still want the answer
	c.Close()
	if code := <-cancelled; code != http2.ErrCodeCancel {
		t.Errorf("RST_STREAM %v", code)
	}
	if reply := r.dial().do(get); reply.StatusCode != 200 || b.connections() != 1 {
		t.Errorf("then %d over %d connections", reply.StatusCode, b.connections())
	}
}

// TestCancelledStreamsCountUntilTheBackEndHasHeard: a rapid reset is not passed on (attack row 27).
func TestCancelledStreamsCountUntilTheBackEndHasHeard(t *testing.T) {
	const limit = 20
	var open atomic.Int32
	var most atomic.Int32
	b := newBackend(t, func(c *conn) {
		io.ReadFull(c.r, make([]byte, len(http2.ClientPreface)))
		f := http2.NewFramer(c, c.r)
		f.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: limit})
		n := int32(0)
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				return
			}
			switch frame := frame.(type) {
			case *http2.SettingsFrame:
				if !frame.IsAck() {
					f.WriteSettingsAck()
				}
			case *http2.HeadersFrame: // no PING is answered: it has heard of no reset
				n++
				open.Add(1)
				if n > most.Load() {
					most.Store(n)
				}
			}
		}
	})
	r := start(t, []string{b.addr}, overH2, func(_ *server.Options, c *config.Config) { c.Clusters[0].ConnectionsMax = 2 })
	h := r.h2()
	h.headers(1, true, h2get())
	until(t, "the connection", func() bool { return open.Load() == 1 })
	for i := uint32(1); i < 60; i++ {
		h.headers(2*i+1, true, h2get())
		h.must(h.WriteRSTStream(2*i+1, http2.ErrCodeCancel))
	}
	until(t, "the back end's streams", func() bool { return open.Load() >= limit })
	h.headers(201, true, h2get()) // waits
	time.Sleep(50 * time.Millisecond)
	if n := most.Load(); n > limit {
		t.Errorf("%d streams on a connection whose back end allows %d, and has heard of no reset", n, limit)
	}
}

func TestABackEndThatFloodsOrBreaksTheProtocolIsCutOff(t *testing.T) {
	for name, misbehave := range map[string]func(c *h2peer, q *h2request){
		"PING": func(c *h2peer, _ *h2request) {
			for i := range 2000 {
				if c.WritePing(false, [8]byte{byte(i)}) != nil {
					return
				}
			}
		},
		"SETTINGS": func(c *h2peer, _ *h2request) {
			for range 200 {
				c.WriteSettings()
			}
		},
		"empty DATA": func(c *h2peer, q *h2request) {
			c.respond(q.id, false, ":status: 200")
			for range 1000 {
				c.WriteData(q.id, false, nil)
			}
		},
		"PUSH_PROMISE": func(c *h2peer, q *h2request) {
			c.WritePushPromise(http2.PushPromiseParam{StreamID: q.id, PromiseID: 2, EndHeaders: true})
		},
		"a stream of its own":  func(c *h2peer, _ *h2request) { c.respond(2, true, ":status: 200") },
		"a stream never asked": func(c *h2peer, _ *h2request) { c.respond(99, true, ":status: 200") },
		"window overflow":      func(c *h2peer, _ *h2request) { c.WriteWindowUpdate(0, 1<<31-1) },
		"a frame too large":    func(c *h2peer, q *h2request) { c.WriteData(q.id, false, make([]byte, 17<<10)) },
		"CONTINUATION": func(c *h2peer, q *h2request) {
			c.WriteHeaders(http2.HeadersFrameParam{StreamID: q.id})
			for range 100 {
				c.WriteContinuation(q.id, false, []byte{0x82})
			}
		},
		"push enabled": func(c *h2peer, _ *h2request) { c.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 1}) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newH2BackendWith(t, func(c *h2peer) {
				if c.n > 0 {
					c.answerAll()
					return
				}
				if q := c.request(); q != nil {
					misbehave(c, q)
					io.Copy(io.Discard, c.Conn)
				}
			})
			r := start(t, []string{b.addr}, overH2)
			c := r.dial()
			c.send("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
			if all, closed := c.closedByPeer(); !closed || strings.HasSuffix(string(all), "0\r\n\r\n") {
				t.Errorf("the client saw %q; closed: %v", all, closed)
			}
			if reply := r.dial().do(get); reply.StatusCode != 200 || b.connections() != 2 {
				t.Errorf("then %d over %d connections; want a new one", reply.StatusCode, b.connections())
			}
		})
	}
}

func TestABackEndThatDoesNotSpeakHTTP2FailsTheDial(t *testing.T) {
	b := newBackend(t, func(c *conn) {
		io.ReadFull(c.r, make([]byte, len(http2.ClientPreface)))
		c.write("HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
	})
	r := start(t, []string{b.addr}, overH2)
	if reply := r.dial().do(postNothing); reply.StatusCode != 502 {
		t.Errorf("%d", reply.StatusCode)
	}
	silent := newBackend(t, func(c *conn) { io.Copy(io.Discard, c.Conn) })
	r = start(t, []string{silent.addr}, overH2, func(_ *server.Options, c *config.Config) {
		c.Clusters[0].ConnectTimeout = config.Duration(100 * time.Millisecond)
	})
	if reply := r.dial().do(postNothing); reply.StatusCode != 503 {
		t.Errorf("without settings: %d", reply.StatusCode)
	}
}

func TestPaddingAndContinuationOfABackEndAreUnderstood(t *testing.T) {
	b := newH2BackendWith(t, func(c *h2peer) {
		for {
			q := c.request()
			if q == nil {
				return
			}
			c.respondInPieces(q.id, ":status: 200", "x-a: 1", "x-b: "+strings.Repeat("b", 20<<10))
			c.WriteDataPadded(q.id, false, []byte("padded"), make([]byte, 200))
			c.WriteDataPadded(q.id, true, nil, make([]byte, 10))
		}
	})
	r := start(t, []string{b.addr}, overH2)
	reply := r.dial().do(get)
	if reply.StatusCode != 200 || reply.body != "padded" || reply.Header.Get("X-A") != "1" || len(reply.Header.Get("X-B")) != 20<<10 {
		t.Errorf("%d %q %v", reply.StatusCode, reply.body, reply.err)
	}
}

// TestAGracefulGoAwayLosesNoRequest: back ends end their connections again and again, as in a rolling update.
func TestAGracefulGoAwayLosesNoRequest(t *testing.T) {
	const rounds, each = 20, 20
	b := newH2BackendWith(t, func(c *h2peer) {
		for i := 1; ; i++ {
			q := c.request()
			if q == nil {
				return
			}
			if !q.ended {
				c.body(q)
			}
			if i == each+5 {
				c.WriteGoAway(q.id, http2.ErrCodeNo, nil)
				c.ok(q)
				c.linger()
				return
			}
			c.ok(q)
		}
	})
	r := start(t, []string{b.addr}, overH2)
	h := r.h2()
	for round := range uint32(rounds) {
		for i := range uint32(each) {
			h.headers(2*(round*each+i)+1, true, h2post())
		}
		for id, reply := range h.responses(each) {
			if reply.status != 200 {
				t.Fatalf("stream %d: %+v", id, reply)
			}
		}
	}
}

func TestInterimResponsesOfAnHTTP2BackEndPass(t *testing.T) {
	b := newH2BackendWith(t, func(c *h2peer) {
		for {
			q := c.request()
			if q == nil {
				return
			}
			n := 1
			if q.get(":path") == "/flood" {
				n = 40
			}
			for range n {
				c.respond(q.id, false, ":status: 103", "link: </a>; rel=preload")
			}
			c.ok(q)
		}
	})
	r := start(t, []string{b.addr}, overH2)
	c := r.dial()
	if reply := c.do(get); reply.StatusCode != 103 || reply.Header.Get("Link") == "" {
		t.Errorf("%d", reply.StatusCode)
	}
	if reply := c.receive("GET"); reply.StatusCode != 200 {
		t.Errorf("%d", reply.StatusCode)
	}
	c = r.dial()
	c.send("GET /flood HTTP/1.0\r\nHost: a\r\n\r\n")
	if reply := c.receive("GET"); reply.StatusCode != 502 {
		t.Errorf("a flood of them: %d", reply.StatusCode)
	}
}

func TestResponsesWithoutBodyFromAnHTTP2BackEnd(t *testing.T) {
	b := newH2BackendWith(t, func(c *h2peer) {
		for {
			q := c.request()
			if q == nil {
				return
			}
			switch {
			case q.get(":method") == "HEAD":
				c.respond(q.id, true, ":status: 200", "content-length: 1000")
			case q.get(":path") == "/304":
				c.respond(q.id, true, ":status: 304", "content-length: 1000")
			case q.get(":path") == "/204":
				c.respond(q.id, false, ":status: 204")
				c.WriteData(q.id, true, nil)
			default:
				c.respond(q.id, false, ":status: 304")
				c.WriteData(q.id, true, []byte("body"))
			}
		}
	})
	r := start(t, []string{b.addr}, overH2)
	c := r.dial()
	if reply := c.do("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"); reply.StatusCode != 200 || reply.ContentLength != 1000 {
		t.Errorf("HEAD: %d, length %d", reply.StatusCode, reply.ContentLength)
	}
	if reply := c.do("GET /304 HTTP/1.1\r\nHost: a\r\n\r\n"); reply.StatusCode != 304 || reply.Header.Get("Content-Length") != "1000" {
		t.Errorf("304: %d %v", reply.StatusCode, reply.Header)
	}
	if reply := c.do("GET /204 HTTP/1.1\r\nHost: a\r\n\r\n"); reply.StatusCode != 204 {
		t.Errorf("204: %d", reply.StatusCode)
	}
	if reply := c.do("GET /body HTTP/1.1\r\nHost: a\r\n\r\n"); reply.StatusCode != 304 || reply.body != "" {
		t.Errorf("304 with a body: %d %q", reply.StatusCode, reply.body)
	}
}

// TestWindowsOfABackEndMayChangeAndBecomeNegative: RFC 9113 section 6.9.2.
func TestWindowsOfABackEndMayChangeAndBecomeNegative(t *testing.T) {
	body := strings.Repeat("x", 50000)
	got := make(chan string, 1)
	b := newH2BackendWith(t, func(c *h2peer) {
		q := c.request()
		body, allowed := "", 1000
		for len(body) < 50000 {
			f := c.next()
			data, isData := f.(*http2.DataFrame)
			if !isData {
				return
			}
			body += string(data.Data())
			if len(body) > allowed {
				got <- fmt.Sprintf("%d bytes, %d are allowed", len(body), allowed)
				return
			}
			switch len(body) {
			case 1000: // 1000 less than nothing, then 500 more than that
				c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
				c.WriteWindowUpdate(q.id, 1500)
				allowed = 1500
			case 1500:
				c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 60000})
				allowed = 61500
			}
		}
		got <- body
		c.ok(q)
		c.linger()
	}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1000})
	r := start(t, []string{b.addr}, overH2)
	reply := r.dial().do(fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
	if seen := <-got; seen != body {
		t.Errorf("the back end got %.60q", seen)
	}
	if reply.StatusCode != 200 {
		t.Errorf("%d", reply.StatusCode)
	}
}

// TestAResponseThatIsHereOutlivesItsConnection: the back end is gone, and the client has only begun to read.
func TestAResponseThatIsHereOutlivesItsConnection(t *testing.T) {
	const size = 60 << 10
	closed := make(chan bool)
	b := newH2BackendWith(t, func(c *h2peer) {
		q := c.request()
		if q == nil {
			return
		}
		c.respond(q.id, false, ":status: 200", fmt.Sprint("content-length: ", size))
		for left := size; left > 0; left -= min(left, 16<<10) {
			c.WriteData(q.id, left <= 16<<10, make([]byte, min(left, 16<<10)))
		}
		c.WriteGoAway(q.id, http2.ErrCodeNo, nil)
		c.Close()
		close(closed)
	})
	r := start(t, []string{b.addr}, overH2)
	h := r.h2(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1000})
	h.headers(1, true, h2get())
	<-closed
	time.Sleep(20 * time.Millisecond) // either order must do
	h.must(h.WriteWindowUpdate(1, size))
	if reply := h.response(1); reply.reset || len(reply.body) != size {
		t.Errorf("reset %v after %d bytes", reply.reset, len(reply.body))
	}
}

// TestCancelledStreamsMakeRoomAgain: a few after a while, many as soon as the back end has heard.
func TestCancelledStreamsMakeRoomAgain(t *testing.T) {
	for _, limit := range []uint32{2, 50} {
		b := newH2BackendWith(t, func(c *h2peer) {
			for {
				q := c.request()
				if q == nil {
					return
				}
				if q.get(":path") == "/answer" {
					c.ok(q)
				}
			}
		}, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: limit})
		r := start(t, []string{b.addr}, overH2, func(_ *server.Options, c *config.Config) { c.Clusters[0].ConnectionsMax = 1 })
		h := r.h2()
		for i := range limit {
			h.headers(2*i+1, true, h2get())
		}
		until(t, "the requests", func() bool { return len(b.seen()) == int(limit) })
		for i := range limit {
			h.must(h.WriteRSTStream(2*i+1, http2.ErrCodeCancel))
		}
		h.headers(201, true, []string{":method: GET", ":scheme: http", ":path: /answer", ":authority: a"})
		if reply := h.response(201); reply.status != 200 || b.connections() != 1 {
			t.Errorf("with %d streams: %d over %d connections", limit, reply.status, b.connections())
		}
	}
}
