package loop

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// descriptorReserve is the number of file descriptors that connections never get: listeners, epoll instances, logs,
// admin and control connections, off-loop sub-requests. With few descriptors it is a quarter of them.
const descriptorReserve = 1024

// socketsShare of the descriptors is for sockets that no accepted connection asks for.
const socketsShare = 4

// SocketsWithinLimits is how many sockets each of so many workers may open without being asked by a connection: want, or
// less if descriptors would run out.
func SocketsWithinLimits(want, workers int) int {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return want
	}
	return int(min(uint64(want), max(lim.Cur/socketsShare/uint64(max(workers, 1)), 1)))
}

// PortsMaxDefault is how many ports are open at most. Each has a socket for every worker, and is one that the node cannot
// use for anything else: a tenth of what it has for outgoing connections (ip_local_port_range).
const PortsMaxDefault = 3000

// PortsWithinLimits is how many ports each of so many workers may listen on beside so many connections: want, or less if
// descriptors would run out. A quarter of what connections leave is for everything else.
func PortsWithinLimits(want, workers, connections int) int {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return want
	}
	return portsFor(want, workers, connections, lim.Cur)
}

func portsFor(want, workers, connections int, descriptors uint64) int {
	used := min(uint64(connections)*descriptorsPerConnection, descriptors)
	return int(min(uint64(want), max((descriptors-used)/4*3/uint64(max(workers, 1)), 1)))
}

// descriptorsPerConnection: an accepted connection may hold one connected socket beside its own.
const descriptorsPerConnection = 2

// ConnectionsWithinLimits raises the soft limit of open files to the hard one and returns the number of accepted
// connections to allow: want (0: ConnectionsMaxDefault), or less if descriptors would run out first.
func ConnectionsWithinLimits(want int) (int, error) {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return 0, fmt.Errorf("read the limit of open files: %w", err)
	}
	if lim.Cur < lim.Max {
		raised := unix.Rlimit{Cur: lim.Max, Max: lim.Max}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &raised); err == nil {
			lim = raised
		}
	}
	return connectionsFor(want, lim.Cur), nil
}

func connectionsFor(want int, descriptors uint64) int {
	if want <= 0 {
		want = ConnectionsMaxDefault
	}
	reserve := min(descriptorReserve, descriptors/4)
	return int(min(uint64(want), max((descriptors-reserve)/descriptorsPerConnection, 1)))
}
