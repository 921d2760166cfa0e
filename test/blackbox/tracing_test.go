package blackbox

import (
	"regexp"
	"testing"

	"rauta.io/rauta/proxy/exchange"
	"rauta.io/rauta/proxy/trace"
)

func TestBackEndsLearnTheTraceInEveryFormat(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		b := newBackend(t, answering(ok))
		r := start(t, []string{b.addr}, settings(exchange.Settings{
			Propagation: &trace.Propagation{Formats: []trace.Format{trace.W3C, trace.B3}},
		}))
		const ids = "0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"
		r.dial().do(get1("traceparent: 00-"+ids+"-01", "tracestate: a=b"))
		r.dial().do(get1("traceparent: 00-"+ids, "tracestate: a=b"))
		kept, begun := b.seen()[0], b.seen()[1]
		for _, want := range []string{"(?i)\r\ntraceparent: 00-" + ids + "-01\r\n", "(?i)\r\nb3: " + ids + "-1\r\n", "(?i)\r\ntracestate: a=b\r\n"} {
			if len(regexp.MustCompile(want).FindAllString(kept, -1)) != 1 {
				t.Errorf("want %q once in %q", want, kept)
			}
		}
		parts := regexp.MustCompile("(?i)\r\ntraceparent: 00-([0-9a-f]{32}-[0-9a-f]{16})-00\r\n").FindStringSubmatch(begun)
		if parts == nil || parts[1] == ids || !regexp.MustCompile("(?i)\r\nb3: "+parts[1]+"-0\r\n").MatchString(begun) ||
			regexp.MustCompile("(?i)tracestate|"+ids).MatchString(begun) {
			t.Errorf("no new trace in %q", begun)
		}
	})
}
