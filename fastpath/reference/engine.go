package reference

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
	"rauta.io/rauta/fastpath"
	"rauta.io/rauta/proxy/clock"
	"rauta.io/rauta/proxy/exchange"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/snapshot"
	"rauta.io/rauta/proxy/upstream"
)

// Options of an Engine. Every field but ConnectionsMax is needed.
type Options struct {
	Live     *snapshot.Live
	Registry *observe.Registry
	Settings *exchange.Settings
	Limits   fastpath.Limits
	// Workers is the number of cores, for which Live and Registry were made.
	Workers int
	// ConnectionsMax bounds the client connections; further ones are closed. 0 means ConnectionsMaxDefault.
	ConnectionsMax int
	Log            *slog.Logger
}

const (
	// ConnectionsMaxDefault is lower than the loop's, because a connection costs two goroutines and their buffers here.
	ConnectionsMaxDefault = 10_000
	// closeQueueTime is how long a listener that closes goes on taking what is queued.
	closeQueueTime = 20 * time.Millisecond
	// acceptPause follows a failed accept, which means that a limit of the system was reached.
	acceptPause = 10 * time.Millisecond
)

// Engine serves sockets. It has the methods of server.Plane, which are for any goroutine.
type Engine struct {
	// Immutable.
	opt    Options
	origin time.Time
	http1  *fasthttp.Server
	http2  *http2Server
	ctx    context.Context
	cancel context.CancelFunc

	cores   []*core // made by Start
	next    atomic.Uint64
	drained sync.Once
	running sync.WaitGroup // goroutines that end by themselves once everything is closed

	mu        sync.Mutex
	listeners map[netip.AddrPort]*listener
	conns     map[*conn]struct{}
}

// New returns an engine that serves nothing yet.
func New(opt Options) *Engine {
	if opt.ConnectionsMax <= 0 {
		opt.ConnectionsMax = ConnectionsMaxDefault
	}
	e := &Engine{
		opt: opt, origin: time.Now(), listeners: map[netip.AddrPort]*listener{}, conns: map[*conn]struct{}{},
	}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	return e
}

// now is monotonic; the origin is one for all cores.
func (e *Engine) now() clock.Time { return clock.Time(time.Since(e.origin)) + 1 }

// Start makes the engine ready for Open.
func (e *Engine) Start() error {
	e.http1 = e.newHTTP1()
	var err error
	if e.http2, err = e.newHTTP2(); err != nil {
		return err
	}
	for id := range e.opt.Workers {
		e.cores = append(e.cores, newCore(e, id))
	}
	e.running.Go(e.runTimers)
	return nil
}

// runTimers is what turns of the loop do for timers.
func (e *Engine) runTimers() {
	ticker := time.NewTicker(clock.Tick)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			for _, c := range e.cores {
				e.guard(c.tick)
			}
		case <-e.ctx.Done():
			return
		}
	}
}

// guard runs f and survives its panic, which it reports: one request never ends the process.
func (e *Engine) guard(f func()) (ok bool) {
	defer func() {
		if v := recover(); v != nil {
			e.opt.Log.Error("a request made the engine panic", "panic", v, "stack", string(debug.Stack()))
		}
	}()
	f()
	return true
}

// Open listens on addr.
func (e *Engine) Open(addr netip.AddrPort) error {
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	l, err := config.Listen(e.ctx, "tcp", addr.String())
	if err != nil {
		return fmt.Errorf("listen on %s: %w", addr, err)
	}
	own := &listener{l.(*net.TCPListener), make(chan struct{})}
	e.mu.Lock()
	e.listeners[addr] = own
	e.mu.Unlock()
	e.running.Go(func() {
		defer close(own.ended)
		e.accept(own.TCPListener, addr)
	})
	return nil
}

// listener is an open socket; ended is closed once it is closed.
type listener struct {
	*net.TCPListener
	ended chan struct{}
}

// Close stops accepting on addr after what is queued there has been accepted; then the address is free.
func (e *Engine) Close(addr netip.AddrPort) {
	e.mu.Lock()
	l := e.listeners[addr]
	delete(e.listeners, addr)
	e.mu.Unlock()
	if l != nil {
		l.SetDeadline(time.Now().Add(closeQueueTime))
		<-l.ended
	}
}

// accept ends when the listener has been given a deadline by Close, or was closed by Stop.
func (e *Engine) accept(l *net.TCPListener, addr netip.AddrPort) {
	defer l.Close()
	for {
		nc, err := l.AcceptTCP()
		if err == nil {
			e.running.Go(func() { e.serve(nc, addr) })
			continue
		}
		if timeout, ok := err.(net.Error); ok && timeout.Timeout() || e.ctx.Err() != nil {
			return
		}
		e.opt.Log.Warn("accept failed", "address", addr.String(), "error", err)
		time.Sleep(acceptPause)
	}
}

// serve runs one connection.
func (e *Engine) serve(nc *net.TCPConn, addr netip.AddrPort) {
	core := e.cores[e.next.Add(1)%uint64(len(e.cores))]
	c := newConn(e, core, nc)
	if !e.remember(c) {
		nc.Close()
		return
	}
	client := nc.RemoteAddr().(*net.TCPAddr).AddrPort().Addr()
	var proxyFrom []netip.Prefix
	core.do(func() {
		ref := core.port(addr)
		c.peer = core.exchange.NewPeer(client, message.SchemeHTTP, ref)
		if port := ref.Current(e.opt.Live.Current()); port != nil {
			proxyFrom = port.ProxyProtocolFrom
		}
	})
	if len(proxyFrom) > 0 && !contains(proxyFrom, c.peer.Client) {
		c.Close()
		return
	}
	isHTTP2, err := c.open(len(proxyFrom) > 0)
	switch {
	case err != nil:
		c.Close()
	case isHTTP2:
		e.serveHTTP2(c)
	default:
		if !e.guard(func() { e.http1.ServeConn(c) }) { // it closes c, or leaves that to whoever has hijacked it
			c.cut()
		}
	}
}

func contains(networks []netip.Prefix, a netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

func (e *Engine) remember(c *conn) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.conns) >= e.opt.ConnectionsMax || e.ctx.Err() != nil {
		return false
	}
	e.conns[c] = struct{}{}
	c.core.exchange.Shard.ConnOpened()
	return true
}

func (e *Engine) forget(c *conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.conns, c)
	c.core.exchange.Shard.ConnClosed()
}

// Retire closes idle connections to endpoints that left the configuration.
func (e *Engine) Retire(removed []*upstream.Endpoint) {
	if len(removed) == 0 {
		return
	}
	for _, c := range e.cores {
		c.do(func() {
			for _, endpoint := range removed {
				c.exchange.Upstream.Retire(endpoint)
			}
		})
	}
}

// Refresh has every core let go of generations before the current one.
func (e *Engine) Refresh() {
	for _, c := range e.cores {
		c.do(func() {
			for _, port := range c.ports {
				port.Current(c.exchange.Live.Current())
			}
		})
	}
}

// Drain closes idle connections and asks the others to close.
func (e *Engine) Drain() {
	for _, c := range e.cores {
		c.do(func() { c.exchange.Draining = true })
	}
	e.drained.Do(func() { e.http2.base.Shutdown(e.ctx) }) // GOAWAY on every connection
	for _, c := range e.snapshotConns() {
		if !c.active.Load() {
			c.cut()
		}
	}
}

// CloseTunnels asks the ends of all tunnels to close.
func (e *Engine) CloseTunnels() {
	for _, c := range e.cores {
		c.do(c.exchange.CloseTunnels)
	}
}

func (e *Engine) snapshotConns() []*conn {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := make([]*conn, 0, len(e.conns))
	for c := range e.conns {
		all = append(all, c)
	}
	return all
}

// Busy is the number of client connections.
func (e *Engine) Busy() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.conns)
}

// Stop ends the engine at once and waits for its goroutines.
func (e *Engine) Stop() {
	e.cancel()
	e.mu.Lock()
	for addr, l := range e.listeners {
		l.Close()
		delete(e.listeners, addr)
	}
	e.mu.Unlock()
	for _, c := range e.snapshotConns() {
		c.cut()
	}
	for _, c := range e.cores {
		c.do(func() {
			c.stopped = true
			for b := range c.backends {
				b.fail(upstream.CauseShutdown, "", nil)
			}
		})
	}
	e.running.Wait()
}
