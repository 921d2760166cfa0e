package blackbox

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/server"
)

// Tests of what only the reference engine can do yet, and of what engines do with connections as a whole.

func onReference(o *server.Options, _ *config.Config) { o.Plane = server.Reference }

// http2Client speaks HTTP/2 without TLS by prior knowledge.
func http2Client(t *testing.T) *http.Client {
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

func TestHTTP2RequestsReachAnHTTP1BackEnd(t *testing.T) {
	r := start(t, []string{echo(t)}, onReference)
	client := http2Client(t)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			body := bytes.Repeat([]byte{byte('a' + i)}, i*20_000)
			var reader io.Reader = bytes.NewReader(body)
			if i%2 == 1 {
				reader = struct{ io.Reader }{reader} // of unknown length
			}
			resp, err := client.Post("http://"+r.addr+"/?chunked="+strings.Repeat("1", i%3), "text/plain", reader)
			if err != nil {
				t.Error(err)
				return
			}
			defer resp.Body.Close()
			got, err := io.ReadAll(resp.Body)
			if err != nil || !bytes.Equal(got, body) || resp.ProtoMajor != 2 || resp.Header.Get("X-Method") != "POST" {
				t.Errorf("%d of %d bytes over %s, error %v", len(got), len(body), resp.Proto, err)
			}
		})
	}
	all.Wait()
}

func TestHTTP2HeadsAndInterimResponsesArePassedOn(t *testing.T) {
	b := newBackend(t, answering("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"+
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nDate: Mon, 01 Jan 2001 00:00:00 GMT\r\n\r\nok"))
	r := start(t, []string{b.addr}, onReference)
	hint := ""
	ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
		Got1xxResponse: func(_ int, h textproto.MIMEHeader) error { hint = h.Get("Link"); return nil },
	})
	req, _ := http.NewRequestWithContext(ctx, "GET", "http://"+r.addr+"/a/../b?q", nil)
	req.Header.Set("X-Forwarded-For", "1.2.3.4")
	resp, err := http2Client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if hint != "</a.css>" {
		t.Errorf("the early hint is %q", hint)
	}
	if got := resp.Header.Values("Set-Cookie"); len(got) != 2 || resp.Header.Get("Date") != "Mon, 01 Jan 2001 00:00:00 GMT" {
		t.Errorf("%v", resp.Header)
	}
	if _, guessed := resp.Header["Content-Type"]; guessed {
		t.Errorf("a Content-Type that the back end did not send: %v", resp.Header)
	}
	if head := b.seen()[0]; !strings.HasPrefix(head, "GET /b?q HTTP/1.1\r\n") || strings.Contains(head, "1.2.3.4") {
		t.Errorf("the back end saw %q", head)
	}
}

func TestATruncatedResponseResetsItsHTTP2Stream(t *testing.T) {
	b := newBackend(t, func(c *conn) { c.head(); c.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n") })
	r := start(t, []string{b.addr}, onReference)
	resp, err := http2Client(t).Get("http://" + r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("the client takes %q for the whole body", got)
	}
}

func TestAnHTTP2StreamThatIsResetEndsTheRequestToTheBackEnd(t *testing.T) {
	ended := make(chan bool)
	b := newBackend(t, func(c *conn) {
		c.head()
		_, err := c.r.ReadByte()
		ended <- err != nil
	})
	r := start(t, []string{b.addr}, onReference)
	ctx, cancel := context.WithCancel(context.Background())
	req, _ := http.NewRequestWithContext(ctx, "GET", "http://"+r.addr, nil)
	answered := make(chan error)
	go func() {
		_, err := http2Client(t).Do(req)
		answered <- err
	}()
	until(t, "the request to arrive", func() bool { return len(b.seen()) == 1 })
	cancel()
	if err := <-answered; err == nil {
		t.Error("there was an answer")
	}
	if !<-ended {
		t.Error("the back end got a byte more")
	}
}

// TestDrainFinishesWhatIsUnderWayAndClosesWhatIsIdle: of one worker, since each learns of the drain for itself.
func TestDrainFinishesWhatIsUnderWayAndClosesWhatIsIdle(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		asked, answer := make(chan bool), make(chan bool)
		b := newBackend(t, func(c *conn) {
			for c.head() != "" {
				asked <- true
				<-answer
				c.write(ok)
			}
		})
		r := start(t, []string{b.addr}, func(o *server.Options, _ *config.Config) { o.Workers = 1 })
		idle, busy := r.dial(), r.dial()
		idle.send(get)
		<-asked
		answer <- true
		if got := idle.receive("GET"); got.body != "ok" || got.Close {
			t.Fatalf("%q close=%v", got.body, got.Close)
		}
		busy.send(get)
		<-asked
		left := make(chan int)
		go func() { left <- r.server.Drain(context.Background()) }()
		if rest, closed := idle.closedByPeer(); !closed || len(rest) > 0 {
			t.Errorf("the idle connection: closed=%v, %q", closed, rest)
		}
		answer <- true
		if got := busy.receive("GET"); got.body != "ok" || !got.Close {
			t.Errorf("%q close=%v", got.body, got.Close)
		}
		if n := <-left; n != 0 {
			t.Errorf("%d connections had to be cut off", n)
		}
		if c, err := net.DialTimeout("tcp", r.addr, time.Second); err == nil {
			c.Close()
			t.Error("somebody still listens")
		}
	})
}

func TestEndpointsThatLeaveLoseTheirIdleConnections(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		gone := make(chan bool)
		first := newBackend(t, func(c *conn) {
			for c.head() != "" {
				c.write(ok)
			}
			gone <- true
		})
		second := newBackend(t, answering("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond"))
		r := start(t, []string{first.addr})
		c := r.dial()
		if got := c.do(get); got.body != "ok" {
			t.Fatalf("%q", got.body)
		}
		r.publish(second.addr)
		<-gone
		if got := c.do(get); got.body != "second" {
			t.Errorf("%q", got.body)
		}
	})
}

func TestAProxyHeaderSaysWhoTheClientIs(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		b := newBackend(t, answering(ok))
		r := start(t, []string{b.addr}, func(_ *server.Options, c *config.Config) {
			c.Listeners[0].ProxyProtocol = &config.ProxyProtocol{From: []string{"127.0.0.0/8"}}
		})
		c := r.dial()
		c.send("PROXY TCP4 192.0.2.9 198.51.100.1 1000 80\r\n")
		for range 2 {
			if got := c.do(get); got.body != "ok" {
				t.Fatalf("%q", got.body)
			}
		}
		for _, head := range b.seen() {
			if !strings.Contains(head, "X-Forwarded-For: 192.0.2.9\r\n") {
				t.Errorf("the back end saw %q", head)
			}
		}
		c = r.dial()
		c.send(get)
		if rest, closed := c.closedByPeer(); !closed || len(rest) > 0 {
			t.Errorf("without a PROXY header: closed=%v, %q", closed, rest)
		}
	})
}
