package loop

import (
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"rauta.io/rauta/proxy/observe"
)

// acceptsPerTurnMax bounds the connections that one listener accepts in a turn, so that a storm of connects does not
// starve the connections that exist.
const acceptsPerTurnMax = 64

func (w *Worker) acceptDue() {
	for _, l := range w.listeners {
		if l != nil && l.due > 0 {
			l.accept()
		}
	}
}

// accept takes what is queued, up to l.due connections. It can be called again after a panic of onAccept.
func (l *Listener) accept() {
	w := l.w
	for l.due > 0 {
		l.due--
		w.current = nil
		if w.group.open.Add(1) > w.group.connectionsMax.Load() && !l.closing {
			w.group.open.Add(-1)
			l.atLimit()
			return
		}
		fd, errno := l.acceptOne()
		if errno == 0 {
			w.admit(l, fd)
			continue
		}
		w.group.open.Add(-1)
		if errno == unix.EAGAIN {
			l.due = 0
			return
		}
		w.counts.acceptErrors++
		w.countsChanged = true
		switch errno {
		case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
			// The queue stays readable: without a pause the loop would spin.
			w.pressure()
			l.hold(true)
			return
		}
		// Everything else concerns one connection that died in the queue (accept(2)).
	}
}

func (l *Listener) acceptOne() (int, syscall.Errno) {
	w := l.w
	for {
		size := uint32(unix.SizeofSockaddrAny)
		fd, _, e := syscall.RawSyscall6(unix.SYS_ACCEPT4, uintptr(l.fd), uintptr(unsafe.Pointer(&w.sockaddr)),
			uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		if e != unix.EINTR {
			return int(fd), e
		}
	}
}

// atLimit asks for room, and looks again at the end of the turn.
func (l *Listener) atLimit() {
	l.w.askForRoom()
	l.hold(false)
}

// askForRoom puts all workers of the group under pressure: the limit is theirs together, and the connections that have
// been idle for longest may all be another worker's.
func (w *Worker) askForRoom() {
	w.pressure()
	for _, x := range w.group.Workers() {
		if x != w && x.plea.pending.CompareAndSwap(false, true) {
			x.Send(&x.plea.mail)
		}
	}
}

func (w *Worker) pressure() {
	if w.opt.OnPressure != nil && !w.pressured {
		w.pressured = true
		w.opt.OnPressure(w)
	}
}

// plea is the request of another worker to make room, at most one at a time.
type plea struct {
	w       *Worker
	mail    Message
	pending atomic.Bool
}

// OnMessage implements Receiver.
func (p *plea) OnMessage() {
	p.pending.Store(false)
	p.w.pressure()
}

// releaseHeld lets listeners go on after the connections that were closed in this turn have made room.
func (w *Worker) releaseHeld() {
	if !w.group.hasRoom() {
		return
	}
	for _, l := range w.listeners {
		if l != nil && l.held && !l.heldFor {
			l.release()
		}
	}
}

// tellHeld wakes the workers with listeners that wait for room. One that is just about to sleep misses it, and looks
// after holdRecheck.
func (g *Group) tellHeld(by *Worker) {
	if g.held.Load() == 0 || !g.hasRoom() {
		return
	}
	for _, w := range g.Workers() {
		if w != by {
			w.wake()
		}
	}
}

func (g *Group) hasRoom() bool { return g.open.Load() < g.connectionsMax.Load() }

// admit gives an accepted socket to its owner for life. The connection travels by mailbox: the acceptor could add the
// socket to the owner's epoll set instead, but a peer that never sends anything must get its deadline too, so the
// mailbox is needed anyway, and with it alone only the owner ever touches the socket and its slot table.
func (w *Worker) admit(l *Listener, fd int) {
	c := &Conn{w: w, listener: l, fd: fd, slot: noSlot, remote: decodeSockaddr(&w.sockaddr)}
	if !l.addr.Addr().IsUnspecified() {
		c.local = l.addr
	}
	if k := w.opt.Kernel; k != nil {
		c.queued = w.queued(k, fd)
	}
	w.counts.accepts++
	w.countsChanged = true
	owner := w.group.ownerFor(w)
	owner.load.conns.Add(1) // at once, so that the next connection of this batch sees it
	if owner != w {
		c.w = owner
		c.mail.To = (*arrival)(c)
		if owner.Send(&c.mail) {
			w.counts.handedOver++
			return
		}
		owner.load.conns.Add(-1) // it has ended meanwhile
		w.load.conns.Add(1)
		c.w = w
	}
	c.enter()
}

// queued counts how long a connection has waited to be accepted. The turn's clock is older than the accept.
func (w *Worker) queued(k observe.Kernel, fd int) int64 {
	since := k.Accepted(fd)
	if since <= 0 {
		return 0
	}
	ns := max(1, int64(w.time.read())-since)
	k.Queued(ns)
	return ns
}

// arrival is a connection in the mailbox of its owner.
type arrival Conn

// OnMessage implements Receiver.
func (a *arrival) OnMessage() {
	c := (*Conn)(a)
	if c.queued == 0 {
		c.w.tellOf(c) // the kernel's programs may have come while it was on its way, and tellOfAll before it
	}
	c.enter()
}

// enter begins the life of an accepted connection on its owner's thread.
func (c *Conn) enter() {
	w := c.w
	c.began = w.Now()
	w.counts.open++
	w.countsChanged = true
	w.current = c
	c.listener.onAccept(w, c)
	w.current = nil
	if c.closed {
		return
	}
	if err := w.register(c); err != nil {
		c.setErr(asErrno(err))
		if c.handler == nil {
			c.Close()
			return
		}
		c.Ready(Error | HangUp)
	}
}
