//go:build linux && (amd64 || arm64)

package bpf

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"syscall"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"rauta.io/rauta/proxy/observe"
)

// loaded are programs at work.
type loaded struct {
	by         tagging
	collection *ebpf.Collection
	links      []link.Link
	sweep      *link.Iter // nil: the kernel does not take it
	memory     []byte     // the cells, mapped
	cells      []kernelCell
}

// folds reports whether what sockets count themselves comes into the cells.
func (l *loaded) folds() bool {
	return l.sweep != nil || l.collection.Programs[kernelProgOnClose] != nil
}

// required is the program without which the others have nothing to say.
const required = kernelProgOnState

// optional programs need events that older kernels do not have, or do not permit. Of alternatives the first that loads
// is taken. Sweeps need storage.
func optional(by tagging) [][]string {
	programs := [][]string{
		{kernelProgOnRetransmit}, {kernelProgOnResetReceived}, {kernelProgOnResetSent}, {kernelProgOnError}, {kernelProgOnClose},
	}
	if by == byStorage {
		programs = append(programs, []string{kernelProgSweep, kernelProgSweepTcp})
	}
	return programs
}

// tagging is how programs know our sockets.
type tagging bool

const (
	byStorage tagging = false // of the socket itself
	byCookie  tagging = true  // and by port, for kernels that keep them away from the storage
)

// attempt loads and attaches the named programs, all or none. It is load, or in tests an older kernel.
type attempt func(names []string, by tagging) (*loaded, error)

// probe finds out what this kernel takes by loading and attaching it.
func probe(load attempt) (*loaded, Tier) {
	l, missing, err := load.most(byStorage)
	switch {
	case l != nil && len(missing) == 0:
		return l, Tier{Name: TierFull}
	case l != nil:
		return l, Tier{Name: TierReduced, Reason: without(missing, err)}
	}
	storageErr := err
	if l, missing, err = load.most(byCookie); l == nil {
		return nil, Tier{Name: TierNone, Reason: reason(err)}
	}
	tier := Tier{Name: TierStates, Reason: "no storage of sockets: " + reason(storageErr)}
	if len(missing) > 0 {
		tier.Reason += "; " + without(missing, err)
	}
	return l, tier
}

func without(missing []string, err error) string {
	return "without " + strings.Join(missing, ", ") + ": " + reason(err)
}

// most loads all programs that the kernel takes. missing are optional ones that it does not take; err says why there is
// nothing, or why those are missing.
func (load attempt) most(by tagging) (l *loaded, missing []string, err error) {
	wanted := []string{required}
	for _, alternatives := range optional(by) {
		wanted = append(wanted, alternatives[0])
	}
	if l, err = load(wanted, by); err == nil {
		return l, nil, nil
	}
	taken := []string{required}
	for _, alternatives := range optional(by) {
		name, oneErr := load.first(alternatives, by)
		if name == "" {
			missing, err = append(missing, alternatives[0]), oneErr
			continue
		}
		taken = append(taken, name)
	}
	l, loadErr := load(taken, by)
	if loadErr != nil {
		return nil, nil, loadErr
	}
	return l, missing, err
}

// first returns the first program that loads together with the required one, or "" and why the last does not.
func (load attempt) first(alternatives []string, by tagging) (name string, err error) {
	for _, name = range alternatives {
		var one *loaded
		if one, err = load([]string{required, name}, by); err == nil {
			one.close()
			return name, nil
		}
	}
	return "", err
}

// cookiesMax is how many connections to endpoints are known by their cookies; beyond them the oldest are forgotten.
const cookiesMax = 16384

// useCookies makes the tags a hash. Its memory counts against RLIMIT_MEMLOCK before 5.11, which is raised as far as it may be.
func useCookies(spec *ebpf.CollectionSpec) error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err == nil && limit.Cur < limit.Max {
		limit.Cur = limit.Max
		_ = unix.Setrlimit(unix.RLIMIT_MEMLOCK, &limit) // then the maps are refused, if it is not enough
	}
	tags := spec.Maps[kernelMapRautaConns]
	tags.Type, tags.Flags, tags.KeySize, tags.MaxEntries, tags.Key, tags.Value = ebpf.LRUHash, 0, 8, cookiesMax, nil, nil
	if err := spec.Variables[kernelVarByCookie].Set(uint8(1)); err != nil {
		return fmt.Errorf("choose tags by cookie: %w", err)
	}
	return nil
}

// load is the attempt on this kernel.
func load(names []string, by tagging) (_ *loaded, err error) {
	spec, err := loadKernel()
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(spec.Programs, func(name string, _ *ebpf.ProgramSpec) bool { return !slices.Contains(names, name) })
	if err := spec.Variables[kernelVarBounds].Set(observe.Bounds()); err != nil {
		return nil, fmt.Errorf("set the bounds of buckets: %w", err)
	}
	if by == byCookie {
		if err := useCookies(spec); err != nil {
			return nil, err
		}
	}
	l := &loaded{by: by}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if l.collection, err = ebpf.NewCollection(spec); err != nil {
		return nil, err
	}
	for name, p := range l.collection.Programs {
		if err := l.attach(name, p); err != nil {
			return nil, fmt.Errorf("attach %s: %w", name, err)
		}
	}
	cells := l.collection.Maps[kernelMapRautaCells]
	size := int(unsafe.Sizeof(kernelCell{})) * int(cells.MaxEntries())
	if l.memory, err = unix.Mmap(cells.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("map the counters: %w", err)
	}
	l.cells = unsafe.Slice((*kernelCell)(unsafe.Pointer(unsafe.SliceData(l.memory))), cells.MaxEntries())
	return l, nil
}

func (l *loaded) attach(name string, p *ebpf.Program) (err error) {
	switch name {
	case kernelProgSweep:
		l.sweep, err = link.AttachIter(link.IterOptions{Program: p, Map: l.collection.Maps[kernelMapRautaConns]})
		return err
	case kernelProgSweepTcp:
		l.sweep, err = link.AttachIter(link.IterOptions{Program: p})
		return err
	}
	at, err := link.AttachTracing(link.TracingOptions{Program: p})
	if err == nil {
		l.links = append(l.links, at)
	}
	return err
}

// close detaches and unloads. Nothing may use the cells any more.
func (l *loaded) close() {
	for _, at := range l.links {
		_ = at.Close()
	}
	if l.sweep != nil {
		_ = l.sweep.Close()
	}
	if l.memory != nil {
		_ = unix.Munmap(l.memory)
	}
	if l.collection != nil {
		l.collection.Close()
	}
}

// reason says for people why programs could not be loaded, in one line.
func reason(err error) string {
	switch {
	case errors.Is(err, syscall.ENOSYS):
		return "the kernel has no eBPF, or a filter of system calls keeps it away"
	case !capable(): // first, since the library blames the kernel for what is not permitted
		return "not permitted: it needs CAP_BPF and CAP_PERFMON"
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		return "not permitted although CAP_BPF and CAP_PERFMON are there: a user namespace, a filter of system calls, " +
			"a kernel that is locked down, or (before 5.11) a low RLIMIT_MEMLOCK"
	case withoutBTF():
		return "the kernel has no BTF (CONFIG_DEBUG_INFO_BTF)"
	case errors.Is(err, fs.ErrNotExist):
		return "the kernel lacks an event"
	}
	text, _, _ := strings.Cut(err.Error(), "\n")
	const textMax = 200 // bytes: it is the value of a label
	return strings.ToValidUTF8(text[:min(len(text), textMax)], "")
}

// withoutBTF reports whether the kernel does not tell its types, which every program needs.
func withoutBTF() bool {
	_, err := btf.LoadKernelSpec()
	return err != nil
}

// capable reports whether this thread has both capabilities, or the one that they were split from.
func capable() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return true // then it is not known to be missing
	}
	has := func(c uint) bool { return data[c/32].Effective&(1<<(c%32)) != 0 }
	return has(unix.CAP_SYS_ADMIN) || has(unix.CAP_BPF) && has(unix.CAP_PERFMON)
}
