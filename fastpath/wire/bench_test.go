package wire

import (
	"testing"

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

func BenchmarkParseRequestOwn(b *testing.B) {
	var p RequestParser
	var req message.Request
	lim := DefaultRequestLimits()
	in := []byte(browserGet)
	b.ReportAllocs()
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		p.Reset()
		if n, _ := p.Parse(in, &req, &lim); n == 0 {
			b.Fatal("not parsed")
		}
	}
}
