package proxyproto

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
)

// v2 builds a version 2 header.
func v2(command, family byte, body ...byte) string {
	b := append([]byte(nil), signature...)
	b = append(b, command, family)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	return string(append(b, body...))
}

func v4Body(more ...byte) []byte {
	return append([]byte{192, 0, 2, 7, 10, 0, 0, 1, 0x30, 0x39, 0x00, 0x50}, more...)
}

func v6Body() []byte {
	from, to := netip.MustParseAddr("2001:db8::7").As16(), netip.MustParseAddr("2001:db8::1").As16()
	return append(append(append([]byte(nil), from[:]...), to[:]...), 0x30, 0x39, 0x01, 0xbb)
}

// headers are complete ones; source is "" where the sender speaks for itself.
var headers = []struct{ name, raw, source string }{
	{"v1 TCP4", "PROXY TCP4 192.0.2.7 10.0.0.1 12345 80\r\n", "192.0.2.7:12345"},
	{"v1 TCP6", "PROXY TCP6 2001:db8::7 2001:db8::1 12345 443\r\n", "[2001:db8::7]:12345"},
	{"v1 TCP6 with an IPv4 address inside", "PROXY TCP6 ::ffff:192.0.2.7 ::ffff:10.0.0.1 12345 443\r\n", "192.0.2.7:12345"},
	{"v1 port 0", "PROXY TCP4 192.0.2.7 10.0.0.1 0 80\r\n", "192.0.2.7:0"},
	{"v1 unknown", "PROXY UNKNOWN\r\n", ""},
	{"v1 unknown with addresses", "PROXY UNKNOWN ffff::1 ffff::1 65535 65535\r\n", ""},
	{"v1 of the longest kind", "PROXY UNKNOWN " + strings.Repeat("x", v1BytesMax-len("PROXY UNKNOWN \r\n")) + "\r\n", ""},
	{"v2 TCP4", v2(0x21, 0x11, v4Body()...), "192.0.2.7:12345"},
	{"v2 TCP4 with TLVs", v2(0x21, 0x11, v4Body(0x04, 0x00, 0x01, 0x00)...), "192.0.2.7:12345"},
	{"v2 TCP6", v2(0x21, 0x21, v6Body()...), "[2001:db8::7]:12345"},
	{"v2 local", v2(0x20, 0x00), ""},
	{"v2 local with addresses", v2(0x20, 0x11, v4Body()...), ""},
	{"v2 unspecified", v2(0x21, 0x00), ""},
	{"v2 Unix", v2(0x21, 0x31, make([]byte, 216)...), ""},
	{"v2 UDP", v2(0x21, 0x12, v4Body()...), ""},
}

func TestAHeaderIsParsedHoweverMuchOfItHasCome(t *testing.T) {
	for _, h := range headers {
		t.Run(h.name, func(t *testing.T) {
			for _, rest := range []string{"", "GET / HTTP/1.1\r\n", "\n", "PROXY UNKNOWN\r\n"} {
				source, n, r := Parse([]byte(h.raw + rest))
				got := ""
				if source.IsValid() {
					got = source.String()
				}
				if r != Done || n != len(h.raw) || got != h.source {
					t.Errorf("with %q behind it: %v, %d bytes, source %q; want %d bytes, %q", rest, r, n, got, len(h.raw), h.source)
				}
			}
			for i := range len(h.raw) {
				if _, n, r := Parse([]byte(h.raw[:i])); r != Partial || n != 0 {
					t.Errorf("the first %d bytes: %v, %d", i, r, n)
				}
			}
		})
	}
}

func TestWhatIsNoHeaderIsBad(t *testing.T) {
	addresses := "192.0.2.7 10.0.0.1 12345 80"
	for name, raw := range map[string]string{
		"a request":                  "GET / HTTP/1.1\r\n",
		"lower case":                 "proxy TCP4 " + addresses + "\r\n",
		"line feed only":             "PROXY TCP4 " + addresses + "\n",
		"line feed at once":          "PROXY \n",
		"nothing":                    "PROXY \r\n",
		"other family":               "PROXY TCP5 " + addresses + "\r\n",
		"family in lower case":       "PROXY tcp4 " + addresses + "\r\n",
		"like unknown":               "PROXY UNKNOWNX\r\n",
		"two spaces":                 "PROXY  TCP4 " + addresses + "\r\n",
		"space at the end":           "PROXY TCP4 " + addresses + " \r\n",
		"too few":                    "PROXY TCP4 192.0.2.7 10.0.0.1 12345\r\n",
		"too many":                   "PROXY TCP4 " + addresses + " x\r\n",
		"IPv6 in TCP4":               "PROXY TCP4 ::1 ::1 1 2\r\n",
		"IPv6 destination in TCP4":   "PROXY TCP4 192.0.2.7 ::1 1 2\r\n",
		"IPv4 in TCP6":               "PROXY TCP6 " + addresses + "\r\n",
		"IPv4 destination in TCP6":   "PROXY TCP6 ::1 10.0.0.1 1 2\r\n",
		"zone":                       "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
		"name":                       "PROXY TCP4 localhost 10.0.0.1 1 2\r\n",
		"address with leading zeros": "PROXY TCP4 192.0.2.007 10.0.0.1 1 2\r\n",
		"port with leading zero":     "PROXY TCP4 192.0.2.7 10.0.0.1 012345 80\r\n",
		"port with a sign":           "PROXY TCP4 192.0.2.7 10.0.0.1 +1 80\r\n",
		"port too large":             "PROXY TCP4 192.0.2.7 10.0.0.1 65536 80\r\n",
		"port empty":                 "PROXY TCP4 192.0.2.7 10.0.0.1  80\r\n",
		"port in hexadecimal":        "PROXY TCP4 192.0.2.7 10.0.0.1 0x1 80\r\n",
		"too long":                   "PROXY UNKNOWN " + strings.Repeat("x", v1BytesMax) + "\r\n",
		"too long without an end":    "PROXY " + strings.Repeat("x", v1BytesMax),
		"too long by one":            "PROXY UNKNOWN " + strings.Repeat("x", v1BytesMax+1-len("PROXY UNKNOWN \r\n")) + "\r\n",
		"signature with an error":    "\r\n\r\n\x00\r\nQUIX\n",
		"v2 with another version":    v2(0x11, 0x11, v4Body()...),
		"v2 with another command":    v2(0x22, 0x11, v4Body()...),
		"v2 too short for TCP4":      v2(0x21, 0x11, v4Body()[:11]...),
		"v2 too short for TCP6":      v2(0x21, 0x21, v4Body()...),
		"v2 too long":                v2(0x21, 0x11, make([]byte, v2BytesMax)...),
		"v2 announces too much":      string(signature) + "\x21\x11\xff\xff",
	} {
		t.Run(name, func(t *testing.T) {
			if source, n, r := Parse([]byte(raw)); r != Bad || n != 0 || source.IsValid() {
				t.Errorf("%v, %d bytes, source %v", r, n, source)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	for _, h := range headers {
		f.Add([]byte(h.raw))
	}
	f.Add([]byte("GET / HTTP/1.1\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		source, n, r := Parse(b)
		switch r {
		case Done:
			if n <= 0 || n > len(b) || n > max(v1BytesMax, v2BytesMax) {
				t.Fatalf("%d of %d bytes", n, len(b))
			}
		default:
			if n != 0 || source.IsValid() {
				t.Fatalf("%v with %d bytes and source %v", r, n, source)
			}
			if r == Partial && len(b) >= v2BytesMax {
				t.Fatalf("%d bytes are not enough", len(b))
			}
		}
		// A shorter part of the same bytes is never judged otherwise, it may only be too short to judge.
		for i := range min(len(b), 200) {
			s, m, q := Parse(b[:i])
			switch {
			case q == Partial && (r != Done || i < n):
			case q == r && m == n && s == source:
			default:
				t.Fatalf("%d of %d bytes: %v, %d, %v; all of them: %v, %d, %v", i, len(b), q, m, s, r, n, source)
			}
		}
	})
}
