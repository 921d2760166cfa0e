package blackbox

import (
	"net/netip"
	"strings"
	"testing"

	"rauta.io/rauta/internal/testrig"
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/exchange"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/server"
)

func TestBehindATrustedProxyTheClientIsWhomItNames(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		var log testrig.Buffer
		b := newBackend(t, answering(ok))
		r := start(t, []string{b.addr},
			settings(exchange.Settings{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")}}),
			func(o *server.Options, _ *config.Config) {
				o.Registry.SetAccessLog(observe.NewAccessLog(&log, observe.AccessLogOptions{}))
			})
		c := r.dial()
		c.do("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1, 203.0.113.7, 10.1.2.3\r\n\r\n")
		until(t, "the line of the access log", func() bool { return strings.Contains(log.String(), "\n") })
		if !strings.Contains(log.String(), `"client":"203.0.113.7"`) {
			t.Errorf("the access log says %s", log.String())
		}
		head := b.seen()[0]
		if !strings.Contains(head, "X-Real-IP: 203.0.113.7\r\n") ||
			!strings.Contains(head, "X-Forwarded-For: 1.1.1.1, 203.0.113.7, 10.1.2.3, 127.0.0.1\r\n") {
			t.Errorf("the back end saw %q", head)
		}
	})
}
