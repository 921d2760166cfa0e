package blackbox

import (
	"encoding/binary"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"rauta.io/rauta/fastpath"
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/exchange"
	"rauta.io/rauta/proxy/server"
)

func proxyProtocol(from ...string) option {
	return func(_ *server.Options, c *config.Config) {
		c.Listeners[0].ProxyProtocol = &config.ProxyProtocol{From: from}
	}
}

// v2header builds a PROXY protocol header of version 2.
func v2header(command, family byte, body []byte) string {
	b := append([]byte("\r\n\r\n\x00\r\nQUIT\n"), command, family)
	return string(append(binary.BigEndian.AppendUint16(b, uint16(len(body))), body...))
}

func v2addresses(from, to string) []byte {
	a, b := netip.MustParseAddrPort(from), netip.MustParseAddrPort(to)
	body := append(append([]byte(nil), a.Addr().AsSlice()...), b.Addr().AsSlice()...)
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(body, a.Port()), b.Port())
}

func TestThePROXYProtocolSaysWhoTheClientIs(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		b := newBackend(t, answering(ok))
		r := start(t, []string{b.addr}, proxyProtocol("127.0.0.0/8"))
		for name, c := range map[string]struct{ header, client string }{
			"v1 IPv4":    {"PROXY TCP4 192.0.2.7 10.0.0.1 12345 80\r\n", "192.0.2.7"},
			"v1 IPv6":    {"PROXY TCP6 2001:db8::7 2001:db8::1 12345 80\r\n", "2001:db8::7"},
			"v1 unknown": {"PROXY UNKNOWN\r\n", "127.0.0.1"},
			"v2 IPv4":    {v2header(0x21, 0x11, v2addresses("192.0.2.7:1", "10.0.0.1:80")), "192.0.2.7"},
			"v2 IPv6":    {v2header(0x21, 0x21, v2addresses("[2001:db8::7]:1", "[2001:db8::1]:80")), "2001:db8::7"},
			"v2 local":   {v2header(0x20, 0x00, nil), "127.0.0.1"},
			"v2 with type-length-values": {v2header(0x21, 0x11, append(v2addresses("192.0.2.7:1", "10.0.0.1:80"),
				append([]byte{0x04, 0x01, 0x00}, make([]byte, 256)...)...)), "192.0.2.7"},
		} {
			t.Run(name, func(t *testing.T) {
				raw := c.header + get
				for cut := range len(c.header) + 2 {
					cl := r.dial()
					cl.sendSplit(raw, cut)
					if got := cl.receive("GET"); got.StatusCode != 200 {
						t.Fatalf("cut at %d: %d", cut, got.StatusCode)
					}
					if got := cl.do(get); got.StatusCode != 200 { // one header per connection
						t.Fatalf("cut at %d: the second request got %d", cut, got.StatusCode)
					}
					cl.Close()
				}
				seen := b.seen()
				for _, head := range seen[len(seen)-2:] {
					for _, field := range []string{"X-Forwarded-For: ", "X-Real-IP: "} {
						if !strings.Contains(head, "\r\n"+field+c.client+"\r\n") {
							t.Errorf("want %s%s in %q", field, c.client, head)
						}
					}
				}
			})
		}
	})
}

// TestABadPROXYHeaderGetsNoAnswer: whoever does not speak it has no business here, and learns nothing.
func TestABadPROXYHeaderGetsNoAnswer(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		b := newRecorder(t)
		r := start(t, []string{b.addr}, proxyProtocol("127.0.0.0/8"))
		for name, header := range map[string]string{
			"none":                      "",
			"line feed only":            "PROXY TCP4 192.0.2.7 10.0.0.1 12345 80\n",
			"too long":                  "PROXY UNKNOWN " + strings.Repeat("x", 200) + "\r\n",
			"without an end":            "PROXY " + strings.Repeat("x", 200),
			"lower case":                "proxy tcp4 192.0.2.7 10.0.0.1 12345 80\r\n",
			"another family":            "PROXY TCP6 192.0.2.7 10.0.0.1 12345 80\r\n",
			"no address":                "PROXY TCP4 localhost localhost 12345 80\r\n",
			"v2 with another version":   v2header(0x31, 0x11, v2addresses("192.0.2.7:1", "10.0.0.1:80")),
			"v2 with too few addresses": v2header(0x21, 0x11, []byte{1, 2, 3}),
			"v2 of 64 KiB":              v2header(0x21, 0x11, make([]byte, 65535)),
			"empty line first":          "\r\nPROXY UNKNOWN\r\n",
			"TLS":                       "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		} {
			t.Run(name, func(t *testing.T) {
				raw := header + canary
				for _, cut := range splits(len(raw)) {
					c := r.dial()
					c.sendSplit(raw, cut)
					if rest, closed := c.closedByPeer(); !closed || len(rest) > 0 {
						t.Errorf("cut at %d: closed=%v, answer %q", cut, closed, rest)
					}
				}
			})
		}
		t.Run("twice", func(t *testing.T) { // the second one is a bad request
			c := r.dial()
			c.send("PROXY UNKNOWN\r\nPROXY UNKNOWN\r\n\r\n" + canary)
			if got := c.receive("GET"); got.StatusCode != 400 {
				t.Errorf("%d, want 400", got.StatusCode)
			}
		})
		if len(b.bytes()) > 0 {
			t.Errorf("the back end got %q", b.bytes())
		}
		if got := r.dial().do("PROXY UNKNOWN\r\n" + get); got.StatusCode != 200 {
			t.Errorf("afterwards: %d", got.StatusCode)
		}
	})
}

func TestAPeerThatMayNotSpeakForOthersIsClosed(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		b := newRecorder(t)
		r := start(t, []string{b.addr}, proxyProtocol("10.0.0.0/8"))
		for _, raw := range []string{"PROXY TCP4 192.0.2.7 10.0.0.1 12345 80\r\n" + get, get} {
			c := r.dial()
			io.WriteString(c.TCPConn, raw)
			if rest, closed := c.closedByPeer(); !closed || len(rest) > 0 {
				t.Errorf("closed=%v, answer %q", closed, rest)
			}
		}
		if len(b.bytes()) > 0 {
			t.Errorf("the back end got %q", b.bytes())
		}
	})
}

func TestAListenerWithoutThePROXYProtocolRefusesIt(t *testing.T) {
	refuse(t, []attack{
		{"v1", "PROXY TCP4 192.0.2.7 10.0.0.1 12345 80\r\n" + get, 400},
		{"v2", v2header(0x21, 0x11, v2addresses("192.0.2.7:1", "10.0.0.1:80")) + get, 400},
	})
}

func TestHalfAPROXYHeaderIsCutOffInTime(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		b := newRecorder(t)
		r := start(t, []string{b.addr}, proxyProtocol("127.0.0.0/8"),
			limits(func(l *fastpath.Limits) { l.HeadTimeout = int64(100 * time.Millisecond) }))
		for _, part := range []string{"", "PROXY TC", "\r\n\r\n\x00\r\nQU", "PROXY UNKNOWN\r\n"} {
			c := r.dial()
			c.send(part)
			if rest, closed := c.closedByPeer(); !closed || len(rest) > 0 {
				t.Errorf("%q: closed=%v, answer %q", part, closed, rest)
			}
		}
	})
}

// TestWhatThePROXYProtocolSaysDecidesAboutTrust: the balancer speaks for a proxy that we trust, or for anybody.
func TestWhatThePROXYProtocolSaysDecidesAboutTrust(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		b := newBackend(t, answering(ok))
		r := start(t, []string{b.addr}, proxyProtocol("127.0.0.0/8"),
			settings(exchange.Settings{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}))
		for from, want := range map[string]string{
			"10.1.1.1":  "X-Forwarded-For: 198.51.100.9, 10.1.1.1\r\n",
			"192.0.2.7": "X-Forwarded-For: 192.0.2.7\r\n",
		} {
			r.dial().do("PROXY TCP4 " + from + " 10.0.0.1 12345 80\r\n" + get1("X-Forwarded-For: 198.51.100.9"))
			seen := b.seen()
			if head := seen[len(seen)-1]; !strings.Contains(head, want) {
				t.Errorf("from %s: want %q in %q", from, want, head)
			}
		}
	})
}
