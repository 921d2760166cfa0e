package snapshot

import (
	"math"
	"strings"
	"testing"

	"rauta.io/rauta/proxy/config"
)

// l4 has a listener of each protocol, and routes t0 to t3 that lead to cN.
func l4() *config.Config {
	c := two()
	for _, name := range []string{"t0", "t1", "t2", "t3"} {
		c.L4Routes = append(c.L4Routes, config.L4Route{
			Name: name, Source: config.Source{Kind: "TCPRoute", Namespace: "d", Name: name},
			Backends: []config.Backend{{Cluster: "c" + name[1:], Weight: 1}},
		})
	}
	c.Clusters = append(c.Clusters, config.Cluster{Name: "c3"})
	named := func(hostname, route string) config.Attachment {
		return config.Attachment{Route: route, Hostnames: []string{hostname}}
	}
	c.Listeners = append(c.Listeners,
		config.Listener{Name: "tcp", Port: 53, Protocol: config.ProtocolTCP, Attached: attach("t1", "t0")},
		config.Listener{Name: "udp", Port: 53, Protocol: config.ProtocolUDP, Attached: attach("t2", "t1")},
		config.Listener{Name: "pass", Port: 8443, Protocol: config.ProtocolTLS, Hostname: "*.test", Passthrough: true,
			Attached: []config.Attachment{named("*.test", "t0"), named("*.b.test", "t1"), named("x.b.test", "t2"), named("x.b.test", "t3")}},
		config.Listener{Name: "ends", Port: 8443, Protocol: config.ProtocolTLS, Hostname: "ends.test", TLS: new(config.TLS),
			Attached: []config.Attachment{named("ends.test", "t3")}},
		config.Listener{Name: "empty", Port: 8443, Protocol: config.ProtocolTLS, Hostname: "empty.test", Passthrough: true},
		config.Listener{Name: "https", Port: 8443, Protocol: config.ProtocolHTTPS, Hostname: "https.test", TLS: new(config.TLS), Attached: attach("r0")},
	)
	return c
}

func TestTheMostSpecificListenerHasAServerNameWhateverItDoesWithIt(t *testing.T) {
	p := at(publish(t, newSecureLive(), l4()), 8443)
	if !p.ByServerName || p.TCP || p.TLS == nil {
		t.Fatalf("the port: %+v", p)
	}
	for name, want := range map[string]struct {
		handling Handling
		route    string
	}{
		"a.test": {PassThrough, "t0"}, "b.test": {PassThrough, "t0"}, "y.b.test": {PassThrough, "t1"}, "z.y.b.test": {PassThrough, "t1"},
		"x.b.test":  {PassThrough, "t2"}, // of two routes with one hostname the first
		"ends.test": {Terminate, "t3"}, "https.test": {Terminate, ""},
		"empty.test": {Refuse, ""}, "other": {Refuse, ""}, "test": {Refuse, ""}, "": {Refuse, ""},
	} {
		h, r := p.Hello([]byte(name))
		got := ""
		if r != nil {
			got = r.Name
		}
		if h != want.handling || got != want.route {
			t.Errorf("%q: %d %q, want %d %q", name, h, got, want.handling, want.route)
		}
	}
}

func TestARequestForAHostThatIsPassedThroughIsMisdirected(t *testing.T) {
	p := at(publish(t, newSecureLive(), l4()), 8443)
	for host, want := range map[string]bool{"https.test": false, "a.test": true, "ends.test": true, "other": false} {
		if got := p.Misdirected(nil, "https.test", []byte(host)); got != want {
			t.Errorf("%s over a connection for https.test: %v", host, got)
		}
	}
	if got := match(&Snapshot{Ports: []*Port{p}}, 8443, "GET a.test/r0"); got != "no rule" && got != "pass: no rule" {
		t.Errorf("a request for a host that is passed through: %s", got)
	}
}

func TestOfSeveralRoutesForOnePortTheFirstGetsAll(t *testing.T) {
	s := publish(t, newSecureLive(), l4())
	if p := at(s, 53); !p.TCP || p.L4.Name != "t0" || p.TLS != nil || p.ByServerName {
		t.Errorf("TCP: %+v", p)
	}
	if len(s.UDPPorts) != 1 || s.UDPPorts[0].Addr.Port() != 53 || s.UDPPorts[0].Route.Name != "t1" {
		t.Errorf("UDP: %+v", s.UDPPorts)
	}
	c := l4()
	c.Listeners[2].Attached = nil
	if p := at(publish(t, newSecureLive(), c), 53); !p.TCP || p.L4 != nil {
		t.Errorf("a TCP port without route: %+v", p)
	}
}

func TestADataPlaneWithoutL4HasNoPortForIt(t *testing.T) {
	s := publish(t, NewLive(Options{Workers: 1, WithoutL4: true, NextProtos: []string{"http/1.1"}}), l4())
	if at(s, 53) != nil || len(s.UDPPorts) > 0 {
		t.Error("there is a port for a protocol that is not served")
	}
	p := at(s, 8443)
	if h, _ := p.Hello([]byte("a.test")); h != Refuse {
		t.Errorf("a name of a listener that is not served: %d", h)
	}
	if s := publish(t, newLive(), l4()); at(s, 8443) != nil {
		t.Error("a data plane without TLS has a port for protocol TLS")
	}
}

func TestBackEndsOfAnL4RouteAreInvalidAloneAndKeepTheirWeight(t *testing.T) {
	c := l4()
	c.L4Routes[0].Backends = []config.Backend{{Cluster: "c0", Weight: 1}, {Cluster: "nowhere", Weight: 3}, {Invalid: "no such service", Weight: 4}}
	c.L4Routes[1].Backends = nil
	live := newSecureLive()
	s, _, _, err := live.Publish(c, nil)
	if err == nil {
		t.Error("a cluster that does not exist is no problem")
	}
	r := s.L4Routes[0]
	valid := 0
	for i := range 8 {
		if b := r.Pick(uint32(i) * (math.MaxUint32/8 + 1)); b.Cluster != nil {
			valid++
		} else if b.Invalid == "" {
			t.Error("a back end without cluster and without reason")
		}
	}
	if valid != 1 {
		t.Errorf("%d of 8 go to the only valid back end", valid)
	}
	if s.L4Routes[1].Pick(7) != nil {
		t.Error("a route without back ends has one")
	}
}

func TestWhatDidNotChangeIsSharedOnEveryLayer(t *testing.T) {
	live := newSecureLive()
	before := publish(t, live, l4())
	c := l4()
	c.L4Routes[3].Backends[0].Weight = 2
	after := publish(t, live, c)
	if before.L4Routes[0] != after.L4Routes[0] || before.L4Routes[3] == after.L4Routes[3] {
		t.Error("the wrong routes are shared")
	}
	if at(before, 53) != at(after, 53) || at(before, 8443) == at(after, 8443) {
		t.Error("the wrong ports are shared")
	}
	if _, r := at(after, 8443).Hello([]byte("ends.test")); r != after.L4Routes[3] {
		t.Error("a port leads to a route of an older generation")
	}
	c = l4()
	c.L4Routes[3].Backends[0].Weight = 2
	c.Listeners[4].Passthrough, c.Listeners[4].TLS = false, new(config.TLS)
	if h, _ := at(publish(t, live, c), 8443).Hello([]byte("a.test")); h != Terminate {
		t.Errorf("a listener that now terminates: %d", h)
	}
	c = l4()
	c.Listeners[2].Protocol, c.Listeners[2].Attached = config.ProtocolHTTP, attach("r0")
	if p := at(publish(t, live, c), 53); p.TCP || p.L4 != nil {
		t.Error("a port that was TCP stays so")
	}
}

func TestListenersThatOnlyMeetAtTheBoundAddressAreToldApart(t *testing.T) {
	c := l4()
	c.Listeners[2].Address, c.Listeners[4].Address = "127.0.0.1", "127.0.0.1"
	c.Listeners = append(c.Listeners,
		config.Listener{Name: "late", Port: 53, Protocol: config.ProtocolHTTP},
		config.Listener{Name: "twin", Port: 8443, Protocol: config.ProtocolHTTPS, Hostname: "*.test", TLS: new(config.TLS)},
	)
	opt := Options{Workers: 1, NextProtos: []string{"http/1.1"}, DefaultAddress: "127.0.0.1"}
	s, _, _, _ := NewLive(opt).Publish(c, nil)
	if len(s.Problems) != 2 {
		t.Errorf("problems: %v", s.Problems)
	}
	if p := at(s, 53); !p.TCP {
		t.Error("a later listener took the port")
	}
	if h, _ := at(s, 8443).Hello([]byte("a.test")); h != PassThrough {
		t.Errorf("a later listener took the name: %d", h)
	}
}

func TestAnExplanationOfAConnectionIsWhatHelloSays(t *testing.T) {
	c := l4()
	c.L4Routes[3].Backends = []config.Backend{{Weight: 1, Invalid: "no such service"}}
	c.L4Routes[0].IdleTimeout = config.NoTimeout
	s := publish(t, newSecureLive(), c)
	for name, want := range map[string]string{
		"a.test": "outcome: forward without looking into it", "y.b.test": "route t1", "ends.test": "outcome: refuse, invalid_backend",
		"https.test": "outcome: requests are inside", "empty.test": "outcome: refuse, no_route", "other": "outcome: refuse, no_route",
	} {
		e := at(s, 8443).ExplainConnection(name)
		if text := e.Text(); !strings.Contains(text, want) {
			t.Errorf("%s: want %q in\n%s", name, want, text)
		}
	}
	e := at(s, 53).ExplainConnection("")
	for _, want := range []string{"* tcp", "route t0", "idle timeout: none", "back end c0: weight 1 (100%), 0 of 0 endpoints ready"} {
		if text := e.Text(); !strings.Contains(text, want) {
			t.Errorf("TCP: want %q in\n%s", want, text)
		}
	}
	e = s.UDPPorts[0].Explain()
	if text := e.Text(); !strings.Contains(text, "route t1") {
		t.Errorf("UDP: %s", text)
	}
}
