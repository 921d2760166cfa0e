package filter

import (
	"encoding/base64"
	"encoding/binary"
	"strings"
	"testing"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/message"
)

// webRequest is a gRPC-Web request and its filter.
func webRequest(t *testing.T, contentType string) (*message.Request, BodyFilter) {
	t.Helper()
	c := compile(t, config.Filter{GRPCWeb: &config.GRPCWeb{}})
	req := &message.Request{MethodID: message.MethodPost, Version: message.HTTP11, Framing: message.Sized, Length: 100}
	req.Add("content-type", contentType, message.ContentType)
	f := c.Body(req, new(BodySpace))
	if f == nil {
		t.Fatalf("%s is not taken for gRPC-Web", contentType)
	}
	return req, f
}

func TestAGRPCWebRequestBecomesAGRPCRequest(t *testing.T) {
	for contentType, want := range map[string]string{
		"application/grpc-web": "application/grpc", "application/grpc-web+proto": "application/grpc+proto",
		"application/grpc-web-text+json;x=y": "application/grpc+json;x=y",
	} {
		req, _ := webRequest(t, contentType)
		text := strings.Contains(contentType, "text")
		if got, _ := req.Get(message.ContentType); string(got) != want || !req.TETrailers {
			t.Errorf("%s becomes %q, TE: %v", contentType, got, req.TETrailers)
		}
		if framing := req.Framing; text != (framing == message.Streamed) || text != (req.Length == -1) {
			t.Errorf("%s: framing %d, length %d", contentType, framing, req.Length)
		}
	}
	req := &message.Request{MethodID: message.MethodPost, Version: message.HTTP2}
	req.Add("content-type", "application/grpc", message.ContentType)
	if compile(t, config.Filter{GRPCWeb: &config.GRPCWeb{}}).Body(req, new(BodySpace)) != nil {
		t.Error("a gRPC request is changed")
	}
	req.Reset()
	req.MethodID = message.MethodPost
	req.Add("content-type", "application/grpc-web", message.ContentType)
	if compile(t, config.Filter{Rewrite: &config.Rewrite{Hostname: "b.example"}}).Body(req, new(BodySpace)) != nil {
		t.Error("a request is changed although no filter asks for it")
	}
}

func TestTextBodiesAreDecodedHoweverTheyAreCut(t *testing.T) {
	const plain = "\x00\x00\x00\x00\x05hello\x00\x00\x00\x00\x01!"
	for _, body := range []string{
		base64.StdEncoding.EncodeToString([]byte(plain)),
		// Each message by itself, with padding in the middle.
		base64.StdEncoding.EncodeToString([]byte(plain[:10])) + base64.StdEncoding.EncodeToString([]byte(plain[10:])),
		base64.StdEncoding.EncodeToString([]byte(plain[:1])) + base64.StdEncoding.EncodeToString([]byte(plain[1:3])) +
			base64.StdEncoding.EncodeToString([]byte(plain[3:])),
	} {
		for size := 1; size <= len(body); size++ {
			_, f := webRequest(t, "application/grpc-web-text")
			var scratch []byte
			got := ""
			for rest := body; rest != ""; rest = rest[min(size, len(rest)):] {
				out, reason := f.RequestData(&scratch, []byte(rest[:min(size, len(rest))]))
				if reason != "" {
					t.Fatalf("%q in pieces of %d: %s", body, size, reason)
				}
				got += string(out)
			}
			if reason := f.RequestEnd(); got != plain || reason != "" {
				t.Errorf("%q in pieces of %d: %q %s", body, size, got, reason)
			}
		}
	}
}

func TestABodyThatIsNoBase64IsRefused(t *testing.T) {
	for _, body := range []string{"AA*A", "A===", "====", "AA=A", "AAA", "A", "AAAA\r\nAA", "AA\nA", "AAAAAA==A", "AAA\n", "AA A"} {
		for size := 1; size <= len(body); size++ {
			_, f := webRequest(t, "application/grpc-web-text")
			var scratch []byte
			reason := ""
			for rest := body; rest != "" && reason == ""; rest = rest[min(size, len(rest)):] {
				_, reason = f.RequestData(&scratch, []byte(rest[:min(size, len(rest))]))
			}
			if reason == "" {
				reason = f.RequestEnd()
			}
			if reason != "bad_base64" {
				t.Errorf("%q in pieces of %d is accepted", body, size)
			}
		}
	}
}

func TestBinaryBodiesPassUntouched(t *testing.T) {
	_, f := webRequest(t, "application/grpc-web")
	var scratch []byte
	p := []byte("*")
	out, reason := f.RequestData(&scratch, p)
	if reason != "" || &out[0] != &p[0] || f.RequestEnd() != "" {
		t.Errorf("%q %s", out, reason)
	}
	resp := &message.Response{Status: 200}
	resp.Add("content-type", "application/grpc", message.ContentType)
	f.ResponseHead(resp)
	if out := f.ResponseData(&scratch, p); &out[0] != &p[0] {
		t.Errorf("%q", out)
	}
}

// respond runs a response through the filter and returns its content type, body, and what is left of its trailers.
func respond(f BodyFilter, resp *message.Response, trailers *message.Head, pieces ...string) (contentType, body string, left *message.Head) {
	f.ResponseHead(resp)
	value, _ := resp.Get(message.ContentType)
	var scratch []byte
	for _, p := range pieces {
		body += string(f.ResponseData(&scratch, []byte(p)))
	}
	last, left := f.ResponseEnd(&scratch, trailers)
	return string(value), body + string(last), left
}

func trailers(lines ...string) *message.Head {
	h := new(message.Head)
	for _, l := range lines {
		name, value, _ := strings.Cut(l, ": ")
		h.Add(name, value, message.LookupIDString(name))
	}
	return h
}

func grpcResponse(lines ...string) *message.Response {
	r := &message.Response{Status: 200, Framing: message.NoBody}
	r.Head = *trailers(append([]string{"content-type: application/grpc+proto"}, lines...)...)
	return r
}

// decoded undoes base64 that was made piece by piece.
func decoded(t *testing.T, text string) string {
	t.Helper()
	out, reason := appendGroups(nil, []byte(text))
	if reason != "" || len(text)%4 != 0 {
		t.Fatalf("%q is no base64", text)
	}
	return string(out)
}

// frame is what carries trailers.
func frame(lines string) string {
	return string(binary.BigEndian.AppendUint32([]byte{0x80}, uint32(len(lines)))) + lines
}

func TestTrailersBecomeTheLastMessageOfTheBody(t *testing.T) {
	want := "one" + "two" + frame("grpc-status:5\r\ngrpc-message:a%20b\r\nx-a:b\r\n")
	_, f := webRequest(t, "application/grpc-web+proto")
	resp := grpcResponse()
	kind, body, left := respond(f, resp, trailers("grpc-status: 5", "Grpc-Message: a%20b", "X-A: b"), "one", "two")
	if kind != "application/grpc-web+proto" || body != want || left != nil || resp.Framing != message.Streamed {
		t.Errorf("%s, %q, %v; want %q", kind, body, left, want)
	}
	_, f = webRequest(t, "application/grpc-web-text")
	kind, body, _ = respond(f, grpcResponse(), trailers("grpc-status: 0", "grpc-message: fine"), "one", "three")
	if kind != "application/grpc-web-text+proto" || decoded(t, body) != "onethree"+frame("grpc-status:0\r\ngrpc-message:fine\r\n") {
		t.Errorf("%s, %q", kind, decoded(t, body))
	}
}

// TestAStatusInTheHeadMovesIntoTheBody, where scripts can read it without the help of CORS.
func TestAStatusInTheHeadMovesIntoTheBody(t *testing.T) {
	_, f := webRequest(t, "application/grpc-web")
	resp := grpcResponse("grpc-status: 7", "grpc-message: no", "x-other: stays")
	_, body, _ := respond(f, resp, nil)
	if body != frame("grpc-status:7\r\ngrpc-message:no\r\n") || resp.Has(message.GRPCStatus) ||
		resp.Lookup("x-other", message.Unknown, 0) < 0 || resp.Framing != message.Streamed {
		t.Errorf("%q, framing %d", body, resp.Framing)
	}
}

func TestAResponseThatIsNotGRPCIsLeftAlone(t *testing.T) {
	_, f := webRequest(t, "application/grpc-web-text")
	resp := &message.Response{Status: 404, Framing: message.Sized, Length: 3}
	resp.Add("content-type", "text/html", message.ContentType)
	kind, body, left := respond(f, resp, trailers("a: b"), "<p>")
	if kind != "text/html" || body != "<p>" || left == nil || resp.Framing != message.Sized {
		t.Errorf("%s, %q, %v", kind, body, left)
	}
}

func TestAResponseWithoutAStatusEndsWithoutOne(t *testing.T) {
	_, f := webRequest(t, "application/grpc-web")
	if _, body, left := respond(f, grpcResponse(), nil, "x"); body != "x" || left != nil {
		t.Errorf("%q, %v", body, left)
	}
}

// FuzzTextBody: how a text is cut must not change what it means.
func FuzzTextBody(f *testing.F) {
	for _, s := range []string{"AAAA", "AA==AAA=", "AAA", "A\nAA", "////++++", "=AAA"} {
		f.Add(s, uint8(1))
	}
	f.Fuzz(func(t *testing.T, body string, size uint8) {
		run := func(size int) (got, reason string) {
			_, f := webRequest(t, "application/grpc-web-text")
			var scratch []byte
			for rest := body; rest != ""; rest = rest[min(size, len(rest)):] {
				out, reason := f.RequestData(&scratch, []byte(rest[:min(size, len(rest))]))
				if got += string(out); reason != "" {
					return got, reason
				}
			}
			return got, f.RequestEnd()
		}
		whole, reason := run(len(body))
		if cut, cutReason := run(int(size%16) + 1); reason != cutReason || reason == "" && cut != whole {
			t.Errorf("%q: %q %s as a whole, %q %s in pieces of %d", body, whole, reason, cut, cutReason, size%16+1)
		}
		if reason == "" && len(whole) > len(body)/4*3 {
			t.Errorf("%d bytes of %d", len(whole), len(body))
		}
	})
}
