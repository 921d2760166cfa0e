package loop

import (
	"math"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
)

// ConnectionsMaxDefault is the number of accepted connections of a process, if nothing else is said
// (downstream connections of Envoy's edge guide: 50,000).
const ConnectionsMaxDefault = 50_000

// loadSlackShift: an accepted connection stays where the kernel put it while that worker's load exceeds the least
// loaded one's by at most 1/8. Below 8 connections there is no slack, so that few long-lived connections spread evenly.
// By as much, and one, the connections of a worker may exceed the fewest of any before they are given to others, however
// busy those are.
const loadSlackShift = 3

// activeWeight is how much an active stream counts against an open connection, which may be idle.
const activeWeight = 4

// Group is what the workers of a process share: who is least loaded, how many connections there are, and which sockets
// listen on an address together. All of it is touched at accept, listen and close only. Its methods are for any
// goroutine.
type Group struct {
	connectionsMax atomic.Int64
	workers        atomic.Pointer[[]*Worker]
	// computing holds a token for every TLS handshake with a client that computes, dialling for those with back ends.
	computing, dialling chan struct{}

	_    [64]byte
	open atomic.Int64 // accepted connections
	held atomic.Int64 // listeners that do not accept because of a limit
	_    [64]byte

	mu    sync.Mutex
	ports map[netip.AddrPort]*portGroup
}

// workerLoad has a cache line of its own: every acceptor reads it.
type workerLoad struct {
	conns     atomic.Int64 // accepted, or on their way from the acceptor
	active    atomic.Int64 // streams in progress, as the engines say
	accepting atomic.Bool  // runs and is not stopping
	_         [64]byte
}

// NewGroup makes an empty group; connectionsMax bounds the accepted connections of all its workers (0: the default).
func NewGroup(connectionsMax int) *Group {
	g := &Group{
		ports:     map[netip.AddrPort]*portGroup{},
		computing: make(chan struct{}, handshakesAtOnce()), dialling: make(chan struct{}, dialsAtOnce()),
	}
	g.SetConnectionsMax(connectionsMax)
	g.workers.Store(new([]*Worker))
	return g
}

// SetConnectionsMax changes the bound (0: the default). Connections above a lowered bound stay.
func (g *Group) SetConnectionsMax(n int) {
	if n <= 0 {
		n = ConnectionsMaxDefault
	}
	g.connectionsMax.Store(int64(n))
}

// ConnectionsMax is the bound of accepted connections.
func (g *Group) ConnectionsMax() int { return int(g.connectionsMax.Load()) }

// Connections is how many accepted connections are open now.
func (g *Group) Connections() int { return int(g.open.Load()) }

// Workers are the members; the slice is immutable.
func (g *Group) Workers() []*Worker { return *g.workers.Load() }

func (g *Group) join(w *Worker) {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := append(slices.Clone(g.Workers()), w)
	g.workers.Store(&all)
}

func (g *Group) leave(w *Worker) {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := slices.DeleteFunc(slices.Clone(g.Workers()), func(x *Worker) bool { return x == w })
	g.workers.Store(&all)
}

// Load is the weight by which workers are compared. From any goroutine.
func (w *Worker) Load() int64 { return w.load.conns.Load() + activeWeight*w.load.active.Load() }

// ownerFor is the worker that gets the next connection accepted by w: the least loaded one of those with not too many
// connections already. A connection stays for life where it is put, while the streams in progress at this moment say little
// about the next hour: by load alone, clients that pause while others connect would end up on the same worker.
func (g *Group) ownerFor(w *Worker) *Worker {
	workers := *g.workers.Load()
	fewest := int64(math.MaxInt64)
	for _, x := range workers {
		if x.load.accepting.Load() {
			fewest = min(fewest, x.load.conns.Load())
		}
	}
	connsMax := fewest + 1 + fewest>>loadSlackShift
	least, leastLoad := w, int64(math.MaxInt64)
	for _, x := range workers {
		if load := x.Load(); load < leastLoad && x.load.accepting.Load() && x.load.conns.Load() <= connsMax {
			least, leastLoad = x, load
		}
	}
	if !w.load.accepting.Load() || w.load.conns.Load() > connsMax || w.Load() > leastLoad+leastLoad>>loadSlackShift {
		return least
	}
	return w
}
