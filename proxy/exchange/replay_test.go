package exchange

import (
	"bytes"
	"math/rand"
	"testing"

	"rauta.io/rauta/proxy/upstream"
)

// passOn begins a request with a body, whose first attempt takes the parts.
func (s *sim) passOn(c *fakeClient, parts ...[]byte) (*fakeClient, *fakeConn) {
	c.start()
	b := s.dialer.connect()
	for _, p := range parts {
		c.x.OnRequestData(p)
	}
	return c, b
}

// TestABodyIsKeptUpToALimit: what fits is sent again as it was, what does not is answered.
func TestABodyIsKeptUpToALimit(t *testing.T) {
	whole := make([]byte, replayBytesMax+1)
	rand.New(rand.NewSource(1)).Read(whole)
	for _, size := range []int{1, replaySmallMax, replaySmallMax + 1, 20 << 10, replayBytesMax, replayBytesMax + 1} {
		for _, piece := range []int{100, 16 << 10, replayBytesMax + 1} {
			for _, sized := range []bool{false, true} {
				s := newSim(t, 2, nil)
				c := s.request("POST /")
				if sized {
					c.sized(int64(size))
				} else {
					c.chunked()
				}
				c, b := s.passOn(c)
				for p := whole[:size]; len(p) > 0; p = p[min(piece, len(p)):] {
					c.x.OnRequestData(p[:min(piece, len(p))])
				}
				b.fail(upstream.StageUnsent, upstream.CauseReset)
				want := 502
				if size <= replayBytesMax {
					want = 200
					if b = s.dialer.connect(); !bytes.Equal(b.body, whole[:size]) {
						t.Errorf("%d bytes in pieces of %d: %d others are sent again", size, piece, len(b.body))
					}
					b.answer(200, "")
				}
				if c.status != want {
					t.Errorf("%d bytes in pieces of %d, sized=%v: status %d, want %d", size, piece, sized, c.status, want)
				}
				if s.w.replays.taken != 0 {
					t.Errorf("%d buffers are not given back", s.w.replays.taken)
				}
			}
		}
	}
}

func TestNothingIsKeptOfABodyOnceTheResponseBegins(t *testing.T) {
	for name, begin := range map[string]func(c *fakeClient, b *fakeConn){
		"before": func(c *fakeClient, b *fakeConn) {
			b.head(200)
			c.x.OnRequestData(make([]byte, 5000))
		},
		"after": func(c *fakeClient, b *fakeConn) {
			c.x.OnRequestData(make([]byte, 5000))
			b.head(200)
		},
	} {
		s := newSim(t, 1, nil)
		c, b := s.passOn(s.request("POST /").chunked())
		begin(c, b)
		if len(c.x.replay.data) > 0 || s.w.replays.taken > 0 {
			t.Errorf("%s: %d bytes and %d buffers are kept although no other attempt can be", name, len(c.x.replay.data), s.w.replays.taken)
		}
	}
}

// TestALongBodyTakesNoBuffer: it will not be kept anyway, but its beginning is, for connections that close while they idle.
func TestALongBodyTakesNoBuffer(t *testing.T) {
	s := newSim(t, 2, nil)
	c, b := s.passOn(s.request("POST /").sized(replayBytesMax+1), make([]byte, replaySmallMax))
	if len(c.x.replay.data) != replaySmallMax {
		t.Error("its beginning is not kept")
	}
	c.x.OnRequestData([]byte("x"))
	if s.w.replays.taken != 0 {
		t.Error("it has a buffer")
	}
	b.fail(upstream.StageUnsent, upstream.CauseReset)
	if c.status != 502 {
		t.Errorf("status %d, want 502", c.status)
	}
}

// TestAWorkerKeepsABoundedAmountOfBodies: who gets no buffer is not tried again, and the next ones get those that come back.
func TestAWorkerKeepsABoundedAmountOfBodies(t *testing.T) {
	s := newSim(t, 2, nil)
	part := make([]byte, replaySmallMax+1)
	var clients []*fakeClient
	var conns []*fakeConn
	for range replaysMax + 1 {
		c, b := s.passOn(s.request("POST /").chunked(), part)
		clients, conns = append(clients, c), append(conns, b)
	}
	if s.w.replays.taken != replaysMax || !clients[replaysMax].x.replay.gone {
		t.Fatalf("%d buffers are in use, want %d", s.w.replays.taken, replaysMax)
	}
	conns[replaysMax].fail(upstream.StageUnsent, upstream.CauseReset)
	if got := clients[replaysMax].status; got != 502 {
		t.Errorf("status %d without a buffer, want 502", got)
	}
	for _, b := range conns[:replaysMax] {
		b.answer(200, "")
	}
	if n := len(s.w.replays.free); s.w.replays.taken != 0 || n != replaysKept {
		t.Errorf("%d buffers in use and %d kept, want 0 and %d", s.w.replays.taken, n, replaysKept)
	}
	c, _ := s.passOn(s.request("POST /").chunked(), part)
	if c.x.replay.gone || len(s.w.replays.free) != replaysKept-1 {
		t.Error("the next body does not get a buffer that was used before")
	}
}

// TestABodyThatIsKeptAllocatesNothing, once the worker has a buffer.
func TestABodyThatIsKeptAllocatesNothing(t *testing.T) {
	s := newSim(t, 1, nil)
	c := s.request("POST /").chunked().start()
	part := make([]byte, 3000)
	if n := testing.AllocsPerRun(100, func() {
		for range 5 {
			c.x.keepBody(part)
		}
		c.x.dropReplay()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
