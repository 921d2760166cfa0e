package server

import (
	"runtime/metrics"
	"time"

	"rauta.io/rauta/proxy/exchange"
)

// Memory pressure, as shares of the container's memory limit. Before the kernel ends the process, and with it every
// connection, RAUTA sheds load: first it stops keeping connections alive, then it accepts none and answers 503.
const (
	pressureClose  = 0.92
	pressureRefuse = 0.95
	// pressureTime is how often the memory is looked at.
	pressureTime = 250 * time.Millisecond
)

// Pressure is how short of memory the process is.
type Pressure uint8

// Pressures, the levels of exchange.Shed.
const (
	PressureNone   = Pressure(exchange.ShedNothing)
	PressureClose  = Pressure(exchange.ShedKeepAlive) // connections close after their response
	PressureRefuse = Pressure(exchange.ShedRequests)  // no connection is accepted either
)

// pressureOf compares what is used with the limit, both in bytes.
func pressureOf(used, limit uint64) Pressure {
	switch share := float64(used) / float64(limit); {
	case share >= pressureRefuse:
		return PressureRefuse
	case share >= pressureClose:
		return PressureClose
	}
	return PressureNone
}

// pressured is a Plane that can shed load; connections is how many it may accept without pressure.
type pressured interface {
	SetPressure(level Pressure, connections int)
}

// watchMemory tells the plane about memory pressure until the server stops.
func (s *Server) watchMemory() {
	plane := s.plane.(pressured)
	ticker := time.NewTicker(pressureTime)
	defer ticker.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-ticker.C:
		}
		now := pressureOf(s.used(), uint64(s.opt.MemoryLimit))
		if was := Pressure(s.pressure.Swap(uint32(now))); now != was {
			s.opt.Log.Warn("memory pressure has changed", "level", now, "limit", s.opt.MemoryLimit)
			plane.SetPressure(now, s.connections)
		}
	}
}

// memoryUsed is what the Go runtime holds of the system's memory. It does not stop the world.
func memoryUsed() uint64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64() - samples[1].Value.Uint64()
}

// String names the level.
func (p Pressure) String() string {
	return [...]string{"none", "close", "refuse"}[p]
}
