//go:build linux && (amd64 || arm64)

package bpf

import (
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// slotsPerMapping are made accessible at once: 256 KB, a whole number of pages of any size.
const slotsPerMapping = 4096

// slots are the memory that connections share with the kernel, a slot each. All have their address from the beginning; they are
// mapped when they are first needed, because a mapped page counts as memory of the process whether it is used or not.
type slots struct {
	all    []requestsSlot
	fd     int           // of the map
	mapped atomic.Uint32 // those before it can be used
	mu     sync.Mutex    // guards mapping more
}

// openSlots reserves addresses for the elements of m. They stay for the life of the process, as does what is mapped.
func openSlots(m *ebpf.Map) (*slots, error) {
	size := uintptr(m.MaxEntries()) * unsafe.Sizeof(requestsSlot{})
	p, err := unix.MmapPtr(-1, 0, nil, size, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return nil, fmt.Errorf("reserve addresses for %s: %w", m, err)
	}
	s := &slots{all: unsafe.Slice((*requestsSlot)(p), m.MaxEntries()), fd: m.FD()}
	return s, s.reach(0)
}

// reach makes a slot usable.
func (s *slots) reach(slot uint32) error {
	if slot < s.mapped.Load() {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for slot >= s.mapped.Load() {
		first := s.mapped.Load()
		last := min(first+slotsPerMapping, uint32(len(s.all)))
		offset, size := uintptr(first)*unsafe.Sizeof(requestsSlot{}), uintptr(last-first)*unsafe.Sizeof(requestsSlot{})
		_, err := unix.MmapPtr(s.fd, int64(offset), unsafe.Pointer(&s.all[first]), size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_FIXED)
		if err != nil {
			return fmt.Errorf("map slots %d to %d: %w", first, last, err)
		}
		s.mapped.Store(last)
	}
	return nil
}
