package blackbox

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rauta.io/rauta/internal/testrig"
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/server"
)

const allUDP = `route="udproute/default/all"`

// overUDP forwards datagrams on the rig's port, beside HTTP on the same port over TCP.
func overUDP(edit ...func(*config.L4Route)) option {
	return func(_ *server.Options, c *config.Config) {
		c.Listeners = append(c.Listeners, config.Listener{
			Name: "default/gw/udp", Port: c.Listeners[0].Port, Protocol: config.ProtocolUDP,
			Attached: []config.Attachment{{Route: "udproute/default/all", Hostnames: []string{""}}},
		})
		route := config.L4Route{
			Name: "udproute/default/all", Source: config.Source{Kind: "UDPRoute", Namespace: "default", Name: "all"},
			Backends: []config.Backend{{Cluster: "default/app:80", Weight: 1}},
		}
		for _, f := range edit {
			f(&route)
		}
		c.L4Routes = append(c.L4Routes, route)
	}
}

// udpBackend answers each datagram with its name and what the datagram said.
type udpBackend struct {
	addr  string
	conn  *net.UDPConn
	heard atomic.Int64
}

func newUDPBackend(t *testing.T, name string) *udpBackend {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(loopbackPort))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetReadBuffer(8 << 20)
	b := &udpBackend{addr: c.LocalAddr().String(), conn: c}
	go func() {
		buf := make([]byte, 64<<10)
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			b.heard.Add(1)
			c.WriteToUDPAddrPort(append([]byte(name), buf[:n]...), from)
		}
	}()
	return b
}

// udpClient is a client with a port of its own.
type udpClient struct {
	t *testing.T
	*net.UDPConn
}

func (r *rig) udp() *udpClient { return r.udpTo(r.addr) }

func (r *rig) udpTo(addr string) *udpClient {
	r.t.Helper()
	c, err := net.Dial("udp", addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	return &udpClient{r.t, c.(*net.UDPConn)}
}

// ask sends a datagram until an answer comes, as clients of UDP do.
func (c *udpClient) ask(message string) string {
	c.t.Helper()
	buf := make([]byte, 64<<10)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		c.Write([]byte(message))
		c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		for {
			n, err := c.Read(buf)
			if err != nil {
				break
			}
			if got := string(buf[:n]); strings.HasSuffix(got, message) {
				return got
			}
		}
	}
	c.t.Fatalf("no answer to %.20q", message)
	return ""
}

func TestAThousandFlowsAreForwardedAndKeepTheirEndpoints(t *testing.T) {
	one, two := newUDPBackend(t, "1:"), newUDPBackend(t, "2:")
	r := start(t, []string{one.addr, two.addr}, overUDP())
	const flows = 1000
	var wait sync.WaitGroup
	var wrong atomic.Int32
	for range 20 {
		wait.Go(func() {
			for range flows / 20 {
				c := r.udp()
				first := c.ask("a")
				for _, message := range []string{"b", "c"} {
					if got := c.ask(message); got[:2] != first[:2] {
						wrong.Add(1)
					}
				}
			}
		})
	}
	wait.Wait()
	if wrong.Load() > 0 {
		t.Errorf("%d answers came from another endpoint than the first", wrong.Load())
	}
	if one.heard.Load() < flows || two.heard.Load() < flows {
		t.Errorf("%d and %d datagrams at the endpoints", one.heard.Load(), two.heard.Load())
	}
	r.settles(`rauta_l4_connections{`+allUDP+`}`, fmt.Sprint(flows))
	if u, _ := r.server.Usage(); u.Flows != flows {
		t.Errorf("%d flows", u.Flows)
	}
}

func TestDatagramsOfEverySizeArrive(t *testing.T) {
	b := newUDPBackend(t, "")
	r := start(t, []string{b.addr}, overUDP())
	c := r.udp()
	for _, size := range []int{1, 1472, 9000, 60_000} {
		message := strings.Repeat("x", size)
		if got := c.ask(message); got != message {
			t.Errorf("%d bytes came back of %d", len(got), size)
		}
	}
	c.Write(nil)
	until(t, "an empty datagram", func() bool { return b.heard.Load() >= 5 })
}

func TestTCPAndUDPHavePortsOfTheirOwn(t *testing.T) {
	b := newUDPBackend(t, "")
	web := newBackend(t, answering(ok))
	r := start(t, nil, overUDP(func(r *config.L4Route) { r.Backends[0].Cluster = "default/udp:80" }), func(_ *server.Options, c *config.Config) {
		c.Clusters = append(c.Clusters, config.Cluster{Name: "default/udp:80"})
	})
	err := r.server.Publish(r.config, config.Endpoints{"default/app:80": {{Address: web.addr}}, "default/udp:80": {{Address: b.addr}}})
	if err != nil {
		t.Fatal(err)
	}
	if got := r.dial().do(get); got.StatusCode != 200 {
		t.Errorf("HTTP: %d", got.StatusCode)
	}
	if got := r.udp().ask("x"); got != "x" {
		t.Errorf("UDP: %q", got)
	}
}

// TestAnAnswerComesFromTheAddressThatWasAsked: on a host with several, others would be dropped by the client.
func TestAnAnswerComesFromTheAddressThatWasAsked(t *testing.T) {
	b := newUDPBackend(t, "")
	r := start(t, []string{b.addr}, overUDP(), func(o *server.Options, _ *config.Config) { o.Bind = "" })
	for _, host := range []string{"127.0.0.1", "127.0.0.2", "::1"} {
		r.udpTo(net.JoinHostPort(host, fmt.Sprint(r.port))).ask("x")
	}
}

func TestASilentFlowIsForgotten(t *testing.T) {
	b := newUDPBackend(t, "")
	r := start(t, []string{b.addr}, overUDP(func(route *config.L4Route) { route.IdleTimeout = config.Duration(300 * time.Millisecond) }))
	r.udp().ask("x")
	r.settles(`rauta_l4_connections_total{`+allUDP+`,reason="idle_timeout"}`, "1")
	r.settles(`rauta_l4_connections{`+allUDP+`}`, "0")
	r.settles(`rauta_l4_backend_connections{cluster="default/app:80",endpoint="`+b.addr+`"}`, "0")
	r.quiet()
}

// TestAnEndpointThatRefusesLosesItsFlows: the next datagram of the client goes to one that does not.
func TestAnEndpointThatRefusesLosesItsFlows(t *testing.T) {
	alive := newUDPBackend(t, "alive:")
	dead := newUDPBackend(t, "")
	dead.conn.Close()
	r := start(t, []string{alive.addr, dead.addr}, overUDP())
	for range 20 {
		if got := r.udp().ask("x"); got != "alive:x" {
			t.Fatalf("%q", got)
		}
	}
	until(t, "a refusal is counted", func() bool {
		return r.metric(`rauta_l4_connections_total{`+allUDP+`,reason="refused"}`) != "0"
	})
}

func TestDatagramsThatCanGoNowhereAreDroppedForTheirShare(t *testing.T) {
	b := newUDPBackend(t, "")
	r := start(t, []string{b.addr}, overUDP(func(route *config.L4Route) {
		route.Backends = append(route.Backends, config.Backend{Weight: 1, Invalid: "no such service"})
	}))
	for range 20 {
		r.udp().ask("x") // a datagram that falls to the invalid one is sent again
	}
	if got := r.metric(`rauta_l4_datagrams_dropped_total{` + allUDP + `,reason="invalid_backend"}`); got == "0" {
		t.Error("nothing fell to the back end that can't be used")
	}
	own := *r.config
	own.Listeners = append([]config.Listener(nil), own.Listeners...)
	own.Listeners[1].Attached = nil
	r.config = &own
	r.publish(b.addr)
	c := r.udp()
	before := b.heard.Load()
	c.Write([]byte("nobody"))
	r.settles(`rauta_l4_datagrams_dropped_total{route="none",reason="no_route"}`, "1")
	if b.heard.Load() != before {
		t.Error("a datagram without a route reached a back end")
	}
}

func TestFlowsFollowTheConfiguration(t *testing.T) {
	one, two := newUDPBackend(t, "1:"), newUDPBackend(t, "2:")
	r := start(t, []string{one.addr}, overUDP())
	c := r.udp()
	if got := c.ask("a"); got != "1:a" {
		t.Fatalf("%q", got)
	}
	r.publish(one.addr, two.addr)
	if got := c.ask("b"); got != "1:b" {
		t.Errorf("a flow moved although its endpoint is still there: %q", got)
	}
	r.publish(two.addr)
	if got := c.ask("c"); got != "2:c" {
		t.Errorf("a flow stays with an endpoint that is gone: %q", got)
	}
	own := *r.config
	own.L4Routes = append([]config.L4Route(nil), own.L4Routes...)
	own.L4Routes[0].Backends = []config.Backend{{Cluster: "default/other:80", Weight: 1}}
	own.Clusters = append(own.Clusters, config.Cluster{Name: "default/other:80"})
	err := r.server.Publish(&own, config.Endpoints{"default/app:80": {{Address: two.addr}}, "default/other:80": {{Address: one.addr}}})
	if err != nil {
		t.Fatal(err)
	}
	if got := c.ask("d"); got != "1:d" {
		t.Errorf("a flow stays with a back end that is no longer the route's: %q", got)
	}
}

func TestAUDPListenerComesAndGoesWithoutDisturbingOthers(t *testing.T) {
	b := newUDPBackend(t, "")
	r := start(t, []string{b.addr}, overUDP())
	with := *r.config
	extra := with
	port := testrig.FreePort(t)
	extra.Listeners = append([]config.Listener(nil), with.Listeners...)
	second := extra.Listeners[1]
	second.Name, second.Port = "default/gw/second", port
	extra.Listeners = append(extra.Listeners, second)
	c := r.udp()
	c.ask("before")
	r.config = &extra
	r.publish(b.addr)
	other := r.udpTo(fmt.Sprintf("127.0.0.1:%d", port))
	other.ask("a")
	r.config = &with
	r.publish(b.addr)
	r.config = &extra
	r.publish(b.addr) // while the socket still has its grace
	other.ask("b")
	r.config = &with
	r.publish(b.addr)
	until(t, "the socket is closed", func() bool {
		l, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			l.Close()
		}
		return err == nil
	})
	c.ask("after")
	if got := r.metric(`rauta_l4_connections_total{` + allUDP + `,reason="drained"}`); got != "1" {
		t.Errorf("%s flows were ended, want the one of the listener that is gone", got)
	}
}

func TestAnAddressThatIsTakenIsReportedAndTriedAgain(t *testing.T) {
	b := newUDPBackend(t, "")
	r := start(t, []string{b.addr})
	other, err := net.ListenPacket("udp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	own := *r.config
	own.Listeners = append([]config.Listener(nil), own.Listeners...)
	overUDP()(nil, &own)
	err = r.server.Publish(&own, config.Endpoints{"default/app:80": {{Address: b.addr}}})
	if err == nil || !strings.Contains(err.Error(), "another process listens there") {
		t.Errorf("%v", err)
	}
	other.Close()
	r.udp().ask("x")
}

func TestADrainLeavesTimeForAnswers(t *testing.T) {
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(loopbackPort))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := start(t, []string{c.LocalAddr().String()}, overUDP())
	cl := r.udp()
	cl.Write([]byte("question"))
	buf := make([]byte, 100)
	c.SetDeadline(time.Now().Add(patience))
	n, from, err := c.ReadFromUDPAddrPort(buf)
	if err != nil || !bytes.Equal(buf[:n], []byte("question")) {
		t.Fatalf("%q, %v", buf[:n], err)
	}
	drained := make(chan struct{})
	go func() { r.server.Drain(context.Background()); close(drained) }()
	until(t, "the drain has begun", func() bool { ready, _ := r.server.Ready(); return !ready })
	c.WriteToUDPAddrPort([]byte("answer"), from)
	cl.SetDeadline(time.Now().Add(patience))
	if n, err := cl.Read(buf); err != nil || string(buf[:n]) != "answer" {
		t.Errorf("%q, %v", buf[:n], err)
	}
	<-drained
}
