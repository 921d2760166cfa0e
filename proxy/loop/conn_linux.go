package loop

import (
	"net"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"rauta.io/rauta/proxy/clock"
	"rauta.io/rauta/proxy/observe"
)

// Events says what happened to a connection. Events are edge-triggered and report everything that holds at the moment,
// so Writable usually accompanies Readable.
type Events uint32

const (
	// Readable: Read until Again, or ask for more with Conn.Ready.
	Readable Events = 1 << iota
	// Writable: a Write that said Again can go on; or a connect has finished.
	Writable
	// HangUp: the peer closed its sending side, or both. Read tells what is left, then EOF.
	HangUp
	// Error: the socket failed; Read, Write or ConnectResult say how.
	Error
)

// Handler is what a connection belongs to in an engine.
type Handler interface {
	// OnEvent is called on the worker's thread. Edge-triggered: what is left unread brings no further event.
	OnEvent(ev Events)
}

// Status is the outcome of Read and Write.
type Status uint8

const (
	// OK: bytes were moved.
	OK Status = iota
	// Again: no more now; an event follows.
	Again
	// EOF: the peer has closed its sending side in an orderly way.
	EOF
	// Failed: the connection is of no more use; Conn.Err says why.
	Failed
)

// SocketBytesMin is what an empty socket takes in any case, in bytes: the smallest send buffer of a system that was not told
// otherwise is twice as large. What is sent beyond may have to wait for its reader.
const SocketBytesMin = 8 << 10

// Conn is a socket that a worker owns: the transport. All methods are for the worker's thread.
type Conn struct {
	// Immutable.
	w        *Worker
	listener *Listener // nil for a connected socket
	remote   netip.AddrPort
	fd       int
	began    clock.Time        // accepted or connected
	queued   int64             // nanoseconds before it was accepted; 0: not known
	endpoint *observe.Endpoint // that it is connected to; nil: none that is counted
	priority bool
	datagram bool
	lasting  bool // outlives a panic of its handler: it belongs to many

	// Owned by the worker. What follows fills up the word that the bools above begin.
	closed     bool
	untapped   bool // its requests are to be watched once the kernel can
	handler    Handler
	local      netip.AddrPort
	closing    *Conn // next in the worker's list of descriptors to close
	generation uint32
	slot       int32 // noSlot: not registered
	errno      syscall.Errno
	readyEv    Events     // what the ready list will deliver
	missed     Events     // what came while there was no handler
	tls        *secure    // nil: plain text
	shake      *handshake // under way
	ahead      ahead
	tap        observe.RequestTap
	mail       Message // carries the connection to another worker right after accept
}

const noSlot = -1

// Read receives into p. It never returns (0, OK); an empty p gives (0, Again).
func (c *Conn) Read(p []byte) (int, Status) {
	c.w.owner.check()
	if len(p) == 0 {
		return 0, Again
	}
	if c.closed {
		return 0, Failed
	}
	if c.tls != nil {
		return c.tls.read(p)
	}
	return c.receive(p)
}

// receive is Read as the socket has it.
func (c *Conn) receive(p []byte) (int, Status) {
	switch {
	case c.ahead.bytes != nil:
		return c.takeAhead(p)
	case c.ahead.failed:
		return 0, Failed
	}
	return c.receiveNow(p)
}

// Write sends p and returns how much the kernel took: all with OK, some or none with Again (Writable follows). After
// Again the next Write has to begin with the bytes that were not taken: on a TLS connection they are encrypted already.
func (c *Conn) Write(p []byte) (int, Status) {
	c.w.owner.check()
	if c.closed {
		return 0, Failed
	}
	if len(p) == 0 {
		return 0, OK
	}
	if c.tls != nil {
		return c.tls.write(p)
	}
	return c.send(p)
}

// send is Write as the socket has it.
func (c *Conn) send(p []byte) (int, Status) {
	raceRead(p)
	for {
		c.w.counts.transfers++
		n, _, e := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(c.fd), uintptr(unsafe.Pointer(&p[0])),
			uintptr(len(p)), unix.MSG_NOSIGNAL, 0, 0)
		if e == 0 {
			c.tap.Sent += uint64(n)
		}
		switch {
		case e == 0 && int(n) == len(p):
			return len(p), OK
		case e == 0:
			// A short send has already asked the kernel for the next Writable; a second call would only say EAGAIN.
			return int(n), Again
		case e == unix.EAGAIN:
			return 0, Again
		case e == unix.EINTR:
		default:
			c.errno = e
			return 0, Failed
		}
	}
}

// CloseWrite sends FIN after what was written, on a TLS connection close_notify before it; reading goes on.
func (c *Conn) CloseWrite() {
	c.w.owner.check()
	if c.closed {
		return
	}
	if c.tls != nil {
		c.tls.closeWrite()
		return
	}
	if e := unix.Shutdown(c.fd, unix.SHUT_WR); e != nil {
		c.setErr(e)
	}
}

// Close ends the connection: no event reaches its handler from now on. The descriptor is closed at the end of the turn,
// so that its number can't be reused while events of this turn still name it; on a TLS connection somewhat later, should
// the socket be too full for close_notify. Closing twice is harmless.
func (c *Conn) Close() {
	c.w.owner.check()
	if c.closed {
		return
	}
	c.closed = true
	c.dropAhead()
	if c.errno == 0 {
		c.errno = errnoClosed
	}
	if c.shake != nil {
		c.shake.end()
	}
	if c.tls == nil || c.tls.close() {
		c.end()
	}
}

// end makes events stale and has the descriptor closed at the end of the turn.
func (c *Conn) end() {
	c.w.releaseSlot(c)
	c.closing = c.w.closing
	c.w.closing = c
}

// Reset closes so that the peer sees RST instead of an orderly end; unsent data is dropped.
func (c *Conn) Reset() {
	c.w.owner.check()
	if c.closed {
		return
	}
	if err := unix.SetsockoptLinger(c.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
		c.setErr(err)
	}
	if c.tls != nil {
		c.tls.discard()
	}
	c.Close()
}

// errnoClosed stands for net.ErrClosed in errno; the kernel's numbers end at 4095.
const errnoClosed syscall.Errno = 4096

// Err returns why the connection failed, or nil. After Close without a failure it is net.ErrClosed.
func (c *Conn) Err() error {
	if c.tls != nil && c.tls.failure != nil {
		return c.tls.failure
	}
	switch c.errno {
	case 0:
		return nil
	case errnoClosed:
		return net.ErrClosed
	}
	return c.errno
}

func (c *Conn) setErr(err error) {
	if e, ok := err.(syscall.Errno); ok && c.errno == 0 {
		c.errno = e
	}
}

// RemoteAddr is the peer's address; IPv4 is never IPv4-in-IPv6.
func (c *Conn) RemoteAddr() netip.AddrPort { return c.remote }

// Queued is for how many nanoseconds the connection has waited to be accepted; 0 if the kernel does not tell.
func (c *Conn) Queued() int64 { return c.queued }

// LocalAddr is our address. Only the first call on a connection whose listener has a wildcard address, or on a
// connected one, asks the kernel.
func (c *Conn) LocalAddr() netip.AddrPort {
	if !c.local.IsValid() && !c.closed {
		c.local, _ = localAddr(c.fd)
	}
	return c.local
}

// FD is the descriptor, for socket options. It is valid until the end of the turn in which the connection is closed.
func (c *Conn) FD() int { return c.fd }

// Worker is the owner.
func (c *Conn) Worker() *Worker { return c.w }

// Listener is where the connection was accepted, or nil.
func (c *Conn) Listener() *Listener { return c.listener }

// Closed says whether Close or Reset was called.
func (c *Conn) Closed() bool { return c.closed }

// SetHandler makes h the receiver of events. Events that came before there was a handler are delivered in the next turn.
func (c *Conn) SetHandler(h Handler) {
	c.w.owner.check()
	c.handler = h
	if c.missed != 0 && h != nil {
		c.Ready(c.missed)
		c.missed = 0
	}
}

// Ready delivers ev to the handler in the next turn, which then does not sleep. Calls before that add up to one event;
// Close takes it back.
func (c *Conn) Ready(ev Events) {
	c.w.owner.check()
	if c.closed {
		return
	}
	if c.readyEv == 0 {
		c.w.ready = append(c.w.ready, readyEntry{conn: c})
	}
	c.readyEv |= ev
}
