package rawio

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ListenUDP opens a non-blocking socket on a free port of 127.0.0.1, and returns the port.
func ListenUDP() (fd, port int, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, 0, err
	}
	if err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err == nil {
		var name unix.Sockaddr
		if name, err = unix.Getsockname(fd); err == nil {
			return fd, name.(*unix.SockaddrInet4).Port, nil
		}
	}
	unix.Close(fd)
	return -1, 0, err
}

// ConnectUDP opens a non-blocking socket whose peer is a port on 127.0.0.1.
func ConnectUDP(port int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// RecvFrom reads one datagram into b, which must not be empty, and tells who sent it.
func RecvFrom(fd int, b []byte) (n int, from unix.RawSockaddrInet4, _ syscall.Errno) {
	size := uint32(unsafe.Sizeof(from))
	got, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), 0,
		uintptr(unsafe.Pointer(&from)), uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		return 0, from, errno
	}
	return int(got), from, 0
}

// SendTo sends b, which must not be empty, as one datagram.
func SendTo(fd int, b []byte, to *unix.RawSockaddrInet4) syscall.Errno {
	_, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_NOSIGNAL,
		uintptr(unsafe.Pointer(to)), unsafe.Sizeof(*to))
	return errno
}
