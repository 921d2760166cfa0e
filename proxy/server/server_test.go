package server

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"weak"

	"rauta.io/rauta/fastpath"
	"rauta.io/rauta/internal/testrig"
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/snapshot"
)

// everythingTo is a configuration that sends every request on port to the endpoints.
func everythingTo(port uint16, endpoints ...string) (*config.Config, config.Endpoints) {
	c := &config.Config{
		Listeners: []config.Listener{{
			Name: "default/gw/http", Port: port, Protocol: config.ProtocolHTTP,
			Attached: []config.Attachment{{Route: "httproute/default/all", Hostnames: []string{""}}},
		}},
		Routes: []*config.Route{{
			Name:   "httproute/default/all",
			Source: config.Source{Kind: "HTTPRoute", Namespace: "default", Name: "all"},
			Rules: []config.Rule{{
				Name:     "0",
				Matches:  []config.Match{{Path: config.PathMatch{Kind: config.PathPrefix, Value: "/"}}},
				Backends: []config.Backend{{Cluster: "default/app:80", Weight: 1}},
			}},
		}},
		Clusters: []config.Cluster{{Name: "default/app:80"}},
	}
	eps := config.Endpoints{}
	for _, e := range endpoints {
		eps["default/app:80"] = append(eps["default/app:80"], config.Endpoint{Address: e})
	}
	return c, eps
}

func startServer(t *testing.T, workers int, change ...func(*Server)) (*Server, uint16) {
	t.Helper()
	reg := observe.NewRegistry(observe.Options{Workers: workers, Methods: message.MethodNames()})
	s, err := New(Options{
		Workers: workers, Registry: reg, Bind: "127.0.0.1", Limits: fastpath.DefaultLimits(),
		DrainTime: 5 * time.Second, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(s)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Drain(context.Background()) })
	return s, testrig.FreePort(t)
}

func TestARequestReachesItsBackEndAndTheAnswerComesBack(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Saw", r.Method+" "+r.URL.Path+" "+string(body)+" "+r.Header.Get("X-Forwarded-For"))
		io.WriteString(w, "hello")
	}))
	defer backend.Close()
	s, port := startServer(t, 2)
	cfg, eps := everythingTo(port, backend.Listener.Addr().String())
	if err := s.Publish(cfg, eps); err != nil {
		t.Fatal(err)
	}
	if ok, why := s.Ready(); !ok {
		t.Fatalf("not ready: %s", why)
	}
	url := "http://" + netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port).String()
	for range 3 {
		for _, c := range []struct{ method, body string }{{"GET", ""}, {"POST", "payload"}, {"PUT", strings.Repeat("x", 1000)}} {
			req, _ := http.NewRequest(c.method, url+"/path?q=1", strings.NewReader(c.body))
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			got, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != 200 || string(got) != "hello" {
				t.Fatalf("%s: %d %q", c.method, resp.StatusCode, got)
			}
			if want := c.method + " /path " + c.body + " 127.0.0.1"; resp.Header.Get("X-Saw") != want {
				t.Errorf("%s: back end saw %q, want %q", c.method, resp.Header.Get("X-Saw"), want)
			}
		}
	}
}

func TestASocketThatIsTakenIsTriedAgain(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }))
	defer backend.Close()
	s, port := startServer(t, 1)
	addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port).String()
	squatter, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	cfg, eps := everythingTo(port, backend.Listener.Addr().String())
	if err := s.Publish(cfg, eps); err == nil || !strings.Contains(err.Error(), "another process listens there") {
		t.Fatalf("the error is %v", err)
	}
	if ok, _ := s.Ready(); ok {
		t.Error("ready without the only listener")
	}
	squatter.Close()
	deadline := time.Now().Add(20 * time.Second)
	for {
		if ok, _ := s.Ready(); ok {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the socket was not tried again")
		}
		time.Sleep(10 * time.Millisecond)
	}
	resp, err := http.Get("http://" + addr)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

func TestInAClusterASocketThatIsTakenKeepsNobodyFromBeingReady(t *testing.T) {
	s, port := startServer(t, 1, func(s *Server) { s.opt.ReadyWithoutSockets = true })
	squatter, err := net.Listen("tcp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port).String())
	if err != nil {
		t.Fatal(err)
	}
	defer squatter.Close()
	cfg, eps := everythingTo(port, "127.0.0.1:1")
	err = s.Publish(cfg, eps)
	if unserved := config.Unserved(cfg, err); len(unserved) != 1 || unserved[cfg.Listeners[0].Name] == nil {
		t.Errorf("not served are %v", unserved)
	}
	if ok, why := s.Ready(); !ok {
		t.Errorf("not ready: %s", why)
	}
}

// TestPortsBeyondTheLimitAreToldAndCloseNoOthers: listeners could take all descriptors, and nobody could connect any more.
func TestPortsBeyondTheLimitAreToldAndCloseNoOthers(t *testing.T) {
	const limit, many = 3, 5
	s, _ := startServer(t, 1, func(s *Server) { s.opt.ReadyWithoutSockets, s.ports = true, limit })
	cfg, eps := everythingTo(1, "127.0.0.1:1")
	one := cfg.Listeners[0]
	cfg.Listeners = nil
	for i := range many {
		one.Name, one.Port = fmt.Sprint("default/gw/", i), testrig.FreePort(t)
		cfg.Listeners = append(cfg.Listeners, one)
	}
	err := s.Publish(cfg, eps)
	unserved, before := config.Unserved(cfg, err), listening(cfg)
	if len(unserved) != many-limit || len(before) != limit || !strings.Contains(err.Error(), "3 ports are open, and no more may be") {
		t.Fatalf("served are %v, not served %v: %v", before, unserved, err)
	}
	// Another listener takes the place of one that goes; those that were open stay.
	next := *cfg
	next.Listeners = slices.DeleteFunc(slices.Clone(cfg.Listeners), func(l config.Listener) bool { return l.Name == before[0] })
	unserved = config.Unserved(&next, s.Publish(&next, eps))
	after := listening(&next)
	if len(unserved) != many-limit-1 || len(after) != limit || !slices.Contains(after, before[1]) || !slices.Contains(after, before[2]) {
		t.Errorf("served were %v and are %v, not served %v", before, after, unserved)
	}
	last := next
	last.Listeners = next.Listeners[:1]
	if err := s.Publish(&last, eps); err != nil {
		t.Error(err)
	}
}

// listening are the listeners of a configuration that take connections.
func listening(c *config.Config) (names []string) {
	for _, l := range c.Listeners {
		conn, err := net.Dial("tcp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), l.Port).String())
		if err == nil {
			names = append(names, l.Name)
			conn.Close()
		}
	}
	return names
}

func TestWhereThereAreTooManyPortsNobodysManyTakeThePlaceOfOthersFew(t *testing.T) {
	s, _ := startServer(t, 1, func(s *Server) { s.opt.ReadyWithoutSockets, s.ports = true, 3 })
	cfg, eps := everythingTo(1, "127.0.0.1:1")
	one := cfg.Listeners[0]
	cfg.Listeners = nil
	add := func(namespace string, many int) {
		for i := range many {
			one.Name, one.Port, one.Turn = fmt.Sprint(namespace, "/gw/", i), testrig.FreePort(t), i
			cfg.Listeners = append(cfg.Listeners, one)
		}
	}
	add("greedy", 5)
	_ = s.Publish(cfg, eps)
	if got := listening(cfg); !slices.Equal(got, []string{"greedy/gw/0", "greedy/gw/1", "greedy/gw/2"}) {
		t.Fatalf("alone, it has %v", got)
	}
	next := *cfg
	cfg = &next
	add("small", 2)
	unserved := config.Unserved(cfg, s.Publish(cfg, eps))
	// Of those that are the second of their namespace the one that is open stays.
	if got := listening(cfg); !slices.Equal(got, []string{"greedy/gw/0", "greedy/gw/1", "small/gw/0"}) {
		t.Errorf("with another one, served are %v", got)
	}
	if len(unserved) != 4 || unserved["greedy/gw/2"] == nil || unserved["small/gw/1"] == nil {
		t.Errorf("not served are %v", unserved)
	}
}

func TestAnAddressAndAllAddressesShareAPortInAnyOrder(t *testing.T) {
	answer := func(status int) *config.Route {
		return &config.Route{Name: "httproute/default/" + strconv.Itoa(status), Rules: []config.Rule{{
			Name: "0", Matches: []config.Match{{Path: config.PathMatch{Kind: config.PathPrefix, Value: "/"}}},
			Filters: []config.Filter{{Answer: &config.Answer{Status: status, Reason: "test"}}},
		}}}
	}
	listener := func(name, address string, port uint16, route string) config.Listener {
		return config.Listener{Name: name, Address: address, Port: port, Protocol: config.ProtocolHTTP,
			Attached: []config.Attachment{{Route: route, Hostnames: []string{""}}}}
	}
	s, port := startServer(t, 2)
	routes := []*config.Route{answer(503), answer(504)}
	all := listener("all", "0.0.0.0", port, routes[0].Name)
	one := listener("one", "127.0.0.2", port, routes[1].Name)
	datagrams := func(name, address string) config.Listener {
		return config.Listener{Name: name, Address: address, Port: port, Protocol: config.ProtocolUDP}
	}
	allUDP, oneUDP := datagrams("all-udp", "0.0.0.0"), datagrams("one-udp", "127.0.0.2")
	for _, step := range []struct {
		listeners []config.Listener
		status    int // at the one address
	}{
		{[]config.Listener{all, allUDP}, 503},
		{[]config.Listener{all, one, allUDP, oneUDP}, 504},
		{[]config.Listener{one, oneUDP}, 504},
		{[]config.Listener{all, one, allUDP, oneUDP}, 504},
	} {
		if err := s.Publish(&config.Config{Listeners: step.listeners, Routes: routes}, nil); err != nil {
			t.Fatal(err)
		}
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		for address, want := range map[string]int{"127.0.0.1": 503, "127.0.0.2": step.status} {
			if step.listeners[0].Name == "one" && address != "127.0.0.2" {
				continue
			}
			resp, err := client.Get("http://" + net.JoinHostPort(address, strconv.Itoa(int(port))))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("%s answers %d with %d listeners, want %d", address, resp.StatusCode, len(step.listeners), want)
			}
		}
	}
	if err := s.Publish(&config.Config{Listeners: []config.Listener{all, listener("far", "192.0.2.1", port, routes[0].Name)}, Routes: routes}, nil); err == nil ||
		strings.Count(err.Error(), "not one of this host") != 1 {
		t.Errorf("an address of another host: %v", err)
	}
}

func TestTheClustersPageSaysHowBackEndsAreVerified(t *testing.T) {
	s, err := New(Options{Workers: 1, Registry: observe.NewRegistry(observe.Options{}), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	name := []config.SubjectAltName{{URI: "spiffe://a/b"}}
	cfg := &config.Config{Clusters: []config.Cluster{
		{Name: "a", TLS: &config.BackendTLS{SystemRoots: true, ServerName: "a.test", SubjectAltNames: name}},
		{Name: "b", Protocol: config.BackendH2, TLS: &config.BackendTLS{Unverified: true}},
		{Name: "c"},
	}}
	eps := config.Endpoints{"c": {{Address: "10.0.0.1:80", Distant: true}, {Address: "10.0.0.2:80", Terminating: true, Zone: "z"}}}
	if _, _, _, err := s.live.Publish(cfg, eps); err != nil {
		t.Fatal(err)
	}
	if served, endpoints := s.Served(); config.Hash(served) != config.Hash(cfg) || len(endpoints) != 1 || !slices.Equal(endpoints["c"], eps["c"]) {
		t.Errorf("%+v with %+v is served", served, endpoints)
	}
	got := s.Clusters()
	if e := got[2].Endpoints; len(e) != 2 || !e[0].Distant || e[0].Terminating || !e[1].Terminating || e[1].Zone != "z" {
		t.Errorf("endpoints %+v", e)
	}
	if got[0].Protocol != "ALPN" || got[0].TLS.Trusted != "system" || got[0].TLS.ServerName != "a.test" || len(got[0].TLS.SubjectAltNames) != 1 ||
		got[1].Protocol != "H2" || got[1].TLS.Trusted != "everybody" || got[2].Protocol != "HTTP1" || got[2].TLS != nil {
		t.Errorf("%+v", got)
	}
}

// TestWorkersThatRestKeepNoGenerationInMemory but the current one, though they have had no request in it.
func TestWorkersThatRestKeepNoGenerationInMemory(t *testing.T) {
	s, port := startServer(t, 2)
	former, ports := func() (former weak.Pointer[snapshot.Snapshot], ports []weak.Pointer[snapshot.Port]) { // so that nothing of it stays on the stack
		cfg, eps := everythingTo(port, "127.0.0.1:1")
		cfg.Listeners = append(cfg.Listeners, config.Listener{Name: "udp", Port: port, Protocol: config.ProtocolUDP},
			config.Listener{
				Name: "tls", Port: testrig.FreePort(t), Protocol: config.ProtocolTLS, Passthrough: true,
				Attached: []config.Attachment{{Route: "tlsroute/default/pass", Hostnames: []string{"a.test"}}},
			})
		cfg.L4Routes = []config.L4Route{{
			Name: "tlsroute/default/pass", Source: config.Source{Kind: "TLSRoute", Namespace: "default", Name: "pass"},
			Backends: []config.Backend{{Cluster: "default/app:80", Weight: 1}},
		}}
		if err := s.Publish(cfg, eps); err != nil {
			t.Fatal(err)
		}
		former = weak.Make(s.live.Current())
		for _, p := range s.live.Current().Ports {
			ports = append(ports, weak.Make(p))
		}
		next := *cfg
		next.Listeners, next.Routes, next.L4Routes = slices.Clone(cfg.Listeners[:2]), nil, nil // and a port less
		next.Listeners[0].Attached = nil
		if err := s.Publish(&next, eps); err != nil {
			t.Fatal(err)
		}
		return former, ports
	}()
	for end := time.Now().Add(time.Minute); s.plane.Busy() > 0 && time.Now().Before(end); { // the port that is gone takes what is queued
		time.Sleep(10 * time.Millisecond)
	}
	s.rest()
	runtime.GC()
	if former.Value() != nil || len(ports) != 2 || ports[0].Value() != nil || ports[1].Value() != nil {
		t.Errorf("the generation before is still in memory: %p with the ports %p, %p", former.Value(), ports[0].Value(), ports[1].Value())
	}
}
