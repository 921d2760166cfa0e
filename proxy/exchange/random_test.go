package exchange

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/upstream"
)

// TestWhateverHappensAnExchangeFinishesOnce runs random interleavings of what clients, back ends and the clock can do.
// The fakes fail the test when something that is over is called; at the end every exchange must have been logged once,
// and nothing may be left behind.
func TestWhateverHappensAnExchangeFinishesOnce(t *testing.T) {
	for seed := range uint64(300) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := &schedule{
				rng: rand.New(rand.NewPCG(seed, 1)),
				s: newSim(t, 1+int(seed%3), func(c *config.Config) {
					c.Clusters[0].ConnectionsMax = int(seed % 4)
					c.Clusters[0].PendingMax = 1 + int(seed%5)
					rule := &c.Routes[0].Rules[0]
					if seed%2 == 0 {
						rule.Timeouts.Request = config.Duration(40 * time.Second)
					}
					if seed%5 == 0 {
						rule.Timeouts.TunnelIdle = config.Duration(30 * time.Second)
					}
					rule.BodyBytesMax = 200
					if seed%3 == 1 {
						rule.Retry = &config.Retry{Attempts: int(seed % 4), Codes: []int{500, 504}, Backoff: config.Duration(time.Second)}
					}
					if seed%4 == 1 {
						rule.Filters = []config.Filter{
							{Mirror: &config.Mirror{Cluster: clusterName}},
							{Mirror: &config.Mirror{Cluster: clusterName, Numerator: 1, Denominator: 2}},
						}
					}
				}),
			}
			for range 400 {
				r.step()
				if t.Failed() {
					return
				}
			}
			r.wind()
		})
	}
}

type schedule struct {
	rng     *rand.Rand
	s       *sim
	clients []*randomClient
	begun   int
}

// randomClient follows the rules of an engine: no body while paused, none after the end.
type randomClient struct {
	*fakeClient
	left    int  // bytes of body, -1: chunked
	ended   bool // OnRequestEnd was called, or there is no body
	tunnels bool // asked for an upgrade
}

func (r *schedule) step() {
	switch r.rng.IntN(10) {
	case 0, 1:
		r.begin()
	case 2, 3, 4:
		if live := r.live(); len(live) > 0 {
			r.client(live[r.rng.IntN(len(live))])
		}
	case 5:
		if n := len(r.s.dialer.pending); n > 0 {
			if r.rng.IntN(3) == 0 {
				r.s.dialer.refuse(upstream.CauseConnectFailed)
			} else {
				r.s.dialer.connect()
			}
		}
	case 6, 7, 8:
		r.backEnd()
	case 9:
		if r.rng.IntN(60) == 0 {
			r.s.w.CloseTunnels()
		}
		r.s.advance(time.Duration(r.rng.IntN(int(20 * time.Second))))
	}
}

func (r *schedule) live() (out []*randomClient) {
	for _, c := range r.clients {
		if !c.over {
			out = append(out, c)
		}
	}
	r.clients = out
	return out
}

func (r *schedule) begin() {
	methods := []string{"GET /", "POST /", "HEAD /", "PUT /"}
	c := &randomClient{fakeClient: r.s.request(methods[r.rng.IntN(len(methods))]), ended: true}
	r.begun++
	r.clients = append(r.clients, c)
	switch r.rng.IntN(6) {
	case 0:
		c.sized(0)
	case 1:
		c.sized(90)
		c.left, c.ended = 90, false
	case 2:
		c.chunked()
		c.left, c.ended = -1, false
	case 3:
		c.x.Req.Upgrade, c.tunnels = c.x.Req.StoreString("x"), true
	case 4:
		c.x.Refuse(400, "bad_host")
		return
	}
	c.x.Req.ExpectContinue = r.rng.IntN(4) == 0 && !c.ended
	sized0 := c.x.Req.Framing == message.Sized && c.x.Req.Length == 0
	c.start()
	if sized0 && !c.over {
		c.x.OnRequestEnd(nil)
	}
}

// client lets a client do something.
func (r *schedule) client(c *randomClient) {
	tunnel := c.tunnels && c.status == 101
	switch n := r.rng.IntN(12); {
	case n == 0:
		c.over = true
		c.x.OnClientGone("client_reset")
	case n == 1 && !c.ended:
		c.x.OnBadRequestBody(400, "bad_chunk_size")
	case n == 2:
		c.full = !c.full
		if !c.full {
			c.x.OnClientWritable()
		}
	case n < 5 && tunnel && c.left == 0:
		c.left = 1 // its half is closed
		c.x.OnRequestEnd(nil)
	case tunnel && c.left == 0 && !c.paused:
		c.x.OnRequestData(make([]byte, 30))
	case c.ended || c.paused:
	case c.left > 0:
		c.left -= 30
		c.ended = c.left == 0
		c.x.OnRequestData(make([]byte, 30))
		if c.ended && !c.over {
			c.x.OnRequestEnd(nil)
		}
	case n < 6:
		c.ended = true
		c.x.OnRequestEnd(nil)
	default:
		c.x.OnRequestData(make([]byte, 40))
	}
}

// backEnd lets a connection that carries a request do something.
func (r *schedule) backEnd() {
	var busy []*fakeConn
	for _, b := range r.s.dialer.conns {
		if b.sink != nil && !b.gone {
			busy = append(busy, b)
		}
	}
	if len(busy) == 0 {
		return
	}
	b := busy[r.rng.IntN(len(busy))]
	begun, tunnel := false, false
	switch sink := b.sink.(type) {
	case *Exchange:
		begun, tunnel = sink.phase != phaseHead || sink.attempt.retired, sink.phase == phaseTunnel
	case *mirror:
		begun = sink.status >= 200
	}
	switch n := r.rng.IntN(12); {
	case n == 0 && tunnel:
		if !b.half {
			b.half = true
			b.sink.OnEnd(nil) // its half of the tunnel
		}
	case n == 1:
		stage := upstream.StageSent
		if begun {
			stage = upstream.StageBody
		} else if b.sent == 0 && r.rng.IntN(2) == 0 {
			stage = upstream.StageUnsent
		}
		b.fail(stage, upstream.CauseReset)
	case n == 2:
		b.full = !b.full
		if !b.full {
			b.sink.OnWritable()
		}
	case !begun && n < 5:
		b.head(100 + r.rng.IntN(4)) // also 101, asked for or not
	case !begun && n < 6:
		b.head(101, "Upgrade: x")
	case !begun:
		b.head([]int{200, 204, 404, 500, 503}[r.rng.IntN(5)])
	case b.paused || b.half:
	case tunnel || n < 8:
		b.data("0123456789")
	default:
		b.end()
	}
}

// wind ends what is left and checks the books.
func (r *schedule) wind() {
	t := r.s.t
	for _, c := range r.live() {
		if c.status == 101 {
			c.over = true
			c.x.OnClientGone("client_closed")
		}
	}
	for range 3 {
		for len(r.s.dialer.pending) > 0 {
			r.s.dialer.refuse(upstream.CauseConnectFailed)
		}
		r.s.advance(6 * time.Minute) // longer than any deadline
	}
	if n := len(r.live()); n > 0 {
		t.Errorf("%d exchanges never end, one after %q", n, r.clients[0].events)
	}
	if n := r.s.w.Active(); n != 0 {
		t.Errorf("%d exchanges are still active", n)
	}
	if n := len(r.s.w.mirrors.underWay); n != 0 {
		t.Errorf("mirrors are under way: %v", r.s.w.mirrors.underWay)
	}
	if n := len(r.s.logged()); n != r.begun {
		t.Errorf("%d records of %d exchanges", n, r.begun)
	}
	for _, b := range r.s.dialer.conns {
		if b.sink != nil && !b.gone {
			t.Errorf("a back end still has a request after %q", b.events)
		}
	}
}
