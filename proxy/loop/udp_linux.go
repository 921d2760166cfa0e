package loop

import (
	"fmt"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// DatagramsMax is how many datagrams one system call receives or sends: enough to make calls cheap under load, and what a
	// worker does in one go for one socket.
	DatagramsMax = 32
	// datagramBytesMax holds the largest UDP payload: 65,507 bytes over IPv4 (RFC 768, RFC 791), 65,527 over IPv6 (RFC 8200).
	datagramBytesMax = 64 << 10
	// udpReceiveBytes is asked for as the receive buffer of a listening socket, which has to hold what arrives while the
	// worker does something else; net.core.rmem_max lowers it.
	udpReceiveBytes = 4 << 20
	// controlBytes holds one address of packet information and one count of overflows.
	controlBytes = 128
)

// UDPSocket is a datagram socket that a worker owns. All methods are for the worker's thread. Its handler gets Readable,
// edge-triggered: receive until Again or a short batch, or ask for more with Ready.
type UDPSocket struct {
	// Immutable.
	conn      *Conn
	connected bool
	asksLocal bool // the address that a datagram was sent to differs from one to the next

	// Owned by the worker.
	overflows uint32
}

// datagrams are what a worker receives into and sends from; allocated with its first socket.
type datagrams struct {
	data    [DatagramsMax][]byte // as received
	buffers []byte
	in      [DatagramsMax]mmsghdr
	out     [DatagramsMax]mmsghdr
	vectors [DatagramsMax]unix.Iovec
	sent    [DatagramsMax]unix.Iovec
	names   [DatagramsMax]unix.RawSockaddrAny
	control [DatagramsMax][controlBytes]byte
	to      unix.RawSockaddrAny
	from    [controlBytes]byte // the control message of what is sent
}

// mmsghdr is struct mmsghdr of recvmmsg(2).
type mmsghdr struct {
	header unix.Msghdr
	n      uint32
	_      [4]byte
}

func newDatagrams() *datagrams {
	d := &datagrams{buffers: make([]byte, DatagramsMax*datagramBytesMax)}
	for i := range d.vectors {
		d.vectors[i].Base = &d.buffers[i*datagramBytesMax]
		d.in[i].header.Iov, d.in[i].header.Iovlen = &d.vectors[i], 1
		d.out[i].header.Iov, d.out[i].header.Iovlen = &d.sent[i], 1
	}
	return d
}

// ProbeBindUDP is ProbeBind for datagrams.
func ProbeBindUDP(addr netip.AddrPort) error {
	fd, err := udpSocket(addr.Addr())
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Bind(fd, sockaddrOf(addr)); err != nil {
		return bindError(addr, err)
	}
	return nil
}

// ListenUDP opens a socket of this worker on addr. The kernel gives all datagrams of one client to the same of the workers'
// sockets, as long as these stay the same. An IPv6 wildcard takes IPv4 too.
func (w *Worker) ListenUDP(addr netip.AddrPort, h Handler) (*UDPSocket, error) {
	w.owner.check()
	fd, err := udpSocket(addr.Addr())
	if err != nil {
		return nil, err
	}
	s := &UDPSocket{asksLocal: addr.Addr().IsUnspecified()}
	if err := s.prepare(fd, addr); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("receive on %s: %w", addr, err)
	}
	if err := unix.Bind(fd, sockaddrOf(addr)); err != nil {
		unix.Close(fd)
		return nil, bindError(addr, err)
	}
	s.conn = &Conn{w: w, fd: fd, handler: h, slot: noSlot, datagram: true, lasting: true, local: addr, began: w.Now()}
	return s, w.watchUDP(s)
}

// prepare sets the options of a listening socket.
func (s *UDPSocket) prepare(fd int, addr netip.AddrPort) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return fmt.Errorf("set SO_REUSEPORT: %w", err)
	}
	// What follows is served without as well.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, udpReceiveBytes)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1)
	if !addr.Addr().Is6() || addr.Addr().Is4In6() {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1); err != nil {
			return fmt.Errorf("set IP_PKTINFO: %w", err)
		}
		return nil
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0); err != nil {
		return fmt.Errorf("permit IPv4: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1); err != nil {
		return fmt.Errorf("set IPV6_RECVPKTINFO: %w", err)
	}
	return nil
}

// ConnectUDP opens a socket that exchanges datagrams with addr alone. That nobody listens there is told by a later Receive
// or Send, with ECONNREFUSED.
func (w *Worker) ConnectUDP(addr netip.AddrPort, h Handler) (*UDPSocket, error) {
	w.owner.check()
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	fd, err := udpSocket(addr.Addr())
	if err != nil {
		return nil, err
	}
	if e := w.connect(fd, addr); e != 0 {
		unix.Close(fd)
		return nil, fmt.Errorf("connect a UDP socket to %s: %w", addr, e)
	}
	s := &UDPSocket{connected: true}
	s.conn = &Conn{w: w, fd: fd, remote: addr, handler: h, priority: true, datagram: true, slot: noSlot, began: w.Now()}
	return s, w.watchUDP(s)
}

func (w *Worker) watchUDP(s *UDPSocket) error {
	if err := w.register(s.conn); err != nil {
		unix.Close(s.conn.fd)
		return err
	}
	if w.datagrams == nil {
		w.datagrams = newDatagrams()
	}
	w.counts.open++
	w.countsChanged = true
	return nil
}

func udpSocket(addr netip.Addr) (int, error) {
	family := unix.AF_INET
	if addr.Is6() && !addr.Is4In6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_UDP)
	if err != nil {
		return -1, fmt.Errorf("open a UDP socket for %s: %w", addr, err)
	}
	return fd, nil
}

// Conn is the socket as the worker's events know it: for Ready, Close, Closed and Err.
func (s *UDPSocket) Conn() *Conn { return s.conn }

// Close ends the socket.
func (s *UDPSocket) Close() { s.conn.Close() }

// Receive takes up to DatagramsMax datagrams. They are valid until the handler returns, or until the next Receive of the
// worker. Fewer than DatagramsMax have emptied the socket.
func (s *UDPSocket) Receive() (n int, st Status) {
	c, w := s.conn, s.conn.w
	w.owner.check()
	if c.closed {
		return 0, Failed
	}
	d := w.datagrams
	for i := range d.in {
		d.vectors[i].Len = datagramBytesMax
		h := &d.in[i].header
		h.Name, h.Namelen = nil, 0
		h.Control, h.Controllen = nil, 0
		if !s.connected {
			h.Name, h.Namelen = (*byte)(unsafe.Pointer(&d.names[i])), unix.SizeofSockaddrAny
			h.Control, h.Controllen = &d.control[i][0], controlBytes
		}
	}
	for {
		w.counts.transfers++
		got, _, e := syscall.RawSyscall6(unix.SYS_RECVMMSG, uintptr(c.fd), uintptr(unsafe.Pointer(&d.in[0])), DatagramsMax, 0, 0, 0)
		switch {
		case e == 0:
			for i := range int(got) {
				d.data[i] = d.buffers[i*datagramBytesMax:][:d.in[i].n]
				raceWrite(d.data[i])
			}
			if !s.connected {
				s.noteOverflows(int(got) - 1)
			}
			return int(got), OK
		case e == unix.EAGAIN:
			return 0, Again
		case e == unix.EINTR:
		default:
			c.errno = e
			return 0, Failed
		}
	}
}

// Datagram is number i of the last Receive.
func (w *Worker) Datagram(i int) []byte { return w.datagrams.data[i] }

// Route says who sent datagram number i of the last Receive of a listening socket, and to which address of ours.
func (s *UDPSocket) Route(i int) (remote netip.AddrPort, local netip.Addr) {
	d := s.conn.w.datagrams
	remote = decodeSockaddr(&d.names[i])
	if !s.asksLocal {
		return remote, s.conn.local.Addr()
	}
	return remote, d.packetInfo(i)
}

// controls calls f with each control message of a datagram until that returns true.
func (d *datagrams) controls(i int, f func(level, kind int32, data []byte) bool) {
	b := d.control[i][:min(d.in[i].header.Controllen, controlBytes)]
	for len(b) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
		if h.Len < unix.SizeofCmsghdr || h.Len > uint64(len(b)) {
			return
		}
		data := b[unix.SizeofCmsghdr:h.Len]
		if f(h.Level, h.Type, data) {
			return
		}
		b = b[min(uint64(unix.CmsgSpace(len(data))), uint64(len(b))):]
	}
}

// packetInfo finds the address that a datagram was sent to.
func (d *datagrams) packetInfo(i int) (local netip.Addr) {
	d.controls(i, func(level, kind int32, data []byte) bool {
		switch {
		case level == unix.IPPROTO_IPV6 && kind == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			local = netip.AddrFrom16((*unix.Inet6Pktinfo)(unsafe.Pointer(&data[0])).Addr).Unmap()
		case level == unix.IPPROTO_IP && kind == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			local = netip.AddrFrom4((*unix.Inet4Pktinfo)(unsafe.Pointer(&data[0])).Spec_dst)
		}
		return local.IsValid()
	})
	return local
}

// noteOverflows reads how many datagrams the kernel has dropped because the receive buffer was full. It says so beside the
// datagrams that come after them.
func (s *UDPSocket) noteOverflows(i int) {
	s.conn.w.datagrams.controls(i, func(level, kind int32, data []byte) bool {
		if level != unix.SOL_SOCKET || kind != unix.SO_RXQ_OVFL || len(data) < 4 {
			return false
		}
		s.overflows = *(*uint32)(unsafe.Pointer(&data[0]))
		return true
	})
}

// Overflows is how many datagrams were dropped before this socket could receive them, as of the last Receive.
func (s *UDPSocket) Overflows() uint32 { return s.overflows }

// Forward sends the datagrams [from, to) of the last Receive over a connected socket. sent is less with Again, when the
// socket is full, and with Failed.
func (s *UDPSocket) Forward(from, to int) (sent int, st Status) {
	return s.send(from, to, nil, 0, nil)
}

// ForwardTo does the same over a listening socket, to remote, with local as the address that it comes from; invalid leaves
// that to the kernel.
func (s *UDPSocket) ForwardTo(from, to int, remote netip.AddrPort, local netip.Addr) (sent int, st Status) {
	d := s.conn.w.datagrams
	size := encodeSockaddr(&d.to, remote)
	var control []byte
	if s.asksLocal && local.IsValid() {
		control = encodePacketInfo(d.from[:], local)
	}
	return s.send(from, to, &d.to, uint32(size), control)
}

// encodePacketInfo writes the control message that makes local the source of a datagram.
func encodePacketInfo(b []byte, local netip.Addr) []byte {
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	data := b[unix.SizeofCmsghdr:]
	if local.Is4() {
		*h = unix.Cmsghdr{Level: unix.IPPROTO_IP, Type: unix.IP_PKTINFO}
		h.SetLen(unix.CmsgLen(unix.SizeofInet4Pktinfo))
		*(*unix.Inet4Pktinfo)(unsafe.Pointer(&data[0])) = unix.Inet4Pktinfo{Spec_dst: local.As4()}
		return b[:unix.CmsgSpace(unix.SizeofInet4Pktinfo)]
	}
	*h = unix.Cmsghdr{Level: unix.IPPROTO_IPV6, Type: unix.IPV6_PKTINFO}
	h.SetLen(unix.CmsgLen(unix.SizeofInet6Pktinfo))
	*(*unix.Inet6Pktinfo)(unsafe.Pointer(&data[0])) = unix.Inet6Pktinfo{Addr: local.As16()}
	return b[:unix.CmsgSpace(unix.SizeofInet6Pktinfo)]
}

func (s *UDPSocket) send(from, to int, name *unix.RawSockaddrAny, nameBytes uint32, control []byte) (sent int, st Status) {
	c, w := s.conn, s.conn.w
	w.owner.check()
	if c.closed {
		return 0, Failed
	}
	d := w.datagrams
	for i := from; i < to; i++ {
		d.sent[i].Base, d.sent[i].Len = d.vectors[i].Base, uint64(len(d.data[i]))
		raceRead(d.data[i])
		h := &d.out[i].header
		h.Name, h.Namelen = (*byte)(unsafe.Pointer(name)), nameBytes
		h.Control, h.Controllen = unsafe.SliceData(control), uint64(len(control))
	}
	for from+sent < to {
		w.counts.transfers++
		n, _, e := syscall.RawSyscall6(unix.SYS_SENDMMSG, uintptr(c.fd), uintptr(unsafe.Pointer(&d.out[from+sent])),
			uintptr(to-from-sent), unix.MSG_NOSIGNAL, 0, 0)
		switch {
		case e == 0:
			sent += int(n) // the error of the next one, if there is one, comes with the next call
		case e == unix.EAGAIN:
			return sent, Again
		case e == unix.EINTR:
		default:
			c.errno = e
			return sent, Failed
		}
	}
	return sent, OK
}
