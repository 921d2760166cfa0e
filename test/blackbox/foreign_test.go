package blackbox

import (
	"fmt"
	"testing"

	"rauta.io/rauta/fastpath/wire"
)

// TestAPeerThatSpeaksNoHTTPGetsNoAnswer: what names another protocol where HTTP has its version would not understand one.
func TestAPeerThatSpeaksNoHTTPGetsNoAnswer(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		b := newRecorder(t)
		r := start(t, []string{b.addr})
		var names []string
		for reason := range wire.ReasonCount {
			names = append(names, wire.Reason(reason).String())
		}
		r.registry.SetParseReasons(names)
		connections := 0
		for _, raw := range []string{
			"INVALID CONNECTION PREFACE\r\n\r\n", "PRI * SPDY/3.0\r\n\r\nSM\r\n\r\n", "OPTIONS rtsp://a/ RTSP/1.0\r\nCSeq: 1\r\n\r\n",
		} {
			for _, cut := range splits(len(raw)) {
				c := r.dial()
				c.sendSplit(raw, cut)
				if rest, closed := c.closedByPeer(); len(rest) > 0 || !closed {
					t.Errorf("%q, cut at %d: %q, closed=%v", raw, cut, rest, closed)
				}
			}
			connections += len(splits(len(raw)))
		}
		if want := fmt.Sprintf("rauta_parse_errors_total{reason=\"unknown_protocol\"} %d", connections); !r.shows(want) {
			t.Errorf("%s is not among the metrics", want)
		}
		c := r.dial()
		c.do(get)
		if got := c.do("INVALID CONNECTION PREFACE\r\n\r\n"); got.StatusCode != 400 || !got.Close {
			t.Errorf("a peer that has spoken HTTP gets %d", got.StatusCode)
		}
		if served := b.served(); len(served) != 1 {
			t.Errorf("the back end saw %q", served)
		}
	})
}
