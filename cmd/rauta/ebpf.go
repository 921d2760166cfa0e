package main

import (
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"rauta.io/rauta/bpf"
	"rauta.io/rauta/proxy/loop"
	"rauta.io/rauta/proxy/observe"
)

// Values of --ebpf.
const (
	ebpfAuto    = "auto"
	ebpfOff     = "off"
	ebpfRequire = "require"
)

// sampleMax is the largest number of --ebpf-sample.
const sampleMax = 1_000_000

func validSample(s string) bool {
	n, err := strconv.Atoi(s)
	return s == ebpfAuto || s == ebpfOff || err == nil && n >= 1 && n <= sampleMax
}

// sampling reads a valid --ebpf-sample that is not off.
func sampling(s string) bpf.Sampling {
	n, _ := strconv.Atoi(s) // auto is 0
	return bpf.Sampling(n)
}

func ebpfModes() []string { return []string{ebpfAuto, ebpfOff, ebpfRequire} }

// kernel is told of sockets. It is *bpf.Kernel or *bpf.Late.
type kernel interface {
	observe.Kernel
	Close()
}

// loadRestTime is how long after loading what it needed is given back: the kernel's types take ten megabytes for a moment, and
// the configuration may be read at the same time.
const loadRestTime = 3 * time.Second

// openKernel has the programs loaded that count in the kernel, if it is to and can. That takes its time, beside which
// connections are served. Only --ebpf require waits for it, and makes a failure of it one of the start.
func (p *process) openKernel() error {
	var tier atomic.Pointer[bpf.Tier]
	tier.Store(&bpf.Tier{Name: bpf.TierPending, Reason: "the programs are being loaded"})
	bpf.RegisterTier(p.registry, func() bpf.Tier { return *tier.Load() })
	tell := func(t bpf.Tier) {
		tier.Store(&t)
		p.log.Info("metrics from the kernel", "tier", t.Name, "reason", t.Reason)
	}
	switch {
	case p.opt.engine != engineLoop:
		tell(bpf.Tier{Name: bpf.TierNone, Reason: "the engine " + p.opt.engine + " does not use it"})
	case p.opt.ebpf == ebpfOff:
		tell(bpf.Tier{Name: bpf.TierNone, Reason: "--ebpf off"})
	case p.opt.ebpf == ebpfRequire:
		k, t := p.loadKernel()
		if k == nil {
			return fmt.Errorf("--ebpf require: the programs for the kernel could not be loaded: %s (auto starts without them)", t.Reason)
		}
		tell(t)
		k.Start()
		p.kernel = k
	default:
		p.kernel = bpf.Later(func() (*bpf.Kernel, func()) {
			k, t := p.loadKernel()
			time.AfterFunc(loadRestTime, loop.GiveBack)
			return k, func() { tell(t) }
		})
	}
	return nil
}

// loadKernel returns nil where the kernel tells nothing.
func (p *process) loadKernel() (*bpf.Kernel, bpf.Tier) {
	k, tier := bpf.Open(p.registry)
	if k != nil && p.opt.ebpfSample != ebpfOff {
		tier = k.WatchRequests(p.opt.workers, sampling(p.opt.ebpfSample), tier)
	}
	return k, tier
}
