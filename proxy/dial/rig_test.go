//go:build linux

package dial

import (
	"net"
	"testing"
	"time"

	"rauta.io/rauta/internal/testrig"
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/loop"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/upstream"
)

// giveUp bounds what would otherwise hang; nothing is measured with it.
const giveUp = 30 * time.Second

// outcome is how an attempt ended: who took the connection over, or the failure.
type outcome struct {
	engine  string
	failure upstream.Failure
	events  loop.Events // the first that the engine got, if it was to wait for some
	conn    *loop.Conn
	read    string
}

// fakeEngine takes connections over and tells about it.
type fakeEngine struct {
	name string
	to   chan outcome
	// wait for bytes before telling; those are told in any case.
	wait bool
}

func (e *fakeEngine) Attach(conn *loop.Conn, p *upstream.Pool) {
	c := &fakeConn{engine: e, conn: conn, pool: p}
	conn.SetHandler(c)
	if !e.wait {
		e.to <- outcome{engine: e.name, conn: conn}
	}
	p.Ready(c)
}

// fakeConn is a connection that an engine has.
type fakeConn struct {
	engine *fakeEngine
	conn   *loop.Conn
	pool   *upstream.Pool
	slot   upstream.Slot
	upstream.Stream
}

func (c *fakeConn) OnEvent(ev loop.Events) {
	buf := make([]byte, 64)
	n, _ := c.conn.Read(buf)
	if n > 0 {
		c.engine.to <- outcome{engine: c.engine.name, events: ev, conn: c.conn, read: string(buf[:n])}
	}
}
func (c *fakeConn) Start(upstream.Sink) upstream.Stream { return c }
func (c *fakeConn) Capacity() int                       { return 1 }
func (c *fakeConn) Slot() *upstream.Slot                { return &c.slot }
func (c *fakeConn) Close()                              { c.conn.Close() }

// sink is a request that waits for a connection.
type sink struct{ to chan outcome }

func (s *sink) OnStream(upstream.Stream)     {}
func (s *sink) OnFailure(f upstream.Failure) { s.to <- outcome{failure: f} }
func (s *sink) OnHead(*message.Response)     {}
func (s *sink) OnData([]byte)                {}
func (s *sink) OnEnd(*message.Head)          {}
func (s *sink) OnWritable()                  {}

// rig is a worker whose dialer is tried.
type rig struct {
	t            *testing.T
	loop         *loop.Worker
	upstream     *upstream.Worker
	http1, http2 *fakeEngine
	outcomes     chan outcome
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, outcomes: make(chan outcome, 64)}
	w, err := loop.NewWorker(0, loop.WorkerOptions{OnPanic: func(v any, stack []byte) { t.Errorf("panic: %v\n%s", v, stack) }})
	if err != nil {
		t.Fatal(err)
	}
	r.loop = w
	r.http1, r.http2 = &fakeEngine{name: "http1", to: r.outcomes}, &fakeEngine{name: "http2", to: r.outcomes}
	r.upstream = upstream.NewWorker(0, w.Wheel(), New(w, r.http1, r.http2), 1)
	ended := make(chan error, 1)
	go func() { ended <- w.Run() }()
	t.Cleanup(func() {
		w.Stop()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return r
}

// cluster makes one with a single endpoint.
func (r *rig) cluster(settings config.Cluster, addr string) *upstream.Cluster {
	settings.Name = "default/web:80"
	c := upstream.NewCluster(settings, nil, 1, nil)
	c.SetEndpoints([]config.Endpoint{{Address: addr}})
	return c
}

// dial asks for a connection to the only endpoint of c and returns what comes of it.
func (r *rig) dial(c *upstream.Cluster) outcome {
	r.t.Helper()
	r.loop.Post(func() { c.Set().Endpoints()[0].Pool(r.upstream).Acquire(&upstream.Waiter{Sink: &sink{r.outcomes}}) })
	select {
	case o := <-r.outcomes:
		return o
	case <-time.After(giveUp):
		r.t.Fatal("the dial has no outcome")
		panic("unreachable")
	}
}

// backend accepts connections until the test ends and gives each to serve on a goroutine.
func backend(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	return testrig.Listen(t, serve)
}

// hold keeps a connection open until the peer closes it.
func hold(c net.Conn) {
	buf := make([]byte, 1)
	_, _ = c.Read(buf)
	c.Close()
}
