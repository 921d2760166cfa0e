//go:build linux

package loop

import (
	"runtime"
	"runtime/debug"
	"testing"
	"testing/fstest"
)

func TestConnectionsStayBelowTheLimitOfOpenFiles(t *testing.T) {
	for _, c := range []struct {
		want        int
		descriptors uint64
		allowed     int
	}{
		{0, 1 << 20, ConnectionsMaxDefault},
		{100, 1 << 20, 100},
		{0, 20_000, (20_000 - descriptorReserve) / 2},
		{0, 1024, (1024 - 256) / 2},
		{0, 4, 1},
		{0, ^uint64(0), ConnectionsMaxDefault},
	} {
		if got := connectionsFor(c.want, c.descriptors); got != c.allowed {
			t.Errorf("%d wanted, %d descriptors: %d allowed, want %d", c.want, c.descriptors, got, c.allowed)
		}
	}
	if n, err := ConnectionsWithinLimits(10); n != 10 || err != nil {
		t.Errorf("10 connections: %d, %v", n, err)
	}
}

func TestPortsLeaveConnectionsAndOthersTheirDescriptors(t *testing.T) {
	for _, c := range []struct {
		workers     int
		descriptors uint64
		allowed     int
	}{
		{2, 1 << 20, PortsMaxDefault},
		{64, 1 << 20, PortsMaxDefault},
		{128, 1 << 20, PortsMaxDefault},
		{2, 4096, 384},
		{2, 1024, 96},
		{64, 1024, 3},
		{1, 4, 1},
		{2, ^uint64(0), PortsMaxDefault},
	} {
		connections := connectionsFor(0, c.descriptors)
		if got := portsFor(PortsMaxDefault, c.workers, connections, c.descriptors); got != c.allowed {
			t.Errorf("%d workers, %d descriptors, %d connections: %d ports allowed, want %d", c.workers, c.descriptors, connections, got, c.allowed)
		}
	}
}

func TestTheContainersMemoryIsTheSmallestLimitOfItsGroups(t *testing.T) {
	file := func(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text + "\n")} }
	for name, c := range map[string]struct {
		files fstest.MapFS
		want  int64
	}{
		"no control groups": {fstest.MapFS{}, 0},
		"version 2, limit on the group": {fstest.MapFS{
			"proc/self/cgroup":                 file("0::/pod/app"),
			"sys/fs/cgroup/pod/app/memory.max": file("1073741824"),
		}, 1 << 30},
		"version 2, smaller limit on an ancestor": {fstest.MapFS{
			"proc/self/cgroup":                 file("0::/pod/app"),
			"sys/fs/cgroup/pod/app/memory.max": file("1073741824"),
			"sys/fs/cgroup/pod/memory.max":     file("536870912"),
		}, 512 << 20},
		"version 2, inside the container": {fstest.MapFS{
			"proc/self/cgroup":         file("0::/"),
			"sys/fs/cgroup/memory.max": file("268435456"),
		}, 256 << 20},
		"version 2, none": {fstest.MapFS{
			"proc/self/cgroup":         file("0::/"),
			"sys/fs/cgroup/memory.max": file("max"),
		}, 0},
		"version 1, with the host's path": {fstest.MapFS{
			"proc/self/cgroup":                           file("12:cpu,cpuacct:/docker/x\n5:memory:/docker/x"),
			"sys/fs/cgroup/memory/memory.limit_in_bytes": file("134217728"),
		}, 128 << 20},
		"version 1, none": {fstest.MapFS{
			"proc/self/cgroup":                           file("5:memory:/"),
			"sys/fs/cgroup/memory/memory.limit_in_bytes": file("9223372036854771712"),
		}, 0},
	} {
		if got := containerMemory(c.files); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

func TestASmallHeapHasTheSameHeadroomAsALargerOne(t *testing.T) {
	for _, c := range []struct {
		live    uint64
		percent int
	}{
		{0, 400}, {1 << 20, 400}, {8 << 20, 200}, {16 << 20, 100}, {20 << 20, 75}, {32 << 20, 50}, {64 << 20, 50}, {80 << 20, 40}, {100 << 20, 30},
		{140 << 20, 20}, {1 << 40, 20},
	} {
		if got := gcPercentFor(c.live); got != c.percent {
			t.Errorf("%d bytes: %d percent, want %d", c.live, got, c.percent)
		}
	}
}

func TestTheHeadroomFollowsTheHeap(t *testing.T) {
	before := debug.SetGCPercent(gcPercent)
	defer debug.SetGCPercent(before)
	c := newCollector()
	runtime.GC()
	c.adjust()
	small := c.percent
	held := make([]byte, 3*gcHeadroomBytes)
	runtime.GC()
	c.adjust()
	runtime.KeepAlive(held)
	if small <= gcPercent || c.percent != gcPercent {
		t.Errorf("%d percent with a small heap, %d with a large one", small, c.percent)
	}
}
