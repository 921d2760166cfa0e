package loop

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"rauta.io/rauta/proxy/clock"
)

const (
	// BacklogDefault is the number of connections that may wait to be accepted; net.core.somaxconn lowers it.
	BacklogDefault = 4096
	// CloseGraceDefault is how long, in nanoseconds, a closing listener still accepts: the time in which the last step
	// of a handshake arrives that had begun before. One retransmission timeout (RFC 6298 section 2.1) covers the lost ACK.
	CloseGraceDefault = 1e9
	// steerSettle is how long, in nanoseconds, packets may take between the choice of a listening socket and their
	// arrival there: softirq work on another core.
	steerSettle = 20e6
	// holdRecheck is how often, in nanoseconds, a listener held back by a limit looks whether it may go on; closes on
	// its own worker are noticed at once.
	holdRecheck = 50e6
)

// ListenerOptions says where and how to listen.
type ListenerOptions struct {
	Addr    netip.AddrPort
	Backlog int // 0: BacklogDefault
	// Overlap permits that another process listens on the address too, for a deliberate hand-over between processes.
	Overlap bool
	// CloseGrace in nanoseconds. 0: CloseGraceDefault.
	CloseGrace int64
	// OnClosed is called on the worker's thread when Close has come to its end.
	OnClosed func()
}

// Listener is one listening socket of one worker.
type Listener struct {
	// Immutable.
	w        *Worker
	opt      ListenerOptions
	addr     netip.AddrPort
	onAccept func(w *Worker, c *Conn)
	fd       int
	index    int // in w.listeners

	// Owned by the worker.
	due      int         // how many connections may still be accepted in this turn
	timer    clock.Timer // end of the grace, or of being held
	held     bool        // out of the epoll set, because of a limit
	heldFor  bool        // held until the timer, not until there is room: descriptors ran out
	closing  bool
	ignoring bool // the filter against SYNs is in place, the grace runs
	closed   bool
}

// ProbeBind binds addr without SO_REUSEPORT for a moment: with it, a forgotten second process would not be noticed and
// take half of the connections.
func ProbeBind(addr netip.AddrPort) error {
	fd, err := tcpSocket(addr.Addr())
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return fmt.Errorf("set SO_REUSEADDR for %s: %w", addr, err)
	}
	if err := unix.Bind(fd, sockaddrOf(addr)); err != nil {
		return bindError(addr, err)
	}
	return nil
}

func bindError(addr netip.AddrPort, err error) error {
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("bind %s: another process listens there (stop it, or permit the overlap explicitly): %w", addr, err)
	case errors.Is(err, unix.EACCES):
		return fmt.Errorf("bind %s: not permitted (ports below 1024 need CAP_NET_BIND_SERVICE): %w", addr, err)
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Errorf("bind %s: the address is not one of this host: %w", addr, err)
	}
	return fmt.Errorf("bind %s: %w", addr, err)
}

func sockaddrOf(addr netip.AddrPort) unix.Sockaddr {
	if ip := addr.Addr().Unmap(); ip.Is4() {
		return &unix.SockaddrInet4{Port: int(addr.Port()), Addr: ip.As4()}
	}
	return &unix.SockaddrInet6{Port: int(addr.Port()), Addr: addr.Addr().As16(), ZoneId: scopeID(addr.Addr().Zone())}
}

// Listen opens a socket of this worker on opt.Addr; the workers of a group listen on the same address side by side.
// An IPv6 wildcard takes IPv4 too. onAccept sets the connection's handler, or closes it; it is called on the worker
// that w names, which need not be this one: a connection goes to a less loaded worker before its first byte is read.
// So it must not capture anything of one worker.
func (w *Worker) Listen(opt ListenerOptions, onAccept func(w *Worker, c *Conn)) (*Listener, error) {
	w.owner.check()
	if opt.Backlog <= 0 {
		opt.Backlog = BacklogDefault
	}
	if opt.CloseGrace <= 0 {
		opt.CloseGrace = CloseGraceDefault
	}
	l := &Listener{w: w, opt: opt, onAccept: onAccept}
	l.timer.Fire = l.onTimer
	if err := w.group.listen(l); err != nil {
		return nil, err
	}
	l.index = slices.Index(w.listeners, nil)
	if l.index < 0 {
		l.index = len(w.listeners)
		w.listeners = append(w.listeners, nil)
	}
	w.listeners[l.index] = l
	if err := l.watch(); err != nil {
		l.finish()
		return nil, err
	}
	return l, nil
}

// openSocket makes the socket directly: net.Listen would make it MPTCP, where the kernel's tagging does nothing.
func (l *Listener) openSocket() error {
	addr := l.opt.Addr
	fd, err := tcpSocket(addr.Addr())
	if err != nil {
		return err
	}
	options := []struct {
		level, name, value int
		what               string
	}{
		{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1, "SO_REUSEADDR"},
		{unix.SOL_SOCKET, unix.SO_REUSEPORT, 1, "SO_REUSEPORT"},
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1, "TCP_NODELAY"}, // accepted sockets inherit it
	}
	for _, o := range options {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			unix.Close(fd)
			return fmt.Errorf("listen on %s: set %s: %w", addr, o.what, err)
		}
	}
	if err := keepAlive(fd); err != nil {
		unix.Close(fd)
		return fmt.Errorf("listen on %s: %w", addr, err)
	}
	if addr.Addr().Is6() && !addr.Addr().Is4In6() {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0); err != nil {
			unix.Close(fd)
			return fmt.Errorf("listen on %s: permit IPv4: %w", addr, err)
		}
	}
	if err := unix.Bind(fd, sockaddrOf(addr)); err != nil {
		unix.Close(fd)
		return bindError(addr, err)
	}
	if k := l.w.opt.Kernel; k != nil {
		k.Listening(fd)
	}
	if err := unix.Listen(fd, l.opt.Backlog); err != nil {
		unix.Close(fd)
		return fmt.Errorf("listen on %s: %w", addr, err)
	}
	l.fd = fd
	if l.addr, err = localAddr(fd); err != nil {
		unix.Close(fd)
		return fmt.Errorf("listen on %s: read the bound address: %w", addr, err)
	}
	return nil
}

// Addr is the bound address, with the port that the kernel chose for port 0.
func (l *Listener) Addr() netip.AddrPort { return l.addr }

// watch registers the socket, level-triggered: what a turn leaves in the queue is reported again.
func (l *Listener) watch() error {
	return epollAdd(l.w.epfd, l.fd, unix.EPOLLIN, int32(firstListenerSlot-l.index), 0)
}

// Close ends the listener so that no connection is lost. New ones are steered to the other sockets of the address, if
// there are any; this socket ignores first SYNs, which are then retransmitted to whoever is there; and it goes on
// accepting for the grace, for what is queued and for handshakes that are half done. Only then it is closed, and
// OnClosed called. (Closing at once drops all of these: the kernel answers them with RST.)
func (l *Listener) Close() {
	l.w.owner.check()
	if l.closing {
		return
	}
	l.closing = true
	steered := l.w.group.steer(l)
	if l.held {
		l.release()
	}
	if steered {
		// SYNs that another core was just giving to this socket pass; ignoring them would cost them a second.
		l.w.wheel.Set(&l.timer, l.w.Now()+steerSettle)
		return
	}
	l.beginGrace()
}

// beginGrace ignores new SYNs and lets handshakes under way finish. Without the filter, should the kernel refuse it,
// a SYN during the grace is still served: only the last instant is open.
func (l *Listener) beginGrace() {
	l.ignoring = true
	_ = ignoreSYN(l.fd)
	l.w.wheel.Set(&l.timer, l.w.Now()+clock.Time(l.opt.CloseGrace))
}

func (l *Listener) onTimer(clock.Time) {
	l.w.current = nil
	if !l.closing {
		if l.heldFor || l.w.group.hasRoom() {
			l.release()
		} else {
			l.w.askForRoom() // others have become idle meanwhile, perhaps
			l.w.wheel.Set(&l.timer, l.w.Now()+holdRecheck)
		}
		return
	}
	if !l.ignoring {
		l.beginGrace()
		return
	}
	l.due = l.opt.Backlog + 1 // the filter lets nothing new in, so this is what can be left
	l.accept()
	l.finish()
	if l.opt.OnClosed != nil {
		l.opt.OnClosed()
	}
}

// finish closes the socket.
func (l *Listener) finish() {
	if l.closed {
		return
	}
	l.closing, l.closed, l.due = true, true, 0
	if l.held {
		l.unhold()
	}
	l.w.wheel.Remove(&l.timer)
	l.w.group.close(l)
	l.w.listeners[l.index] = nil
}

// hold stops accepting; the queue waits in the kernel. forTime: until the timer, otherwise until there is room. A
// closing listener waits for the end of its grace, which accepts once more.
func (l *Listener) hold(forTime bool) {
	l.due = 0
	if l.held {
		return
	}
	if err := epollRemove(l.w.epfd, l.fd); err != nil {
		return
	}
	l.held, l.heldFor = true, forTime || l.closing
	l.w.heldCount++
	l.w.group.held.Add(1)
	l.w.counts.pauses++
	l.w.countsChanged = true
	if !l.closing {
		l.w.wheel.Set(&l.timer, l.w.Now()+holdRecheck)
	}
}

// release takes back hold.
func (l *Listener) release() {
	if err := l.watch(); err != nil {
		l.w.wheel.Set(&l.timer, l.w.Now()+holdRecheck)
		return
	}
	l.unhold()
	l.w.wheel.Set(&l.timer, 0)
}

func (l *Listener) unhold() {
	l.held = false
	l.w.heldCount--
	l.w.group.held.Add(-1)
}
