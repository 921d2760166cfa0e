//go:build linux && (amd64 || arm64)

package bpf

import (
	"sync"
	"sync/atomic"

	"rauta.io/rauta/proxy/observe"
)

// Cells that no endpoint gets.
const (
	cellClients = 0
	cellOther   = 1
	cellFirst   = 2 // of endpoints
)

// table says whose the cells are: endpoints get theirs at their first connect, as long as there are any.
type table struct {
	cells []kernelCell // shared with the kernel; every access is atomic

	mu     sync.Mutex // held for the first connect to an endpoint, and for a scrape
	owners []*observe.Endpoint
	free   []uint32
}

func (t *table) init(cells []kernelCell) {
	t.cells = cells
	t.owners = make([]*observe.Endpoint, cellFirst, 64)
}

// cellOf returns the cell of an endpoint with its generation. What has none is counted in cellOther.
func (k *Kernel) cellOf(e *observe.Endpoint) (cell, generation uint32) {
	if e == nil {
		return cellOther, 0
	}
	if v := e.KernelCell().Load(); v != 0 {
		return uint32(v >> 32), uint32(v)
	}
	if !k.registry.HasSeries(e) {
		return cellOther, 0
	}
	return k.table.assign(e)
}

func (t *table) assign(e *observe.Endpoint) (cell, generation uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if v := e.KernelCell().Load(); v != 0 { // another worker was faster
		return uint32(v >> 32), uint32(v)
	}
	switch {
	case len(t.free) > 0:
		cell = t.free[len(t.free)-1]
		t.free = t.free[:len(t.free)-1]
	case len(t.owners) < len(t.cells):
		cell = uint32(len(t.owners))
		t.owners = append(t.owners, nil)
	default:
		return cellOther, 0
	}
	generation = atomic.LoadUint32(&t.cells[cell].Generation)
	t.owners[cell] = e
	e.KernelCell().Store(uint64(cell)<<32 | uint64(generation))
	return cell, generation
}

// reclaim takes the cells of endpoints that are forgotten. Sockets that are still open to them count in cellOther from now
// on, because their generation is over.
func (t *table) reclaim(forgotten func(*observe.Endpoint) bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := cellFirst; i < len(t.owners); i++ {
		e := t.owners[i]
		if e == nil || !forgotten(e) {
			continue
		}
		c := &t.cells[i]
		atomic.AddUint32(&c.Generation, 1)
		e.KernelCell().Store(0)
		c.clear()
		t.owners[i] = nil
		t.free = append(t.free, uint32(i))
	}
}

func (c *kernelCell) clear() {
	for _, n := range []*uint64{&c.ConnectNs, &c.Retransmits, &c.ResetsReceived, &c.ResetsSent, &c.Timeouts, &c.BytesReceived, &c.BytesAcked} {
		atomic.StoreUint64(n, 0)
	}
	for i := range c.Sending {
		atomic.StoreUint64(&c.Sending[i], 0)
	}
	for i := range c.Failures {
		atomic.StoreUint64(&c.Failures[i], 0)
	}
	for i := range c.Connects {
		atomic.StoreUint64(&c.Connects[i], 0)
	}
}

// each calls f for every cell that counts for endpoints.
func (t *table) each(f func(number int, c *kernelCell, labels []observe.Label)) {
	t.mu.Lock()
	owners := append([]*observe.Endpoint(nil), t.owners...)
	t.mu.Unlock()
	f(cellOther, &t.cells[cellOther], []observe.Label{{Name: "cluster", Value: "other"}, {Name: "endpoint", Value: "other"}})
	for i, e := range owners {
		if e != nil {
			f(i, &t.cells[i], e.Labels())
		}
	}
}
