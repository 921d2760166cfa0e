package exchange

import (
	"encoding/base64"
	"strings"
	"testing"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/upstream"
)

// webSim has a rule that translates gRPC-Web.
func webSim(t *testing.T, endpoints int) *sim {
	return newSim(t, endpoints, overH2(func(r *config.Rule) {
		r.Backends[0].Filters = []config.Filter{{GRPCWeb: &config.GRPCWeb{}}}
	}))
}

func (s *sim) webCall(contentType string) *fakeClient {
	return s.request("POST /p.Service/Method", "content-type: "+contentType).sized(8).start()
}

func TestGRPCWebIsTranslatedBothWays(t *testing.T) {
	s := webSim(t, 1)
	c := s.webCall("application/grpc-web-text")
	b := s.dialer.connect()
	if got := b.fields["content-type"]; len(got) != 1 || got[0] != "application/grpc" || !c.x.Req.TETrailers {
		t.Errorf("the back end sees %v", b.fields)
	}
	c.x.OnRequestData([]byte("cGlu"))
	c.x.OnRequestData([]byte("Zw")) // a part of a group has to wait
	c.x.OnRequestData([]byte("=="))
	c.x.OnRequestEnd(nil)
	b.wants("head POST /p.Service/Method", "data pin", "data g", "end")
	b.head(200, "content-type: application/grpc")
	b.data("pong")
	b.endWith(trailerFields("grpc-status: 3", "content-length: 9"))
	text := base64.StdEncoding.EncodeToString
	c.wants("pause", "resume", "head 200", "data "+text([]byte("pong")),
		"data "+text([]byte("\x80\x00\x00\x00\x0f"))+text([]byte("grpc-status:3\r\n")), "end", "finished")
	if c.fields["content-type"] != "application/grpc-web-text" {
		t.Errorf("%v", c.fields)
	}
	if e := s.one(); e.GRPCStatus != "INVALID_ARGUMENT" || e.BytesIn != 8 || e.BytesOut != c.data {
		t.Errorf("%+v", e)
	}
}

func TestGRPCWebIsOnlyTranslatedWhereARuleSaysSo(t *testing.T) {
	s := newSim(t, 1, nil)
	c := s.webCall("application/grpc-web")
	b := s.dialer.connect()
	if got := b.fields["content-type"]; got[0] != "application/grpc-web" {
		t.Errorf("the back end sees %v", b.fields)
	}
	c.x.OnRequestEnd(nil)
	b.head(200, "content-type: application/grpc-web")
	b.data("x")
	b.end()
	c.wants("pause", "resume", "head 200", "data x", "end", "finished")
}

// TestATranslationMayBeOfTheRule, of the back end, or of both: then it is done once.
func TestATranslationMayBeOfTheRule(t *testing.T) {
	web := []config.Filter{{GRPCWeb: &config.GRPCWeb{}}}
	for _, backend := range [][]config.Filter{nil, web} {
		s := newSim(t, 1, overH2(func(r *config.Rule) { r.Filters, r.Backends[0].Filters = web, backend }))
		c := s.webCall("application/grpc-web-text")
		b := s.dialer.connect()
		c.x.OnRequestData([]byte("cGluZw=="))
		c.x.OnRequestEnd(nil)
		b.wants("head POST /p.Service/Method", "data ping", "end")
	}
}

func TestAnswersToGRPCWebHaveTheStatusInTheBody(t *testing.T) {
	s := webSim(t, 0)
	c := s.webCall("application/grpc-web+proto")
	c.wants("head 200", "data \x80\x00\x00\x002grpc-status:14\r\ngrpc-message:Service Unavailable\r\n", "end", "finished")
	if c.fields["content-type"] != "application/grpc-web" {
		t.Errorf("%v", c.fields)
	}
	c = s.webCall("application/grpc-web-text")
	if c.fields["content-type"] != "application/grpc-web-text" || !strings.HasPrefix(c.events[1], "data gAAAADI=Z3Jw") {
		t.Errorf("%v %v", c.fields, c.events)
	}
}

func TestABodyThatIsNoBase64EndsTheCall(t *testing.T) {
	for _, body := range []string{"????", "AAA"} {
		s := webSim(t, 1)
		c := s.webCall("application/grpc-web-text")
		b := s.dialer.connect()
		c.x.OnRequestData([]byte(body))
		if !c.over {
			c.x.OnRequestEnd(nil)
		}
		b.wants("head POST /p.Service/Method", "cancel")
		if e := s.one(); e.Reason != "bad_base64" || e.Status != 400 || e.GRPCStatus != "INTERNAL" {
			t.Errorf("%q: %+v", body, e)
		}
	}
}

// TestASecondAttemptAndTheNextExchangeStartAnew: nothing of a body filter is left behind.
func TestASecondAttemptAndTheNextExchangeStartAnew(t *testing.T) {
	s := webSim(t, 1)
	c := s.webCall("application/grpc-web-text")
	s.dialer.refuse(upstream.CauseConnectFailed)
	s.dialer.connect()
	c.x.OnRequestData([]byte("Zw"))
	c.x.OnClientGone("client_reset")
	c = s.webCall("application/grpc-web-text")
	b := s.dialer.connect()
	c.x.OnRequestData([]byte("cGluZw=="))
	c.x.OnRequestEnd(nil)
	b.wants("head POST /p.Service/Method", "data ping", "end")
	b.head(200, "content-type: application/grpc")
	b.end()

	p := s.request("POST /p.Service/Method").start()
	b = s.dialer.conns[len(s.dialer.conns)-1]
	b.head(200, "content-type: application/grpc")
	b.data("x")
	b.end()
	p.wants("head 200", "data x", "end", "finished")
}

// TestACallAllocatesNothing, also when it is gRPC-Web, once the worker's scratch has grown.
func TestACallAllocatesNothing(t *testing.T) {
	for _, contentType := range []string{"content-type: application/grpc", "content-type: application/grpc-web-text"} {
		s := webSim(t, 1)
		s.dialer.atOnce = true
		c := &fakeClient{s: s, silent: true}
		c.peer = s.request("GET /").peer
		body, reply := []byte("cGluZw=="), []byte("pong")
		resp := &message.Response{}
		trailers := new(message.Head)
		once := func() {
			c.status, c.over, c.data = 0, false, 0
			s.fill(c, "POST /p.Service/Method", contentType, "grpc-timeout: 1S")
			c.x.Req.Version = message.HTTP2
			c.sized(8)
			c.x.Start()
			b := s.dialer.conns[0]
			b.silent = true
			c.x.OnRequestData(body)
			c.x.OnRequestEnd(nil)
			resp.Reset()
			resp.Status, resp.Version, resp.Framing, resp.Length = 200, message.HTTP2, message.Streamed, -1
			resp.Add("content-type", "application/grpc", message.ContentType)
			b.sink.OnHead(resp)
			b.sink.OnData(reply)
			trailers.Reset()
			trailers.Add("grpc-status", "0", message.GRPCStatus)
			b.endWith(trailers)
			if c.status != 200 || c.data == 0 || !c.over {
				t.Fatal("the exchange went wrong")
			}
		}
		once()
		if n := testing.AllocsPerRun(1000, once); n != 0 {
			t.Errorf("%s: %v allocations, want 0", contentType, n)
		}
	}
}
