package observe

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestForwardedConnectionsAreCountedByRouteAndEndpoint(t *testing.T) {
	r := newTestRegistry(2)
	rt, e := r.Route("tcproute/a/b"), r.Endpoint("a/db:5432", "10.0.0.1:5432")
	for worker := range 2 {
		s := r.Shard(worker)
		for range 3 {
			s.L4Route(rt).Opened()
			s.L4Endpoint(e).Opened()
		}
		s.L4Route(rt).Bytes(10, 0)
		s.L4Route(rt).Bytes(0, 100)
		s.L4Endpoint(e).Bytes(10, 100)
		s.L4Route(rt).Closed("closed")
		s.L4Endpoint(e).Closed("closed")
		s.L4Endpoint(e).Refused("connect_failed")
		s.L4Route(nil).Refused("no_route")
	}
	s := r.Shard(0)
	s.L4Route(rt).Datagrams(2, 1)
	s.L4Route(rt).Dropped("no_endpoint", 2)
	text := exposed(r)
	for _, line := range []string{
		`rauta_l4_connections{route="tcproute/a/b"} 4`,
		`rauta_l4_connections_total{route="tcproute/a/b",reason="closed"} 2`,
		`rauta_l4_connections_total{route="none",reason="no_route"} 2`,
		`rauta_l4_bytes_total{route="tcproute/a/b",direction="in"} 20`,
		`rauta_l4_bytes_total{route="tcproute/a/b",direction="out"} 200`,
		`rauta_l4_datagrams_total{route="tcproute/a/b",direction="in"} 2`,
		`rauta_l4_datagrams_dropped_total{route="tcproute/a/b",reason="no_endpoint"} 2`,
		`rauta_l4_backend_connections{cluster="a/db:5432",endpoint="10.0.0.1:5432"} 4`,
		`rauta_l4_backend_connections_total{cluster="a/db:5432",endpoint="10.0.0.1:5432",reason="connect_failed"} 2`,
		`rauta_l4_backend_bytes_total{cluster="a/db:5432",endpoint="10.0.0.1:5432",direction="out"} 200`,
	} {
		wantLine(t, text, line)
	}
	if strings.Contains(text, `rauta_requests_total{route="tcproute/a/b"`) {
		t.Error("a route without requests has series for them")
	}
}

func TestL4RoutesBeyondTheCapAndForgottenOnesCountAsOther(t *testing.T) {
	now := time.Unix(1000, 0)
	r := NewRegistry(Options{Workers: 1, SeriesRoutesMax: 1, SeriesEndpointsMax: 1, Now: func() time.Time { return now }})
	first, second := r.Route("first"), r.Route("second")
	s := r.Shard(0)
	s.L4Route(first).Opened()
	s.L4Route(second).Opened()
	wantLine(t, exposed(r), `rauta_l4_connections{route="first"} 1`)
	wantLine(t, exposed(r), `rauta_l4_connections{route="other"} 1`)
	r.Retain([]string{"second"}, nil)
	now = now.Add(retainGrace)
	if text := exposed(r); strings.Contains(text, `route="first"`) {
		t.Error("a route that is gone has series")
	}
	s.L4Route(first).Opened()
	s.L4Route(second).Opened()
	text := exposed(r)
	wantLine(t, text, `rauta_l4_connections{route="other"} 2`)
	wantLine(t, text, `rauta_l4_connections{route="second"} 1`)
}

func TestALineOfAForwardedConnectionIsJSONWhateverTheClientAsksFor(t *testing.T) {
	r := newTestRegistry(1)
	var clock clockText
	line := appendL4Line(nil, &L4Record{
		Route: r.Route("tlsroute/a/b"), Endpoint: r.Endpoint("a/db:5432", "10.0.0.1:5432"), Protocol: "TLS", Reason: "closed",
		ServerName: []byte("a\"\n\xff.test"), Client: netip.MustParseAddr("fe80::1%eth0"), ReceivedAt: 1e18, ConnectedAt: 2000, EndAt: 5000,
		Attempts: 1, BytesIn: 7, BytesOut: 8,
	}, &clock)
	var fields map[string]any
	if err := json.Unmarshal(line, &fields); err != nil || line[len(line)-1] != '\n' || strings.Count(string(line), "\n") != 1 {
		t.Fatalf("%v: %q", err, line)
	}
	for name, want := range map[string]any{
		"client": "fe80::1", "protocol": "TLS", "server_name": "a\"\n\ufffd.test", "route": "tlsroute/a/b", "cluster": "a/db:5432",
		"endpoint": "10.0.0.1:5432", "reason": "closed", "bytes_in": 7.0, "bytes_out": 8.0, "upstream_connect_us": 2.0, "duration_us": 5.0,
	} {
		if fields[name] != want {
			t.Errorf("%s is %v, want %v", name, fields[name], want)
		}
	}
	datagrams := appendL4Line(nil, &L4Record{Protocol: "UDP", DatagramsIn: 3}, &clock)
	if !strings.Contains(string(datagrams), `"datagrams_in":3`) {
		t.Errorf("a flow's line: %s", datagrams)
	}
}

func TestCountingForwardedConnectionsAllocatesNothing(t *testing.T) {
	r := newTestRegistry(1)
	rt, s := r.Route("a"), r.Shard(0)
	s.L4Route(rt).Refused("closed")
	if n := testing.AllocsPerRun(100, func() {
		c := s.L4Route(rt)
		c.Opened()
		c.Bytes(1, 1)
		c.Closed("closed")
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
