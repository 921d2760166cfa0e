package exchange

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"rauta.io/rauta/proxy/message"
)

// forwarded sends a request from a peer and returns the fields that the back end gets.
func forwarded(t *testing.T, peer string, scheme message.Scheme, lines ...string) map[string][]string {
	s := newSim(t, 1, nil)
	s.w.Settings.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	c := s.request("GET /", lines...)
	c.peer = s.w.NewPeer(netip.MustParseAddr(peer), scheme, s.port)
	c.start()
	return s.dialer.connect().fields
}

func TestTheBackEndLearnsWhoTheClientIs(t *testing.T) {
	spoof := []string{
		"X-Forwarded-For: 1.1.1.1", "x-forwarded-for: 2.2.2.2", "X-Real-IP: 1.1.1.1", "X-Forwarded-Proto: https",
		"X-Forwarded-Host: evil", "X-Forwarded-Port: 1", "Forwarded: for=1.1.1.1", "X-Request-Id: mine",
		"X-Forwarded-Prefix: /evil", "X-FORWARDED-SSL: on", "X-Forwarded-Server: evil",
	}
	for _, c := range []struct {
		name, peer string
		scheme     message.Scheme
		lines      []string
		want       map[string]string
	}{
		{"plain", "192.0.2.1", message.SchemeHTTP, nil, map[string]string{
			"x-forwarded-for": "192.0.2.1", "x-real-ip": "192.0.2.1", "x-forwarded-proto": "http",
			"x-forwarded-host": "a.example", "forwarded": `for=192.0.2.1;host="a.example";proto=http`, "via": "1.1 rauta",
		}},
		{"IPv6 over TLS", "2001:db8::1", message.SchemeHTTPS, nil, map[string]string{
			"x-forwarded-for": "2001:db8::1", "x-real-ip": "2001:db8::1", "x-forwarded-proto": "https",
			"forwarded": `for="[2001:db8::1]";host="a.example";proto=https`,
		}},
		{"IPv4 in IPv6", "::ffff:192.0.2.1", message.SchemeHTTP, nil, map[string]string{"x-forwarded-for": "192.0.2.1"}},
		{"spoofed", "192.0.2.1", message.SchemeHTTP, spoof, map[string]string{
			"x-forwarded-for": "192.0.2.1", "x-real-ip": "192.0.2.1", "x-forwarded-proto": "http",
			"x-forwarded-host": "a.example", "x-forwarded-port": "", "forwarded": `for=192.0.2.1;host="a.example";proto=http`,
			"x-forwarded-prefix": "", "x-forwarded-ssl": "", "x-forwarded-server": "",
		}},
		{"trusted", "10.0.0.1", message.SchemeHTTP, []string{
			"X-Forwarded-For: 192.0.2.7", "X-Forwarded-Proto: https", "X-Forwarded-Host: outside", "X-Forwarded-Port: 443",
			"Forwarded: for=192.0.2.7", "X-Real-IP: 9.9.9.9", "X-Request-Id: theirs", "X-Forwarded-Prefix: /p",
		}, map[string]string{
			"x-forwarded-for": "192.0.2.7, 10.0.0.1", "x-real-ip": "192.0.2.7", "x-forwarded-proto": "https",
			"x-forwarded-host": "outside", "x-forwarded-port": "443", "x-request-id": "theirs", "x-forwarded-prefix": "/p",
			"forwarded": `for=192.0.2.7, for=10.0.0.1;host="a.example";proto=http`,
		}},
		{"trusted, several lines", "10.0.0.1", message.SchemeHTTP, []string{
			"X-Forwarded-For: 192.0.2.7", "X-Forwarded-For: 10.9.9.9", "Forwarded: for=192.0.2.7", "Forwarded: for=10.9.9.9",
		}, map[string]string{
			"x-forwarded-for": "192.0.2.7, 10.9.9.9, 10.0.0.1", "x-real-ip": "192.0.2.7",
			"forwarded": `for=192.0.2.7, for=10.9.9.9, for=10.0.0.1;host="a.example";proto=http`,
		}},
		{"trusted, the client lies", "10.0.0.1", message.SchemeHTTP, []string{"X-Forwarded-For: 8.8.8.8, 192.0.2.7"},
			map[string]string{"x-forwarded-for": "8.8.8.8, 192.0.2.7, 10.0.0.1", "x-real-ip": "192.0.2.7"}},
		{"trusted, garbage", "10.0.0.1", message.SchemeHTTP, []string{"X-Forwarded-For: x, y", "X-Forwarded-Proto: gopher"},
			map[string]string{"x-real-ip": "10.0.0.1", "x-forwarded-proto": "http"}},
		{"trusted, says nothing", "fd00::1", message.SchemeHTTP, nil, map[string]string{
			"x-forwarded-for": "fd00::1", "x-real-ip": "fd00::1", "forwarded": `for="[fd00::1]";host="a.example";proto=http`,
		}},
		{"trusted, empty chain", "10.0.0.1", message.SchemeHTTP, []string{"X-Forwarded-For: "},
			map[string]string{"x-real-ip": "10.0.0.1"}},
		{"trusted, only proxies", "10.0.0.1", message.SchemeHTTP, []string{"X-Forwarded-For: 10.3.3.3, 10.2.2.2"},
			map[string]string{"x-real-ip": "10.3.3.3"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			fields := forwarded(t, c.peer, c.scheme, c.lines...)
			for name, want := range c.want {
				got := fields[name]
				if want == "" && len(got) > 0 || want != "" && !slices.Equal(got, []string{want}) {
					t.Errorf("%s is %q, want %q once", name, got, want)
				}
			}
			if id := fields["x-request-id"]; len(id) != 1 || id[0] == "mine" || id[0] != "theirs" && len(id[0]) != 32 {
				t.Errorf("request id %q", id)
			}
		})
	}
}

func TestRequestIDsDiffer(t *testing.T) {
	s := newSim(t, 1, nil)
	s.dialer.atOnce = true
	seen := map[string]bool{}
	for range 1000 {
		s.get()
		b := s.dialer.conns[len(s.dialer.conns)-1]
		seen[strings.Join(b.fields["x-request-id"], "")] = true
		b.answer(200, "x")
	}
	if len(seen) != 1000 {
		t.Errorf("%d ids for 1000 requests", len(seen))
	}
}

func TestAnEarlierProxyInViaIsKept(t *testing.T) {
	fields := forwarded(t, "192.0.2.1", message.SchemeHTTP, "Via: 1.0 old")
	if got := fields["via"]; !slices.Equal(got, []string{"1.0 old", "1.1 rauta"}) {
		t.Errorf("%q", got)
	}
}

func TestViaSaysInWhichVersionTheRequestCame(t *testing.T) {
	for _, peer := range []string{"192.0.2.1", "10.0.0.1"} {
		for version, want := range map[message.Version]string{
			message.HTTP10: "1.0 rauta", message.HTTP11: "1.1 rauta", message.HTTP2: "2.0 rauta",
		} {
			s := newSim(t, 1, nil)
			s.w.Settings.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
			c := s.request("GET /")
			c.peer = s.w.NewPeer(netip.MustParseAddr(peer), message.SchemeHTTP, s.port)
			c.x.Req.Version = version
			c.start()
			if got := s.dialer.connect().fields["via"]; !slices.Equal(got, []string{want}) {
				t.Errorf("from %s in version %d: %q, want %q", peer, version, got, want)
			}
		}
	}
}
