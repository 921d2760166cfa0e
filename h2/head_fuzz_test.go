package h2

import (
	"bytes"
	"testing"

	oracle "golang.org/x/net/http2/hpack"

	"rauta.io/rauta/h2/hpack"
	"rauta.io/rauta/proxy/message"
)

// FuzzRequestHead looks at what is accepted: it must be fit to be written as HTTP/1.
func FuzzRequestHead(f *testing.F) {
	seed := func(fields ...string) {
		var block bytes.Buffer
		enc := oracle.NewEncoder(&block)
		for i := 0; i < len(fields); i += 2 {
			enc.WriteField(oracle.HeaderField{Name: fields[i], Value: fields[i+1]})
		}
		f.Add(block.Bytes(), true)
		f.Add(block.Bytes(), false)
	}
	seed(":method", "GET", ":scheme", "http", ":path", "/a/../b?c", ":authority", "a.example")
	seed(":method", "POST", ":scheme", "https", ":path", "/", "host", "a:80", "content-length", "5", "te", "trailers")
	seed(":method", "OPTIONS", ":scheme", "http", ":path", "*", ":authority", "a", "cookie", "a=b", "cookie", "c=d; e=f")
	seed(":method", "PUT", ":scheme", "http", ":path", "/%2e%2e/", ":authority", "[::1]", "expect", "100-continue", "a_b", "c")
	seed(":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":path", "/", ":authority", "a", "sec-websocket-key", "b")
	limits := DefaultLimits()
	f.Fuzz(func(t *testing.T, block []byte, endStream bool) {
		h := &headReader{limits: &limits}
		var req message.Request
		if err := h.read(blockRequest, &req, hpack.NewDecoder(limits.HeadBytes), block); err != nil {
			return
		}
		p := h.finish(endStream)
		if p.bad() {
			return
		}
		checkRequest(t, &req, endStream)
	})
}

// checkRequest holds for every request that is accepted.
func checkRequest(t *testing.T, req *message.Request, endStream bool) {
	if path := req.Bytes(req.Path); len(path) == 0 || path[0] != '/' && (string(path) != "*" || req.MethodID != message.MethodOptions) {
		t.Errorf("path %q", path)
	}
	if bytes.ContainsAny(req.Bytes(req.Path), " \r\n\x00#?") || bytes.ContainsAny(req.Bytes(req.Query), " \r\n\x00#") {
		t.Errorf("path %q, query %q", req.Bytes(req.Path), req.Bytes(req.Query))
	}
	if !message.ValidAuthority(req.Bytes(req.Authority)) || !isToken(req.Bytes(req.Method)) {
		t.Errorf("authority %q, method %q", req.Bytes(req.Authority), req.Bytes(req.Method))
	}
	tunnel := req.ExtendedConnect()
	if !tunnel && endStream != (req.Framing == message.NoBody) || req.MethodID == message.MethodConnect ||
		tunnel && (req.Framing != message.NoBody || string(req.Bytes(req.Upgrade)) != "websocket" || req.MethodID != message.MethodGet) {
		t.Errorf("framing %d, upgrade %v, method %v", req.Framing, req.Upgrade, req.MethodID)
	}
	cookies := 0
	for i := range req.Fields {
		f := &req.Fields[i]
		name, value := req.Bytes(f.Name), req.Bytes(f.Value)
		if !isToken(name) || bytes.ContainsAny(value, "\r\n\x00") || message.Misleading(name) && f.ID == message.Unknown {
			t.Errorf("field %q: %q", name, value)
		}
		switch f.ID {
		case message.Cookie:
			cookies++
		case message.Host, message.ContentLength, message.TransferEncoding, message.Connection, message.Upgrade, message.TE, message.Expect:
			t.Errorf("field %q among the others", name)
		}
	}
	if cookies > 1 {
		t.Errorf("%d cookie fields", cookies)
	}
}

func FuzzPadding(f *testing.F) {
	f.Add(uint8(flagPadded), []byte{2, 'a', 0, 0})
	f.Add(uint8(0), []byte("data"))
	f.Fuzz(func(t *testing.T, flags uint8, payload []byte) {
		data, ok := cutPadding(flags, payload)
		if ok && len(data) > len(payload) || !ok && flags&flagPadded == 0 {
			t.Errorf("%d of %d bytes, %t", len(data), len(payload), ok)
		}
	})
}
