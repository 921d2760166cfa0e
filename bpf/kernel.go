//go:build linux && (amd64 || arm64)

package bpf

import (
	"fmt"
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
	portsFD  int
	queued   func(time.Duration) // nil: the waits to be accepted are not known
	requests *requests           // nil: single requests are not watched

	// atomic
	failures atomic.Uint64
	sights   atomic.Pointer[sights]

	calls sync.Pool
	table table
	stop  chan struct{}
	ended sync.WaitGroup
}

// Open loads the programs and registers their metrics, or says in Tier why it does not; then the Kernel is nil.
func Open(registry *observe.Registry) (*Kernel, Tier) { return open(registry, load) }

func open(registry *observe.Registry, load attempt) (*Kernel, Tier) {
	l, tier := probe(load)
	if l == nil {
		return nil, tier
	}
	k := &Kernel{
		registry: registry, loaded: l, stop: make(chan struct{}),
		connsFD: l.collection.Maps[kernelMapRautaConns].FD(), portsFD: l.collection.Maps[kernelMapRautaPorts].FD(),
	}
	k.calls.New = func() any { return new(call) }
	k.table.init(l.cells)
	k.sights.Store(&sights{})
	if l.by == byStorage {
		k.queued = registry.Durations("rauta_accept_queue_seconds")
	}
	k.register()
	return k, tier
}

// Start begins to look at the sockets every sweepInterval.
func (k *Kernel) Start() {
	if k.loaded.sweep != nil {
		k.ended.Go(k.sweepUntilStopped)
	}
	if k.requests != nil {
		k.ended.Go(func() { k.requests.run(k.stop) })
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
		k.requests.window.detach()
	}
}

// Listening implements observe.Kernel.
func (k *Kernel) Listening(fd int) {
	if k.loaded.by == byCookie {
		k.tagPort(fd)
		return
	}
	k.tag(fd, kernelConn{Cell: cellClients}, unix.BPF_ANY)
}

// Connecting implements observe.Kernel.
func (k *Kernel) Connecting(fd int, e *observe.Endpoint) {
	cell, generation := k.cellOf(e)
	k.tag(fd, kernelConn{Cell: cell, Generation: generation}, unix.BPF_ANY)
}

// Queued implements observe.Kernel.
func (k *Kernel) Queued(ns int64) {
	if k.queued != nil {
		k.queued(time.Duration(ns))
	}
}

// Accepted implements observe.Kernel. Clients have no tags of their own where tags are by cookie.
func (k *Kernel) Accepted(fd int) int64 {
	if k.loaded.by == byCookie {
		return 0
	}
	c := k.calls.Get().(*call)
	defer k.calls.Put(c)
	switch e := c.make(unix.BPF_MAP_LOOKUP_ELEM, 0, k.connsFD, fd, unsafe.Pointer(&c.conn)); e {
	case 0:
		return int64(c.conn.Opened)
	case unix.ENOENT: // it was queued before its listener had a tag
		k.Found(fd, true, nil, 0)
	default:
		k.failures.Add(1)
	}
	return 0
}

// WhenThere implements observe.Kernel.
func (k *Kernel) WhenThere(func()) {}

// Found implements observe.Kernel. A tag that is there stays, with what it knows of the socket.
func (k *Kernel) Found(fd int, accepted bool, e *observe.Endpoint, since int64) {
	conn := kernelConn{Cell: cellClients, Opened: uint64(since)}
	switch {
	case !accepted:
		conn.Cell, conn.Generation = k.cellOf(e)
	case k.loaded.by == byCookie:
		return // clients are known by their port
	}
	k.tag(fd, conn, unix.BPF_NOEXIST)
}

// tag tags a socket that is no listener where tags are by cookie.
func (k *Kernel) tag(fd int, conn kernelConn, flags uint64) {
	key := fd
	if k.loaded.by == byCookie {
		cookie, err := cookieOf(fd)
		if err != nil {
			k.failures.Add(1)
			return
		}
		key = int(cookie)
	}
	k.update(k.connsFD, key, conn, flags)
}

// tagPort says that who comes to the port of a socket is a client.
func (k *Kernel) tagPort(fd int) {
	port, err := portOf(fd)
	if err != nil {
		k.failures.Add(1)
		return
	}
	k.update(k.portsFD, port, kernelConn{Cell: cellClients}, unix.BPF_ANY)
}

// portOf returns the key of struct port in src/rauta.c for a bound socket of this process.
func portOf(fd int) (key int, err error) {
	address, err := unix.Getsockname(fd)
	if err != nil {
		return 0, fmt.Errorf("read the bound address: %w", err)
	}
	var network unix.Stat_t
	if err := unix.Stat("/proc/thread-self/ns/net", &network); err != nil {
		return 0, fmt.Errorf("read the network namespace: %w", err)
	}
	switch a := address.(type) {
	case *unix.SockaddrInet4:
		key = a.Port
	case *unix.SockaddrInet6:
		key = a.Port
	}
	return int(network.Ino) | key<<32, nil
}

func (k *Kernel) update(mapFD, key int, conn kernelConn, flags uint64) {
	c := k.calls.Get().(*call)
	defer k.calls.Put(c)
	c.conn = conn
	if e := c.make(unix.BPF_MAP_UPDATE_ELEM, flags, mapFD, key, unsafe.Pointer(&c.conn)); e != 0 && (flags != unix.BPF_NOEXIST || e != unix.EEXIST) {
		k.failures.Add(1)
	}
}

// call is a call about the tag of a socket.
type call struct {
	elementCall
	conn kernelConn
}

// elementCall holds what the kernel is pointed to. It lives on the heap, which does not move.
type elementCall struct {
	key  uint64
	attr elementAttr
}

// elementAttr is the part of union bpf_attr for elements of maps.
type elementAttr struct {
	mapFD      uint32
	_          uint32
	key, value uint64
	flags      uint64
}

// make makes one raw system call about an element of a map: the library's would go through the scheduler, for a call that
// does not block. key is a file descriptor where the map is storage of sockets: the kernel then reads its lower 4 bytes,
// which come first on every platform of these programs. value belongs to what the call is part of.
func (c *elementCall) make(command uintptr, flags uint64, mapFD, key int, value unsafe.Pointer) syscall.Errno {
	c.key = uint64(key)
	c.attr = elementAttr{mapFD: uint32(mapFD), key: uint64(uintptr(unsafe.Pointer(&c.key))), value: uint64(uintptr(value)), flags: flags}
	_, _, e := syscall.RawSyscall(unix.SYS_BPF, command, uintptr(unsafe.Pointer(&c.attr)), unsafe.Sizeof(c.attr))
	return e
}
