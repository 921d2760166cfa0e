package config

import (
	"errors"
	"math"
	"strings"
	"testing"
)

// validL4 has a listener of each protocol that is forwarded without being looked into.
func validL4() *Config {
	everything := func(route string) []Attachment { return []Attachment{{Route: route, Hostnames: []string{""}}} }
	return &Config{
		Listeners: []Listener{
			{Name: "tcp", Port: 53, Protocol: ProtocolTCP, Attached: everything("tcproute/a/b")},
			{Name: "udp", Port: 53, Protocol: ProtocolUDP, Attached: everything("udproute/a/b")},
			{Name: "pass", Port: 443, Protocol: ProtocolTLS, Hostname: "a.test", Passthrough: true,
				Attached: []Attachment{{Route: "tlsroute/a/b", Hostnames: []string{"a.test"}}}},
			{Name: "ends", Port: 443, Protocol: ProtocolTLS, Hostname: "b.test", TLS: new(TLS), Attached: everything("tlsroute/a/b")},
			{Name: "https", Port: 443, Protocol: ProtocolHTTPS, Hostname: "c.test", TLS: new(TLS)},
		},
		L4Routes: []L4Route{
			{Name: "tcproute/a/b", Backends: []Backend{{Cluster: "c", Weight: 1}, {Weight: math.MaxUint32 - 1, Invalid: "no such service"}}},
			{Name: "tlsroute/a/b"}, {Name: "udproute/a/b", IdleTimeout: NoTimeout},
		},
		Clusters: []Cluster{{Name: "c"}},
	}
}

func TestProtocolsOfAllLayersShareAConfiguration(t *testing.T) {
	if errs := Validate(validL4()); len(errs) > 0 {
		t.Fatal(errs)
	}
}

func TestEveryProblemOfAnL4RouteIsLocatedAndExplained(t *testing.T) {
	for _, c := range []struct {
		breakIt func(*Config)
		part    Part
		want    string
	}{
		{func(c *Config) { c.L4Routes[1].Name = "tcproute/a/b"; c.Listeners = nil }, PartL4Route, `l4Routes[1].name: name "tcproute/a/b" is used twice`},
		{func(c *Config) { c.L4Routes[0].Backends[0].Cluster = "x" }, PartL4Backend, `l4Routes["tcproute/a/b"].backends[0].cluster: cluster "x" does not exist`},
		{func(c *Config) { c.L4Routes[0].Backends[0].Weight = 2 }, PartL4Backend, `backends[1].weight: the sum of the weights`},
		{func(c *Config) {
			c.L4Routes[0].Backends[0].Filters = []Filter{{Answer: &Answer{Status: 500, Reason: "x"}}}
		}, PartL4Backend,
			`backends[0].filters: filters need HTTP`},
		{func(c *Config) { c.Listeners[0].Attached[0].Route = "x" }, PartAttachment, `listeners["tcp"].attached[0].route: there is no L4 route "x"`},
		{func(c *Config) { c.Listeners[4].Attached = c.Listeners[2].Attached }, PartAttachment, `attached[0].route: route "tlsroute/a/b" does not exist`},
		{func(c *Config) { c.Listeners[0].Hostname = "a.test" }, PartListener, `listeners["tcp"].hostname: clients of protocol TCP name no host`},
		{func(c *Config) { c.Listeners[0].Passthrough = true }, PartListener, `listeners["tcp"].passthrough: only protocol TLS`},
		{func(c *Config) { c.Listeners[1].ProxyProtocol = &ProxyProtocol{From: []string{"::/0"}} }, PartListener, `listeners["udp"].proxyProtocol: protocol UDP`},
		{func(c *Config) { c.Listeners[2].Passthrough = false }, PartListener, `listeners["pass"].tls: protocol TLS needs either tls or passthrough`},
		{func(c *Config) { c.Listeners[2].TLS = new(TLS) }, PartListener, `listeners["pass"].tls: protocol TLS needs either`},
		{func(c *Config) { c.Listeners[0].Port = 443 }, PartListener, `listeners["pass"].protocol: listener "tcp" on the same address and port has protocol TCP`},
		{func(c *Config) { c.Listeners[3].Hostname = "a.test" }, PartListener, `listeners["ends"].hostname: listener "pass" has the same hostname`},
		{func(c *Config) { c.Listeners[4].Hostname = "b.test" }, PartListener, `listeners["https"].hostname: listener "ends" has the same hostname`},
	} {
		cfg := validL4()
		c.breakIt(cfg)
		errs := Validate(cfg)
		if len(errs) == 0 {
			t.Errorf("no problem, want %q", c.want)
			continue
		}
		e, ok := errors.AsType[*Error](errs[0])
		if !ok || e.Part != c.part || !strings.Contains(e.Error(), c.want) {
			t.Errorf("got part %d: %v\nwant part %d: %s", e.Part, e, c.part, c.want)
		}
	}
}
