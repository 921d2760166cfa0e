package blackbox

import (
	"io"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"rauta.io/rauta/internal/testrig"
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/exchange"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/server"
	"rauta.io/rauta/proxy/trace"
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
	const id = "0af7651916cd43dd8448eb211c80319c"
	var log, errors testrig.Buffer
	var endpoints []string
	var b *backend
	if serve != nil {
		b = newBackend(t, serve)
		endpoints = []string{b.addr}
	}
	r := start(t, endpoints, logTo(&log), func(o *server.Options, cfg *config.Config) {
		o.Registry.SetErrorLog(observe.NewAccessLog(&errors, observe.AccessLogOptions{}))
		cfg.Routes[0].Rules[0].Matches[0].Path.Value = "/a"
	}, settings(exchange.Settings{Propagation: &trace.Propagation{Formats: []trace.Format{trace.W3C}}}))
	await, goes := ask(r, path, "00-"+id+"-b7ad6b7169203331-01")
	if leave {
		until(t, "the request at the back end", func() bool { return len(b.seen()) == 1 })
		goes()
	} else {
		await()
	}
	until(t, "both lines", func() bool { return strings.Contains(log.String(), "\n") && strings.Contains(errors.String(), "\n") })
	if log.String() != errors.String() {
		t.Errorf("the error log says\n%s, the access log\n%s", errors.String(), log.String())
	}
	stagesOf(t, log.String())
	for _, want := range append(want, `"trace_id":"`+id+`"`) {
		if !strings.Contains(log.String(), want) {
			t.Errorf("want %s in %s", want, log.String())
		}
	}
}
