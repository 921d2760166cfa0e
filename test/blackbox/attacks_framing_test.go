package blackbox

import (
	"strings"
	"testing"
)

const chunkedLine = "Transfer-Encoding: chunked"

func TestARequestWithAnAmbiguousLengthIsRefused(t *testing.T) {
	refuse(t, []attack{
		{"both framings, length first", post("0\r\n\r\n", "Content-Length: 4", chunkedLine), 400},
		{"both framings, coding first", post("0\r\n\r\n", chunkedLine, "Content-Length: 4"), 400},
		{"both framings, length of zero", post("0\r\n\r\n", "Content-Length: 0", chunkedLine), 400},
		{"both framings on a GET", get1("Content-Length: 6", chunkedLine), 400},
		{"two codings in two lines", post("0\r\n\r\n", chunkedLine, chunkedLine), 400},
		{"two codings in two lines, one unknown", post("0\r\n\r\n", chunkedLine, "Transfer-Encoding: x"), 400},
		{"unknown coding", post("0\r\n\r\n", "Transfer-Encoding: xchunked"), 501},
		{"identity", post("0\r\n\r\n", "Transfer-Encoding: identity"), 501},
		{"gzip", post("0\r\n\r\n", "Transfer-Encoding: gzip"), 501},
		{"chunked is not last", post("0\r\n\r\n", "Transfer-Encoding: chunked, identity"), 400},
		{"chunked after another", post("0\r\n\r\n", "Transfer-Encoding: gzip, chunked"), 400},
		{"chunked twice", post("0\r\n\r\n", "Transfer-Encoding: chunked, chunked"), 400},
		{"empty element before", post("0\r\n\r\n", "Transfer-Encoding: ,chunked"), 400},
		{"empty element after", post("0\r\n\r\n", "Transfer-Encoding: chunked,"), 400},
		{"parameter", post("0\r\n\r\n", "Transfer-Encoding: chunked;q=1"), 400},
		{"quoted", post("0\r\n\r\n", `Transfer-Encoding: "chunked"`), 400},
		{"empty coding", post("0\r\n\r\n", "Transfer-Encoding:"), 400},
		{"vertical tab before", post("0\r\n\r\n", "Transfer-Encoding: \x0bchunked"), 400},
		{"form feed after", post("0\r\n\r\n", "Transfer-Encoding: chunked\x0c"), 400},
		{"no-break space", post("0\r\n\r\n", "Transfer-Encoding: \xa0chunked"), 400},
		{"next line", post("0\r\n\r\n", "Transfer-Encoding: chunked\x85"), 400},
		{"space in the name", post("0\r\n\r\n", "Transfer-Encoding : chunked"), 400},
		{"folded", post("0\r\n\r\n", "Transfer-Encoding:\r\n chunked"), 400},
		{"coding in HTTP/1.0", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		{"coding in HTTP/1.0 with keep-alive",
			"POST / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
	})
}

func TestAContentLengthIsDigitsAndComesOnce(t *testing.T) {
	var attacks []attack
	for name, value := range map[string]string{
		"empty": "", "plus": "+5", "minus": "-1", "minus zero": "-0", "hexadecimal": "0x5", "two words": "5 5",
		"list": "5,5", "list with space": "5, 5", "underscore": "5_0", "exponent": "1e1", "decimal point": "5.0",
		"20 digits": "99999999999999999999", "one more than 63 bits": "9223372036854775808", "letters": "five",
		"quoted": `"5"`, "semicolon": "5;", "arabic digits": "\xd9\xa5", "hash": "5#", "leading comma": ",5",
	} {
		attacks = append(attacks, attack{name, post("abcde", "Content-Length: "+value), 400})
	}
	attacks = append(attacks,
		attack{"twice the same", post("abcde", "Content-Length: 5", "Content-Length: 5"), 400},
		attack{"twice, different", post("abcde", "Content-Length: 5", "Content-Length: 6"), 400},
		attack{"twice, in another case", post("abcde", "Content-Length: 5", "content-length: 5"), 400},
		attack{"space before the colon", post("abcde", "Content-Length : 5"), 400},
		attack{"vertical tab", post("abcde", "Content-Length: \x0b5"), 400},
	)
	refuse(t, attacks)
}

func TestABadChunkedBodyIsRefusedAndNeverEndsAtTheBackEnd(t *testing.T) {
	long := strings.Repeat("1", 17)
	bodies := []struct{ name, body string }{
		{"no size", "\r\nabc\r\n0\r\n\r\n"},
		{"hexadecimal prefix", "0x3\r\nabc\r\n0\r\n\r\n"},
		{"plus", "+3\r\nabc\r\n0\r\n\r\n"},
		{"minus", "-3\r\nabc\r\n0\r\n\r\n"},
		{"underscore", "1_0\r\n0123456789abcdef\r\n0\r\n\r\n"},
		{"space before the size", " 3\r\nabc\r\n0\r\n\r\n"},
		{"space after the size", "3 \r\nabc\r\n0\r\n\r\n"},
		{"tab after the size", "3\t\r\nabc\r\n0\r\n\r\n"},
		{"not a digit", "g\r\nabc\r\n0\r\n\r\n"},
		{"17 digits", long + "\r\nabc\r\n0\r\n\r\n"},
		{"17 digits with zeros", strings.Repeat("0", 16) + "3\r\nabc\r\n0\r\n\r\n"},
		{"64 bits", "ffffffffffffffff\r\nabc\r\n0\r\n\r\n"},
		{"line feed after the size", "3\nabc\r\n0\r\n\r\n"},
		{"carriage return after the size", "3\rabc\r\n0\r\n\r\n"},
		{"two carriage returns", "3\r\r\nabc\r\n0\r\n\r\n"},
		{"longer than its size", "3\r\nabcd\r\n0\r\n\r\n"},
		{"longer than its size by CRLF", "3\r\nabc\r\n\r\n0\r\n\r\n"},
		{"line feed after the data", "3\r\nabc\n0\r\n\r\n"},
		{"nothing after the data", "3\r\nabc0\r\n\r\n"},
		{"carriage return and something else", "3\r\nabc\r0\r\n\r\n"},
		{"line feed after the last chunk", "3\r\nabc\r\n0\n\r\n"},
		{"line feed at the end", "3\r\nabc\r\n0\r\n\n"},
		{"extension with a line feed", "3;a\nb\r\nabc\r\n0\r\n\r\n"},
		{"extension with a carriage return", "3;a\rb\r\nabc\r\n0\r\n\r\n"},
		{"extension in the next line", "3\r\r;a\r\nabc\r\n0\r\n\r\n"},
		{"extension without a name", "3;\r\nabc\r\n0\r\n\r\n"},
		{"extension without a value", "3;a=\r\nabc\r\n0\r\n\r\n"},
		{"space before an extension", "3 ;a\r\nabc\r\n0\r\n\r\n"},
		{"quoted extension over lines", "3;a=\"\r\nabc\"\r\n0\r\n\r\n"},
		{"control character in an extension", "3;a=\x01\r\nabc\r\n0\r\n\r\n"},
		{"trailer with a line feed", "3\r\nabc\r\n0\r\nA: b\n\r\n"},
		{"trailer with a carriage return", "3\r\nabc\r\n0\r\nA: b\rc\r\n\r\n"},
		{"trailer without a colon", "3\r\nabc\r\n0\r\nAbc\r\n\r\n"},
		{"trailer without a name", "3\r\nabc\r\n0\r\n: b\r\n\r\n"},
		{"folded trailer", "3\r\nabc\r\n0\r\nA: b\r\n c\r\n\r\n"},
		{"space before the colon of a trailer", "3\r\nabc\r\n0\r\nA : b\r\n\r\n"},
		{"control character in a trailer", "3\r\nabc\r\n0\r\nA: \x00\r\n\r\n"},
		{"16 KiB of extensions", strings.Repeat("1;"+strings.Repeat("a", 100)+"\r\nx\r\n", 200) + "0\r\n\r\n"},
	}
	var attacks []attack
	for _, b := range bodies {
		attacks = append(attacks, attack{b.name, post(b.body, chunkedLine), 400})
	}
	refuse(t, attacks)
}

// TestABackEndSeesABadBodyAsIncomplete looks at the bytes: what was good of the body may have been passed on, but neither
// the end of the body nor anything behind the fault.
func TestABackEndSeesABadBodyAsIncomplete(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		b := newRecorder(t)
		c := start(t, []string{b.addr}).dial()
		c.send("POST /bad HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
		until(t, "the good part to arrive", func() bool { return strings.HasSuffix(b.bytes(), "3\r\nabc\r\n") })
		c.send("XX\r\n" + canary + "0\r\n\r\n")
		if got := c.receive("POST"); got.StatusCode != 400 {
			t.Errorf("%d, want 400", got.StatusCode)
		}
		until(t, "the back end to see the end", func() bool { return b.openConnections() == 0 })
		if got := b.bytes(); !strings.HasSuffix(got, "\r\n\r\n3\r\nabc\r\n") {
			t.Errorf("the back end got %q", got)
		}
		if len(b.served()) > 0 {
			t.Error("the back end took the request for a complete one")
		}
	})
}

// TestARequestInABodyIsNeverServed sends bodies that look like requests, in every framing that is accepted.
func TestARequestInABodyIsNeverServed(t *testing.T) {
	n := "36" // of the smuggled request, in decimal and as a chunk
	smuggled := "GET /canary HTTP/1.1\r\nHost: evil\r\n\r\n"
	if len(smuggled) != 36 {
		t.Fatal(len(smuggled))
	}
	b := newRecorder(t)
	r := start(t, []string{b.addr})
	for name, raw := range map[string]string{
		"sized POST":                  post(smuggled, "Content-Length: "+n),
		"chunked POST":                post("24\r\n"+smuggled+"\r\n0\r\n\r\n", chunkedLine),
		"sized GET":                   get1("Content-Length: "+n) + smuggled,
		"sized HEAD":                  "HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: " + n + "\r\n\r\n" + smuggled,
		"sized OPTIONS":               "OPTIONS / HTTP/1.1\r\nHost: a\r\nContent-Length: " + n + "\r\n\r\n" + smuggled,
		"sized DELETE":                "DELETE / HTTP/1.1\r\nHost: a\r\nContent-Length: " + n + "\r\n\r\n" + smuggled,
		"chunked GET":                 get1(chunkedLine) + "24\r\n" + smuggled + "\r\n0\r\n\r\n",
		"chunked in another case":     post("24\r\n"+smuggled+"\r\n0\r\n\r\n", "tRANSFER-eNCODING: \tChUnKeD "),
		"length with spaces around":   post(smuggled, "Content-Length: \t "+n+" "),
		"length with zeros":           post(smuggled, "Content-Length: 00"+n),
		"look-alike of a length":      post("", "Content_Length: "+n, "Content-Length: 0"),
		"look-alike of a coding":      post(smuggled, "Transfer_Encoding: chunked", "Content-Length: "+n),
		"dotted look-alike":           post(smuggled, "Transfer.Encoding: chunked", "Content-Length: "+n),
		"length named in Connection":  post(smuggled, "Connection: Content-Length", "Content-Length: "+n),
		"coding named in Connection":  post("24\r\n"+smuggled+"\r\n0\r\n\r\n", "Connection: Transfer-Encoding", chunkedLine),
		"extension with what a quote": post("24;a=\"x;\\\"y\"\r\n"+smuggled+"\r\n0\r\n\r\n", chunkedLine),
		"trailer that frames":         post("24\r\n"+smuggled+"\r\n0\r\nContent-Length: 0\r\nTransfer-Encoding: x\r\n\r\n", chunkedLine),
	} {
		t.Run(name, func(t *testing.T) {
			before := len(b.served())
			method, _, _ := strings.Cut(raw, " ")
			for _, cut := range splits(len(raw)) {
				c := r.dial()
				c.sendSplit(raw, cut)
				if got := c.receive(method); got.StatusCode != 200 {
					t.Fatalf("cut at %d: %d", cut, got.StatusCode)
				}
				if got := c.do("GET /after HTTP/1.1\r\nHost: a\r\n\r\n"); got.StatusCode != 200 {
					t.Fatalf("cut at %d: the next request got %d", cut, got.StatusCode)
				}
			}
			want := len(splits(len(raw)))
			first, after := 0, 0
			for _, s := range b.served()[before:] {
				switch s {
				case method + " /":
					first++
				case "GET /after":
					after++
				default:
					t.Errorf("the back end served %q", s)
				}
			}
			if first != want || after != want {
				t.Errorf("%d and %d requests were served, want %d each", first, after, want)
			}
		})
	}
}

func TestTrailersOfARequestAreDropped(t *testing.T) {
	b := newRecorder(t)
	c := start(t, []string{b.addr}).dial()
	raw := post("3\r\nabc\r\n0\r\nAuthorization: x\r\nHost: evil\r\nContent-Length: 9\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n",
		chunkedLine, "Trailer: Authorization")
	if got := c.do(raw); got.StatusCode != 200 {
		t.Fatal(got.StatusCode)
	}
	got := b.bytes()
	if !strings.HasSuffix(got, "\r\n\r\n3\r\nabc\r\n0\r\n\r\n") {
		t.Errorf("the body arrived as %q", got)
	}
	for _, s := range []string{"Authorization", "evil", "Trailer", "1.2.3.4"} {
		if strings.Contains(got, s) {
			t.Errorf("%q was passed on", s)
		}
	}
}
