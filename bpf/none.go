//go:build !linux || (!amd64 && !arm64)

package bpf

import "rauta.io/rauta/proxy/observe"

// Kernel implements observe.Kernel. There is none on this platform.
type Kernel struct{ observe.Kernel }

// Open says that there is nothing to open.
func Open(*observe.Registry) (*Kernel, Tier) {
	return nil, Tier{Name: TierNone, Reason: "no programs are made for this platform"}
}

// Sampling is how many requests of a connection go by for each one that the kernel watches.
type Sampling uint32

// WatchRequests does nothing.
func (*Kernel) WatchRequests(_ int, _ Sampling, tier Tier) Tier { return tier }

// Start does nothing.
func (*Kernel) Start() {}

// Close does nothing.
func (*Kernel) Close() {}

// Late is a Kernel that comes late. Here none does.
type Late struct{}

// Later has load called, which says why there is none.
func Later(load func() (*Kernel, func())) *Late {
	_, then := load()
	then()
	return &Late{}
}

// Close does nothing.
func (*Late) Close() {}

// Listening implements observe.Kernel.
func (*Late) Listening(int) {}

// Accepted implements observe.Kernel.
func (*Late) Accepted(int) int64 { return 0 }

// Connecting implements observe.Kernel.
func (*Late) Connecting(int, *observe.Endpoint) {}

// WhenThere implements observe.Kernel.
func (*Late) WhenThere(func()) {}

// Found implements observe.Kernel.
func (*Late) Found(int, bool, *observe.Endpoint, int64) {}

// Queued implements observe.Kernel.
func (*Late) Queued(int64) {}

// Requests implements observe.Kernel.
func (*Late) Requests(int) observe.Requests { return nil }
