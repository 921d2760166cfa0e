//go:build linux && (amd64 || arm64)

package bpf

import (
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"rauta.io/rauta/proxy/observe"
)

// Kernel implements observe.Kernel.
type Kernel struct {
	// immutable
	registry *observe.Registry
	loaded   *loaded
	connsFD  int
	queued   func(time.Duration)
	requests *requests // nil: single requests are not watched

	// atomic
	failures atomic.Uint64
	sights   atomic.Pointer[sights]

	calls sync.Pool
	table table
	stop  chan struct{}
	ended sync.WaitGroup
}

// Open loads the programs and registers their metrics, or says in Tier why it does not; then the Kernel is nil.
func Open(registry *observe.Registry) (*Kernel, Tier) {
	l, missing, err := probe()
	if l == nil {
		return nil, Tier{Name: TierNone, Reason: reason(err)}
	}
	k := &Kernel{registry: registry, loaded: l, connsFD: l.collection.Maps[kernelMapRautaConns].FD(), stop: make(chan struct{})}
	tier := Tier{Name: TierFull}
	if len(missing) > 0 {
		tier = Tier{Name: TierReduced, Reason: "without " + strings.Join(missing, ", ") + ": " + reason(err)}
	}
	k.calls.New = func() any { return new(call) }
	k.table.init(l.cells)
	k.sights.Store(&sights{})
	k.queued = registry.Durations("rauta_accept_queue_seconds")
	k.register()
	return k, tier
}

// Start begins to look at the sockets every sweepInterval.
func (k *Kernel) Start() {
	if k.loaded.sweep != nil {
		k.ended.Go(k.sweepUntilStopped)
	}
	if k.requests != nil {
		k.ended.Go(func() { k.requests.tallies.reclaimUntil(k.stop) })
	}
}

// Close detaches the programs. The data plane must have stopped. The counters stay mapped for a scrape that comes late.
func (k *Kernel) Close() {
	close(k.stop)
	k.ended.Wait()
	for _, at := range k.loaded.links {
		_ = at.Close()
	}
	if k.requests != nil {
		k.requests.close()
	}
}

// Listening implements observe.Kernel.
func (k *Kernel) Listening(fd int) { k.tag(fd, cellClients, 0) }

// Connecting implements observe.Kernel.
func (k *Kernel) Connecting(fd int, e *observe.Endpoint) {
	cell, generation := k.cellOf(e)
	k.tag(fd, cell, generation)
}

// Queued implements observe.Kernel.
func (k *Kernel) Queued(ns int64) { k.queued(time.Duration(ns)) }

// Accepted implements observe.Kernel.
func (k *Kernel) Accepted(fd int) int64 {
	c := k.calls.Get().(*call)
	defer k.calls.Put(c)
	if !k.element(unix.BPF_MAP_LOOKUP_ELEM, c, fd) {
		return 0
	}
	return int64(c.conn.Opened)
}

func (k *Kernel) tag(fd int, cell, generation uint32) {
	c := k.calls.Get().(*call)
	defer k.calls.Put(c)
	c.conn = kernelConn{Cell: cell, Generation: generation}
	k.element(unix.BPF_MAP_UPDATE_ELEM, c, fd)
}

// call is a call about the tag of a socket.
type call struct {
	elementCall
	conn kernelConn
}

func (k *Kernel) element(command uintptr, c *call, fd int) bool {
	if !c.make(command, k.connsFD, fd, unsafe.Pointer(&c.conn)) {
		k.failures.Add(1)
		return false
	}
	return true
}

// elementCall holds what the kernel is pointed to. It lives on the heap, which does not move.
type elementCall struct {
	fd   int32
	attr elementAttr
}

// elementAttr is the part of union bpf_attr for elements of maps.
type elementAttr struct {
	mapFD      uint32
	_          uint32
	key, value uint64
	flags      uint64
}

// make makes one raw system call about what a map has of a socket: the library's would go through the scheduler, for a call
// that does not block. value belongs to what the call is part of.
func (c *elementCall) make(command uintptr, mapFD, fd int, value unsafe.Pointer) bool {
	c.fd = int32(fd)
	c.attr = elementAttr{mapFD: uint32(mapFD), key: uint64(uintptr(unsafe.Pointer(&c.fd))), value: uint64(uintptr(value))}
	_, _, e := syscall.RawSyscall(unix.SYS_BPF, command, uintptr(unsafe.Pointer(&c.attr)), unsafe.Sizeof(c.attr))
	return e == 0
}
