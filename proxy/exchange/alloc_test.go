package exchange

import (
	"testing"

	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/trace"
)

// TestAWholeExchangeAllocatesNothing: two heads, a body, the record and the access log line.
func TestAWholeExchangeAllocatesNothing(t *testing.T) { wholeExchange(t, nil, "accept-language: en") }

func TestPropagationAllocatesNothing(t *testing.T) {
	p := &trace.Propagation{Formats: []trace.Format{trace.W3C, trace.B3, trace.B3Multi}}
	for _, field := range []string{"traceparent: " + traceParent, "traceparent: 00-", "b3: d"} {
		wholeExchange(t, p, field)
	}
}

func wholeExchange(t *testing.T, p *trace.Propagation, field string) {
	t.Helper()
	s := newSim(t, 1, nil)
	s.w.Settings.Propagation = p
	s.dialer.atOnce = true
	c := &fakeClient{s: s, silent: true}
	c.peer = s.w.NewPeer(s.request("GET /").peer.Client, message.SchemeHTTP, s.port)
	body := []byte("hello")
	lines := []string{"user-agent: test", "accept: */*", "x-forwarded-for: 10.1.2.3", "x-forwarded-prefix: /x", field}
	resp := &message.Response{}
	resp.Fields = make([]message.Field, 0, 32)
	once := func() {
		c.status, c.over, c.data = 0, false, 0
		s.fill(c, "GET /some/path", lines...)
		c.x.Start()
		b := s.dialer.conns[0]
		b.silent = true
		resp.Reset()
		resp.Status, resp.Version, resp.Framing, resp.Length = 200, message.HTTP11, message.Sized, 5
		resp.Add("Content-Type", "text/plain", message.ContentType)
		b.sink.OnHead(resp)
		b.sink.OnData(body)
		b.end()
		if c.status != 200 || c.data != 5 || !c.over {
			t.Fatal("the exchange went wrong")
		}
	}
	once()
	if n := testing.AllocsPerRun(1000, once); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
