package generator

import (
	"bytes"
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

// clientConn is a connection to a proxy under test. It has at most one request in flight.
type clientConn struct {
	target  *target
	fd      int // -1: not connected
	busy    bool
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
	index  int
	conns  []*clientConn
	result *Result
	record bool // false while warming up
}

func (t *target) fail(reason string) { t.result.Failures[reason]++ }

func (c *clientConn) connect(l *loop) bool {
	fd, err := rawio.Connect(c.target.Port)
	if err != nil {
		c.fd = -1
		return false
	}
	c.fd = fd
	if err := l.watch(fd, c, rawio.EventMask); err != nil {
		c.disconnect(l)
		return false
	}
	return true
}

func (c *clientConn) disconnect(l *loop) {
	if c.fd >= 0 {
		l.closeSocket(c.fd)
	}
	c.fd, c.unsent, c.partial, c.inBody, c.offset, c.hangUp = -1, nil, nil, false, 0, false
}

// send starts the next request and reports whether it could. A connection that was lost is opened again first.
func (c *clientConn) send(l *loop, due int64) bool {
	if c.fd < 0 && !c.connect(l) {
		c.target.fail(failConnect)
		return false
	}
	c.busy, c.due = true, due
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
	n, _ := rawio.Send(c.fd, c.unsent)
	c.unsent = c.unsent[n:]
}

func (c *clientConn) ready(l *loop, events uint32) {
	if events&unix.EPOLLOUT != 0 && len(c.unsent) > 0 {
		c.flush()
	}
	fd := c.fd
	ending := events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0
	// The descriptor changes when an answer or a failure ends in a new connection, which has its own events.
	for events&rawio.InputMask != 0 && c.fd == fd && fd >= 0 {
		n, errno := rawio.Recv(fd, l.in)
		if errno == syscall.EAGAIN {
			return
		}
		if errno != 0 || n == 0 {
			c.lost(l)
			return
		}
		c.consume(l, l.in[:n])
		if n < len(l.in) && !ending {
			return
		}
	}
}

// lost handles the proxy's close. Without a request in flight it is the proxy's right.
func (c *clientConn) lost(l *loop) {
	switch {
	case !c.busy:
		c.disconnect(l)
		c.target.result.Reconnects++
	case c.inBody || len(c.partial) > 0:
		c.fail(l, failTruncated)
	default:
		c.fail(l, failClosed)
	}
}

func (c *clientConn) consume(l *loop, in []byte) {
	if !c.busy {
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
	t := c.target
	if t.record {
		t.result.Latency.Record(now - c.due)
		t.result.Requests++
	}
	l.load.answered++
	l.load.lastAnswer = now
	c.inBody, c.offset = false, 0
	if c.hangUp {
		c.disconnect(l)
		t.result.Reconnects++
	}
	c.release(l, now)
}

// fail ends the request in flight and its connection. The next request opens another one.
func (c *clientConn) fail(l *loop, reason string) {
	c.target.fail(reason)
	c.disconnect(l)
	c.release(l, l.now())
}

func (c *clientConn) release(l *loop, now int64) {
	c.busy = false
	l.load.inFlight--
	l.load.released(l, c, now)
}
