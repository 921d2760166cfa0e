package wire

import (
	"bufio"
	"bytes"
	"net/http"
	"testing"

	"github.com/valyala/fasthttp"

	"rauta.io/rauta/proxy/message"
)

const browserGet = "GET /products/list.html?category=shoes&page=2 HTTP/1.1\r\n" +
	"Host: shop.example.com\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36\r\n" +
	"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n" +
	"Accept-Encoding: gzip, deflate, br, zstd\r\n" +
	"Accept-Language: en-US,en;q=0.9\r\n" +
	"Cache-Control: max-age=0\r\n" +
	"Connection: keep-alive\r\n" +
	"Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n" +
	"Referer: https://shop.example.com/products/\r\n" +
	"Sec-Fetch-Mode: navigate\r\n\r\n"

func TestABrowserRequestIsForwardedInCanonicalForm(t *testing.T) {
	var p RequestParser
	var req message.Request
	lim := DefaultRequestLimits()
	n, reason := p.Parse([]byte(browserGet), &req, &lim)
	if n != len(browserGet) || reason != OK {
		t.Fatal(n, reason)
	}
	const want = "GET /products/list.html?category=shoes&page=2 HTTP/1.1\r\n" +
		"Host: shop.example.com\r\n" +
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36\r\n" +
		"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n" +
		"Accept-Encoding: gzip, deflate, br, zstd\r\n" +
		"Accept-Language: en-US,en;q=0.9\r\n" +
		"Cache-Control: max-age=0\r\n" +
		"Cookie: session=0123456789abcdef0123456789abcdef; theme=dark\r\n" +
		"Referer: https://shop.example.com/products/\r\n" +
		"Sec-Fetch-Mode: navigate\r\n\r\n"
	if got := string(AppendRequestHead(nil, &req)); got != want {
		t.Errorf("got %q", got)
	}
}

// smallResponse is what the proxies of loadtest are measured with.
const smallResponse = "HTTP/1.1 200 OK\r\nServer: bench\r\nDate: Mon, 23 Nov 2026 00:00:00 GMT\r\n" +
	"Content-Type: text/plain\r\nContent-Length: 100\r\n\r\n"

// smallGet is the request of the same measurements.
const smallGet = "GET /api/v1/things HTTP/1.1\r\nHost: app.example.com\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\n\r\n"

// benchRequests runs a benchmark for each of the requests.
func benchRequests(b *testing.B, run func(b *testing.B, in []byte)) {
	for _, c := range []struct{ name, in string }{{"browser", browserGet}, {"small", smallGet}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(c.in)))
			run(b, []byte(c.in))
		})
	}
}

func BenchmarkParseRequestOwn(b *testing.B) {
	benchRequests(b, func(b *testing.B, in []byte) {
		var p RequestParser
		var req message.Request
		lim := DefaultRequestLimits()
		for b.Loop() {
			p.Reset()
			if n, _ := p.Parse(in, &req, &lim); n == 0 {
				b.Fatal("not parsed")
			}
		}
	})
}

func BenchmarkParseRequestFasthttp(b *testing.B) {
	benchRequests(b, func(b *testing.B, in []byte) {
		var head fasthttp.RequestHeader
		src := bytes.NewReader(in)
		br := bufio.NewReader(src)
		for b.Loop() {
			src.Reset(in)
			br.Reset(src)
			if err := head.Read(br); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkParseRequestNetHTTP(b *testing.B) {
	benchRequests(b, func(b *testing.B, in []byte) {
		src := bytes.NewReader(in)
		br := bufio.NewReader(src)
		for b.Loop() {
			src.Reset(in)
			br.Reset(src)
			if _, err := http.ReadRequest(br); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkParseResponseOwn(b *testing.B) {
	var p ResponseParser
	var resp message.Response
	lim := DefaultResponseLimits()
	in := []byte(smallResponse)
	b.ReportAllocs()
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		p.Reset()
		if n, _ := p.Parse(in, &resp, false, &lim); n == 0 {
			b.Fatal("not parsed")
		}
	}
}

func BenchmarkAppendRequestHead(b *testing.B) {
	benchRequests(b, func(b *testing.B, in []byte) {
		var p RequestParser
		var req message.Request
		lim := DefaultRequestLimits()
		if n, _ := p.Parse(in, &req, &lim); n == 0 {
			b.Fatal("not parsed")
		}
		var out []byte
		for b.Loop() {
			out = AppendRequestHead(out[:0], &req)
		}
	})
}

func BenchmarkAppendResponseHead(b *testing.B) {
	var p ResponseParser
	var resp message.Response
	lim := DefaultResponseLimits()
	if n, _ := p.Parse([]byte(smallResponse), &resp, false, &lim); n == 0 {
		b.Fatal("not parsed")
	}
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		out = AppendResponseHead(out[:0], &resp, ResponseOptions{Version: message.HTTP11})
	}
}

func BenchmarkChunkReader(b *testing.B) {
	in := append(AppendChunkHeader(nil, 4096), make([]byte, 4096)...)
	in = append(append(in, ChunkEnd...), LastChunk...)
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		var r ChunkReader
		for rest, done := in, false; !done; {
			var n int
			_, n, done, _ = r.Next(rest)
			rest = rest[n:]
		}
	}
}
