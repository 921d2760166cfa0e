package h2

import (
	"io"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"rauta.io/rauta/internal/testrig"
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/exchange"
	"rauta.io/rauta/proxy/loop"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/upstream"
)

// giveUp bounds what would otherwise hang.
const giveUp = 30 * time.Second

// backRig is an engine on a worker, in front of one back end.
type backRig struct {
	t        *testing.T
	loop     *loop.Worker
	engine   *Engine
	upstream *upstream.Worker
	cluster  *upstream.Cluster
}

// Dial implements upstream.Dialer.
func (r *backRig) Dial(p *upstream.Pool) {
	d := &dialled{r: r, pool: p}
	d.conn, _ = r.loop.Connect(p.Endpoint().Addr, d)
}

// dialled is a connect under way.
type dialled struct {
	r    *backRig
	pool *upstream.Pool
	conn *loop.Conn
}

func (d *dialled) OnEvent(ev loop.Events) {
	if d.conn.ConnectResult() == nil {
		d.r.engine.Attach(d.conn, d.pool)
		d.conn.Ready(ev &^ loop.Writable)
	}
}

func newBackRig(t *testing.T, limits Limits, serve func(f *http2.Framer)) *backRig {
	t.Helper()
	addr := testrig.Listen(t, func(c net.Conn) {
		io.ReadFull(c, make([]byte, len(Preface)))
		f := http2.NewFramer(c, c)
		f.WriteSettings()
		serve(f)
	})
	r := &backRig{t: t}
	var err error
	if r.loop, err = loop.NewWorker(0, loop.WorkerOptions{
		OnPanic: func(value any, stack []byte) { t.Errorf("a panic: %v\n%s", value, stack) },
	}); err != nil {
		t.Fatal(err)
	}
	r.upstream = upstream.NewWorker(0, r.loop.Wheel(), r, 1)
	shard := observe.NewRegistry(observe.Options{Workers: 1, Methods: message.MethodNames()}).Shard(0)
	r.engine = NewEngine(r.loop, &exchange.Worker{Upstream: r.upstream, Clock: r.loop.Wheel(), Shard: shard}, limits)
	r.cluster = upstream.NewCluster(config.Cluster{Name: "default/app:80", Protocol: config.BackendH2}, nil, 1, nil)
	r.cluster.SetEndpoints([]config.Endpoint{{Address: addr}})
	ended := make(chan error, 1)
	go func() { ended <- r.loop.Run() }()
	t.Cleanup(func() {
		r.loop.Stop()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return r
}

// request sends a GET and returns who waits for the response.
func (r *backRig) request() *waiting { return r.ask(0) }

// Ways of requests.
const (
	withBody = 1 << iota
	cancelsAtHead
	cancelsAtData
	pauses
)

func (r *backRig) ask(way int) *waiting {
	w := &waiting{way: way, started: make(chan *clientConn, 1), ended: make(chan upstream.Failure, 2)}
	w.waiter.Sink = w
	r.loop.Post(func() { r.cluster.Set().Endpoints()[0].Pool(r.upstream).Acquire(&w.waiter) })
	return w
}

// waiting is a request under way. A response ends it with the zero Failure.
type waiting struct {
	waiter  upstream.Waiter
	started chan *clientConn
	ended   chan upstream.Failure
	way     int
	stream  upstream.Stream
}

func (w *waiting) OnStream(s upstream.Stream) {
	q := &message.Request{MethodID: message.MethodGet}
	q.Method, q.Authority, q.Path = q.StoreString("GET"), q.StoreString("a.example"), q.StoreString("/")
	if w.way&withBody != 0 {
		q.Framing, q.Length = message.Streamed, -1
	}
	w.stream = s
	s.SendHead(q)
	if w.way&withBody != 0 {
		s.SendData(make([]byte, 100_000))
		s.SendEnd(nil)
	}
	w.started <- s.(*clientStream).conn
}

func (w *waiting) OnHead(*message.Response) {
	switch {
	case w.way&cancelsAtHead != 0:
		w.cancel()
	case w.way&pauses != 0:
		w.stream.PauseBody()
		w.stream.ResumeBody()
	}
}

func (w *waiting) OnData([]byte) {
	if w.way&cancelsAtData != 0 {
		w.cancel()
	}
}

func (w *waiting) cancel() {
	w.stream.Cancel()
	w.ended <- upstream.Failure{}
}

func (w *waiting) OnEnd(*message.Head)          { w.ended <- upstream.Failure{} }
func (w *waiting) OnWritable()                  {}
func (w *waiting) OnFailure(f upstream.Failure) { w.ended <- f }

func (w *waiting) wait(t *testing.T) upstream.Failure {
	t.Helper()
	select {
	case f := <-w.ended:
		return f
	case <-time.After(giveUp):
		t.Fatal("nothing happened")
		panic("unreachable")
	}
}

func quickPings() Limits {
	limits := DefaultLimits()
	limits.PingAfter, limits.PongWithin = 30e6, 30e6
	return limits
}

func TestABackEndThatIsSilentAndAnswersNoPingIsGivenUp(t *testing.T) {
	r := newBackRig(t, quickPings(), func(f *http2.Framer) {
		for {
			if _, err := f.ReadFrame(); err != nil {
				return
			}
		}
	})
	if f := r.request().wait(t); f.Stage != upstream.StageSent || f.Cause != upstream.CauseTimeout {
		t.Errorf("%+v", f)
	}
}

func TestABackEndThatAnswersPingsMayTakeItsTime(t *testing.T) {
	limits := quickPings()
	limits.PongWithin = 20e9
	pings := 0
	r := newBackRig(t, limits, func(f *http2.Framer) {
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				return
			}
			if p, isPing := frame.(*http2.PingFrame); isPing {
				f.WritePing(true, p.Data)
				if pings++; pings == 4 {
					f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x88}, EndHeaders: true, EndStream: true})
				}
			}
		}
	})
	if f := r.request().wait(t); f != (upstream.Failure{}) {
		t.Errorf("%+v", f)
	}
}

// TestAConnectionIsLeftBeforeItsStreamIDsAreUsedUp: RFC 9113 section 5.1.1.
func TestAConnectionIsLeftBeforeItsStreamIDsAreUsedUp(t *testing.T) {
	r := newBackRig(t, DefaultLimits(), func(f *http2.Framer) {
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				return
			}
			if h, isHead := frame.(*http2.HeadersFrame); isHead {
				f.WriteHeaders(http2.HeadersFrameParam{StreamID: h.StreamID, BlockFragment: []byte{0x88}, EndHeaders: true, EndStream: true})
			}
		}
	})
	send := func() *clientConn {
		w := r.request()
		if f := w.wait(t); f != (upstream.Failure{}) {
			t.Fatalf("%+v", f)
		}
		return <-w.started
	}
	first := send()
	r.loop.Post(func() { first.nextID = lastStreamID - 2 })
	if again := send(); again != first {
		t.Error("the last id was not used")
	}
	if next := send(); next == first {
		t.Error("ids beyond the last were used")
	}
}

// TestWhateverABackEndSendsEveryRequestEndsOnce: frames of any kind in any order, with the payloads of others or of chance.
func TestWhateverABackEndSendsEveryRequestEndsOnce(t *testing.T) {
	const rounds, each = 100, 8
	limits := DefaultLimits() // a back end may wait for more frames than come: requests that were late have few to share
	limits.PingAfter, limits.PongWithin = 500e6, 500e6
	for seed := range uint64(rounds) {
		var conns atomic.Uint64
		r := newBackRig(t, limits, func(f *http2.Framer) {
			rng := rand.New(rand.NewPCG(seed, conns.Add(1)))
			f.AllowIllegalWrites = true
			for range 1 + rng.IntN(each) { // some requests, then whatever comes to mind
				if _, err := f.ReadFrame(); err != nil {
					return
				}
			}
			for range rng.IntN(60) {
				if randomFrame(f, rng) != nil {
					return
				}
			}
		})
		var all []*waiting
		ways := rand.New(rand.NewPCG(seed, 0))
		for range each {
			all = append(all, r.ask(ways.IntN(16)))
			if seed%10 == 0 { // some come when the connection of the others is half over
				time.Sleep(5 * time.Millisecond)
			}
		}
		for _, w := range all {
			w.wait(t)
		}
		r.settled(all)
	}
}

// settled waits until no stream is left, and checks that nobody was told twice.
func (r *backRig) settled(all []*waiting) {
	r.t.Helper()
	left := make(chan int)
	for deadline := time.Now().Add(giveUp); ; time.Sleep(time.Millisecond) {
		r.loop.Post(func() {
			p := r.cluster.Set().Endpoints()[0].Pool(r.upstream)
			left <- p.Active() + p.Waiting()
		})
		if <-left == 0 {
			break
		}
		if time.Now().After(deadline) {
			r.t.Fatal("streams are left in the books")
		}
	}
	for _, w := range all {
		if len(w.ended) > 0 {
			r.t.Errorf("a request that is over was told: %+v", <-w.ended)
		}
	}
}

func randomFrame(f *http2.Framer, rng *rand.Rand) error {
	id := uint32(rng.IntN(20))
	if rng.IntN(4) > 0 {
		id |= 1
	}
	blocks := [][]byte{{0x88}, {0x48, 3, '1', '0', '3'}, {0x8d}, {0x88, 0x0f, 0x0d, 1, '2'}, {0x0f, 0x0d, 1, '2'}, {0x83}, {0xff, 0xff}, nil}
	end, endHeaders := rng.IntN(2) == 0, rng.IntN(8) > 0
	switch rng.IntN(12) {
	case 0, 1, 2, 3:
		return f.WriteHeaders(http2.HeadersFrameParam{
			StreamID: id, BlockFragment: blocks[rng.IntN(len(blocks))], EndStream: end, EndHeaders: endHeaders, PadLength: uint8(rng.IntN(3)),
		})
	case 4, 5, 6:
		return f.WriteData(id, end, make([]byte, rng.IntN(4)))
	case 7:
		return f.WriteRSTStream(id, http2.ErrCode(rng.IntN(16)))
	case 8:
		return f.WriteWindowUpdate(uint32(rng.IntN(2))*id, uint32(rng.IntN(3)))
	case 9:
		return f.WriteSettings(http2.Setting{ID: http2.SettingID(rng.IntN(10)), Val: uint32(rng.IntN(4))})
	case 10:
		return f.WriteGoAway(id, http2.ErrCode(rng.IntN(4)), nil)
	}
	payload := make([]byte, rng.IntN(12))
	for i := range payload {
		payload[i] = byte(rng.IntN(256))
	}
	return f.WriteRawFrame(http2.FrameType(rng.IntN(11)), http2.Flags(rng.IntN(64)), id, payload)
}

// TestALostConnectionIsOneFailure: all its requests fail, but the endpoint has failed once.
func TestALostConnectionIsOneFailure(t *testing.T) {
	const requests = 10
	r := newBackRig(t, DefaultLimits(), func(f *http2.Framer) {
		for n := 0; n < requests; {
			frame, err := f.ReadFrame()
			if err != nil {
				return
			}
			if _, isHead := frame.(*http2.HeadersFrame); isHead {
				n++
			}
		}
	})
	var all []*waiting
	for range requests {
		all = append(all, r.request())
	}
	alone := 0
	for _, w := range all {
		f := w.wait(t)
		if f.Stage != upstream.StageSent || f.Cause != upstream.CauseEOF && f.Cause != upstream.CauseReset {
			t.Errorf("%+v", f)
		}
		if !f.Shared {
			alone++
		}
	}
	if alone != 1 {
		t.Errorf("%d failures for the endpoint, want one", alone)
	}
}
