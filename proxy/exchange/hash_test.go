package exchange

import (
	"net/netip"
	"testing"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/upstream"
)

// hashing returns a simulation whose cluster hashes on a key, over eight endpoints.
func hashing(t *testing.T, on config.HashOn) *sim {
	s := newSim(t, 8, func(c *config.Config) {
		c.Clusters[0].Policy, c.Clusters[0].HashOn = config.PolicyMaglev, &on
	})
	s.dialer.atOnce = true
	return s
}

// endpointOf starts a request and returns where it went.
func (s *sim) endpointOf(c *fakeClient) string {
	before := len(s.dialer.conns)
	c.start()
	if len(s.dialer.conns) == before {
		s.t.Fatal("the request went over an old connection")
	}
	return s.dialer.conns[before].pool.Endpoint().Name
}

// spread sends the same request n times and counts the endpoints.
func (s *sim) spread(n int, lines ...string) int {
	seen := map[string]bool{}
	for range n {
		seen[s.endpointOf(s.request("GET /", lines...))] = true
	}
	return len(seen)
}

func TestRequestsWithOneKeyGoToOneEndpoint(t *testing.T) {
	for _, c := range []struct {
		name        string
		on          config.HashOn
		same, other []string
	}{
		{"header", config.HashOn{Kind: config.HashHeader, Name: "x-user"}, []string{"X-User: a"}, nil},
		{"known header", config.HashOn{Kind: config.HashHeader, Name: "authorization"}, []string{"Authorization: a"}, nil},
		{"cookie", config.HashOn{Kind: config.HashCookie, Name: "id"}, []string{"Cookie: a=b; id=7; c=d"}, []string{"Cookie: a=b; xid=7; idx=7"}},
		{"first cookie", config.HashOn{Kind: config.HashCookie, Name: "id"}, []string{"Cookie: id=7"}, []string{"Cookie: ID=7"}},
		{"cookie in the second line", config.HashOn{Kind: config.HashCookie, Name: "id"}, []string{"Cookie: a=b", "Cookie: id=7"}, []string{"Cookie: id"}},
		{"cookie that is empty", config.HashOn{Kind: config.HashCookie, Name: "id"}, []string{"Cookie: id=7"}, []string{"Cookie: id="}},
		{"cookies without spaces", config.HashOn{Kind: config.HashCookie, Name: "id"}, []string{"Cookie: a=b;id=7;c=d"}, []string{"Cookie: ;;;"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := hashing(t, c.on)
			if n := s.spread(30, c.same...); n != 1 {
				t.Errorf("one key went to %d endpoints", n)
			}
			if n := s.spread(60, c.other...); n < 3 {
				t.Errorf("requests without the key went to %d endpoints only", n)
			}
		})
	}
}

func TestKeysSpreadOverTheEndpoints(t *testing.T) {
	s := hashing(t, config.HashOn{Kind: config.HashPath})
	seen := map[string]bool{}
	for i := range 60 {
		seen[s.endpointOf(s.request("GET /"+string(rune('a'+i%26))+string(rune('a'+i/26))))] = true
	}
	if len(seen) < 4 {
		t.Errorf("60 paths went to %d of 8 endpoints", len(seen))
	}
	first, second := s.endpointOf(s.request("GET /same")), s.endpointOf(s.request("GET /same"))
	if first != second {
		t.Errorf("one path went to %s and %s", first, second)
	}
}

func TestTheSourceAddressIsAKey(t *testing.T) {
	s := hashing(t, config.HashOn{Kind: config.HashSourceIP})
	seen := map[string]bool{}
	for i := range 60 {
		from := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
		var places [2]string
		for j := range places {
			c := s.request("GET /")
			c.peer = s.w.NewPeer(from, message.SchemeHTTP, s.port)
			places[j] = s.endpointOf(c)
		}
		if places[0] != places[1] {
			t.Fatalf("%v went to %v", from, places)
		}
		seen[places[0]] = true
	}
	if len(seen) < 4 {
		t.Errorf("60 addresses went to %d of 8 endpoints", len(seen))
	}
}

func TestAKeyWhoseEndpointFailsGoesElsewhere(t *testing.T) {
	s := hashing(t, config.HashOn{Kind: config.HashPath})
	home := s.endpointOf(s.request("GET /x"))
	s.dialer.atOnce = false
	c := s.request("GET /x").start()
	if got := s.dialer.pending[0].Endpoint().Name; got != home {
		t.Fatalf("%s, want %s", got, home)
	}
	s.dialer.refuse(upstream.CauseConnectFailed)
	if got := s.dialer.pending[0].Endpoint().Name; got == home {
		t.Error("the retry went to the endpoint that had failed")
	}
	s.dialer.connect().answer(200, "x")
	if c.status != 200 {
		t.Error(c.status)
	}
}

func TestTheHostOfAnAuthorityIsComparable(t *testing.T) {
	w := &Worker{}
	for in, want := range map[string]string{
		"a.example": "a.example", "A.Example": "a.example", "a.example:80": "a.example", "A.EXAMPLE.:8080": "a.example",
		"a.example.": "a.example", "[::1]:80": "[::1]", "[2001:DB8::1]": "[2001:db8::1]", "127.0.0.1": "127.0.0.1",
		"127.0.0.1:80": "127.0.0.1", "": "", "1234": "1234", ".": ".",
	} {
		if got := string(w.hostOf([]byte(in))); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if w.hostOf(make([]byte, hostBytesMax+1)) != nil {
		t.Error("a host that is too long matches something")
	}
}
