package loop

import (
	"errors"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// portGroup mirrors the kernel's list of the sockets that listen on one address: a new one is appended, and when one is
// closed the last takes its place. A steering program names sockets by their position there. With a second process on
// the address (Overlap) positions are not known; then steering may miss, connects are delayed by one SYN
// retransmission, and none is lost.
type portGroup struct {
	sockets []*Listener
	leaving map[*Listener]bool
}

// listen opens the socket of l and enters it into its port group, in the order in which the kernel does.
func (g *Group) listen(l *Listener) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !l.opt.Overlap && !g.owns(l.opt.Addr.Port()) {
		if err := ProbeBind(l.opt.Addr); err != nil {
			return err
		}
	}
	if err := l.openSocket(); err != nil {
		return err
	}
	p := g.ports[l.addr]
	if p == nil {
		p = &portGroup{leaving: map[*Listener]bool{}}
		g.ports[l.addr] = p
	}
	p.sockets = append(p.sockets, l)
	if len(p.leaving) > 0 {
		p.apply()
	}
	return nil
}

// OwnsPort says whether we listen on the port already, on whatever address: ProbeBind could then find ourselves.
func (g *Group) OwnsPort(port uint16) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.owns(port)
}

func (g *Group) owns(port uint16) bool {
	for addr := range g.ports {
		if addr.Port() == port && port != 0 {
			return true
		}
	}
	return false
}

// steer keeps new connections away from l, and says whether there are other sockets to take them.
func (g *Group) steer(l *Listener) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := g.ports[l.addr]
	p.leaving[l] = true
	p.apply()
	return len(p.leaving) < len(p.sockets)
}

// close closes the socket of l and forgets it.
func (g *Group) close(l *Listener) {
	g.mu.Lock()
	defer g.mu.Unlock()
	_ = unix.Close(l.fd)
	p := g.ports[l.addr]
	i := slices.Index(p.sockets, l)
	last := len(p.sockets) - 1
	p.sockets[i] = p.sockets[last]
	p.sockets = p.sockets[:last]
	delete(p.leaving, l)
	if last == 0 {
		delete(g.ports, l.addr)
		return
	}
	p.apply()
}

// apply installs the program that fits, or none. Its failure costs time, not connections: see portGroup.
func (p *portGroup) apply() {
	var staying []uint32
	for i, l := range p.sockets {
		if !p.leaving[l] {
			staying = append(staying, uint32(i))
		}
	}
	fd := p.sockets[0].fd
	if len(staying) == 0 || len(staying) == len(p.sockets) || len(staying) > steerSocketsMax {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_REUSEPORT_BPF, 0)
		return
	}
	_ = attachFilter(fd, unix.SO_ATTACH_REUSEPORT_CBPF, steerProgram(staying))
}

// steerSocketsMax: a program has at most BPF_MAXINSNS = 4096 instructions.
const steerSocketsMax = 2000

// Offsets of classic BPF.
const (
	skfRandom      = 0xfffff000 + 56 // SKF_AD_OFF + SKF_AD_RANDOM
	tcpFlagsOffset = 13              // RFC 9293 section 3.1
	tcpFlagSYN     = 0x02
	tcpFlagACK     = 0x10
	acceptPacket   = 0xffffffff
)

// steerProgram chooses one of the given positions at random.
func steerProgram(staying []uint32) []unix.SockFilter {
	prog := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: skfRandom},
		{Code: unix.BPF_ALU | unix.BPF_MOD | unix.BPF_K, K: uint32(len(staying))},
	}
	for i, position := range staying[:len(staying)-1] {
		prog = append(prog,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(i), Jf: 1},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: position})
	}
	return append(prog, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: staying[len(staying)-1]})
}

// ignoreSYN drops first SYNs that arrive at the listening socket; everything of handshakes under way passes.
// Accepted sockets inherit the filter, which never matches there.
func ignoreSYN(fd int) error {
	return attachFilter(fd, unix.SO_ATTACH_FILTER, []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: tcpFlagsOffset},
		{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: tcpFlagSYN | tcpFlagACK},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: tcpFlagSYN, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
		{Code: unix.BPF_RET | unix.BPF_K, K: acceptPacket},
	})
}

func attachFilter(fd, option int, prog []unix.SockFilter) error {
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, option,
		&unix.SockFprog{Len: uint16(len(prog)), Filter: unsafe.SliceData(prog)})
}

func asErrno(err error) error {
	var e syscall.Errno
	if errors.As(err, &e) {
		return e
	}
	return err
}
