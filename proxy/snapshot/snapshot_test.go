package snapshot

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/observe"
)

// request builds a head from "METHOD host/path?query" and "name: value" lines.
func request(target string, lines ...string) (host []byte, req *message.Request) {
	r := new(message.Request)
	method, uri, _ := strings.Cut(target, " ")
	authority, rest, _ := strings.Cut(uri, "/")
	path, query, has := strings.Cut("/"+rest, "?")
	r.Method, r.MethodID = r.StoreString(method), message.LookupMethod([]byte(method))
	r.Authority, r.Path = r.StoreString(authority), r.StoreString(path)
	r.Query, r.HasQuery = r.StoreString(query), has
	for _, l := range lines {
		name, value, _ := strings.Cut(l, ": ")
		r.Add(name, value, message.LookupIDString(name))
	}
	return []byte(authority), r
}

func prefix(path string) config.Match {
	return config.Match{Path: config.PathMatch{Kind: config.PathPrefix, Value: path}}
}

func rule(name, cluster string, matches ...config.Match) config.Rule {
	return config.Rule{Name: name, Matches: matches, Backends: []config.Backend{{Cluster: cluster, Weight: 1}}}
}

func attach(names ...string) []config.Attachment {
	var out []config.Attachment
	for _, n := range names {
		out = append(out, config.Attachment{Route: n, Hostnames: []string{""}})
	}
	return out
}

// two has listeners a and b on different ports; routes r0 and r1 are on a, r2 on b; rN has the prefix /rN and goes to cN.
// Every call returns a configuration that shares no memory with others.
func two() *config.Config {
	c := &config.Config{
		Listeners: []config.Listener{
			{Name: "a", Port: 8001, Protocol: config.ProtocolHTTP, Attached: attach("r0", "r1")},
			{Name: "b", Port: 8002, Protocol: config.ProtocolHTTP, Attached: attach("r2")},
		},
	}
	for i := range 3 {
		c.Routes = append(c.Routes, &config.Route{
			Name: fmt.Sprint("r", i), Source: config.Source{Kind: "HTTPRoute", Namespace: "d", Name: fmt.Sprint("r", i)},
			Rules: []config.Rule{rule("0", fmt.Sprint("c", i), prefix(fmt.Sprint("/r", i)))},
		})
		c.Clusters = append(c.Clusters, config.Cluster{Name: fmt.Sprint("c", i)})
	}
	return c
}

func newLive() *Live {
	return NewLive(Options{Workers: 2, Registry: observe.NewRegistry(observe.Options{Workers: 2})})
}

func publish(t testing.TB, l *Live, c *config.Config) *Snapshot {
	t.Helper()
	s, changed, _, err := l.Publish(c, nil)
	if err != nil || !changed || l.Current() != s {
		t.Fatalf("changed %v, error %v", changed, err)
	}
	return s
}

func at(s *Snapshot, port uint16) *Port {
	for _, p := range s.Ports {
		if p.Addr.Port() == port {
			return p
		}
	}
	return nil
}

func match(s *Snapshot, port uint16, target string, lines ...string) string {
	p := at(s, port)
	if p == nil {
		return "no port"
	}
	rule, listener, _ := p.Match(request(target, lines...))
	switch {
	case listener == nil:
		return "no listener"
	case rule == nil:
		return listener.Name + ": no rule"
	}
	return fmt.Sprintf("%s: %s/%s", listener.Name, rule.Route, rule.Name)
}

func TestBeforeTheFirstPublishTheSnapshotIsEmpty(t *testing.T) {
	s := newLive().Current()
	if s == nil || s.Generation != 0 || len(s.Ports) != 0 || s.Config == nil {
		t.Fatalf("%+v", s)
	}
}

func TestEvenAnEmptyConfigurationIsAGeneration(t *testing.T) {
	l := newLive()
	if s := publish(t, l, new(config.Config)); s.Generation != 1 || s.Hash != config.Hash(new(config.Config)) {
		t.Fatalf("%+v", s)
	}
}

func TestRulesCarryWhatTheExchangeNeeds(t *testing.T) {
	c := two()
	c.Routes[0].Rules[0].Timeouts = config.Timeouts{Request: 1, BackendRequest: -1, Response: 3}
	c.Routes[0].Rules[0].BodyBytesMax = 4
	l := newLive()
	s := publish(t, l, c)
	r, listener, res := at(s, 8001).Match(request("GET h/r0/x"))
	if r == nil || res.Prefix != 3 || listener.Port != 8001 || listener.Name != "a" {
		t.Fatalf("%+v %+v %+v", r, listener, res)
	}
	if r.Route != "r0" || r.Name != "0" || r.Source.Name != "r0" || r.Stats != l.opt.Registry.Route("r0") ||
		r.RequestTimeout != 1 || r.BackendTimeout != -1 || r.ResponseTimeout != 3 || r.BodyBytesMax != 4 ||
		r.Filters != nil || len(r.Backends) != 1 || r.Backends[0].Cluster != s.Clusters["c0"] {
		t.Fatalf("%+v", r)
	}
}

func TestOnlyTheRoutesOfTheMostSpecificListenerAreCandidates(t *testing.T) {
	c := two()
	c.Listeners = []config.Listener{
		{Name: "any", Port: 80, Protocol: config.ProtocolHTTP, Attached: attach("r0")},
		{Name: "exact", Port: 80, Protocol: config.ProtocolHTTP, Hostname: "a.example.com", Attached: attach("r1")},
		{Name: "wild", Port: 80, Protocol: config.ProtocolHTTP, Hostname: "*.example.com", Attached: attach("r2")},
		{Name: "tls", Port: 443, Protocol: config.ProtocolHTTPS, TLS: new(config.TLS), Attached: attach("r2")},
	}
	s := publish(t, newLive(), c)
	for target, want := range map[string]string{
		"GET a.example.com/r1":   "exact: r1/0",
		"GET a.example.com/r0":   "exact: no rule",
		"GET b.example.com/r2":   "wild: r2/0",
		"GET x.b.example.com/r2": "wild: r2/0",
		"GET example.com/r0":     "any: r0/0",
		"GET /r0":                "any: r0/0",
		"GET example.com/r2":     "any: no rule",
	} {
		if got := match(s, 80, target); got != want {
			t.Errorf("%s: %s, want %s", target, got, want)
		}
	}
	if got := match(s, 443, "GET a/r2"); got != "no port" {
		t.Errorf("a listener for HTTPS has a port: %s", got)
	}
	if l := s.Ports[0].Listener([]byte("b.example.com")); l.Name != "wild" {
		t.Errorf("Listener gives %s", l.Name)
	}
	c.Listeners = c.Listeners[1:2]
	if got := match(publish(t, newLive(), c), 80, "GET other/r1"); got != "no listener" {
		t.Errorf("a host of no listener: %s", got)
	}
}

func TestListenersWithOneHostnameShareTheirRoutes(t *testing.T) {
	c := two()
	c.Listeners[0].Attached, c.Listeners[1].Attached = attach("r1", "r2"), attach("r0", "r1")
	c.Listeners[1].Port = 8001
	s := publish(t, newLive(), c)
	for target, want := range map[string]string{"GET h/r0": "b: r0/0", "GET h/r1": "a: r1/0", "GET h/r2": "a: r2/0"} {
		if got := match(s, 8001, target); got != want {
			t.Errorf("%s: %s, want %s", target, got, want)
		}
	}
}

func TestTheOlderRouteAndTheEarlierRuleWinTies(t *testing.T) {
	c := two()
	for i := range c.Routes {
		c.Routes[i].Rules = []config.Rule{rule("first", "c0", prefix("/")), rule("second", "c1", prefix("/"))}
	}
	c.Listeners[0].Attached = attach("r1", "r0", "r2") // the order of attachments has no meaning
	if got := match(publish(t, newLive(), c), 8001, "GET h/"); got != "a: r0/first" {
		t.Fatal(got)
	}
}

func TestListenersWithoutAddressUseTheDefaultOne(t *testing.T) {
	c := two()
	c.Listeners[1].Address = "::1"
	for given, want := range map[string]string{"": "[::]:8001", "127.0.0.1": "127.0.0.1:8001", "::ffff:10.0.0.1": "10.0.0.1:8001"} {
		s := publish(t, NewLive(Options{Workers: 1, DefaultAddress: given}), c)
		if at(s, 8001).Addr.String() != want || at(s, 8002).Addr.String() != "[::1]:8002" {
			t.Errorf("default address %q: %v, %v", given, at(s, 8001).Addr, at(s, 8002).Addr)
		}
	}
	s, _, _, err := NewLive(Options{DefaultAddress: "localhost"}).Publish(c, nil)
	if err == nil || !strings.Contains(err.Error(), `listeners["a"].address: parse the address "localhost"`) || len(s.Ports) != 1 {
		t.Errorf("a bad default address: %v, %d ports", err, len(s.Ports))
	}
}

func TestPickGivesEachBackEndExactlyItsShare(t *testing.T) {
	for _, weights := range [][]uint32{{1}, {1, 1}, {0, 3, 0, 7}, {1, 99, 900}, {5, 0}, {1000, 1}} {
		r := Rule{}
		for _, w := range weights {
			r.weights += w
			r.Backends = append(r.Backends, Backend{Weight: w, upTo: r.weights})
		}
		total := uint64(r.weights)
		got := make(map[*Backend]uint32)
		for n := range total {
			// The numbers from ceil(n*2^32/total) on, up to the next such border, are one unit of weight.
			lowest := (n<<32 + total - 1) / total
			highest := ((n+1)<<32+total-1)/total - 1
			b := r.Pick(uint32(lowest))
			if b == nil || r.Pick(uint32(highest)) != b {
				t.Fatalf("weights %v: the unit %d is split", weights, n)
			}
			got[b]++
		}
		for i := range r.Backends {
			if got[&r.Backends[i]] != weights[i] {
				t.Errorf("weights %v: back end %d gets %d", weights, i, got[&r.Backends[i]])
			}
		}
	}
	for _, r := range []Rule{{}, {Backends: []Backend{{}, {}}}} {
		if b := r.Pick(math.MaxUint32); b != nil {
			t.Errorf("%+v was picked although all weights are 0", b)
		}
	}
}

func TestProxyProtocolPeersAreParsed(t *testing.T) {
	c := two()
	c.Listeners[0].ProxyProtocol = &config.ProxyProtocol{From: []string{"10.0.0.0/8", "::1/128"}}
	p := at(publish(t, newLive(), c), 8001)
	if len(p.ProxyProtocolFrom) != 2 || !p.ProxyProtocolFrom[0].Contains(netip.MustParseAddr("10.2.3.4")) {
		t.Fatal(p.ProxyProtocolFrom)
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	c := two()
	c.Listeners = append(c.Listeners, config.Listener{Name: "w", Port: 8001, Protocol: config.ProtocolHTTP, Hostname: "*.example.com", Attached: attach("r2")})
	p := at(publish(t, newLive(), c), 8001)
	host, req := request("GET a.example.com/r2/x")
	var r *Rule
	if n := testing.AllocsPerRun(100, func() {
		r, _, _ = p.Match(host, req)
		r.Pick(12345)
	}); n != 0 || r == nil {
		t.Fatalf("%v allocations, rule %v", n, r)
	}
}
