// Package server is the data plane as one object: workers, their listeners, and the current snapshot.
//
// It owns which sockets are open (those of the snapshot's ports), the order of start, publication and drain, and the
// numbers about workers and configuration that an operator sees. It does not own what happens on a connection (engines)
// or to a request (exchange). cmd/rauta makes one Server; control publishes to it.
package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rauta.io/rauta/fastpath"
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/exchange"
	"rauta.io/rauta/proxy/loop"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/snapshot"
	"rauta.io/rauta/proxy/upstream"
)

// Options of a Server.
type Options struct {
	// Workers is the number of event loops, at least 1.
	Workers  int
	Registry *observe.Registry
	// Bind is the address of listeners that name none; empty means all addresses.
	Bind     string
	Settings exchange.Settings
	Limits   fastpath.Limits
	// ConnectionsMax bounds the client connections of all workers; 0 means loop.ConnectionsMaxDefault.
	ConnectionsMax int
	// Gather is the longest time that turns of an event loop may be apart in order that requests gather; 0 means none.
	Gather time.Duration
	// MemoryLimit of the container in bytes, against which memory pressure is measured; 0 means none.
	MemoryLimit int64
	// Overlap allows another process to listen on the same addresses, for a hand-over.
	Overlap bool
	// ReadyWithoutSockets: sockets that can't be opened do not keep the server from being ready, because whoever may write
	// an object could keep every replica from starting with a port that is taken.
	ReadyWithoutSockets bool
	// DrainDelay is how long Drain goes on accepting after it has become unready; DrainTime how long requests may then
	// take to finish.
	DrainDelay, DrainTime time.Duration
	// Kernel is told of the sockets of the event loops; nil: nobody is.
	Kernel observe.Kernel
	// Plane serves the sockets; nil means the event loops of this package. It is how the reference engine comes in.
	Plane func(*Deps) Plane
	Log   *slog.Logger
}

// Deps is what a Plane gets to work with.
type Deps struct {
	Live     *snapshot.Live
	Registry *observe.Registry
	Settings *exchange.Settings
	Limits   fastpath.Limits
	Workers  int
	// ConnectionsMax is Options.ConnectionsMax; 0 means the plane's default.
	ConnectionsMax int
	// Gather is Options.Gather.
	Gather time.Duration
	// Kernel is Options.Kernel.
	Kernel observe.Kernel
	Log    *slog.Logger
}

// Plane serves sockets: the event loops, or the reference engine.
type Plane interface {
	// Start makes the plane ready for Open.
	Start() error
	// Open listens on addr; Close stops accepting there without losing a connection that is queued.
	Open(addr netip.AddrPort) error
	Close(addr netip.AddrPort)
	// Retire closes idle connections to endpoints that left the configuration.
	Retire(removed []*upstream.Endpoint)
	// Refresh has workers that have nothing to do let go of generations before the current one. It is not called while Open or
	// Close are.
	Refresh()
	// Drain closes idle connections and asks the others to close; Busy is the number of connections that are left, and of
	// listeners that still accept what is queued.
	Drain()
	Busy() int
	// CloseTunnels asks the ends of all tunnels to close; it is to be called until they have.
	CloseTunnels()
	// Stop ends the plane at once.
	Stop()
}

// datagramPlane is a Plane that can forward datagrams too.
type datagramPlane interface {
	// OpenUDP receives on addr; CloseUDP stops that after what is under way had time to be answered.
	OpenUDP(addr netip.AddrPort) error
	CloseUDP(addr netip.AddrPort)
}

// Server is the data plane. Its methods are for any goroutine.
type Server struct {
	opt   Options
	live  *snapshot.Live
	plane Plane

	mu        sync.Mutex // held while sockets are opened and closed
	open      map[netip.AddrPort]bool
	openUDP   map[netip.AddrPort]bool
	trim      *time.Timer // gives memory back after a change
	retry     *time.Timer // of sockets that could not be opened; nil if none is due
	lastError atomic.Pointer[string]
	reloads   reloads
	ready     atomic.Bool
	draining  atomic.Bool
	pressure  atomic.Uint32 // a Pressure
	stop      chan struct{} // closed by Drain
	used      func() uint64 // bytes of memory
	// compiled takes how long compiling a configuration took.
	compiled func(time.Duration)
	// connections is how many client connections the loops may have, ports how many ports they may listen on.
	connections, ports int
}

// New returns a server that serves nothing yet.
func New(opt Options) (*Server, error) {
	if opt.Workers < 1 {
		return nil, errors.New("a server needs at least one worker")
	}
	s := &Server{opt: opt, open: map[netip.AddrPort]bool{}, openUDP: map[netip.AddrPort]bool{}, stop: make(chan struct{}), used: memoryUsed,
		ports: loop.PortsMaxDefault}
	s.compiled = opt.Registry.Durations("rauta_config_compile_seconds")
	s.live = snapshot.NewLive(snapshot.Options{
		Workers: opt.Workers, Registry: opt.Registry, DefaultAddress: opt.Bind, NextProtos: nextProtos(&opt), WithoutL4: opt.Plane != nil,
		WithoutBackendHTTP2: opt.Plane != nil,
	})
	deps := &Deps{
		Live: s.live, Registry: opt.Registry, Settings: &s.opt.Settings, Limits: opt.Limits, Workers: opt.Workers,
		ConnectionsMax: opt.ConnectionsMax, Gather: opt.Gather, Kernel: opt.Kernel, Log: opt.Log,
	}
	if opt.Plane != nil {
		s.plane = opt.Plane(deps)
		return s, nil
	}
	connections, err := loop.ConnectionsWithinLimits(opt.ConnectionsMax)
	if err != nil {
		return nil, err
	}
	s.connections, s.ports = connections, loop.PortsWithinLimits(loop.PortsMaxDefault, opt.Workers, connections)
	s.plane = newLoopPlane(deps, connections, opt.Overlap)
	return s, nil
}

// nextProtos are the protocols that the event loops speak over TLS (ALPN, RFC 7301); the planes of others have no TLS.
func nextProtos(opt *Options) []string {
	if opt.Plane != nil {
		return nil
	}
	return []string{"h2", "http/1.1"}
}

// Start starts the workers.
func (s *Server) Start() error {
	s.registerMetrics()
	if err := s.plane.Start(); err != nil {
		return err
	}
	if _, ok := s.plane.(pressured); ok && s.opt.MemoryLimit > 0 {
		go s.watchMemory()
	}
	return nil
}

// Registry is where the numbers of this server are.
func (s *Server) Registry() *observe.Registry { return s.opt.Registry }

// Live gives access to the current snapshot.
func (s *Server) Live() *snapshot.Live { return s.live }

// Publish makes cfg with its endpoints the current configuration: first the routes, then new sockets are opened, then
// those that it no longer names are closed. err says what was left out; everything else is served.
func (s *Server) Publish(cfg *config.Config, eps config.Endpoints) error {
	return s.publish(func() (*snapshot.Snapshot, bool, []*upstream.Endpoint, error) { return s.live.Publish(cfg, eps) })
}

// Revise is Publish where, since the last call, only the clusters in revised have got other endpoints that SetEndpoints has not
// set.
func (s *Server) Revise(cfg *config.Config, eps config.Endpoints, revised []string) error {
	return s.publish(func() (*snapshot.Snapshot, bool, []*upstream.Endpoint, error) {
		return s.live.Revise(cfg, eps, revised)
	})
}

func (s *Server) publish(make func() (next *snapshot.Snapshot, changed bool, removed []*upstream.Endpoint, err error)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	start := time.Now()
	next, changed, removed, err := make()
	if changed {
		s.compiled(time.Since(start))
	}
	if s.draining.Load() {
		return err
	}
	socketErr := s.setSockets(next)
	err = errors.Join(err, socketErr)
	s.plane.Retire(removed)
	s.note(err)
	if socketErr != nil {
		s.retrySockets()
	}
	s.reloads.count(changed)
	if changed {
		s.opt.Log.Info("configuration published", "generation", next.Generation, "hash", fmt.Sprintf("%x", next.Hash[:6]),
			"listeners", len(next.Config.Listeners), "routes", len(next.Routes), "clusters", len(next.Clusters))
	}
	s.ready.Store(s.ready.Load() || s.opt.ReadyWithoutSockets || len(s.open)+len(s.openUDP) == len(next.Ports)+len(next.UDPPorts))
	if changed {
		s.trimLater()
	}
	return err
}

// trimTime is how long the configuration must have rested before memory is given back to the system.
const trimTime = 3 * time.Second

// trimLater gives back what reading and compiling a configuration needed for a moment: several times what it needs to
// be served. Many changes in a row put it off, so that it costs one collection per rest. s.mu is held.
func (s *Server) trimLater() {
	if s.trim == nil {
		s.trim = time.AfterFunc(trimTime, s.rest)
		return
	}
	s.trim.Reset(trimTime)
}

// rest gives memory back.
func (s *Server) rest() {
	if s.refresh() {
		loop.GiveBack()
	}
}

// refresh reports whether there is something to refresh: a server that drains may have stopped.
func (s *Server) refresh() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining.Load() {
		return false
	}
	s.plane.Refresh()
	return true
}

// retryTime is how long to wait before a socket that could not be opened is tried again: whoever holds the address may
// let go of it.
const retryTime = 2 * time.Second

// retrySockets tries later what could not be opened now. s.mu is held.
func (s *Server) retrySockets() {
	if s.retry != nil {
		return
	}
	s.retry = time.AfterFunc(retryTime, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.retry = nil
		if s.draining.Load() {
			return
		}
		current := s.live.Current()
		if err := s.setSockets(current); err != nil {
			s.retrySockets()
			return
		}
		s.ready.Store(true)
		s.note(errors.Join(current.Problems...))
	})
}

// SetEndpoints replaces the endpoints of one cluster.
func (s *Server) SetEndpoints(cluster string, eps []config.Endpoint) {
	s.plane.Retire(s.live.SetEndpoints(cluster, eps))
}

// setSockets opens and closes sockets so that they are those of next.
func (s *Server) setSockets(next *snapshot.Snapshot) error {
	var errs []error
	wanted := map[netip.AddrPort]bool{}
	beyond := s.beyond(next)
	for at := range beyond { // before others take their places
		s.close(at)
	}
	for _, p := range next.Ports {
		if beyond[socket{addr: p.Addr}] {
			errs = append(errs, &config.ListenerError{Listeners: namesOf(p.Listeners), Err: s.tooMany()})
			continue
		}
		wanted[p.Addr] = true
		if s.open[p.Addr] {
			continue
		}
		if err := s.plane.Open(p.Addr); err != nil {
			errs = append(errs, &config.ListenerError{Listeners: namesOf(p.Listeners), Err: err})
			continue
		}
		s.open[p.Addr] = true
		s.opt.Log.Info("listening", "address", p.Addr.String(), "listener", p.Listeners[0].Name)
	}
	for addr := range s.open {
		if !wanted[addr] {
			s.close(socket{addr: addr})
		}
	}
	return errors.Join(append(errs, s.setUDPSockets(next, beyond)...)...)
}

// socket is what a port listens with.
type socket struct {
	addr netip.AddrPort
	udp  bool
}

// close closes a socket, if it is open.
func (s *Server) close(at socket) {
	switch {
	case at.udp && s.openUDP[at.addr]:
		s.plane.(datagramPlane).CloseUDP(at.addr)
		delete(s.openUDP, at.addr)
		s.opt.Log.Info("stopped receiving datagrams", "address", at.addr.String())
	case !at.udp && s.open[at.addr]:
		s.plane.Close(at.addr)
		delete(s.open, at.addr)
		s.opt.Log.Info("stopped listening", "address", at.addr.String())
	}
}

// beyond returns what next has more than may be open: those whose turn comes last, even if they are open. Of those whose turn
// is the same, the open ones stay.
func (s *Server) beyond(next *snapshot.Snapshot) map[socket]bool {
	if len(next.Ports)+len(next.UDPPorts) <= s.ports {
		return nil
	}
	type candidate struct {
		socket
		turn int
		shut int // 0 if it is open
	}
	all := make([]candidate, 0, len(next.Ports)+len(next.UDPPorts))
	add := func(at socket, turn int, open bool) {
		c := candidate{at, turn, 1}
		if open {
			c.shut = 0
		}
		all = append(all, c)
	}
	for _, p := range next.Ports {
		add(socket{addr: p.Addr}, p.Turn, s.open[p.Addr])
	}
	for _, p := range next.UDPPorts {
		add(socket{p.Addr, true}, p.Turn, s.openUDP[p.Addr])
	}
	slices.SortStableFunc(all, func(a, b candidate) int { return cmp.Or(cmp.Compare(a.turn, b.turn), cmp.Compare(a.shut, b.shut)) })
	out := map[socket]bool{}
	for _, c := range all[s.ports:] {
		out[c.socket] = true
	}
	return out
}

func (s *Server) tooMany() error {
	return fmt.Errorf("%d ports are open, and no more may be (PortsMaxDefault, or what the limit on open files leaves); remove listeners, "+
		"or raise that limit (ulimit -n)", s.ports)
}

func namesOf(listeners []*snapshot.Listener) []string {
	out := make([]string, len(listeners))
	for i, l := range listeners {
		out[i] = l.Name
	}
	return out
}

// setUDPSockets does the same for datagrams. A plane that does not forward any has no ports for them.
func (s *Server) setUDPSockets(next *snapshot.Snapshot, beyond map[socket]bool) (errs []error) {
	plane, ok := s.plane.(datagramPlane)
	if !ok {
		return nil
	}
	wanted := map[netip.AddrPort]bool{}
	for _, p := range next.UDPPorts {
		if beyond[socket{p.Addr, true}] {
			errs = append(errs, &config.ListenerError{Listeners: p.Listeners, Err: s.tooMany()})
			continue
		}
		wanted[p.Addr] = true
		if s.openUDP[p.Addr] {
			continue
		}
		if err := plane.OpenUDP(p.Addr); err != nil {
			errs = append(errs, &config.ListenerError{Listeners: p.Listeners, Err: err})
			continue
		}
		s.openUDP[p.Addr] = true
		s.opt.Log.Info("receiving datagrams", "address", p.Addr.String(), "listener", p.Listeners[0])
	}
	for addr := range s.openUDP {
		if !wanted[addr] {
			s.close(socket{addr, true})
		}
	}
	return errs
}

// Failed records that a configuration could not be read at all, and that the last good one stays in force.
func (s *Server) Failed(err error) {
	s.reloads.failed.Add(1)
	s.note(err)
}

func (s *Server) note(err error) {
	text := ""
	if err != nil {
		text = err.Error()
		s.reloads.errorTime.Store(time.Now().UnixNano())
	}
	s.lastError.Store(&text)
}

// Ready reports whether a complete configuration is being served, and if not, why.
func (s *Server) Ready() (bool, string) {
	switch {
	case s.draining.Load():
		return false, "draining"
	case !s.ready.Load():
		return false, "no configuration has been loaded yet"
	}
	return true, ""
}

// Drain ends the server gracefully: it becomes unready at once, goes on accepting for DrainDelay, then closes its
// listeners without losing what is queued, and gives requests DrainTime to finish. It reports how many connections had
// to be cut off.
func (s *Server) Drain(ctx context.Context) int {
	if s.draining.Swap(true) {
		return 0
	}
	s.opt.Log.Info("draining", "delay", s.opt.DrainDelay, "time", s.opt.DrainTime)
	sleep(ctx, s.opt.DrainDelay)
	s.mu.Lock()
	for addr := range s.open {
		s.plane.Close(addr)
	}
	clear(s.open)
	s.setUDPSockets(&snapshot.Snapshot{}, nil)
	if s.trim != nil {
		s.trim.Stop()
	}
	s.mu.Unlock()
	deadline := time.Now().Add(s.opt.DrainTime)
	s.plane.Drain()
	for s.plane.Busy() > 0 && time.Now().Before(deadline) && ctx.Err() == nil {
		sleep(ctx, drainPoll)
		s.plane.Drain()
		if time.Until(deadline) <= min(tunnelsTime, s.opt.DrainTime/2) {
			s.plane.CloseTunnels()
		}
	}
	left := s.plane.Busy()
	close(s.stop)
	s.plane.Stop()
	s.opt.Log.Info("stopped", "connections_cut_off", left)
	return left
}

// tunnelsTime is how long before the end of a drain, at most half of its time, tunnels are asked to close. They may be
// sessions of people, so that they live as long as they can, but their clients are to see the end coming.
const tunnelsTime = exchange.TunnelCloseTime * time.Nanosecond

// drainPoll is how often Drain looks whether everything has finished.
const drainPoll = 20 * time.Millisecond

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
