package main

import (
	"fmt"
	"strconv"

	"rauta.io/rauta/bpf"
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

// openKernel loads the programs that count in the kernel, if it is to and can. Only --ebpf require makes a failure of it one
// of the start.
func (p *process) openKernel() error {
	tier := bpf.Tier{Name: bpf.TierNone, Reason: "--ebpf off"}
	switch {
	case p.opt.engine != engineLoop:
		tier.Reason = "the engine " + p.opt.engine + " does not use it"
	case p.opt.ebpf != ebpfOff:
		p.kernel, tier = bpf.Open(p.registry)
		if p.kernel != nil && p.opt.ebpfSample != ebpfOff {
			tier = p.kernel.WatchRequests(p.opt.workers, sampling(p.opt.ebpfSample), tier)
		}
	}
	tier.Register(p.registry)
	if p.opt.ebpf == ebpfRequire && tier.Name == bpf.TierNone {
		return fmt.Errorf("--ebpf require: the programs for the kernel could not be loaded: %s (auto starts without them)", tier.Reason)
	}
	p.log.Info("metrics from the kernel", "tier", tier.Name, "reason", tier.Reason)
	if p.kernel != nil {
		p.kernel.Start()
	}
	return nil
}
