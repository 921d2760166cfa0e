package bpf

import "rauta.io/rauta/proxy/observe"

// Names of tiers: how much the kernel tells.
const (
	TierFull    = "full"
	TierReduced = "reduced" // some optional program could not be loaded
	TierStates  = "states"  // what becomes of connections, without the waits and looks that need storage of sockets
	TierNone    = "none"
	TierPending = "pending" // the programs are being loaded
)

// Tier says how much the kernel tells, and why not more.
type Tier struct{ Name, Reason string }

// RegisterTier shows the tier as a metric. now must not block.
func RegisterTier(registry *observe.Registry, now func() Tier) {
	registry.Info("rauta_ebpf_tier", func() []observe.Label {
		t := now()
		return []observe.Label{{Name: "tier", Value: t.Name}, {Name: "reason", Value: t.Reason}}
	})
}
