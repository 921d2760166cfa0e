package upstream

import (
	"fmt"
	"testing"
	"time"

	"rauta.io/rauta/proxy/clock"
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/message"
)

// fakeConn is a connection and all of its streams.
type fakeConn struct {
	slot     Slot
	pool     *Pool
	id       int
	capacity int
	started  int
	closed   bool
	report   bool // Close reports Closed
}

func (c *fakeConn) Start(Sink) Stream { c.started++; return c }
func (c *fakeConn) Slot() *Slot       { return &c.slot }
func (c *fakeConn) Capacity() int     { return c.capacity }
func (c *fakeConn) Close() {
	c.closed = true
	if c.report {
		c.pool.Closed(c)
	}
}

func (c *fakeConn) SendHead(*message.Request) {}
func (c *fakeConn) SendData([]byte) bool      { return true }
func (c *fakeConn) SendEnd(*message.Head)     {}
func (c *fakeConn) PauseBody()                {}
func (c *fakeConn) ResumeBody()               {}
func (c *fakeConn) Cancel()                   {}

// fakeDialer notes dials; the test answers them, or the dialer does so at once.
type fakeDialer struct {
	pending []*Pool
	made    int
	dials   int
	carries func() int // capacity of the connections; nil: 1
	atOnce  bool       // answer with a connection before Dial returns
	failure *Failure   // answer with this before Dial returns
}

func (d *fakeDialer) Dial(p *Pool) {
	d.dials++
	switch {
	case d.failure != nil:
		p.DialFailed(*d.failure)
	case d.atOnce:
		p.Ready(d.conn(p))
	default:
		d.pending = append(d.pending, p)
	}
}

func (d *fakeDialer) conn(p *Pool) *fakeConn {
	d.made++
	c := &fakeConn{pool: p, id: d.made, capacity: 1}
	if d.carries != nil {
		c.capacity = d.carries()
	}
	return c
}

// connect answers the oldest dial with a connection.
func (d *fakeDialer) connect() *fakeConn {
	p := d.pending[0]
	d.pending = d.pending[1:]
	c := d.conn(p)
	p.Ready(c)
	return c
}

// fail answers the oldest dial with a failure.
func (d *fakeDialer) fail() {
	p := d.pending[0]
	d.pending = d.pending[1:]
	p.DialFailed(Failure{Stage: StageConnect, Cause: CauseConnectFailed})
}

// fakeSink is a request that asks for a stream.
type fakeSink struct {
	Waiter
	conn     *fakeConn
	failures []Failure
	onFail   func()
}

func newSink() *fakeSink {
	s := &fakeSink{}
	s.Waiter.Sink = s
	return s
}

func (s *fakeSink) OnStream(st Stream) { s.conn = st.(*fakeConn) }
func (s *fakeSink) OnFailure(f Failure) {
	s.failures = append(s.failures, f)
	if s.onFail != nil {
		s.onFail()
	}
}
func (s *fakeSink) OnHead(*message.Response) {}
func (s *fakeSink) OnData([]byte)            {}
func (s *fakeSink) OnEnd(*message.Head)      {}
func (s *fakeSink) OnWritable()              {}

func acquire(p *Pool) *fakeSink {
	s := newSink()
	p.Acquire(&s.Waiter)
	return s
}

// testWorker is a worker with its dialer and simulated clock.
type testWorker struct {
	*Worker
	dialer *fakeDialer
}

func newTestWorker(id int) *testWorker {
	d := &fakeDialer{}
	return &testWorker{NewWorker(id, clock.NewWheel(1e9), d, 7), d}
}

func (w *testWorker) advance(d time.Duration) {
	for end := w.Clock.Now() + clock.Time(d); w.Clock.Now() < end; {
		w.Clock.Advance(min(w.Clock.Now()+clock.Tick, end))
	}
}

// addresses returns n ready endpoints.
func addresses(n int) []config.Endpoint {
	eps := make([]config.Endpoint, n)
	for i := range eps {
		eps[i].Address = fmt.Sprintf("10.%d.%d.%d:8080", i>>16, i>>8&255, i&255)
	}
	return eps
}

func newTestCluster(settings config.Cluster, workers, endpoints int) *Cluster {
	settings.Name = "ns/svc:80"
	c := NewCluster(settings, nil, workers, nil)
	c.SetEndpoints(addresses(endpoints))
	return c
}

// newTestPool returns the pool of a single worker to a single endpoint.
func newTestPool(settings config.Cluster) (*Pool, *testWorker, *Cluster) {
	c := newTestCluster(settings, 1, 1)
	w := newTestWorker(0)
	return c.Pick(w.Worker, 0, nil).Pool(w.Worker), w, c
}

// expect compares what the pool's books say.
func expect(t *testing.T, p *Pool, active, idle, waiting int, connections int64) {
	t.Helper()
	if p.Active() != active || p.Idle() != idle || p.Waiting() != waiting || p.endpoint.Connections() != connections {
		t.Fatalf("active %d, idle %d, waiting %d, connections %d; want %d, %d, %d, %d",
			p.Active(), p.Idle(), p.Waiting(), p.endpoint.Connections(), active, idle, waiting, connections)
	}
	if p.endpoint.streamsAssumed() == 1 && p.conns != p.active+p.idle.Len() {
		t.Fatalf("%d connections, but %d active and %d idle", p.conns, p.active, p.idle.Len())
	}
}
