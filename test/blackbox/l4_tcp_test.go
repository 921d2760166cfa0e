package blackbox

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/server"
)

const allTCP = `route="tcproute/default/all"`

func TestATCPConnectionIsForwardedBothWays(t *testing.T) {
	b := newBackend(t, func(c *conn) {
		c.write("220 ready\r\n") // a server may speak first
		echoing(c)
	})
	r := start(t, []string{b.addr}, overTCP())
	c := r.dial()
	if line, err := c.r.ReadString('\n'); line != "220 ready\r\n" || err != nil {
		t.Fatalf("%q, %v", line, err)
	}
	c.exchange("EHLO\r\n")
	c.exchange(strings.Repeat("x", 1<<20))
	r.settles(`rauta_l4_connections{`+allTCP+`}`, "1")
	c.CloseWrite()
	if rest, closed := c.closedByPeer(); len(rest) > 0 || !closed {
		t.Errorf("%q, closed %v", rest, closed)
	}
	r.settles(`rauta_l4_connections_total{`+allTCP+`,reason="closed"}`, "1")
	r.settles(`rauta_l4_connections{`+allTCP+`}`, "0")
	r.settles(`rauta_l4_bytes_total{`+allTCP+`,direction="in"}`, fmt.Sprint(1<<20+6))
	r.settles(`rauta_l4_bytes_total{`+allTCP+`,direction="out"}`, fmt.Sprint(1<<20+17))
	r.settles(`rauta_l4_backend_bytes_total{cluster="default/app:80",endpoint="`+b.addr+`",direction="in"}`, fmt.Sprint(1<<20+6))
	r.quiet()
}

// TestEitherSideMayCloseItsHalfFirst: who has said everything can still listen.
func TestEitherSideMayCloseItsHalfFirst(t *testing.T) {
	b := newBackend(t, func(c *conn) {
		c.Conn.(*net.TCPConn).CloseWrite()
		all, _ := io.ReadAll(c.r)
		c.b.mu.Lock()
		c.b.requests = append(c.b.requests, string(all))
		c.b.mu.Unlock()
	})
	r := start(t, []string{b.addr}, overTCP())
	c := r.dial()
	if rest, _ := c.closedByPeer(); len(rest) > 0 {
		t.Errorf("%q", rest)
	}
	c.send("still here")
	c.CloseWrite()
	until(t, "what was said after the back end had closed its half", func() bool { s := b.seen(); return len(s) == 1 && s[0] == "still here" })

	answer := newBackend(t, func(c *conn) {
		all, _ := io.ReadAll(c.r)
		fmt.Fprintf(c, "%d bytes", len(all))
	})
	r.publish(answer.addr)
	c = r.dial()
	c.send("question")
	c.CloseWrite()
	if rest, closed := c.closedByPeer(); string(rest) != "8 bytes" || !closed {
		t.Errorf("%q, closed %v", rest, closed)
	}
	r.settles(`rauta_l4_connections_total{`+allTCP+`,reason="closed"}`, "2")
	r.quiet()
}

func TestAResetIsPassedOnAsAReset(t *testing.T) {
	ends := make(chan error, 1)
	b := newBackend(t, func(c *conn) {
		if c.read(1) == "!" {
			abort(c.Conn.(*net.TCPConn))
			return
		}
		c.write("go")
		_, err := io.ReadAll(c.r)
		ends <- err
	})
	r := start(t, []string{b.addr}, overTCP())
	c := r.dial()
	c.send("!")
	if !wasReset(c.r) {
		t.Error("the client does not see the back end's reset")
	}
	c = r.dial()
	c.send("?")
	io.ReadFull(c.r, make([]byte, 2))
	abort(c.TCPConn)
	if err := <-ends; err == nil || !strings.Contains(err.Error(), "reset") {
		t.Errorf("the back end sees %v instead of the client's reset", err)
	}
	r.settles(`rauta_l4_connections_total{`+allTCP+`,reason="backend_reset"}`, "1")
	r.settles(`rauta_l4_connections_total{`+allTCP+`,reason="client_reset"}`, "1")
	r.quiet()
}

func TestAConnectionThatCanGoNowhereIsReset(t *testing.T) {
	b := newBackend(t, echoing)
	for reason, o := range map[string]struct {
		endpoints []string
		edit      func(*config.L4Route)
	}{
		"no_endpoint":     {nil, func(*config.L4Route) {}},
		"no_backend":      {[]string{b.addr}, func(r *config.L4Route) { r.Backends[0].Weight = 0 }},
		"invalid_backend": {[]string{b.addr}, func(r *config.L4Route) { r.Backends = []config.Backend{{Weight: 1, Invalid: "x"}} }},
		"connect_failed":  {[]string{deadEnd(t)}, func(*config.L4Route) {}},
	} {
		r := start(t, o.endpoints, overTCP(o.edit))
		if !r.refused() {
			t.Errorf("%s: the client was not turned away", reason)
		}
		r.settles(`rauta_l4_connections_total{`+allTCP+`,reason="`+reason+`"}`, "1")
		r.quiet()
	}
	r := start(t, []string{b.addr}, overTCP(), func(_ *server.Options, c *config.Config) { c.Listeners[0].Attached = nil })
	if !r.refused() {
		t.Error("a port without route did not turn the client away")
	}
	r.settles(`rauta_l4_connections_total{route="none",reason="no_route"}`, "1")
	if b.connections() > 0 {
		t.Error("a back end was reached")
	}
}

// TestAnInvalidBackEndKeepsItsShare: what falls to it is refused, never served by the others.
func TestAnInvalidBackEndKeepsItsShare(t *testing.T) {
	b := newBackend(t, echoing)
	r := start(t, []string{b.addr}, overTCP(func(route *config.L4Route) {
		route.Backends = append(route.Backends, config.Backend{Weight: 1, Invalid: "no such service"})
	}))
	const connections = 200
	served := 0
	for range connections {
		if !r.refused() {
			served++
		}
	}
	if served < connections/4 || served > connections*3/4 {
		t.Errorf("%d of %d were served, want about half", served, connections)
	}
	if b.connections() != served {
		t.Errorf("%d reached the back end, %d were served", b.connections(), served)
	}
}

func TestAnotherEndpointIsTriedWhenOneRefuses(t *testing.T) {
	b := newBackend(t, echoing)
	dead := deadEnd(t)
	r := start(t, []string{b.addr, dead}, overTCP())
	for range 50 {
		c := r.dial()
		c.exchange("hello")
		c.Close()
	}
	until(t, "the endpoint that refuses was tried", func() bool {
		return r.metric(`rauta_l4_backend_connections_total{cluster="default/app:80",endpoint="`+dead+`",reason="connect_failed"}`) != "0"
	})
	r.quiet()
}

func TestAThousandTunnelsAtOnce(t *testing.T) {
	b := newBackend(t, echoing)
	r := start(t, []string{b.addr}, overTCP())
	const tunnels = 1000
	clients := make([]*client, tunnels)
	for i := range clients {
		clients[i] = r.dial()
	}
	var wait sync.WaitGroup
	var wrong atomic.Int32
	for i, c := range clients {
		wait.Go(func() {
			message := bytes.Repeat([]byte{byte(i), byte(i >> 8)}, 1000)
			got := make([]byte, len(message))
			for range 3 {
				if _, err := c.Write(message); err != nil {
					wrong.Add(1)
					return
				}
				if _, err := io.ReadFull(c.r, got); err != nil || !bytes.Equal(got, message) {
					wrong.Add(1)
					return
				}
			}
		})
	}
	wait.Wait()
	if n := wrong.Load(); n > 0 {
		t.Fatalf("%d of %d tunnels failed", n, tunnels)
	}
	r.settles(`rauta_l4_connections{`+allTCP+`}`, fmt.Sprint(tunnels))
	if u, _ := r.server.Usage(); u.Buffers > 0 {
		t.Errorf("%d buffers are held by tunnels that are silent", u.Buffers)
	}
	for _, c := range clients {
		c.Close()
	}
	r.quiet()
}

// TestAClientThatDoesNotReadStopsTheOtherSide: what waits is bounded, and nothing of it is lost.
func TestAClientThatDoesNotReadStopsTheOtherSide(t *testing.T) {
	const total = 64 << 20
	var sent atomic.Int64
	sum := make(chan []byte, 1)
	b := newBackend(t, func(c *conn) {
		h := sha256.New()
		random := rand.New(rand.NewPCG(1, 2))
		piece := make([]byte, 64<<10)
		for sent.Load() < total {
			for i := range piece {
				piece[i] = byte(random.Uint32())
			}
			h.Write(piece)
			if _, err := c.Write(piece); err != nil {
				return
			}
			sent.Add(int64(len(piece)))
		}
		sum <- h.Sum(nil)
	})
	r := start(t, []string{b.addr}, overTCP())
	c := r.dial()
	var last int64 = -1
	until(t, "the back end comes to a stop", func() bool {
		time.Sleep(200 * time.Millisecond)
		now := sent.Load()
		stopped := now == last && now > 0
		last = now
		return stopped
	})
	if last >= total {
		t.Fatal("everything was taken from the back end although nobody reads it")
	}
	if u, _ := r.server.Usage(); u.Buffers > 1 {
		t.Errorf("%d buffers for one direction", u.Buffers)
	}
	h := sha256.New()
	if n, err := io.Copy(h, c.r); n != total || err != nil {
		t.Fatalf("%d of %d bytes: %v", n, total, err)
	}
	if !bytes.Equal(h.Sum(nil), <-sum) {
		t.Error("other bytes came than were sent")
	}
}

func TestASilentTunnelEndsAndOneInUseDoesNot(t *testing.T) {
	b := newBackend(t, echoing)
	r := start(t, []string{b.addr}, overTCP(func(route *config.L4Route) { route.IdleTimeout = config.Duration(400 * time.Millisecond) }))
	silent, busy := r.dial(), r.dial()
	silent.exchange("once")
	ended := make(chan struct{})
	go func() {
		silent.closedByPeer()
		close(ended)
	}()
	for over := false; !over; {
		busy.exchange("again")
		select {
		case <-ended:
			over = true
		case <-time.After(20 * time.Millisecond):
		}
	}
	busy.exchange("and again")
	r.settles(`rauta_l4_connections_total{`+allTCP+`,reason="idle_timeout"}`, "1")
}

func TestTunnelsOutliveTheirEndpointsPlaceInTheConfiguration(t *testing.T) {
	first, second := newBackend(t, echoing), newBackend(t, echoing)
	r := start(t, []string{first.addr}, overTCP())
	old := r.dial()
	old.exchange("before")
	r.publish(second.addr)
	old.exchange("after")
	r.dial().exchange("new")
	if first.connections() != 1 || second.connections() != 1 {
		t.Errorf("%d and %d connections", first.connections(), second.connections())
	}
}

func TestChangesUnderLoadBreakNoTunnel(t *testing.T) {
	backends := []*backend{newBackend(t, echoing), newBackend(t, echoing)}
	r := start(t, []string{backends[0].addr}, overTCP())
	var stop atomic.Bool
	var wait sync.WaitGroup
	var failures, done atomic.Int32
	for i := range 20 {
		wait.Go(func() {
			message := bytes.Repeat([]byte{byte(i)}, 5000)
			got := make([]byte, len(message))
			for !stop.Load() {
				c, err := net.Dial("tcp", r.addr)
				if err != nil {
					failures.Add(1)
					return
				}
				c.SetDeadline(time.Now().Add(patience))
				for range 5 {
					c.Write(message)
					if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, message) {
						failures.Add(1)
					}
				}
				c.Close()
				done.Add(1)
			}
		})
	}
	for i := range 60 {
		r.config.L4Routes[0].Created = int64(i)
		own := *r.config
		own.L4Routes = append([]config.L4Route(nil), r.config.L4Routes...)
		r.config = &own
		r.publish(backends[i%2].addr)
		time.Sleep(5 * time.Millisecond)
	}
	stop.Store(true)
	wait.Wait()
	if failures.Load() > 0 || done.Load() == 0 {
		t.Errorf("%d failures, %d connections", failures.Load(), done.Load())
	}
}

func TestAPortMayChangeWhatItSpeaks(t *testing.T) {
	b := newBackend(t, answering(ok))
	r := start(t, []string{b.addr})
	if got := r.dial().do(get); got.StatusCode != 200 || got.Header.Get("Date") == "" {
		t.Fatalf("HTTP: %d", got.StatusCode)
	}
	http := *r.config
	tcp := *r.config
	tcp.Listeners = append([]config.Listener(nil), r.config.Listeners...)
	overTCP()(nil, &tcp)
	r.config = &tcp
	r.publish(b.addr)
	if got := r.dial().do(get); got.StatusCode != 200 || got.Header.Get("Date") != "" {
		t.Fatalf("TCP: %d, date %q", got.StatusCode, got.Header.Get("Date"))
	}
	r.config = &http
	r.publish(b.addr)
	if got := r.dial().do(get); got.StatusCode != 200 || got.Header.Get("Date") == "" {
		t.Fatalf("HTTP again: %d", got.StatusCode)
	}
}

func TestAPROXYHeaderIsNotForwarded(t *testing.T) {
	b := newBackend(t, echoing)
	r := start(t, []string{b.addr}, overTCP(), proxyProtocol("127.0.0.0/8"))
	for cut := range 40 {
		c := r.dial()
		c.sendSplit("PROXY TCP4 192.0.2.7 10.0.0.1 12345 80\r\nhello", cut)
		got := make([]byte, 5)
		if _, err := io.ReadFull(c.r, got); err != nil || string(got) != "hello" {
			t.Fatalf("cut at %d: %q, %v", cut, got, err)
		}
		c.Close()
	}
	c := r.dial()
	c.send("GET / HTTP/1.1\r\n\r\n")
	if rest, closed := c.closedByPeer(); len(rest) > 0 || !closed {
		t.Errorf("without a header: %q", rest)
	}
}

func TestADrainWaitsForTunnelsAndCutsOffWhatIsLeft(t *testing.T) {
	b := newBackend(t, echoing)
	r := start(t, []string{b.addr}, overTCP(), func(o *server.Options, _ *config.Config) { o.DrainTime = 3 * time.Second })
	ends, stays := r.dial(), r.dial()
	ends.exchange("a")
	stays.exchange("b")
	cut := make(chan int)
	go func() { cut <- r.server.Drain(context.Background()) }()
	until(t, "the drain has begun", func() bool { ready, _ := r.server.Ready(); return !ready })
	ends.exchange("still served")
	ends.Close()
	stays.exchange("this one too")
	if n := <-cut; n != 1 {
		t.Errorf("%d connections were cut off, want 1", n)
	}
	if got := r.metric(`rauta_l4_connections_total{` + allTCP + `,reason="drained"}`); got != "1" {
		t.Errorf("%s are counted as drained", got)
	}
}

func TestTheConnectionLimitOfAnEndpointHoldsForTunnels(t *testing.T) {
	b := newBackend(t, echoing)
	r := start(t, []string{b.addr}, overTCP(), func(_ *server.Options, c *config.Config) { c.Clusters[0].ConnectionsMax = 2 })
	one, two := r.dial(), r.dial()
	one.exchange("1")
	two.exchange("2")
	if !r.refused() {
		t.Error("a third connection was let through")
	}
	r.settles(`rauta_l4_connections_total{`+allTCP+`,reason="overflow"}`, "1")
	one.Close()
	r.settles(`rauta_l4_connections{`+allTCP+`}`, "1")
	r.dial().exchange("3")
}

// TestALargeTransferInBothDirectionsArrivesWhole, which goes another way than a small one.
func TestALargeTransferInBothDirectionsArrivesWhole(t *testing.T) {
	b := newBackend(t, echoing)
	r := start(t, []string{b.addr}, overTCP())
	c := r.dial()
	const total = 48 << 20
	got, sum := sha256.New(), make(chan []byte, 1)
	go func() {
		sent := sha256.New()
		random := rand.New(rand.NewPCG(3, 4))
		piece := make([]byte, 300_000)
		for left := total; left > 0; {
			for i := range piece {
				piece[i] = byte(random.Uint32())
			}
			n := min(left, len(piece))
			sent.Write(piece[:n])
			c.Write(piece[:n])
			left -= n
		}
		sum <- sent.Sum(nil)
		c.CloseWrite()
	}()
	if n, err := io.Copy(got, c.r); n != total || err != nil {
		t.Fatalf("%d of %d bytes: %v", n, total, err)
	}
	r.settles(`rauta_l4_connections_total{`+allTCP+`,reason="closed"}`, "1")
	if !bytes.Equal(<-sum, got.Sum(nil)) {
		t.Error("other bytes came than were sent")
	}
	r.settles(`rauta_l4_bytes_total{`+allTCP+`,direction="in"}`, fmt.Sprint(total))
	r.settles(`rauta_l4_bytes_total{`+allTCP+`,direction="out"}`, fmt.Sprint(total))
	r.quiet()
}
