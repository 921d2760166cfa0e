package loop

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"rauta.io/rauta/proxy/observe"
)

// ErrConnecting is returned by ConnectResult while the connect is under way.
var ErrConnecting = errors.New("connect has not finished")

// ErrSelfConnect is returned by ConnectResult when TCP connected the socket to itself: the target port is ephemeral,
// nobody listens there, and the kernel chose it as the source port (RFC 9293 section 3.5, simultaneous open).
var ErrSelfConnect = errors.New("connected to itself: nothing listens on the target port")

// Connect starts a TCP connection. h gets Writable (or Error) when it has come to an end and calls ConnectResult
// then. The events of connected sockets run before those of accepted ones within a turn.
func (w *Worker) Connect(addr netip.AddrPort, h Handler) (*Conn, error) {
	return w.ConnectTo(addr, nil, h)
}

// ConnectTo is Connect to an endpoint, for which the kernel is to count what becomes of the socket.
func (w *Worker) ConnectTo(addr netip.AddrPort, e *observe.Endpoint, h Handler) (*Conn, error) {
	w.owner.check()
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	fd, err := tcpSocket(addr.Addr())
	if err != nil {
		return nil, err
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("set TCP_NODELAY on a socket to %s: %w", addr, err)
	}
	if w.opt.Kernel != nil {
		w.opt.Kernel.Connecting(fd, e)
	}
	if e := w.connect(fd, addr); e != 0 && e != unix.EINPROGRESS && e != unix.EINTR {
		unix.Close(fd)
		return nil, fmt.Errorf("connect to %s: %w", addr, e)
	}
	c := &Conn{w: w, fd: fd, remote: addr, endpoint: e, handler: h, priority: true, slot: noSlot, began: w.Now()}
	if err := w.register(c); err != nil {
		unix.Close(fd)
		return nil, err
	}
	w.counts.connected++
	w.counts.open++
	w.countsChanged = true
	return c, nil
}

// ConnectResult says how a Connect went: nil when connected, ErrConnecting while it is under way. It asks by a second
// connect, which unlike SO_ERROR tells "under way" from "connected".
func (c *Conn) ConnectResult() error {
	c.w.owner.check()
	if c.closed {
		return c.Err()
	}
	switch e := c.w.connect(c.fd, c.remote); e {
	case 0, unix.EISCONN:
	case unix.EALREADY, unix.EINPROGRESS, unix.EINTR:
		return ErrConnecting
	default:
		c.errno = e
		return e
	}
	if c.LocalAddr() == c.remote {
		c.errno = unix.ECONNREFUSED
		return ErrSelfConnect
	}
	return nil
}

func (w *Worker) connect(fd int, addr netip.AddrPort) syscall.Errno {
	size := encodeSockaddr(&w.sockaddr, addr)
	_, _, e := syscall.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&w.sockaddr)), size)
	return e
}

func tcpSocket(addr netip.Addr) (int, error) {
	family := unix.AF_INET
	if addr.Is6() && !addr.Is4In6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return -1, fmt.Errorf("open a TCP socket for %s: %w", addr, err)
	}
	return fd, nil
}
