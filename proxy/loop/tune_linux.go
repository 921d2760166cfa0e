package loop

import (
	"io/fs"
	"math"
	"os"
	"path"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
)

// sparePs is the number of scheduler slots kept beside the workers, at least: with as many busy goroutines as slots, a
// worker that has slept gets its slot back only after up to 10 ms (measured; 0.1 ms with two to spare).
const sparePs = 2

// memoryShare of the container's memory is what the Go heap may grow to; the rest is sockets, stacks and page cache.
const memoryShare = 0.70

// Tuning is what Tune has set, for the log.
type Tuning struct {
	// MaxProcs is GOMAXPROCS.
	MaxProcs int
	// MemoryLimit in bytes; 0: not set by us, because there is no container limit or GOMEMLIMIT is in the environment.
	MemoryLimit int64
	// ContainerLimit in bytes is the memory limit found; 0: none.
	ContainerLimit int64
}

// gcPercent is GOGC unless the environment says otherwise, where half of the live heap is between gcHeadroomBytes and
// gcHeadroomBytesMax: the former is more of a smaller heap, the latter less of a larger one. Requests allocate nothing, so the
// collector runs for configuration changes and handshakes only; running it a little earlier costs nothing that anyone notices
// and keeps the heap small.
const gcPercent = 50

// Tune fits the Go runtime to this many workers and to the container's memory. Call it once, before the workers run.
func Tune(workers int) Tuning {
	t := Tuning{MaxProcs: workers + max(sparePs, workers/2)}
	runtime.GOMAXPROCS(t.MaxProcs)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
		newCollector().watch()
	}
	t.ContainerLimit = containerMemory(os.DirFS("/"))
	if t.ContainerLimit > 0 && os.Getenv("GOMEMLIMIT") == "" {
		t.MemoryLimit = int64(memoryShare * float64(t.ContainerLimit))
		debug.SetMemoryLimit(t.MemoryLimit)
	}
	return t
}

// containerMemory is the smallest memory limit of the process's control groups and their ancestors, in bytes; 0: none.
func containerMemory(root fs.FS) int64 {
	membership, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return 0
	}
	least := int64(math.MaxInt64)
	for line := range strings.Lines(string(membership)) {
		// "hierarchy:controllers:path"; version 2 is hierarchy 0 without controllers (cgroups(7)).
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		switch {
		case parts[0] == "0" && parts[1] == "":
			least = min(least, leastAbove(root, "sys/fs/cgroup", parts[2], "memory.max"))
			least = min(least, leastAbove(root, "sys/fs/cgroup/unified", parts[2], "memory.max"))
		case strings.Contains(","+parts[1]+",", ",memory,"):
			least = min(least, leastAbove(root, "sys/fs/cgroup/memory", parts[2], "memory.limit_in_bytes"))
		}
	}
	if least >= unlimitedBytes {
		return 0
	}
	return least
}

// unlimitedBytes: version 1 says "no limit" as a number near 2^63, rounded to pages.
const unlimitedBytes = 1 << 60

// leastAbove reads file in group and in every ancestor up to mount. Inside a container group may be the host's path,
// which does not exist there; the mount itself is the container's group then.
func leastAbove(root fs.FS, mount, group, file string) int64 {
	least := int64(math.MaxInt64)
	for dir := path.Clean("/" + group); ; dir = path.Dir(dir) {
		if text, err := fs.ReadFile(root, path.Join(mount, dir, file)); err == nil {
			if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && n > 0 {
				least = min(least, n)
			}
		}
		if dir == "/" {
			return least
		}
	}
}
