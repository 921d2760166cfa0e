package generator

import (
	"bytes"
	"crypto/tls"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"rauta.io/rauta/loadtest/rawio"
)

// The reasons for which a request fails.
const (
	failConnect   = "cannot connect"
	failClosed    = "closed before an answer"
	failTruncated = "truncated answer"
	failStatus    = "status is not 200"
	failFraming   = "length missing or wrong"
	failCorrupt   = "corrupt body"
	failTimeout   = "no answer in time"
	failEarly     = "answered before the request was complete"
	failExtra     = "bytes after the answer"
)

// requester has at most one request in flight: a connection of HTTP/1.1, a stream of HTTP/2, or a WebSocket.
type requester interface {
	of() *target
	busy() bool
	// send starts the next request and reports whether it could. A connection that was lost is opened again first.
	send(l *loop, due int64) bool
	// fail ends the request in flight and its connection. The next request opens another one.
	fail(l *loop, reason string)
	disconnect(l *loop)
}

// clientConn is a connection to a proxy under test.
type clientConn struct {
	socket
	target  *target
	asked   bool
	due     int64  // when the request in flight was to be sent
	unsent  []byte // the rest of the request
	partial []byte // an incomplete head
	inBody  bool
	offset  int  // of the next body byte
	hangUp  bool // the answer says Connection: close
	next    int  // index of the next request
}

// target is a proxy under test during one command.
type target struct {
	Target
	tls        *tls.Config // nil: plain
	requesters []requester
	result     *Result
	record     bool // false while warming up
}

func (t *target) fail(reason string) { t.result.Failures[reason]++ }

func (c *clientConn) of() *target { return c.target }
func (c *clientConn) busy() bool  { return c.asked }

func (c *clientConn) connect(l *loop) bool {
	return c.open(c.target) && l.watchSocket(&c.socket, c)
}

func (c *clientConn) disconnect(l *loop) {
	l.closeWatched(&c.socket)
	c.unsent, c.partial, c.inBody, c.offset, c.hangUp = nil, nil, false, 0, false
}

func (c *clientConn) send(l *loop, due int64) bool {
	if c.fd < 0 && !c.connect(l) {
		c.target.fail(failConnect)
		return false
	}
	c.asked, c.due = true, due
	l.load.inFlight++
	requests := l.load.requests
	c.unsent = requests[c.next]
	if c.next++; c.next == len(requests) {
		c.next = 0
	}
	c.flush()
	return true
}

// flush leaves errors to the event that follows each: failing here would nest one request's end in the next one's start.
func (c *clientConn) flush() {
	n, _ := c.socket.send(c.unsent)
	c.unsent = c.unsent[n:]
}

func (c *clientConn) ready(l *loop, events uint32) {
	if events&unix.EPOLLOUT != 0 {
		c.writable()
		if len(c.unsent) > 0 {
			c.flush()
		}
	}
	fd := c.fd
	ending := events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0
	// The descriptor changes when an answer or a failure ends in a new connection, which has its own events.
	for events&rawio.InputMask != 0 && c.fd == fd && fd >= 0 {
		n, errno := c.recv(l.in)
		if errno == syscall.EAGAIN {
			return
		}
		if errno != 0 || n == 0 {
			c.lost(l)
			return
		}
		c.consume(l, l.in[:n])
		if c.fd == fd && c.drained(n, len(l.in)) && !ending {
			return
		}
	}
}

// lost handles the proxy's close. Without a request in flight it is the proxy's right.
func (c *clientConn) lost(l *loop) {
	switch {
	case !c.asked:
		c.disconnect(l)
		c.target.result.Reconnects++
	case c.inBody || len(c.partial) > 0:
		c.fail(l, failTruncated)
	default:
		c.fail(l, failClosed)
	}
}

func (c *clientConn) consume(l *loop, in []byte) {
	if !c.asked {
		c.target.fail(failExtra)
		c.disconnect(l)
		return
	}
	if !c.inBody {
		if in = c.head(l, in); in == nil {
			return
		}
	}
	body := l.load.body
	if len(in) > len(body)-c.offset {
		c.fail(l, failExtra)
		return
	}
	if !bytes.Equal(in, body[c.offset:c.offset+len(in)]) {
		c.fail(l, failCorrupt)
		return
	}
	if c.offset += len(in); c.offset == len(body) {
		c.answered(l)
	}
}

// head reads the answer's head and returns the body bytes after it; nil when more must come or the request has failed.
func (c *clientConn) head(l *loop, in []byte) []byte {
	if len(c.partial) > 0 {
		c.partial = append(c.partial, in...)
		in = c.partial
	}
	end := bytes.Index(in, []byte("\r\n\r\n"))
	if end < 0 {
		if len(in) > headBytesMax {
			c.fail(l, failFraming)
		} else if len(c.partial) == 0 {
			c.partial = append(c.partial, in...)
		}
		return nil
	}
	reason, fields := checkHead(in[:end+2], len(l.load.body))
	if reason != "" {
		c.fail(l, reason)
		return nil
	}
	if fields.generation >= 0 {
		c.target.sawGeneration(fields.generation)
	}
	c.inBody, c.hangUp, c.partial = true, fields.close, nil
	return in[end+4:]
}

// checkHead names what is wrong with an answer's head, or "".
func checkHead(head []byte, bodyBytes int) (string, headFields) {
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 200 ")) {
		return failStatus, headFields{}
	}
	fields := parseHead(head)
	if fields.chunked || fields.length != bodyBytes {
		return failFraming, fields
	}
	return "", fields
}

func (t *target) sawGeneration(generation int64) {
	if generation > t.result.Generation {
		t.result.Generation = generation
		t.result.Generations++
	}
}

func (c *clientConn) answered(l *loop) {
	if len(c.unsent) > 0 {
		c.fail(l, failEarly)
		return
	}
	now := l.now()
	c.target.answered(l, now, c.due)
	c.inBody, c.offset = false, 0
	if c.hangUp {
		c.disconnect(l)
		c.target.result.Reconnects++
	}
	c.release(l, now)
}

// answered counts a correct answer to a request that was to be sent at due.
func (t *target) answered(l *loop, now, due int64) {
	if t.record {
		t.result.Latency.Record(now - due)
		t.result.Requests++
	}
	l.load.answered++
	if p := l.load.progress; p != nil {
		atomic.AddUint64(p, 1)
	}
	l.load.lastAnswer = now
}

func (c *clientConn) fail(l *loop, reason string) {
	c.target.fail(reason)
	c.disconnect(l)
	c.release(l, l.now())
}

func (c *clientConn) release(l *loop, now int64) {
	c.asked = false
	l.load.released(l, c, now)
}
