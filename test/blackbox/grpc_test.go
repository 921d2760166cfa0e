package blackbox

import (
	"testing"

	"golang.org/x/net/http2"

	"rauta.io/rauta/proxy/config"
)

// grpcCall is the head of a gRPC call (gRPC over HTTP/2, "Requests").
func grpcCall(path string, more ...string) []string {
	return append([]string{":method: POST", ":scheme: http", ":path: " + path, ":authority: a.example",
		"content-type: application/grpc", "te: trailers"}, more...)
}

// TestAnAnswerToGRPCIsOneHeaderBlock: trailers only, so that END_STREAM is on the HEADERS frame.
func TestAnAnswerToGRPCIsOneHeaderBlock(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		r := start(t, nil, rule(func(r *config.Rule) { r.Matches[0].Path.Value = "/p.Service" }))
		c := r.h2()
		for i, test := range []struct{ path, status string }{
			{"/p.Service/Method", "14"}, // there is no endpoint
			{"/q.Service/Method", "12"}, // nor a route
		} {
			id := uint32(2*i + 1)
			c.headers(id, false, grpcCall(test.path))
			for {
				f := c.next()
				if f == nil {
					t.Fatal("the connection has ended")
				}
				h, ok := f.(*http2.HeadersFrame)
				if f.Header().StreamID != id || !ok {
					continue
				}
				fields, err := c.dec.DecodeFull(h.HeaderBlockFragment())
				c.must(err)
				reply := h2reply{fields: fields}
				if reply.get(":status") != "200" || reply.get("grpc-status") != test.status || !h.StreamEnded() ||
					reply.get("content-type") != "application/grpc" || reply.get("grpc-message") == "" {
					t.Errorf("%s: %v, END_STREAM: %v; want grpc-status %s", test.path, fields, h.StreamEnded(), test.status)
				}
				break
			}
		}
	})
}
