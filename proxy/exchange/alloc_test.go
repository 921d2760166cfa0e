package exchange

import (
	"testing"

	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/observe"
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
	once := s.repeatedly(p, field)
	once()
	if n := testing.AllocsPerRun(1000, once); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

// fullRing is the way of BenchmarkTracing whose collector takes nothing.
const fullRing = "sampled, and there is no room"

// BenchmarkTracing is what the parts of tracing add to an exchange without sockets.
func BenchmarkTracing(b *testing.B) {
	w3c := []trace.Format{trace.W3C}
	for _, c := range []struct {
		name  string
		p     *trace.Propagation
		field string
	}{
		{"none", nil, "traceparent: " + traceParent},
		{fullRing, &trace.Propagation{Formats: w3c, Spans: true}, "traceparent: " + traceParent},
		{"kept", &trace.Propagation{Formats: w3c}, "traceparent: " + traceParent},
		{"begun", &trace.Propagation{Formats: w3c}, "accept-language: en"},
		{"translated", &trace.Propagation{Formats: []trace.Format{trace.W3C, trace.B3, trace.B3Multi}}, "traceparent: " + traceParent},
		{"not sampled", &trace.Propagation{Formats: w3c, Spans: true}, "traceparent: " + traceParent[:53] + "00"},
		{"sampled", &trace.Propagation{Formats: w3c, Spans: true}, "traceparent: " + traceParent},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := newSim(b, 1, nil)
			s.reg.SetAccessLog(nil) // whose lines cost more than what is measured, and are kept by the simulation
			spans, taken := s.reg.CollectSpans(), make([]observe.Span, 256)
			once := s.repeatedly(c.p, c.field)
			once()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				once()
				if c.name != fullRing && i%len(taken) == 0 {
					spans.Take(taken)
				}
			}
			if c.name != fullRing && spans.Dropped() != 0 {
				b.Errorf("%d spans were dropped, which costs less", spans.Dropped())
			}
		})
	}
}

// repeatedly returns a function that is a whole exchange each time.
func (s *sim) repeatedly(p *trace.Propagation, field string) func() {
	t := s.t
	s.w.Settings.Propagation = p
	s.dialer.atOnce = true
	c := &fakeClient{s: s, silent: true}
	c.peer = s.w.NewPeer(s.request("GET /").peer.Client, message.SchemeHTTP, s.port)
	body := []byte("hello")
	lines := []string{"user-agent: test", "accept: */*", "x-forwarded-for: 10.1.2.3", "x-forwarded-prefix: /x", field}
	resp := &message.Response{}
	resp.Fields = make([]message.Field, 0, 32)
	return func() {
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
}
