package server

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime/pprof"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"rauta.io/rauta/fastpath"
	"rauta.io/rauta/h2"
	"rauta.io/rauta/proxy/certs"
	"rauta.io/rauta/proxy/clock"
	"rauta.io/rauta/proxy/dial"
	"rauta.io/rauta/proxy/exchange"
	"rauta.io/rauta/proxy/l4"
	"rauta.io/rauta/proxy/loop"
	"rauta.io/rauta/proxy/snapshot"
	"rauta.io/rauta/proxy/upstream"
)

// loopPlane serves sockets on event loops.
type loopPlane struct {
	deps    *Deps
	group   *loop.Group
	overlap bool
	workers []*loopWorker
	stopped sync.WaitGroup

	closing atomic.Int64 // sockets of ours that still take what is queued

	udpMu sync.Mutex // held while sockets for datagrams are opened and closed
	udp   map[netip.AddrPort]*udpPort
}

// loopWorker is one event loop with everything that belongs to it.
type loopWorker struct {
	loop     *loop.Worker
	exchange *exchange.Worker
	engine   *fastpath.Engine
	// headTimeout in nanoseconds, from accept to the end of the first head.
	headTimeout int64
	http2       *h2.Engine
	l4          *l4.Engine

	// Owned by the worker's thread.
	listeners map[netip.AddrPort]*loop.Listener
	ports     map[netip.AddrPort]*openPort
	datagrams map[netip.AddrPort]*l4.UDPListener

	busy atomic.Int64 // client connections, as of the last Drain
}

// evictPerTurn is how many idle connections the workers close at a time, together, when the connection limit is reached.
const evictPerTurn = 16

func newLoopPlane(deps *Deps, connections int, overlap bool) *loopPlane {
	return &loopPlane{
		deps: deps, group: loop.NewGroup(connections), overlap: overlap, udp: map[netip.AddrPort]*udpPort{},
	}
}

// Start implements Plane.
func (p *loopPlane) Start() error {
	for id := range p.deps.Workers {
		w, err := p.newWorker(id)
		if err != nil {
			return err
		}
		p.workers = append(p.workers, w)
	}
	for _, w := range p.workers {
		p.stopped.Go(func() {
			// profiles tell the workers apart
			pprof.Do(context.Background(), pprof.Labels("worker", strconv.Itoa(w.loop.ID())), func(context.Context) {
				if err := w.loop.Run(); err != nil {
					p.deps.Log.Error("a worker has stopped", "worker", w.loop.ID(), "error", err)
				}
			})
		})
	}
	return nil
}

func (p *loopPlane) newWorker(id int) (*loopWorker, error) {
	w := &loopWorker{
		listeners: map[netip.AddrPort]*loop.Listener{}, ports: map[netip.AddrPort]*openPort{},
		datagrams:   map[netip.AddrPort]*l4.UDPListener{},
		headTimeout: p.deps.Limits.HeadTimeout,
	}
	var err error
	w.loop, err = loop.NewWorker(id, loop.WorkerOptions{
		Group:  p.group,
		Active: func() int { return w.exchange.Active() },
		Gather: p.deps.Gather, Finished: func() uint64 { return w.exchange.Finished() },
		OnStall: p.deps.Registry.Shard(id).LoopStall,
		Kernel:  p.deps.Kernel,
		OnPressure: func(*loop.Worker) {
			share := max(1, evictPerTurn/p.deps.Workers)
			if w.engine.CloseIdle(share) == 0 && w.http2.CloseIdle(share) == 0 {
				w.loop.CloseHandshakes(share)
			}
		},
		OnPanic: func(value any, stack []byte) {
			p.deps.Log.Error("a request made a worker panic; its connection was closed", "worker", id, "panic", value,
				"stack", string(stack))
		},
	})
	if err != nil {
		return nil, fmt.Errorf("start worker %d: %w", id, err)
	}
	seed := uint64(time.Now().UnixNano()) + uint64(id)<<56
	w.exchange = &exchange.Worker{
		Settings: p.deps.Settings,
		Live:     p.deps.Live,
		Clock:    w.loop.Wheel(),
		Shard:    p.deps.Registry.Shard(id),
		WallClock: func() int64 {
			sec, nsec := w.loop.Unix()
			return sec*1e9 + nsec
		},
		HTTPDate: w.loop.HTTPDate,
	}
	w.engine = fastpath.NewEngine(w.loop, w.exchange, p.deps.Limits)
	w.http2 = h2.NewEngine(w.loop, w.exchange, http2Limits(&p.deps.Limits))
	w.engine.HandOver(w.http2.Serve)
	w.exchange.Upstream = upstream.NewWorker(id, w.loop.Wheel(), p.newDialer(w), seed)
	w.exchange.Upstream.Shard = w.exchange.Shard
	w.l4 = l4.NewEngine(l4.Options{
		Loop: w.loop, Upstream: w.exchange.Upstream, Shard: w.exchange.Shard, Live: p.deps.Live, Unix: w.exchange.WallClock,
		FlowsMax: loop.SocketsWithinLimits(l4.FlowsMaxDefault, p.deps.Workers),
	})
	return w, nil
}

func (p *loopPlane) newDialer(w *loopWorker) *dial.Dialer {
	d := dial.New(w.loop, w.engine, w.http2)
	d.OnTLSFailure = func(e *upstream.Endpoint, err error, failures int) {
		p.deps.Log.Warn("TLS handshakes with back ends fail; this is the last", "endpoint", e.Name, "cluster", e.ClusterName(),
			"error", err, "failures", failures)
	}
	return d
}

// http2Limits are the limits of HTTP/1 where both engines have one.
func http2Limits(l *fastpath.Limits) h2.Limits {
	limits := h2.DefaultLimits()
	limits.HeadTimeout, limits.KeepAlive = l.HeadTimeout, l.KeepAlive
	limits.BodyIdle, limits.BodyRateMin, limits.BodyRateGrace = l.BodyIdle, l.BodyRateMin, l.BodyRateGrace
	limits.WriteIdle, limits.LingerBytes, limits.LingerTime = l.WriteIdle, l.LingerBytes, l.LingerTime
	limits.RequestsPerConn = l.RequestsPerConn
	limits.TargetBytes, limits.HeadBytes = l.Request.RequestLineBytes, l.Request.HeadBytes
	limits.Fields, limits.StrictNames = l.Request.Fields, l.Request.StrictNames
	limits.ResponseHeadBytes, limits.ResponseFields = l.Response.HeadBytes, l.Response.Fields
	return limits
}

// onEach runs f on every worker's thread and waits for all of them. An error that several have is returned once.
func (p *loopPlane) onEach(f func(w *loopWorker) error) error {
	errs := make([]error, len(p.workers))
	var wait sync.WaitGroup
	for i, w := range p.workers {
		wait.Add(1)
		if !w.loop.Post(func() { defer wait.Done(); errs[i] = f(w) }) {
			errs[i] = errors.New("the worker has stopped")
			wait.Done()
		}
	}
	wait.Wait()
	seen := map[string]bool{}
	return errors.Join(slices.DeleteFunc(errs, func(err error) bool {
		again := err == nil || seen[err.Error()]
		if err != nil {
			seen[err.Error()] = true
		}
		return again
	})...)
}

// Open implements Plane.
func (p *loopPlane) Open(addr netip.AddrPort) error {
	if !p.overlap && !p.group.OwnsPort(addr.Port()) {
		if err := loop.ProbeBind(addr); err != nil {
			return err
		}
	}
	err := p.onEach(func(w *loopWorker) error {
		l, err := w.loop.Listen(loop.ListenerOptions{
			Addr: addr, Overlap: p.overlap, OnClosed: func() { p.closing.Add(-1) },
		}, p.accept(addr))
		if err == nil {
			w.listeners[addr] = l
			w.port(addr) // seen now, should it go before its first connection
		}
		return err
	})
	if err != nil {
		p.Close(addr)
	}
	return err
}

// accept returns what is done with a connection accepted on addr, on the worker that gets it.
func (p *loopPlane) accept(addr netip.AddrPort) func(*loop.Worker, *loop.Conn) {
	return func(l *loop.Worker, c *loop.Conn) {
		w := p.workers[l.ID()]
		port := w.port(addr)
		switch {
		case port.tls != nil:
			w.secure(c, port)
			return
		case port.tcp:
			w.tunnel(c, port)
			return
		}
		w.engine.Serve(c, port.ref, port.proxyFrom)
	}
}

// openPort is what connections on an address begin with: what the current generation says, or the last one that had the
// address, for those that are accepted after it has gone. A port that speaks TLS must never fall back to plain text.
type openPort struct {
	ref       *exchange.PortRef
	proxyFrom []netip.Prefix
	tls       *certs.Table
	tcp       bool // everything belongs to route, which is nil if there is none
	route     *snapshot.L4Route
	names     *snapshot.Port // set if the server name decides what becomes of a connection
}

// port returns the state of addr.
func (w *loopWorker) port(addr netip.AddrPort) *openPort {
	o := w.ports[addr]
	if o == nil {
		o = &openPort{ref: exchange.NewPortRef(addr)}
		w.ports[addr] = o
	}
	return w.refresh(o)
}

// refresh brings the state of an address up to date.
func (w *loopWorker) refresh(o *openPort) *openPort {
	if current := o.ref.Current(w.exchange.Live.Current()); current != nil {
		o.proxyFrom, o.tls, o.tcp, o.route = current.ProxyProtocolFrom, current.TLS, current.TCP, current.L4
		if o.names = nil; current.ByServerName {
			o.names = current
		}
	}
	return o
}

// tunnel begins the life of a connection on a port with protocol TCP.
func (w *loopWorker) tunnel(conn *loop.Conn, port *openPort) {
	w.greet(conn, port, conn.AcceptedAt()+clock.Time(w.headTimeout), func(client netip.Addr, received []byte) {
		w.l4.Serve(l4.Accepted{
			Conn: conn, Client: client.Unmap(), Protocol: l4.ProtocolTCP, Route: port.route, Received: received,
		})
	})
}

// Close implements Plane.
func (p *loopPlane) Close(addr netip.AddrPort) {
	p.onEach(func(w *loopWorker) error {
		if l := w.listeners[addr]; l != nil {
			delete(w.listeners, addr)
			p.closing.Add(1)
			l.Close()
		}
		return nil
	})
}

// Retire implements Plane.
func (p *loopPlane) Retire(removed []*upstream.Endpoint) {
	if len(removed) == 0 {
		return
	}
	for _, w := range p.workers {
		w.loop.Post(func() {
			for _, e := range removed {
				w.exchange.Upstream.Retire(e)
				w.l4.Retire(e)
			}
		})
	}
}

// Refresh implements Plane.
func (p *loopPlane) Refresh() {
	// Then no worker gets a connection any more that has come to an address that is gone.
	settled := p.closing.Load() == 0
	_ = p.onEach(func(w *loopWorker) error { // one that has stopped keeps nothing for long
		for addr, port := range w.ports {
			w.refresh(port)
			if settled && w.listeners[addr] == nil {
				delete(w.ports, addr)
			}
		}
		for _, l := range w.datagrams {
			l.Refresh()
		}
		return nil
	})
}

// Drain implements Plane.
func (p *loopPlane) Drain() {
	p.onEach(func(w *loopWorker) error {
		w.exchange.Draining = true
		w.engine.Drain()
		w.http2.Drain()
		w.busy.Store(int64(w.engine.Conns() + w.http2.Conns() + w.l4.Tunnels() + w.loop.Handshakes()))
		return nil
	})
}

// CloseTunnels implements Plane.
func (p *loopPlane) CloseTunnels() {
	p.onEach(func(w *loopWorker) error { w.exchange.CloseTunnels(); return nil })
}

// Busy implements Plane.
func (p *loopPlane) Busy() int {
	n := p.closingUDP()
	for _, w := range p.workers {
		n += int(w.busy.Load())
	}
	return n + int(p.closing.Load())
}

// Stop implements Plane.
func (p *loopPlane) Stop() {
	_ = p.onEach(func(w *loopWorker) error {
		w.l4.Cut() // what is cut off is counted and logged
		return nil
	})
	for _, w := range p.workers {
		w.loop.Stop()
	}
	p.stopped.Wait()
}
