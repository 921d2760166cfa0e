// Package rawio is the one place of the load test that talks to the kernel without the Go scheduler in between.
//
// It owns the raw forms of recv, send and epoll_wait, and a number that two processes share. It does not own descriptors,
// readiness or any state. The bare loop and the generator call it; both run on one locked thread and never block in here.
package rawio

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// EventMask is what every connection is registered for, once, edge-triggered. Asking for EPOLLOUT from the start
// costs no wake-ups: the kernel reports it only together with input or after a send found the buffer full.
const EventMask = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET

// InputMask has the events after which a socket must be read, the end of the stream among them.
const InputMask = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR

// Recv reads into b from a non-blocking socket. b must not be empty.
func Recv(fd int, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// Send writes b to a non-blocking socket, without SIGPIPE. b must not be empty.
func Send(fd int, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// Poll asks for ready events and returns at once. epoll_pwait, because arm64 has no epoll_wait.
func Poll(epoll int, events []unix.EpollEvent) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// Register adds a connection to the epoll set. The generation tells a stale event from one of a reused number.
func Register(epoll, fd int, generation int32, mask uint32) error {
	return unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: mask, Fd: int32(fd), Pad: generation})
}

// Listen opens a non-blocking listening socket on 127.0.0.1. Port 0 picks a free one; the port in use is returned.
func Listen(port int) (fd, bound int, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, 0, err
	}
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return -1, 0, err
	}
	if err = unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return -1, 0, err
	}
	if err = unix.Listen(fd, listenBacklog); err != nil {
		return -1, 0, err
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return -1, 0, err
	}
	return fd, name.(*unix.SockaddrInet4).Port, nil
}

// listenBacklog is the number of connections that may wait for accept: enough for a burst of reconnects.
const listenBacklog = 4096

// Connect opens a connection to a port on 127.0.0.1 and makes it non-blocking. The handshake itself blocks, which on
// the loopback interface takes microseconds and keeps the loops free of a connecting state.
func Connect(port int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err = unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// Accept takes one waiting connection; EAGAIN means that there is none.
func Accept(listener int) (int, error) {
	fd, _, err := unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if err != nil {
		return -1, err
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
