package blackbox

import (
	"io"
	"strings"
	"testing"

	"rauta.io/rauta/internal/testrig"
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/exchange"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/server"
	"rauta.io/rauta/proxy/trace"
)

// TestHoweverARequestEndsBothLogsTellIt: one line in each log, the same, with the trace, stages that add up, and why.
func TestHoweverARequestEndsBothLogsTellIt(t *testing.T) {
	const id = "0af7651916cd43dd8448eb211c80319c"
	for name, c := range map[string]struct {
		serve func(*conn) // nil for no endpoint
		path  string
		leave bool // the client goes before it has an answer
		want  []string
	}{
		"no route":       {answering(ok), "/elsewhere", false, []string{`"status":404`, `"reason":"no_route"`, `"attempts":0`}},
		"no endpoint":    {nil, "/a", false, []string{`"status":503`, `"reason":"no_endpoint"`, `"route":"httproute/default/all"`}},
		"back end reset": {func(c *conn) { c.head(); c.Close() }, "/a", false, []string{`"status":502`, `"reason":"upstream_closed"`, `"endpoint":"127.0.0.1:`, `"cluster":"default/app:80"`}},
		"truncated":      {func(c *conn) { c.head(); c.write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab"); c.Close() }, "/a", false, []string{`"status":200`, `"reason":"upstream_truncated"`, `"bytes_out":2`}},
		"client gone":    {func(c *conn) { c.head(); io.Copy(io.Discard, c) }, "/a", true, []string{`"status":499`, `"reason":"client_`, `"endpoint":"127.0.0.1:`}},
	} {
		t.Run(name, func(t *testing.T) {
			var log, errors testrig.Buffer
			var endpoints []string
			var b *backend
			if c.serve != nil {
				b = newBackend(t, c.serve)
				endpoints = []string{b.addr}
			}
			r := start(t, endpoints, logTo(&log), func(o *server.Options, cfg *config.Config) {
				o.Registry.SetErrorLog(observe.NewAccessLog(&errors, observe.AccessLogOptions{}))
				cfg.Routes[0].Rules[0].Matches[0].Path.Value = "/a"
			}, settings(exchange.Settings{Propagation: &trace.Propagation{Formats: []trace.Format{trace.W3C}}}))
			cl := r.dial()
			cl.send("GET " + c.path + " HTTP/1.1\r\nHost: a\r\ntraceparent: 00-" + id + "-b7ad6b7169203331-01\r\n\r\n")
			if c.leave {
				until(t, "the request at the back end", func() bool { return len(b.seen()) == 1 })
				cl.SetLinger(0)
				cl.Close()
			} else {
				cl.receive("GET")
			}
			until(t, "both lines", func() bool { return strings.Contains(log.String(), "\n") && strings.Contains(errors.String(), "\n") })
			if log.String() != errors.String() {
				t.Errorf("the error log says\n%s, the access log\n%s", errors.String(), log.String())
			}
			stagesOf(t, log.String())
			for _, want := range append(c.want, `"trace_id":"`+id+`"`) {
				if !strings.Contains(log.String(), want) {
					t.Errorf("want %s in %s", want, log.String())
				}
			}
		})
	}
}
