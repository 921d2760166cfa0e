package generator

import (
	"bytes"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"rauta.io/rauta/loadtest/rawio"
)

// DatagramBytesMax fits into a packet of every network. The content tells nothing of its own length, so that a datagram
// that was cut short or joined with another shows.
const DatagramBytesMax = 1400

// probe is answered whatever the back end is prepared for.
const probe = "probe"

// ProbeDatagram is one that the back end answers at any time.
func ProbeDatagram() []byte { return []byte(probe) }

// backendUDP answers each datagram that is what clients send with one datagram, and no other.
type backendUDP struct {
	fd, port     int
	want, answer []byte
}

func (b *backendUDP) open(l *loop) (err error) {
	if b.fd, b.port, err = rawio.ListenUDP(); err != nil {
		return fmt.Errorf("opening the back end for UDP: %w", err)
	}
	b.prepare(1, 1)
	if err := l.watch(b.fd, b, unix.EPOLLIN); err != nil {
		return fmt.Errorf("watching the back end for UDP: %w", err)
	}
	return nil
}

func (b *backendUDP) prepare(bodyBytes, uploadBytes int) {
	b.answer, b.want = pattern(bodyBytes), pattern(uploadBytes)
}

func (b *backendUDP) ready(l *loop, _ uint32) {
	for {
		n, from, errno := rawio.RecvFrom(b.fd, l.in)
		if errno != 0 {
			return
		}
		if (bytes.Equal(l.in[:n], b.want) || string(l.in[:n]) == probe) && len(b.answer) > 0 {
			rawio.SendTo(b.fd, b.answer, &from) // if it is lost, the client says so
		}
	}
}

// udpConn is a client of a flow, with one datagram under way. One that is lost is a failure, after the drain.
type udpConn struct {
	socket
	target          *target
	request, answer []byte
	asked           bool
	due             int64
}

func newUDPConn(t *target, command *Command) *udpConn {
	return &udpConn{socket: socket{fd: -1}, target: t, request: pattern(command.UploadBytes), answer: pattern(command.BodyBytes)}
}

func (c *udpConn) of() *target        { return c.target }
func (c *udpConn) busy() bool         { return c.asked }
func (c *udpConn) disconnect(l *loop) { l.closeWatched(&c.socket) }

func (c *udpConn) send(l *loop, due int64) bool {
	if c.fd < 0 {
		fd, err := rawio.ConnectUDP(c.target.Port)
		if err != nil {
			c.target.fail(failConnect)
			return false
		}
		c.fd = fd
		if !l.watchSocket(&c.socket, c) {
			c.target.fail(failConnect)
			return false
		}
	}
	c.asked, c.due = true, due
	l.load.inFlight++
	c.socket.send(c.request) // an error comes back as an event
	return true
}

func (c *udpConn) ready(l *loop, events uint32) {
	fd := c.fd
	for events&rawio.InputMask != 0 && c.fd == fd && fd >= 0 {
		n, errno := c.recv(l.in)
		reason := ""
		switch {
		case errno == syscall.EAGAIN:
			return
		case errno != 0:
			reason = failClosed // nobody listens
		case !c.asked:
			reason = failExtra
		case !bytes.Equal(l.in[:n], c.answer):
			reason = failCorrupt
		}
		if reason != "" { // the next socket may have the same number, and has turns of its own
			c.fail(l, reason)
			return
		}
		now := l.now()
		c.target.answered(l, now, c.due)
		c.release(l, now)
	}
}

func (c *udpConn) fail(l *loop, reason string) {
	c.target.fail(reason)
	c.disconnect(l)
	if c.asked {
		c.release(l, l.now())
	}
}

func (c *udpConn) release(l *loop, now int64) {
	c.asked = false
	l.load.released(l, c, now)
}
