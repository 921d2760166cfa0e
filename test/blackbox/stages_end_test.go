package blackbox

import (
	"io"
	"testing"

	"golang.org/x/net/http2"

	"rauta.io/rauta/proxy/config"
)

// asker sends a request with a trace context, and returns how to await its answer and how to go without one.
type asker func(r *rig, path, parent string) (await, leave func())

// askers are clients of each protocol.
var askers = map[string]asker{
	"HTTP1": func(r *rig, path, parent string) (await, leave func()) {
		c := r.dial()
		c.send("GET " + path + " HTTP/1.1\r\nHost: a\r\ntraceparent: " + parent + "\r\n\r\n")
		return func() { c.receive("GET") }, func() {
			c.SetLinger(0)
			c.Close()
		}
	},
	"HTTP2": func(r *rig, path, parent string) (await, leave func()) {
		c := r.h2()
		c.headers(1, true, []string{":method: GET", ":scheme: http", ":path: " + path, ":authority: a.example", "traceparent: " + parent})
		return func() { c.response(1) }, func() { c.must(c.WriteRSTStream(1, http2.ErrCodeCancel)) }
	},
	"gRPC": func(r *rig, path, parent string) (await, leave func()) {
		c := r.h2()
		c.headers(1, true, grpcCall(path, "traceparent: "+parent))
		return func() { c.response(1) }, func() { c.must(c.WriteRSTStream(1, http2.ErrCodeCancel)) }
	},
}

// TestHoweverARequestEndsBothLogsTellIt: one line in each log, the same, with the trace, stages that add up, and why.
func TestHoweverARequestEndsBothLogsTellIt(t *testing.T) {
	for name, c := range map[string]struct {
		serve func(*conn) // nil for no endpoint
		path  string
		leave bool // the client goes before it has an answer
		want  []string
		grpc  string // what is said to clients of gRPC beside that, the status in place of that of HTTP
	}{
		"no route": {answering(ok), "/elsewhere", false, []string{`"reason":"no_route"`, `"attempts":0`, `"status":404`}, `"grpc_status":"UNIMPLEMENTED"`},
		"no endpoint": {nil, "/a", false,
			[]string{`"reason":"no_endpoint"`, `"route":"httproute/default/all"`, `"status":503`}, `"grpc_status":"UNAVAILABLE"`},
		"back end reset": {func(c *conn) { c.head(); c.Close() }, "/a", false,
			[]string{`"reason":"upstream_closed"`, `"endpoint":"127.0.0.1:`, `"cluster":"default/app:80"`, `"status":502`}, `"grpc_status":"UNAVAILABLE"`},
		"truncated": {func(c *conn) { c.head(); c.write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab"); c.Close() }, "/a", false,
			[]string{`"reason":"upstream_truncated"`, `"bytes_out":2`, `"status":200`}, ""},
		"client gone": {func(c *conn) { c.head(); io.Copy(io.Discard, c) }, "/a", true,
			[]string{`"reason":"client_`, `"endpoint":"127.0.0.1:`, `"status":499`}, ""},
	} {
		for protocol, ask := range askers {
			if protocol == "gRPC" && c.grpc == "" {
				continue
			}
			t.Run(name+", "+protocol, func(t *testing.T) {
				want := c.want
				if protocol == "gRPC" {
					want = append(want[:len(want)-1:len(want)-1], c.grpc)
				}
				bothLogsTell(t, c.serve, c.path, ask, c.leave, want)
			})
		}
	}
}

func bothLogsTell(t *testing.T, serve func(*conn), path string, ask asker, leave bool, want []string) {
	var logs bothLogs
	var endpoints []string
	var b *backend
	if serve != nil {
		b = newBackend(t, serve)
		endpoints = []string{b.addr}
	}
	r := start(t, endpoints, logs.set, rule(func(r *config.Rule) { r.Matches[0].Path.Value = "/a" }))
	await, goes := ask(r, path, givenParent)
	if leave {
		until(t, "the request at the back end", func() bool { return len(b.seen()) == 1 })
		goes()
	} else {
		await()
	}
	logs.line(t, append(want, `"trace_id":"`+givenTrace+`"`)...)
}
