package loop

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A turn first receives from several connections, and then has their handlers use what came: the kernel's code for a
// receive and the engines' code push each other out of the first-level caches, which costs a request more than the copy
// of some hundred bytes. It is done where little is to be expected; whoever sends more is received from directly.
const (
	// aheadConns is the number of connections that are received from before the first of their handlers runs.
	aheadConns = 32
	// aheadBytes is how much is received at most, and what the last receive has to have stayed below.
	aheadBytes = 2 << 10
	// aheadBuffer holds what has been received ahead: that of aheadConns requests of usual size, which follow each other.
	aheadBuffer = 16 << 10
)

// ahead is what was received for a connection before its handler asks for it.
type ahead struct {
	wanted bool // the handler takes part
	few    bool // the last receive had few bytes
	more   bool // the socket may hold more: bytes fills what there was room for, or was kept for a while
	failed bool // the socket has failed behind bytes; Conn.errno says how
	kept   bool // bytes is the begin of a buffer of the worker's; else it is in Worker.ahead
	bytes  []byte
	taken  int // of bytes
}

// ReceiveAhead allows the worker to receive before it delivers Readable. It is for handlers that get at the socket's bytes
// by Read only, and that mostly read as soon as they are told to; for good.
func (c *Conn) ReceiveAhead() { c.ahead.wanted = true }

// receiveAhead receives for the next connections of one kind in this batch.
func (w *Worker) receiveAhead(kind int32) {
	if w.ahead == nil {
		w.ahead = make([]byte, aheadBuffer)
	}
	w.poisonAhead()
	used, i, n := 0, w.cursor, 0
	for ; i < w.batch && n < aheadConns && used+aheadBytes <= aheadBuffer; i++ {
		ev := &w.events[i]
		if ev.Fd < 0 || ev.Pad&priorityBit != kind ||
			ev.Events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != unix.EPOLLIN {
			continue
		}
		s := &w.slots[ev.Fd]
		c := s.conn
		if c == nil || s.generation != uint32(ev.Pad)>>1 {
			continue
		}
		if a := &c.ahead; !a.wanted || !a.few || a.bytes != nil || a.failed || c.closed {
			continue
		}
		used += c.receiveInto(w.ahead[used : used+aheadBytes])
		n++
	}
	w.aheadUntil = i
}

// receiveInto receives into p, for the next Read; it returns how much of p that takes. What there is to say beside bytes,
// the next Read finds out for itself.
func (c *Conn) receiveInto(p []byte) int {
	n, st := c.receiveNow(p)
	switch st {
	case OK:
		c.ahead.bytes, c.ahead.more = p[:n:n], n == len(p)
		const line = 64
		return (n + line - 1) &^ (line - 1)
	case Failed:
		c.ahead.failed = true
	}
	return 0
}

// takeAhead is receive while there is something that was received ahead.
func (c *Conn) takeAhead(p []byte) (int, Status) {
	a := &c.ahead
	n := copy(p, a.bytes[a.taken:])
	a.taken += n
	if a.taken < len(a.bytes) {
		return n, OK
	}
	c.dropAhead()
	if !a.more || n == len(p) {
		return n, OK
	}
	more, st := c.receiveNow(p[n:])
	a.few, a.failed = false, st == Failed
	return n + more, OK
}

// keepAhead keeps what the handler has not asked for, in a buffer of its own. Events that come before it asks are those of
// bytes behind them.
func (c *Conn) keepAhead() {
	if a := &c.ahead; !a.kept {
		a.bytes = append(c.w.GetBuffer(len(a.bytes)), a.bytes...)
		a.kept, a.more = true, true
	}
}

func (c *Conn) dropAhead() {
	a := &c.ahead
	if a.kept {
		c.w.PutBuffer(a.bytes)
	}
	a.bytes, a.taken, a.kept = nil, 0, false
}

// receiveNow asks the socket.
func (c *Conn) receiveNow(p []byte) (int, Status) {
	for {
		c.w.counts.transfers++
		n, _, e := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(c.fd), uintptr(unsafe.Pointer(&p[0])),
			uintptr(len(p)), 0, 0, 0)
		switch {
		case e == 0 && n > 0:
			raceWrite(p[:n])
			c.tap.Received += uint64(n)
			c.ahead.few = n < aheadBytes
			return int(n), OK
		case e == 0:
			return 0, EOF
		case e == unix.EAGAIN:
			return 0, Again
		case e == unix.EINTR:
		default:
			c.errno = e
			return 0, Failed
		}
	}
}
