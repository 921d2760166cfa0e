package blackbox

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rauta.io/rauta/internal/testrig"
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/server"
)

// errorLog fails a test that logs an error: the panic of a handler, above all.
type errorLog struct {
	slog.Handler
	t *testing.T
}

func (h errorLog) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(a slog.Attr) bool { text += fmt.Sprintf("\n%s: %v", a.Key, a.Value); return true })
	h.t.Error(text)
	return nil
}

func (errorLog) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelError }

// storm lets clients, back ends and the configuration do what they like, and then looks at what is left.
type storm struct {
	*rig
	seed     uint64
	m        combination // only what the back ends speak counts
	proxied  string      // address of the listener with the PROXY protocol
	backends []*stormBackend
	tally    tally
}

func newStorm(t *testing.T, workers int, m combination, seed uint64) *storm {
	s := &storm{seed: seed, m: m}
	for i := range 4 {
		s.backends = append(s.backends, newStormBackend(t, m, seed<<8+uint64(i)))
	}
	port := testrig.FreePort(t)
	s.proxied = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port).String()
	s.rig = m.start(t, s.addrs(0, 1, 2, 3), func(o *server.Options, c *config.Config) {
		o.Workers = workers
		o.Limits.LingerBytes = 4 << 20 // whoever pipelines behind an early answer still gets it
		o.Registry = observe.NewRegistry(observe.Options{Workers: workers, Methods: message.MethodNames()})
		l := c.Listeners[0]
		l.Name, l.Port, l.ProxyProtocol = "default/gw/proxied", port, &config.ProxyProtocol{From: []string{"127.0.0.0/8"}}
		c.Listeners = append(c.Listeners, l)
	})
	return s
}

func (s *storm) addrs(of ...int) []string {
	var out []string
	for _, i := range of {
		out = append(out, s.backends[i].addr)
	}
	return out
}

// change publishes something else: other endpoints, sometimes none, other limits, another rule, another listener.
func (s *storm) change(rnd *rand.Rand, extra uint16) {
	next := *s.config
	next.Clusters = append([]config.Cluster(nil), next.Clusters...)
	next.Clusters[0].ConnectionsMax = []int{0, 0, 3, 20}[rnd.IntN(4)]
	next.Clusters[0].PendingMax = []int{0, 4}[rnd.IntN(2)]
	route := *next.Routes[0]
	next.Routes = append([]*config.Route{&route}, next.Routes[1:]...)
	rule := route.Rules[0]
	rule.Matches = append([]config.Match{{Path: config.PathMatch{Kind: config.PathExact, Value: fmt.Sprintf("/%d", rnd.IntN(9))}}}, rule.Matches...)
	route.Rules = []config.Rule{rule}
	if rnd.IntN(3) == 0 {
		l := next.Listeners[0]
		l.Name, l.Port = "default/gw/extra", extra
		next.Listeners = append([]config.Listener{l}, next.Listeners...)
	}
	eps := config.Endpoints{}
	for _, b := range s.backends {
		if rnd.IntN(3) > 0 {
			eps["default/app:80"] = append(eps["default/app:80"], config.Endpoint{Address: b.addr})
		}
	}
	if rnd.IntN(2) == 0 {
		s.server.SetEndpoints("default/app:80", eps["default/app:80"])
		return
	}
	if err := s.server.Publish(&next, eps); err != nil {
		s.t.Errorf("publish: %v", err)
	}
}

// rage runs the storm: every client acts a number of times.
func (s *storm) rage(clients, acts int) {
	var wait, changes sync.WaitGroup
	var over atomic.Bool
	extra := testrig.FreePort(s.t)
	changes.Go(func() {
		rnd := rand.New(rand.NewPCG(s.seed, 1))
		for !over.Load() && !s.t.Failed() {
			s.change(rnd, extra)
			time.Sleep(time.Duration(rnd.IntN(10)) * time.Millisecond)
		}
	})
	for i := range clients {
		wait.Go(func() {
			c := &stormClient{
				t: s.t, addr: s.addr, proxy: s.proxied, name: fmt.Sprintf("s%dc%d", s.seed, i),
				rand: rand.New(rand.NewPCG(s.seed, uint64(i)+2)), tally: &s.tally,
			}
			for range acts {
				if s.t.Failed() {
					return
				}
				c.act()
			}
		})
	}
	wait.Wait()
	over.Store(true)
	changes.Wait()
}

// firstSeed repeats other storms: go test ./test/blackbox -run AStorm -storm 17
var firstSeed = flag.Uint64("storm", 1, "the first seed of the storm")

// afterwards is how many clients come after the storm.
const afterwards = 10

// settle looks at what the storm has left behind.
func (s *storm) settle() {
	t := s.t
	until(t, fmt.Sprintf("the loops to hold nothing; they hold %+v", s.usage()), func() bool {
		u := s.usage()
		return u.Clients == 0 && u.Exchanges == 0 && u.Buffers == 0
	})
	open := func() (n int) {
		for _, b := range s.backends {
			n += int(b.open.Load())
		}
		return n
	}
	healthy := s.m.healthy(t)
	s.publish(healthy.addr)
	for range afterwards {
		if got := s.dial().do(get); got.StatusCode != 200 || got.body != "ok" {
			t.Fatalf("after the storm: %d %q", got.StatusCode, got.body)
		}
	}
	until(t, "the connections to back ends that are gone to close", func() bool { return open() == 0 })
	s.publish()
	until(t, "every connection to a back end to close", func() bool { return s.usage().Upstream == 0 })
	for i, b := range s.backends {
		if n := b.wrong.Load(); n > 0 {
			t.Errorf("back end %d got %d bodies that were not those of their requests", i, n)
		}
		if rest := b.surplus.Load(); rest != nil {
			t.Errorf("back end %d got, behind the last request of a connection, %s", i, rest)
		}
	}
}

func descriptors(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// TestAStormLeavesNothingBehindAndMixesNothingUp is for what no other test thinks of: whatever clients and back ends do,
// each response belongs to its request, no request stays without an answer, and nothing is left when all have gone.
func TestAStormLeavesNothingBehindAndMixesNothingUp(t *testing.T) {
	const clients, acts = 24, 25
	for i, c := range []struct {
		workers, backend int
		tls              bool
	}{{1, 1, false}, {2, 1, false}, {4, 1, false}, {1, 2, false}, {4, 2, false}, {2, 1, true}, {2, 2, true}} {
		name := fmt.Sprintf("workers=%d, back ends of HTTP%d", c.workers, c.backend)
		if c.tls {
			name += " over TLS"
		}
		t.Run(name, func(t *testing.T) {
			m := combination{backend: c.backend}
			if c.tls {
				m.ca = newIssuer(t)
			}
			s := newStorm(t, c.workers, m, *firstSeed+uint64(i))
			goroutines, fds := runtime.NumGoroutine(), descriptors(t)
			s.rage(clients, acts)
			if t.Failed() {
				return
			}
			s.settle()
			// The back end of settle has an accept loop and a listener, and its clients are open until the test ends.
			const tolerance = 4 + 2*afterwards
			until(t, fmt.Sprintf("goroutines (%d, were %d) and descriptors (%d, were %d) to go", runtime.NumGoroutine(), goroutines,
				descriptors(t), fds), func() bool {
				return runtime.NumGoroutine() <= goroutines+tolerance && descriptors(t) <= fds+tolerance
			})
			n := &s.tally
			t.Logf("%d requests: %d whole, %d partly, %d own answers; %d invalid, %d aborted, %d tunnels", n.requests.Load(),
				n.whole.Load(), n.partly.Load(), n.own.Load(), n.refused.Load(), n.aborted.Load(), n.tunnels.Load())
			if n.whole.Load() < n.requests.Load()/3 {
				t.Error("the storm was too strong to show anything")
			}
		})
	}
}
