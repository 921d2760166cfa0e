package blackbox

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"
)

// h2transport is net/http's client by prior knowledge.
func h2transport(t *testing.T) *http.Transport {
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

func TestHTTP2BodiesOfAnySizePassBothWays(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		r := start(t, []string{echo(t)})
		tr := h2transport(t)
		random := rand.New(rand.NewSource(1))
		for _, size := range []int{0, 1, 100, 16<<10 - 1, 16 << 10, 64<<10 + 1, 1 << 20, 5 << 20} {
			for _, form := range []string{"sized", "streamed", "chunked"} {
				body := make([]byte, size)
				random.Read(body)
				var from io.Reader = bytes.NewReader(body)
				if form == "streamed" {
					from = struct{ io.Reader }{from}
				}
				url := "http://" + r.addr + "/"
				if form == "chunked" {
					url += "?chunked=1"
				}
				req, _ := http.NewRequest("POST", url, from)
				resp, err := tr.RoundTrip(req)
				if err != nil {
					t.Fatalf("%d bytes %s: %v", size, form, err)
				}
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || sha256.Sum256(got) != sha256.Sum256(body) || resp.StatusCode != 200 {
					t.Errorf("%d bytes %s: status %d, %d bytes came back, %v", size, form, resp.StatusCode, len(got), err)
				}
			}
		}
	})
}

func TestHTTP2ServesAHundredStreamsAtOnce(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		r := start(t, []string{echo(t)})
		tr := h2transport(t)
		var wait sync.WaitGroup
		for i := range 100 {
			wait.Go(func() {
				for j := range 5 {
					body := strings.Repeat(fmt.Sprintf("%d/%d ", i, j), 1000*(1+i%7))
					req, _ := http.NewRequest("PUT", "http://"+r.addr+"/", strings.NewReader(body))
					resp, err := tr.RoundTrip(req)
					if err != nil {
						t.Error(err)
						return
					}
					got, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					if err != nil || string(got) != body {
						t.Errorf("stream %d: %d of %d bytes, %v", i, len(got), len(body), err)
					}
				}
			})
		}
		wait.Wait()
	})
}

func TestHTTP2StreamsThatAreGivenUpHurtNoOther(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		r := start(t, []string{echo(t)})
		tr := h2transport(t)
		big := make([]byte, 1<<20)
		for i := range 30 {
			ctx, cancel := context.WithCancel(context.Background())
			req, _ := http.NewRequestWithContext(ctx, "POST", "http://"+r.addr+"/", bytes.NewReader(big))
			resp, err := tr.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			io.CopyN(io.Discard, resp.Body, int64(1+i*1000))
			cancel()
			resp.Body.Close()
			req, _ = http.NewRequest("GET", "http://"+r.addr+"/", nil)
			if resp, err = tr.RoundTrip(req); err != nil || resp.StatusCode != 200 {
				t.Fatalf("after %d resets: %v", i, err)
			}
			resp.Body.Close()
		}
	})
}

func TestHTTP2HeadsReachTheBackEndAsHTTP1(t *testing.T) {
	b := newBackend(t, answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Upper: Ok\r\nConnection: x-hop\r\nX-Hop: 1\r\nSet-Cookie: a=b\r\n\r\nok"))
	r := start(t, []string{b.addr})
	c := r.h2()
	c.headers(1, true, []string{
		":method: GET", ":scheme: http", ":path: /a/../b/%2e/c?q=1&r", ":authority: A.example:80", "host: a.EXAMPLE:80",
		"cookie: a=1", "cookie: b=2; c=3", "te: trailers", "x_under: dropped", "x-kept: yes", "http2-settings: x",
	})
	reply := c.response(1)
	if reply.status != 200 || reply.body != "ok" || reply.get("x-upper") != "Ok" || reply.get("set-cookie") != "a=b" ||
		reply.get("content-length") != "2" || reply.get("connection") != "" || reply.get("date") == "" {
		t.Errorf("%+v", reply)
	}
	head := b.seen()[0]
	for _, want := range []string{
		"GET /b/c?q=1&r HTTP/1.1\r\nHost: A.example:80\r\n", "cookie: a=1; b=2; c=3\r\n", "x-kept: yes\r\n",
	} {
		if !strings.Contains(head, want) {
			t.Errorf("the back end saw %q, without %q", head, want)
		}
	}
	for _, unwanted := range []string{"x_under", "http2-settings", "host: a.EXAMPLE"} {
		if strings.Contains(head, unwanted) {
			t.Errorf("the back end saw %q, with %q", head, unwanted)
		}
	}
}

func TestHTTP2ResponsesWithoutABodyEndWithTheirHead(t *testing.T) {
	for _, c := range []struct{ method, response, length string }{
		{"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "5"},
		{"GET", "HTTP/1.1 204 No Content\r\n\r\n", ""},
		{"GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", "7"},
		{"GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "0"},
	} {
		b := newBackend(t, answering(c.response))
		r := start(t, []string{b.addr})
		h := r.h2()
		for _, id := range []uint32{1, 3} {
			h.headers(id, true, []string{":method: " + c.method, ":scheme: http", ":path: /", ":authority: a"})
			reply := h.response(id)
			if reply.body != "" || reply.get("content-length") != c.length {
				t.Errorf("%s %q: %+v", c.method, c.response, reply)
			}
		}
	}
}

func TestHTTP2InterimResponsesPassThrough(t *testing.T) {
	b := newBackend(t, answering("HTTP/1.1 103 Early Hints\r\nLink: </s.css>\r\n\r\n"+ok))
	r := start(t, []string{b.addr})
	c := r.h2()
	c.headers(1, true, h2get())
	f, isHead := c.next().(*http2.HeadersFrame)
	if !isHead || f.StreamEnded() {
		t.Fatalf("%v", f)
	}
	fields, err := c.dec.DecodeFull(f.HeaderBlockFragment())
	if err != nil || (h2reply{fields: fields}).get(":status") != "103" || (h2reply{fields: fields}).get("link") != "</s.css>" {
		t.Errorf("%v, %v", fields, err)
	}
	if reply := c.response(1); reply.status != 200 || reply.body != "ok" {
		t.Errorf("%+v", reply)
	}
}

func TestHTTP2ExpectIsAnsweredWhenThereIsABackEnd(t *testing.T) {
	r := start(t, []string{echo(t)})
	c := r.h2()
	c.headers(1, false, h2post("expect: 100-continue"))
	f, isHead := c.next().(*http2.HeadersFrame)
	if !isHead {
		t.Fatal("no interim response")
	}
	fields, _ := c.dec.DecodeFull(f.HeaderBlockFragment())
	if (h2reply{fields: fields}).get(":status") != "100" {
		t.Errorf("%v", fields)
	}
	c.must(c.WriteData(1, true, []byte("body")))
	if reply := c.response(1); reply.body != "body" {
		t.Errorf("%+v", reply)
	}
}

func TestHTTP2ResponsesKeepWithinTheClientsTable(t *testing.T) { // RFC 7541 section 4.2
	b := newBackend(t, answering("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nServer: x\r\nX-A: b\r\nContent-Length: 0\r\n\r\n"))
	r := start(t, []string{b.addr})
	for _, size := range []uint32{0, 40, 100, 4096, 1 << 20} {
		c := r.h2(http2.Setting{ID: http2.SettingHeaderTableSize, Val: size})
		c.dec.SetAllowedMaxDynamicTableSize(min(size, 4096))
		for id := uint32(1); id < 9; id += 2 {
			c.headers(id, true, h2get())
			if reply := c.response(id); reply.status != 200 || reply.get("content-type") != "text/html" || reply.get("x-a") != "b" {
				t.Errorf("table of %d bytes: %+v", size, reply)
			}
		}
	}
}

func TestHTTP2LongHeadsSpanFrames(t *testing.T) {
	value := strings.Repeat("v", 8000)
	b := newBackend(t, answering("HTTP/1.1 200 OK\r\nA: "+value+"\r\nB: "+value+"\r\nC: "+value+"\r\nContent-Length: 2\r\n\r\nok"))
	r := start(t, []string{b.addr})
	tr := h2transport(t)
	req, _ := http.NewRequest("GET", "http://"+r.addr+"/", nil)
	req.Header.Set("X-Long", strings.Repeat("w", 20000))
	resp, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	if string(body) != "ok" || resp.Header.Get("C") != value {
		t.Errorf("%q, %d bytes of C", body, len(resp.Header.Get("C")))
	}
	if !strings.Contains(b.seen()[0], strings.Repeat("w", 20000)) {
		t.Error("the long request field did not arrive")
	}
}

func TestHTTP2TruncatedResponsesAreSeenAsSuch(t *testing.T) {
	b := newBackend(t, func(c *conn) {
		if c.head() != "" {
			c.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
		}
	})
	r := start(t, []string{b.addr})
	c := r.h2()
	c.headers(1, true, h2get())
	if reply := c.response(1); !reply.reset || reply.code != http2.ErrCodeInternal {
		t.Errorf("%+v", reply)
	}
}

func TestHTTP2ConnectionsDrainInTwoSteps(t *testing.T) {
	release := make(chan bool)
	b := newBackend(t, func(c *conn) {
		for c.head() != "" {
			<-release
			c.write(ok)
		}
	})
	r := start(t, []string{b.addr})
	c := r.h2()
	c.headers(1, true, h2get())
	until(t, "the request is at the back end", func() bool { return len(b.seen()) == 1 })
	drained := make(chan bool)
	go func() { defer close(drained); r.server.Drain(context.Background()) }()
	g, isGoAway := c.next().(*http2.GoAwayFrame)
	if !isGoAway || g.LastStreamID != 1<<31-1 || g.ErrCode != http2.ErrCodeNo {
		t.Fatalf("%v", g)
	}
	ping, isPing := c.next().(*http2.PingFrame)
	if !isPing {
		t.Fatal("no PING")
	}
	c.headers(3, true, h2get()) // was on its way
	c.must(c.WritePing(true, ping.Data))
	if g, isGoAway = c.next().(*http2.GoAwayFrame); !isGoAway || g.LastStreamID != 3 {
		t.Fatalf("%v", g)
	}
	close(release)
	for range 2 {
		for {
			if f := c.next(); f == nil {
				t.Fatal("the connection has ended before its responses")
			} else if d, isData := f.(*http2.DataFrame); isData && d.StreamEnded() {
				break
			}
		}
	}
	if f := c.next(); f != nil {
		t.Errorf("%v after the last response", f)
	}
	c.Close()
	<-drained
}
