//go:build linux && (amd64 || arm64)

package bpf

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// sweepInterval is how often the sockets are looked at. One look costs about a microsecond for each, and with sweep_tcp less
// than that also for each socket of others in the network namespace.
const sweepInterval = 5 * time.Second

// sightBytes is the size of what the program writes for one socket: seven numbers of 32 bits.
const sightBytes = 7 * 4

// statesMax is above every state of TCP.
const statesMax = 16

// sights is what one sweep has seen.
type sights struct {
	clients, backends [statesMax]int // sockets by state
	byCell            map[uint32]sight
}

// sight sums up the sockets of one cell.
type sight struct {
	measured       int // sockets with a round-trip time
	srttUs         uint64
	minRTTUs       uint32
	unread, unsent uint64
}

func (k *Kernel) sweepUntilStopped() {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		if s, err := k.look(); err == nil {
			k.sights.Store(s)
		} else {
			k.failures.Add(1)
		}
		k.table.reclaim(k.registry.Forgotten)
		select {
		case <-tick.C:
		case <-k.stop:
			return
		}
	}
}

// look has the kernel write about all of our sockets.
func (k *Kernel) look() (*sights, error) {
	r, err := k.loaded.sweep.Open()
	if err != nil {
		return nil, fmt.Errorf("begin to look at sockets: %w", err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("look at sockets: %w", err)
	}
	s := &sights{byCell: map[uint32]sight{}}
	for ; len(data) >= sightBytes; data = data[sightBytes:] {
		s.add(data, k.table.cells)
	}
	return s, nil
}

// add takes the record of one socket.
func (s *sights) add(record []byte, cells []kernelCell) {
	field := func(i int) uint32 { return binary.NativeEndian.Uint32(record[4*i:]) }
	cell, state := field(0), field(2)%statesMax
	if int(cell) >= len(cells) || atomic.LoadUint32(&cells[cell].Generation) != field(1) {
		cell = cellOther
	}
	if cell == cellClients {
		s.clients[state]++
	} else {
		s.backends[state]++
	}
	sum := s.byCell[cell]
	if srtt := field(3); srtt > 0 {
		sum.measured++
		sum.srttUs += uint64(srtt)
		if least := field(4); sum.measured == 1 || least < sum.minRTTUs {
			sum.minRTTUs = least
		}
	}
	sum.unread += uint64(max(0, int32(field(5))))
	sum.unsent += uint64(max(0, int32(field(6))))
	s.byCell[cell] = sum
}
