package exchange

import (
	"testing"

	"rauta.io/rauta/proxy/config"
)

func TestARequestForAnotherListenerThanItsConnectionWasMadeForIsMisdirected(t *testing.T) {
	s := newSim(t, 1, func(c *config.Config) {
		c.Listeners[0].Hostname = "a.test"
		for _, hostname := range []string{"*.b.test", "c.test"} {
			l := c.Listeners[0]
			l.Name, l.Hostname = hostname, hostname
			c.Listeners = append(c.Listeners, l)
		}
	})
	for _, c := range []struct {
		serverName, host string
		status           int
	}{
		{"", "a.test", 0}, // plain text, or a client that named no server
		{"a.test", "a.test", 0},
		{"a.test", "A.TEST:443", 0},
		{"a.test", "c.test", 421},
		{"x.b.test", "y.b.test", 0}, // one listener, one certificate
		{"x.b.test", "a.test", 421},
		{"a.test", "y.b.test", 421},
		{"a.test", "unknown.test", 404},
		{"unknown.test", "a.test", 0}, // it got the default certificate, which is no listener's own
	} {
		client := s.request("GET /")
		client.x.Req.Authority = client.x.Req.StoreString(c.host)
		client.peer.ServerName = c.serverName
		client.start()
		switch {
		case c.status == 0 && client.status != 0:
			t.Errorf("%q on a connection for %q: %d", c.host, c.serverName, client.status)
		case c.status == 0:
			client.x.OnClientGone("test")
		case client.status != c.status:
			t.Errorf("%q on a connection for %q: %d, want %d", c.host, c.serverName, client.status, c.status)
		}
	}
}
