package exchange

import (
	"net/netip"
	"strings"
	"testing"

	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/trace"
)

const traceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func TestTheBackEndLearnsTheTrace(t *testing.T) {
	for _, c := range []struct {
		name        string
		propagation *trace.Propagation
		trustedOnly bool
		kept        bool
	}{
		{"not asked for", nil, false, true},
		{"from anybody", &trace.Propagation{Formats: []trace.Format{trace.W3C}}, false, true},
		{"from trusted proxies only", &trace.Propagation{Formats: []trace.Format{trace.W3C}}, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSim(t, 1, nil)
			s.w.Settings.Propagation, s.w.Settings.TracesOfTrusted = c.propagation, c.trustedOnly
			client := s.request("GET /", "traceparent: "+traceParent)
			client.start()
			got := s.dialer.connect().fields["traceparent"]
			if len(got) != 1 || (got[0] == traceParent) != c.kept {
				t.Fatalf("the back end gets %q", got)
			}
			want := strings.Split(got[0], "-")[1]
			if c.propagation == nil {
				want = strings.Repeat("0", 32)
			}
			if id := hexOf(client.x.rec.TraceID[:]); id != want {
				t.Errorf("the record has %s, want %s", id, want)
			}
		})
	}
}

func TestATrustedProxysTraceIsKept(t *testing.T) {
	s := newSim(t, 1, nil)
	*s.w.Settings = Settings{
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, TracesOfTrusted: true,
		Propagation: &trace.Propagation{Formats: []trace.Format{trace.W3C}},
	}
	client := s.request("GET /", "traceparent: "+traceParent)
	client.peer = s.w.NewPeer(netip.MustParseAddr("10.0.0.1"), message.SchemeHTTP, s.port)
	client.start()
	if got := s.dialer.connect().fields["traceparent"]; len(got) != 1 || got[0] != traceParent {
		t.Errorf("the back end gets %q", got)
	}
}

func hexOf(b []byte) string {
	const digits = "0123456789abcdef"
	var text strings.Builder
	for _, c := range b {
		text.WriteByte(digits[c>>4])
		text.WriteByte(digits[c&15])
	}
	return text.String()
}
