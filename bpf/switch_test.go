//go:build linux && (amd64 || arm64)

package bpf

import "github.com/cilium/ebpf/link"

// Switch attaches or detaches the programs that run for requests; the others run when connections begin and end. Only the
// measurement of costs does that: what is detached leaves gaps in the numbers.
func (k *Kernel) Switch(on bool) error {
	r := k.requests
	for _, at := range r.links {
		if err := at.Close(); err != nil {
			return err
		}
	}
	r.links = nil
	if !on {
		return nil
	}
	for _, p := range r.collection.Programs {
		at, err := link.AttachTracing(link.TracingOptions{Program: p})
		if err != nil {
			return err
		}
		r.links = append(r.links, at)
	}
	return nil
}

// RunTimes are how often the programs of requests have run and for how long, while statistics of the kernel are on.
func (k *Kernel) RunTimes() (runs, ns map[string]uint64, err error) {
	runs, ns = map[string]uint64{}, map[string]uint64{}
	for name, p := range k.requests.collection.Programs {
		s, err := p.Stats()
		if err != nil {
			return nil, nil, err
		}
		runs[name], ns[name] = s.RunCount, uint64(s.Runtime)
	}
	return runs, ns, nil
}

// EveryFor is the interval that the default sampling chooses at so many requests per second.
func EveryFor(rate uint64) uint32 { return everyFor(rate) }
