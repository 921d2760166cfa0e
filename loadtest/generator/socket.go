package generator

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"rauta.io/rauta/loadtest/rawio"
)

const (
	// handshakeTimeMax is how long a proxy may take for a TLS handshake before the connection counts as failed.
	handshakeTimeMax = 3 * time.Second
	// ServerName is what clients ask for with TLS; all contenders have one certificate only.
	ServerName = "loadtest.test"
)

// socket is the transport of a connection to a proxy: TCP, or TLS on it.
type socket struct {
	fd     int // -1: not connected
	secure *tls.Conn
	raw    *rawConn // below secure
}

// open connects. The handshake of TLS blocks until it is complete, as connecting does: it is no part of what slices
// measure.
func (s *socket) open(t *target) bool {
	fd, err := rawio.Connect(t.Port)
	if err != nil {
		s.fd = -1
		return false
	}
	s.fd, s.secure, s.raw = fd, nil, nil
	if t.tls == nil {
		return true
	}
	s.raw = &rawConn{fd: fd, deadline: time.Now().Add(handshakeTimeMax)}
	s.secure = tls.Client(s.raw, t.tls)
	if s.secure.Handshake() != nil || s.secure.ConnectionState().NegotiatedProtocol != t.tls.NextProtos[0] {
		s.close()
		return false
	}
	s.raw.handshaken = true
	return true
}

// close leaves the descriptor open where a loop watches it: the loop closes it.
func (s *socket) close() {
	if s.fd >= 0 {
		unix.Close(s.fd)
	}
	s.fd, s.secure, s.raw = -1, nil, nil
}

// recv is like rawio.Recv. TLS gives one record at a time, so input shorter than b says nothing: read until EAGAIN.
func (s *socket) recv(b []byte) (int, syscall.Errno) {
	if s.secure == nil {
		return rawio.Recv(s.fd, b)
	}
	n, err := s.secure.Read(b)
	switch {
	case n > 0:
		return n, 0
	case errors.Is(err, errWouldBlock):
		return 0, syscall.EAGAIN
	case err == io.EOF:
		return 0, 0
	}
	return 0, syscall.ECONNRESET
}

// send is like rawio.Send, but TLS takes all or fails: what the kernel does not take is kept below.
func (s *socket) send(b []byte) (int, syscall.Errno) {
	if s.secure == nil {
		return rawio.Send(s.fd, b)
	}
	if _, err := s.secure.Write(b); err != nil {
		return 0, syscall.ECONNRESET
	}
	return len(b), 0
}

// writable sends what TLS has kept.
func (s *socket) writable() {
	if s.raw != nil && len(s.raw.unsent) > 0 {
		s.raw.flush()
	}
}

// drained reports whether a read that gave n of size bytes has emptied the socket.
func (s *socket) drained(n, size int) bool { return s.secure == nil && n < size }

// rawConn is what crypto/tls writes to and reads from. Once the handshake is complete it never blocks.
type rawConn struct {
	fd         int
	deadline   time.Time
	handshaken bool
	unsent     []byte
}

// wouldBlock is temporary, so that crypto/tls does not remember it.
type wouldBlock struct{}

func (wouldBlock) Error() string   { return "no input yet" }
func (wouldBlock) Timeout() bool   { return true }
func (wouldBlock) Temporary() bool { return true }

var errWouldBlock net.Error = wouldBlock{}

func (c *rawConn) Read(b []byte) (int, error) {
	for {
		n, errno := rawio.Recv(c.fd, b)
		switch {
		case errno == syscall.EAGAIN && c.handshaken:
			return 0, errWouldBlock
		case errno == syscall.EAGAIN:
			if err := c.wait(); err != nil {
				return 0, err
			}
		case errno != 0:
			return 0, errno
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// wait blocks until there is input, during the handshake only.
func (c *rawConn) wait() error {
	left := time.Until(c.deadline)
	if left <= 0 {
		return errors.New("no TLS handshake in time")
	}
	_, err := unix.Poll([]unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
	if err != nil && err != unix.EINTR {
		return err
	}
	return nil
}

func (c *rawConn) Write(b []byte) (int, error) {
	if len(c.unsent) > 0 {
		c.unsent = append(c.unsent, b...)
		return len(b), nil
	}
	n, errno := rawio.Send(c.fd, b)
	if errno != 0 && errno != syscall.EAGAIN {
		return 0, errno
	}
	c.unsent = append(c.unsent, b[n:]...)
	return len(b), nil
}

func (c *rawConn) flush() {
	n, _ := rawio.Send(c.fd, c.unsent) // the event that follows an error tells of it
	c.unsent = c.unsent[:copy(c.unsent, c.unsent[n:])]
}

func (c *rawConn) Close() error                     { return nil }
func (c *rawConn) LocalAddr() net.Addr              { return nil }
func (c *rawConn) RemoteAddr() net.Addr             { return nil }
func (c *rawConn) SetDeadline(time.Time) error      { return nil }
func (c *rawConn) SetReadDeadline(time.Time) error  { return nil }
func (c *rawConn) SetWriteDeadline(time.Time) error { return nil }

// clientTLS is the same for all proxies: one version and one key exchange group. The certificate is the load test's own,
// so nothing is to be learnt from its chain.
func clientTLS(command *Command) *tls.Config {
	c := &tls.Config{
		InsecureSkipVerify: true, ServerName: ServerName, NextProtos: []string{"http/1.1"},
		MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519},
	}
	if command.Protocol == HTTP2 {
		c.NextProtos = []string{"h2"}
	}
	if command.Resume {
		c.ClientSessionCache = &oneSession{}
	}
	return c
}
