package wire

import (
	"strings"
	"testing"

	"rauta.io/rauta/proxy/message"
)

// longHead has long lines and many, within the limits of a request.
var longHead = "GET /" + strings.Repeat("a", 4000) + " HTTP/1.1\r\nHost: a\r\nCookie: " + strings.Repeat("b", 8000) + "\r\n" +
	strings.Repeat("X-Field: "+strings.Repeat("c", 100)+"\r\n", 90) + "\r\n"

func TestAHeadThatComesByteByByteIsScannedOnce(t *testing.T) {
	var p RequestParser
	var req message.Request
	lim := DefaultRequestLimits()
	in := []byte(longHead)
	scanned := 0 // each call looks at buf[p.scan:], and at nothing before but the line that it ends
	for end := 1; ; end++ {
		scanned += end - p.scan
		n, reason := p.Parse(in[:end], &req, &lim)
		if reason != OK {
			t.Fatal(reason)
		}
		if n > 0 {
			break
		}
	}
	// A CR is looked at again when what follows it comes.
	if most := len(in) + 2*strings.Count(longHead, "\r\n"); scanned > most {
		t.Errorf("%d bytes were scanned for a head of %d, want at most %d", scanned, len(in), most)
	}
}

func TestAResponseHeadThatComesByteByByteIsScannedOnce(t *testing.T) {
	var p ResponseParser
	var resp message.Response
	lim := DefaultResponseLimits()
	in := []byte("HTTP/1.1 200 OK\r\n" + longHead[strings.Index(longHead, "Cookie"):])
	scanned := 0
	for end := 1; ; end++ {
		scanned += end - p.scan
		n, reason := p.Parse(in[:end], &resp, false, &lim)
		if reason != OK {
			t.Fatal(reason)
		}
		if n > 0 {
			break
		}
	}
	if most := len(in) + 2*strings.Count(string(in), "\r\n"); scanned > most {
		t.Errorf("%d bytes were scanned for a head of %d, want at most %d", scanned, len(in), most)
	}
}

func TestNothingIsAllocatedOnceMemoryIsThere(t *testing.T) {
	var (
		requests  RequestParser
		responses ResponseParser
		chunks    ChunkReader
		req       message.Request
		resp      message.Response
		out       []byte
	)
	reqLim, respLim := DefaultRequestLimits(), DefaultResponseLimits()
	get, answer, body := []byte(browserGet), []byte(smallResponse), []byte("5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\n")
	dotted := []byte("GET http://[::1]/a/../b?c HTTP/1.1\r\nHost: [::1]\r\nConnection: x-hop, upgrade\r\nUpgrade: foo/1\r\nX-Hop: 1\r\n" +
		"X_Y: z\r\nX.Forwarded.For: 1\r\nTE: gzip, trailers\r\n\r\n")
	bad := []byte("GET / HTTP/1.1\r\nHost: a b\r\n\r\n")
	for name, f := range map[string]func(){
		"request": func() {
			requests.Reset()
			requests.Parse(get, &req, &reqLim)
			out = AppendRequestHead(out[:0], &req)
		},
		"request with everything that costs": func() {
			requests.Reset()
			requests.Parse(dotted, &req, &reqLim)
			out = AppendRequestHead(out[:0], &req)
		},
		"bad request": func() {
			requests.Reset()
			requests.Parse(bad, &req, &reqLim)
		},
		"response": func() {
			responses.Reset()
			responses.Parse(answer, &resp, false, &respLim)
			out = AppendResponseHead(out[:0], &resp, ResponseOptions{Version: message.HTTP11})
		},
		"chunks": func() {
			chunks.Reset()
			for in, done := body, false; !done; {
				var n int
				_, n, done, _ = chunks.Next(in)
				in = in[n:]
			}
			out = AppendChunkHeader(out[:0], 1<<20)
		},
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
