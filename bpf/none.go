//go:build !linux || (!amd64 && !arm64)

package bpf

import "rauta.io/rauta/proxy/observe"

// Kernel implements observe.Kernel. There is none on this platform.
type Kernel struct{ observe.Kernel }

// Open says that there is nothing to open.
func Open(*observe.Registry) (*Kernel, Tier) {
	return nil, Tier{Name: TierNone, Reason: "no programs are made for this platform"}
}

// Start does nothing.
func (*Kernel) Start() {}

// Close does nothing.
func (*Kernel) Close() {}
