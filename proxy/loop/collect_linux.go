package loop

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

const (
	// gcHeadroomBytes is how much may be allocated between two garbage collections however small the heap is. A TLS
	// handshake allocates 50 KiB; with gcPercent alone a process that has little else to hold collects every hundred
	// handshakes, and that cost a third of each (380 to 245 µs of CPU, full handshakes with ECDSA P-256).
	gcHeadroomBytes = 16 << 20
	// gcHeadroomBytesMax is where the headroom stops growing with the heap: with 100 MB in use, 18 MB less of resident memory
	// for half as many collections more, which only changes of the configuration and handshakes cause.
	gcHeadroomBytesMax = 32 << 20
	// gcPercentMin bounds what collecting costs with very large heaps.
	gcPercentMin = 20
	// gcPercentStep: changes smaller than that, in percent, are not worth stopping the world for; below gcPercent, where less
	// is more, gcPercentStepLow are.
	gcPercentStep    = 25
	gcPercentStepLow = 5
)

// collector keeps the headroom of the garbage collector: it looks at the heap after every collection.
type collector struct {
	percent int // in force
	live    [1]metrics.Sample
}

func newCollector() *collector {
	c := &collector{percent: gcPercent}
	c.live[0].Name = "/gc/heap/live:bytes"
	return c
}

// watch has adjust called after the next collection, by way of an object that does not survive it.
func (c *collector) watch() {
	type witness struct{ c *collector }
	runtime.SetFinalizer(&witness{c}, func(w *witness) {
		w.c.adjust()
		w.c.watch()
	})
}

func (c *collector) adjust() {
	metrics.Read(c.live[:])
	if c.live[0].Value.Kind() != metrics.KindUint64 {
		return
	}
	if next := gcPercentFor(c.live[0].Value.Uint64()); next != c.percent {
		c.percent = next
		debug.SetGCPercent(next)
	}
}

// gcPercentFor is GOGC for so many bytes of live heap.
func gcPercentFor(live uint64) int {
	headroom := min(max(live*gcPercent/100, gcHeadroomBytes), gcHeadroomBytesMax)
	percent, step := int(headroom*100/max(live, gcHeadroomBytes/4)), gcPercentStep
	if percent < gcPercent {
		step = gcPercentStepLow
	}
	return max(gcPercentMin, percent/step*step)
}
