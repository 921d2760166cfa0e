package bpf

import "rauta.io/rauta/proxy/observe"

// Names of tiers: how much the kernel tells.
const (
	TierFull    = "full"
	TierReduced = "reduced" // some optional program could not be loaded
	TierStates  = "states"  // what becomes of connections, without the waits and looks that need storage of sockets
	TierNone    = "none"
)

// Tier says how much the kernel tells, and why not more.
type Tier struct{ Name, Reason string }

// Register shows the tier as a metric.
func (t Tier) Register(registry *observe.Registry) {
	registry.Info("rauta_ebpf_tier", func() []observe.Label {
		return []observe.Label{{Name: "tier", Value: t.Name}, {Name: "reason", Value: t.Reason}}
	})
}
