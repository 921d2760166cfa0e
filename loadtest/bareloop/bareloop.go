// Package bareloop is the yardstick of the load test: the least an HTTP/1.1 reverse proxy must do on an epoll loop.
//
// It owns one listening socket, one thread and one pool of upstream connections. It finds the end of a head, scans its
// lines for Content-Length, appends X-Forwarded-For and forwards; bodies are streamed with back pressure. It does not
// own routing, limits, timeouts, retries, chunked bodies, 1xx responses or any rewriting of hop-by-hop fields, and it
// is not safe to expose: what RAUTA costs above it is the price of those. The load test runs it as a child process.
package bareloop

import (
	"bytes"
	"fmt"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"rauta.io/rauta/loadtest/rawio"
)

const (
	// readBytes is the one read buffer, shared by all connections: large, because bulk bodies gain a quarter by it.
	readBytes = 256 << 10
	// eventsPerTurn is the number of events taken per epoll_wait.
	eventsPerTurn = 256
	// headBytesMax bounds an incomplete head that is kept for a connection.
	headBytesMax = 64 << 10
)

// Options are the addresses of the proxy, both on 127.0.0.1.
type Options struct {
	ListenPort  int
	BackendPort int
}

type conn struct {
	fd         int
	generation int32
	upstream   bool
	paused     bool // has input that may not be read yet: edge-triggered, so it must be asked for later
	ended      bool // the peer has sent its last byte
	closed     bool
	peer       *conn  // the other side of the exchange, nil between exchanges
	left       int    // body bytes of the current message still to come from this side
	partial    []byte // input that does not make a whole head yet
	unsent     []byte // output that the socket had no room for
	next       *conn  // next idle upstream connection
}

type loop struct {
	epoll      int
	listener   int
	backend    int
	generation int32
	conns      []*conn // by descriptor
	idle       *conn   // last in, first out, so that few upstream connections stay busy
	in         []byte
	out        []byte
}

// Run serves until the process is killed; it returns only when it cannot start or the kernel refuses to wait.
func Run(options Options) error {
	runtime.LockOSThread()
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("creating the epoll set: %w", err)
	}
	listener, _, err := rawio.Listen(options.ListenPort)
	if err != nil {
		return fmt.Errorf("listening on port %d: %w", options.ListenPort, err)
	}
	if err := rawio.Register(epoll, listener, 0, unix.EPOLLIN); err != nil {
		return fmt.Errorf("watching the listener: %w", err)
	}
	l := &loop{epoll: epoll, listener: listener, backend: options.BackendPort, in: make([]byte, readBytes)}
	return l.serve()
}

// serve polls first and blocks through the scheduler only when nothing is ready.
func (l *loop) serve() error {
	events := make([]unix.EpollEvent, eventsPerTurn)
	for {
		n, errno := rawio.Poll(l.epoll, events)
		if n == 0 || errno != 0 {
			var err error
			if n, err = unix.EpollWait(l.epoll, events, -1); err != nil {
				if err == unix.EINTR {
					continue
				}
				return fmt.Errorf("waiting for events: %w", err)
			}
		}
		for i := range events[:n] {
			l.dispatch(&events[i])
		}
	}
}

func (l *loop) dispatch(event *unix.EpollEvent) {
	fd := int(event.Fd)
	if fd == l.listener {
		l.accept()
		return
	}
	c := l.conns[fd]
	if c == nil || c.generation != event.Pad {
		return
	}
	if event.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		c.ended = true
	}
	if event.Events&unix.EPOLLOUT != 0 && len(c.unsent) > 0 {
		l.flush(c)
	}
	if event.Events&rawio.InputMask != 0 && !c.closed {
		l.read(c)
	}
}

func (l *loop) accept() {
	for {
		fd, err := rawio.Accept(l.listener)
		if err != nil {
			return
		}
		l.add(fd, false)
	}
}

func (l *loop) add(fd int, upstream bool) *conn {
	l.generation++
	c := &conn{fd: fd, generation: l.generation, upstream: upstream}
	for fd >= len(l.conns) {
		l.conns = append(l.conns, nil)
	}
	l.conns[fd] = c
	if err := rawio.Register(l.epoll, fd, c.generation, rawio.EventMask); err != nil {
		l.close(c)
		return nil
	}
	return c
}

// read takes input until the socket is empty or its bytes have nowhere to go.
func (l *loop) read(c *conn) {
	for !c.closed {
		if l.mustWait(c) {
			c.paused = true
			return
		}
		n, errno := rawio.Recv(c.fd, l.in)
		if errno == syscall.EAGAIN {
			return
		}
		if errno != 0 || n == 0 {
			l.close(c)
			return
		}
		switch {
		case c.left > 0:
			l.relayBody(c, l.in[:n])
		case c.upstream:
			l.response(c, l.in[:n])
		default:
			l.request(c, l.in[:n])
		}
		if n < len(l.in) && !c.ended {
			return // the socket is empty; the next byte is a new event
		}
	}
}

// mustWait reports whether input may not be read now: the other side is full, or the client runs ahead of its answer.
func (l *loop) mustWait(c *conn) bool {
	if c.peer == nil {
		return len(c.unsent) > 0
	}
	return len(c.peer.unsent) > 0 || !c.upstream && c.left == 0 && !c.ended
}

// request forwards a head as soon as it is whole, with what has arrived of the body, in one send.
func (l *loop) request(c *conn, in []byte) {
	if c.peer != nil {
		l.close(c) // input after the request's end, and the client has closed: nobody waits for an answer
		return
	}
	in, end := l.head(c, in)
	if end < 0 {
		return
	}
	length := contentLength(in[:end])
	body := in[end+2:]
	taken := min(len(body), max(length, 0))
	u := l.takeUpstream()
	if u == nil {
		l.close(c)
		return
	}
	c.peer, u.peer = u, c
	c.left = max(length, 0) - taken
	l.out = append(l.out[:0], in[:end]...)
	l.out = append(l.out, "X-Forwarded-For: 127.0.0.1\r\n\r\n"...)
	l.out = append(l.out, body[:taken]...)
	c.partial = append(c.partial[:0], body[taken:]...)
	l.send(u, l.out)
}

// response forwards what came and learns from the head how much will follow.
func (l *loop) response(u *conn, in []byte) {
	if u.peer == nil {
		l.close(u) // an idle upstream connection has nothing to say
		return
	}
	in, end := l.head(u, in)
	if end < 0 {
		return
	}
	length := contentLength(in[:end])
	if length < 0 || len(in)-end-2 > length {
		l.close(u)
		return
	}
	u.left = length - (len(in) - end - 2)
	c := u.peer
	l.send(c, in)
	u.partial = u.partial[:0]
	if u.left == 0 && !u.closed {
		l.finish(u, c)
	}
}

// head joins in to what is kept of an incomplete head. end is the offset of the blank line, or -1: kept for later.
func (l *loop) head(c *conn, in []byte) (joined []byte, end int) {
	if len(c.partial) > 0 {
		c.partial = append(c.partial, in...)
		in = c.partial
	}
	i := bytes.Index(in, []byte("\r\n\r\n"))
	if i >= 0 {
		return in, i + 2
	}
	if len(in) > headBytesMax {
		l.close(c)
		return nil, -1
	}
	if len(c.partial) == 0 {
		c.partial = append(c.partial, in...)
	}
	return nil, -1
}

// contentLength scans the lines of a head; -1 when the field is missing or malformed.
func contentLength(head []byte) int {
	const name = "content-length:"
	for len(head) > 0 {
		end := bytes.IndexByte(head, '\n')
		if end < 0 {
			return -1
		}
		line := head[:end]
		head = head[end+1:]
		if len(line) > len(name) && line[0]|0x20 == 'c' && bytes.EqualFold(line[:len(name)], []byte(name)) {
			return decimal(bytes.TrimSpace(line[len(name):]))
		}
	}
	return -1
}

// decimal reads up to 15 digits: more cannot be a body on this machine.
func decimal(text []byte) int {
	if len(text) == 0 || len(text) > 15 {
		return -1
	}
	value := 0
	for _, digit := range text {
		if digit < '0' || digit > '9' {
			return -1
		}
		value = value*10 + int(digit-'0')
	}
	return value
}

func (l *loop) relayBody(c *conn, in []byte) {
	peer := c.peer
	taken := min(len(in), c.left)
	c.left -= taken
	if !c.upstream {
		c.partial = append(c.partial[:0], in[taken:]...)
	} else if taken < len(in) {
		l.close(c) // more than the response announced
		return
	}
	l.send(peer, in[:taken])
	if c.upstream && c.left == 0 && !c.closed {
		l.finish(c, peer)
	}
}

// finish frees the upstream connection and lets the client's next request in, if it is already there.
func (l *loop) finish(u, c *conn) {
	if c.left > 0 || len(u.unsent) > 0 {
		l.close(u) // answered before the request was complete: neither connection can be used again
		return
	}
	u.peer, c.peer = nil, nil
	u.next, l.idle = l.idle, u
	if len(c.partial) > 0 {
		waiting := c.partial
		c.partial = nil
		l.request(c, waiting)
	}
	l.resume(c)
}

func (l *loop) takeUpstream() *conn {
	if u := l.idle; u != nil {
		l.idle, u.next = u.next, nil
		return u
	}
	fd, err := rawio.Connect(l.backend)
	if err != nil {
		return nil
	}
	return l.add(fd, true)
}

func (l *loop) send(c *conn, out []byte) {
	if len(out) == 0 {
		return
	}
	if len(c.unsent) > 0 {
		c.unsent = append(c.unsent, out...)
		return
	}
	n, errno := rawio.Send(c.fd, out)
	if errno != 0 && errno != syscall.EAGAIN {
		l.close(c)
		return
	}
	if n < len(out) {
		c.unsent = append(c.unsent[:0], out[n:]...)
	}
}

func (l *loop) flush(c *conn) {
	n, errno := rawio.Send(c.fd, c.unsent)
	if errno != 0 && errno != syscall.EAGAIN {
		l.close(c)
		return
	}
	c.unsent = c.unsent[:copy(c.unsent, c.unsent[n:])]
	if len(c.unsent) > 0 {
		return
	}
	if c.peer != nil {
		l.resume(c.peer)
	}
	l.resume(c)
}

func (l *loop) resume(c *conn) {
	if c.paused && !c.closed {
		c.paused = false
		l.read(c)
	}
}

// close ends the connection and, in the middle of an exchange, its other side.
func (l *loop) close(c *conn) {
	if c.closed {
		return
	}
	c.closed = true
	l.conns[c.fd] = nil
	unix.Close(c.fd)
	if peer := c.peer; peer != nil {
		c.peer, peer.peer = nil, nil
		l.close(peer)
	} else if c.upstream {
		for link := &l.idle; *link != nil; link = &(*link).next {
			if *link == c {
				*link = c.next
				break
			}
		}
	}
}
