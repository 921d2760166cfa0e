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
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"rauta.io/rauta/proxy/observe"
)

// loaded are programs at work.
type loaded struct {
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
// is taken.
func optional() [][]string {
	return [][]string{
		{kernelProgOnRetransmit}, {kernelProgOnResetReceived}, {kernelProgOnResetSent}, {kernelProgOnError}, {kernelProgOnClose},
		{kernelProgSweep, kernelProgSweepTcp},
	}
}

// probe finds out what this kernel takes by loading and attaching it. missing are optional programs that it does not take;
// err says why there is nothing, or why those are missing.
func probe() (l *loaded, missing []string, err error) {
	wanted := []string{required}
	for _, alternatives := range optional() {
		wanted = append(wanted, alternatives[0])
	}
	if l, err = load(wanted); err == nil {
		return l, nil, nil
	}
	taken := []string{required}
	for _, alternatives := range optional() {
		name, oneErr := firstThatLoads(alternatives)
		if name == "" {
			missing, err = append(missing, alternatives[0]), oneErr
			continue
		}
		taken = append(taken, name)
	}
	l, loadErr := load(taken)
	if loadErr != nil {
		return nil, nil, loadErr
	}
	return l, missing, err
}

// firstThatLoads returns the first program that loads together with the required one, or "" and why the last does not.
func firstThatLoads(alternatives []string) (name string, err error) {
	for _, name = range alternatives {
		var one *loaded
		if one, err = load([]string{required, name}); err == nil {
			one.close()
			return name, nil
		}
	}
	return "", err
}

// load loads and attaches the named programs, all or none.
func load(names []string) (_ *loaded, err error) {
	spec, err := loadKernel()
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(spec.Programs, func(name string, _ *ebpf.ProgramSpec) bool { return !slices.Contains(names, name) })
	if err := spec.Variables[kernelVarBounds].Set(observe.Bounds()); err != nil {
		return nil, fmt.Errorf("set the bounds of buckets: %w", err)
	}
	l := &loaded{}
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
		return "not permitted although CAP_BPF and CAP_PERFMON are there: a filter of system calls, or a kernel that is locked down"
	case errors.Is(err, fs.ErrNotExist):
		return "the kernel has no BTF (CONFIG_DEBUG_INFO_BTF), or lacks an event"
	}
	text, _, _ := strings.Cut(err.Error(), "\n")
	const textMax = 200 // bytes: it is the value of a label
	return strings.ToValidUTF8(text[:min(len(text), textMax)], "")
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
