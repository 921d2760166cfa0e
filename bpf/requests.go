//go:build linux && (amd64 || arm64)

package bpf

import (
	"fmt"
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"rauta.io/rauta/proxy/observe"
)

// requests is the program that watches single requests, at work.
type requests struct {
	collection *ebpf.Collection
	slots      *slots
	stampsFD   int
	failures   *atomic.Uint64
	tallies    *tallies
	window     *window
	whole      bool       // the window never closes
	samplers   []*sampler // by worker
}

// WatchRequests has single requests watched, too, and returns what the tier is then. It must be called before Start.
func (k *Kernel) WatchRequests(workers int, every Sampling, tier Tier) Tier {
	return k.watchRequests(loadRequests, workers, every, tier)
}

func (k *Kernel) watchRequests(programs specified, workers int, every Sampling, tier Tier) Tier {
	if k.loaded.by == byCookie {
		return tier // slots are found by the storage of a socket, which such kernels do not give; the tier says so
	}
	r, err := openRequests(programs, k.registry, &k.failures, workers, every)
	if err == nil {
		k.requests = r
		return tier
	}
	why := "without " + requestsProgOnBytes + ": " + reason(err)
	if tier.Name != TierFull {
		return Tier{Name: tier.Name, Reason: tier.Reason + "; " + why}
	}
	return Tier{Name: TierReduced, Reason: why}
}

// Requests implements observe.Kernel.
func (k *Kernel) Requests(worker int) observe.Requests {
	if k.requests == nil {
		return nil
	}
	return k.requests.samplers[worker]
}

// specified are the programs to load. It is loadRequests, or in tests what a kernel does not take.
type specified func() (*ebpf.CollectionSpec, error)

// openRequests loads and attaches the program.
func openRequests(programs specified, registry *observe.Registry, failures *atomic.Uint64, workers int, every Sampling) (_ *requests, err error) {
	spec, err := programs()
	if err != nil {
		return nil, err
	}
	r := &requests{failures: failures, tallies: newTallies(registry, workers), whole: every != 0}
	if r.collection, err = ebpf.NewCollection(spec); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			r.collection.Close()
		}
	}()
	if r.slots, err = openSlots(r.collection.Maps[requestsMapRautaSlots]); err != nil {
		return nil, err
	}
	shared, err := mapped[requestsWindow](r.collection.Maps[requestsMapRautaWindow])
	if err != nil {
		return nil, err
	}
	r.stampsFD = r.collection.Maps[requestsMapRautaStamps].FD()
	r.window = &window{
		shared: &shared[0], program: r.collection.Programs[requestsProgOnBytes], length: windowTime, tallies: r.tallies, failures: failures, used: processTime,
	}
	r.window.share.Store(math.Float64bits(1))
	if err := r.window.attach(); err != nil {
		return nil, fmt.Errorf("attach %s: %w", requestsProgOnBytes, err)
	}
	for i := range workers {
		r.samplers = append(r.samplers, newSampler(r, i, workers, every))
	}
	r.register(registry)
	return r, nil
}

// mapped maps an array, of elements of whole 8 bytes, into memory. It stays there for the life of the process: a scrape or a worker may be late.
func mapped[T any](m *ebpf.Map) ([]T, error) {
	size := int(unsafe.Sizeof(*new(T))) * int(m.MaxEntries())
	memory, err := unix.Mmap(m.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", m, err)
	}
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(memory))), int(m.MaxEntries())), nil
}

// run does what has to be done now and then, until it is to stop. The memory stays.
func (r *requests) run(stop <-chan struct{}) {
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { r.tallies.reclaimUntil(stop) })
	if !r.whole {
		r.window.run(stop, 0)
	}
	<-stop
}

func (r *requests) register(registry *observe.Registry) {
	registry.Gauges("rauta_kernel_request_interval", func(emit emit) {
		for i, s := range r.samplers {
			emit(float64(s.every), observe.Label{Name: "worker", Value: strconv.Itoa(i)})
		}
	})
	registry.Counter("rauta_kernel_request_watch_seconds_total", r.window.seconds)
	registry.Gauge("rauta_kernel_request_watch_ratio", r.window.ratio)
	r.tallies.register(registry)
}

// stamp gives the socket the stamp of a slot.
func (r *requests) stamp(c *stampCall, fd int, slot uint32) bool {
	shared := &r.slots.all[slot]
	c.stamp = requestsStamp{Slot: slot, Generation: shared.Generation, Awaited: shared.Awaited}
	if c.make(unix.BPF_MAP_UPDATE_ELEM, unix.BPF_ANY, r.stampsFD, fd, unsafe.Pointer(&c.stamp)) != 0 {
		r.failures.Add(1)
		return false
	}
	return true
}

// stampCall is a call about a stamp.
type stampCall struct {
	elementCall
	stamp requestsStamp
}
