package wire

import (
	"fmt"
	"strings"
	"testing"

	"rauta.io/rauta/proxy/message"
)

func TestRequestHeadsAnnounceTheirBodyOnceAndTheirUpgrade(t *testing.T) {
	for _, c := range []struct {
		name, method string
		edit         func(r *message.Request)
		want         string
	}{
		{"GET without a body", "GET", func(*message.Request) {}, ""},
		{"POST without a body", "POST", func(*message.Request) {}, "Content-Length: 0\r\n"},
		{"PUT without a body", "PUT", func(*message.Request) {}, "Content-Length: 0\r\n"},
		{"PATCH without a body", "PATCH", func(*message.Request) {}, "Content-Length: 0\r\n"},
		{"DELETE without a body", "DELETE", func(*message.Request) {}, ""},
		{"an unknown method without a body", "PURGE", func(*message.Request) {}, ""},
		{"a sized body", "GET", func(r *message.Request) { r.Framing, r.Length = message.Sized, 7 }, "Content-Length: 7\r\n"},
		{"an empty sized body", "GET", func(r *message.Request) { r.Framing = message.Sized }, "Content-Length: 0\r\n"},
		{"a streamed body", "GET", func(r *message.Request) { r.Framing, r.Length = message.Streamed, -1 }, "Transfer-Encoding: chunked\r\n"},
		{"an upgrade", "GET", func(r *message.Request) { r.Upgrade = r.StoreString("websocket") }, "Connection: upgrade\r\nUpgrade: websocket\r\n"},
		{"a filter's fields of one hop", "GET", func(r *message.Request) {
			r.Add("host", "evil", message.Host)
			r.Add("content-length", "9", message.ContentLength)
			r.Add("transfer-encoding", "chunked", message.TransferEncoding)
			r.Add("connection", "x", message.Connection)
			r.Add("upgrade", "x", message.Upgrade)
			r.Add("keep-alive", "x", message.KeepAlive)
			r.Add("x-kept", "y", message.Unknown)
		}, "x-kept: y\r\n"},
		{"a removed field", "GET", func(r *message.Request) {
			r.Add("x-gone", "y", message.Unknown)
			r.RemoveName("x-gone", message.Unknown)
		}, ""},
	} {
		in := c.method + " /a?b HTTP/1.1\r\nHost: h\r\n\r\n"
		lim := DefaultRequestLimits()
		_, req, n, reason := parseRequest([]byte(in), []int{len(in)}, &lim)
		if n == 0 {
			t.Fatal(c.name, reason)
		}
		c.edit(req)
		want := c.method + " /a?b HTTP/1.1\r\nHost: h\r\n" + c.want + "\r\n"
		if got := string(AppendRequestHead(nil, req)); got != want {
			t.Errorf("%s: got %q, want %q", c.name, got, want)
		}
	}
}

func TestResponseHeadsAnnounceTheirBodyAndTheEndOfTheConnection(t *testing.T) {
	const (
		length    = "Content-Length: 5\r\n"
		empty     = "Content-Length: 0\r\n"
		chunked   = "Transfer-Encoding: chunked\r\n"
		closing   = "Connection: close\r\n"
		keepAlive = "Connection: keep-alive\r\n"
	)
	var (
		sized    = message.Response{Framing: message.Sized, Length: 5}
		streamed = message.Response{Framing: message.Streamed, Length: -1}
		until    = message.Response{Framing: message.UntilClose, Length: -1}
		none     = message.Response{Framing: message.NoBody, Length: -1}
		noneOf5  = message.Response{Framing: message.NoBody, Length: 5}
		http11   = ResponseOptions{Version: message.HTTP11}
		toHead   = ResponseOptions{Version: message.HTTP11, ToHead: true}
		http10   = ResponseOptions{Version: message.HTTP10}
		kept10   = ResponseOptions{Version: message.HTTP10, KeepAlive10: true}
	)
	for _, c := range []struct {
		name   string
		status int
		resp   message.Response
		opt    ResponseOptions
		want   string
	}{
		{"sized", 200, sized, http11, length},
		{"streamed", 200, streamed, http11, chunked},
		{"until close becomes chunked", 200, until, http11, chunked},
		{"no body", 200, none, http11, empty},
		{"closing", 200, sized, ResponseOptions{Version: message.HTTP11, Close: true}, length + closing},
		{"sized to HTTP/1.0", 200, sized, http10, length + closing},
		{"sized to HTTP/1.0 that stays", 200, sized, kept10, length + keepAlive},
		{"streamed to HTTP/1.0", 200, streamed, http10, closing},
		{"streamed to HTTP/1.0 cannot stay", 200, streamed, kept10, closing},
		{"no body to HTTP/1.0 that stays", 200, none, kept10, empty + keepAlive},
		{"to HEAD, as announced", 200, noneOf5, toHead, length},
		{"to HEAD, nothing announced", 200, none, toHead, ""},
		{"to HEAD, streamed has no body to mark", 200, streamed, toHead, ""},
		{"304", 304, none, http11, ""},
		{"304 as announced", 304, noneOf5, http11, length},
		{"204 never has a length", 204, noneOf5, http11, ""},
		{"103", 103, none, http11, ""},
		{"103 to a connection that will close", 103, none, ResponseOptions{Version: message.HTTP11, Close: true}, ""},
		{"a status without a phrase", 299, sized, http11, length},
		{"a status over 599", 999, sized, http11, length},
	} {
		resp := c.resp
		resp.Status = c.status
		got := string(AppendResponseHead(nil, &resp, c.opt))
		line, rest, _ := strings.Cut(got, "\r\n")
		if rest != c.want+"\r\n" || line != fmt.Sprintf("HTTP/1.1 %d %s", c.status, ReasonPhrase(c.status)) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
		if chunks := strings.Contains(got, chunked); chunks != c.opt.Chunked(&resp) {
			t.Errorf("%s: %q, but Chunked is %t", c.name, got, c.opt.Chunked(&resp))
		}
		if closes := strings.Contains(got, closing); closes != c.opt.Closes(&resp) {
			t.Errorf("%s: %q, but Closes is %t", c.name, got, c.opt.Closes(&resp))
		}
	}
}

func TestStatusLinesHaveOurPhraseOrNone(t *testing.T) {
	for status, want := range map[int]string{
		100: "HTTP/1.1 100 Continue\r\n\r\n", 200: "HTTP/1.1 200 OK\r\n", 404: "HTTP/1.1 404 Not Found\r\n", 299: "HTTP/1.1 299 \r\n", 999: "HTTP/1.1 999 \r\n",
	} {
		resp := message.Response{Status: status, Framing: message.NoBody, Length: -1}
		if got := string(AppendResponseHead(nil, &resp, ResponseOptions{Version: message.HTTP11})); !strings.HasPrefix(got, want) {
			t.Errorf("got %q, want %q first", got, want)
		}
	}
	if ReasonPhrase(-1) != "" || ReasonPhrase(600) != "" || ReasonPhrase(429) != "Too Many Requests" {
		t.Error("phrases of codes outside of the table, or 429")
	}
}

func TestA101NamesItsProtocolAndNoFraming(t *testing.T) {
	resp := message.Response{Status: 101, Framing: message.NoBody, Length: -1}
	resp.Upgrade = resp.StoreString("websocket")
	const want = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
	if got := string(AppendResponseHead(nil, &resp, ResponseOptions{Version: message.HTTP11})); got != want {
		t.Errorf("got %q", got)
	}
}

func TestAThousandPipelinedRequestsAreReadInOrderUpToTheBadOne(t *testing.T) {
	const good = "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
	in := []byte(strings.Repeat(good, 1000) + "GET / HTTP/1.1\nHost: a\r\n\r\n" + good)
	var p RequestParser
	var req message.Request
	lim := DefaultRequestLimits()
	read := 0
	for ; ; read++ {
		p.Reset()
		n, reason := p.Parse(in, &req, &lim)
		if reason != OK {
			if reason != BareLF {
				t.Error(reason)
			}
			break
		}
		in = in[n+int(req.Length):]
	}
	if read != 1000 {
		t.Errorf("%d requests were read", read)
	}
}
