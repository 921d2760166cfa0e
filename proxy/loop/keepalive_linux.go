package loop

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Probes of TCP (RFC 9293 section 3.8.4) find a peer that vanished without a word. Requests have deadlines of their own;
// a tunnel has none while both ends are open, and would be kept for ever. Dead after two minutes: idle plus three
// intervals, in seconds.
const (
	keepAliveIdle     = 60
	keepAliveInterval = 20
	keepAliveProbes   = 3
)

// keepAlive makes the kernel probe the peer of a silent connection. Accepted sockets inherit it from their listener.
func keepAlive(fd int) error {
	for _, o := range [...]struct{ level, name, value int }{
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepAliveIdle},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, keepAliveInterval},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepAliveProbes},
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return fmt.Errorf("set keep-alive probes: %w", err)
		}
	}
	return nil
}

// KeepAlive has the kernel find out when the peer vanishes while the connection is silent, which brings Error. It is for
// connected sockets that may be silent for long; accepted ones are watched anyway.
func (c *Conn) KeepAlive() {
	c.w.owner.check()
	if c.closed {
		return
	}
	_ = keepAlive(c.fd) // a kernel without these options serves as well, and closes later
}
