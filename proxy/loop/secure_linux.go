package loop

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"rauta.io/rauta/proxy/clock"
)

const (
	// encryptMax is how many bytes are encrypted before they are sent: three records of the largest size (RFC 8446
	// section 5.1), so that what a full socket leaves over fits into a buffer of BufferMax.
	encryptMax = 48 << 10
	// cipherReadBytes is the most that is received at a time.
	cipherReadBytes = 64 << 10
	// controlBytesMax bounds what crypto/tls wants to say by itself (answers to KeyUpdate, alerts; RFC 8446 section 4.6.3)
	// to a peer that reads nothing.
	controlBytesMax = 16 << 10
	// closeFlushTime is how long, in nanoseconds, a closed connection stays for the sake of close_notify, which a full
	// socket did not take.
	closeFlushTime = 5e9
)

// cipherBuffers are shared by the TLS connections of a worker; allocated with the first.
type cipherBuffers struct {
	in  []byte // received, being decrypted
	out []byte // encrypted in this call
}

// secure is the transport of a TLS connection after its handshake, and the net.Conn under its tls.Conn. crypto/tls
// keeps partial records when Read returns a temporary error, but makes every error of Write final: so Write always
// takes everything, and what the socket does not take is kept here, and nothing more is encrypted until it has gone.
type secure struct {
	c     *Conn
	conn  *tls.Conn
	shake *handshake // while it is under way: Read and Write are the goroutine's

	examined any // what TLSOptions.Examine has returned

	cut      recordCut
	in       []byte // received, left over by a Read whose buffer was full
	inUsed   int
	incoming []byte // during Read: what is left of the worker's buffer
	empty    bool   // the last receive emptied the socket; an event says when there is more
	hangUp   bool   // the peer has sent FIN: its end is to be read

	out  []byte // encrypted, not taken by the socket
	sent int    // of out
	// owed bytes given to Write are encrypted, and reported of them have been reported as written; the rest will be given
	// again.
	owed, reported int
	check          owedCheck

	ended   bool  // close_notify is sent, or in out
	shut    bool  // FIN follows what is in out
	broken  bool  // nothing more can be sent
	failure error // why Read failed, other than by an error of the socket
	closer  *clock.Timer
}

// errAgain is what crypto/tls gets to see when the socket is empty. It is temporary, so that crypto/tls keeps its
// partial record and goes on later; compare by identity: ETIMEDOUT is temporary too.
var errAgain error = againError{}

type againError struct{}

func (againError) Error() string   { return "the socket is empty" }
func (againError) Timeout() bool   { return true }
func (againError) Temporary() bool { return true }

// adopt takes over what the handshake has left: received bytes, and bytes to send.
func (s *secure) adopt(received, unsent []byte) {
	w := s.c.w
	if len(received) > 0 {
		s.in = append(w.GetBuffer(len(received)), received...)
	}
	if len(unsent) > 0 {
		s.out = append(w.GetBuffer(len(unsent)), unsent...)
	}
}

// read is Conn.Read.
func (s *secure) read(p []byte) (int, Status) {
	if s.failure != nil {
		return 0, Failed
	}
	s.c.w.cipher.prepare()
	n, err := 0, error(nil)
	for n < len(p) && err == nil {
		if n > 0 && s.empty && len(s.incoming) == 0 && s.in == nil {
			err = errAgain // crypto/tls holds no record either: see recordCut
			break
		}
		var k int
		k, err = s.conn.Read(p[n:])
		n += k
	}
	s.keepIncoming()
	s.sendControl()
	switch {
	case n > 0:
		if s.failure != nil || err != nil && err != errAgain {
			s.c.Ready(Readable) // the end is already known, and brings no event
		}
		return n, OK
	case s.failure != nil:
		return 0, Failed
	case err == errAgain:
		return 0, Again
	case err == io.EOF:
		return 0, EOF
	}
	s.fail(err)
	return 0, Failed
}

// keepIncoming keeps what was received but not decrypted, because the reader's buffer was full.
func (s *secure) keepIncoming() {
	if len(s.incoming) > 0 {
		s.in = append(s.c.w.GetBuffer(len(s.incoming)), s.incoming...)
		s.incoming = nil
	}
}

// Read implements net.Conn for crypto/tls. It never returns 0 without an error.
func (s *secure) Read(p []byte) (int, error) {
	if s.shake != nil {
		return s.shake.read(p)
	}
	if s.in != nil {
		n := s.give(p, s.in[s.inUsed:])
		s.inUsed += n
		if s.inUsed == len(s.in) {
			s.c.w.PutBuffer(s.in)
			s.in, s.inUsed = nil, 0
		}
		return n, nil
	}
	if len(s.incoming) == 0 {
		if err := s.fill(); err != nil {
			return 0, err
		}
	}
	n := s.give(p, s.incoming)
	s.incoming = s.incoming[n:]
	return n, nil
}

// give copies from b to p, not beyond the end of a record.
func (s *secure) give(p, b []byte) int { return copy(p, b[:s.cut.next(b[:min(len(b), len(p))])]) }

// fill receives into the worker's buffer: as much as is there, however small crypto/tls would like it.
func (s *secure) fill() error {
	if s.empty {
		return errAgain
	}
	buf := s.c.w.cipher.in
	n, st := s.c.receive(buf)
	switch st {
	case Again:
		s.empty = true
		return errAgain
	case EOF:
		return ErrTruncated
	case Failed:
		return s.c.errno
	}
	// A short receive has emptied the socket. Behind a FIN comes no event.
	s.empty = n < len(buf) && !s.hangUp
	s.incoming = buf[:n]
	return nil
}

// Write implements net.Conn for crypto/tls: it gathers, others send.
func (s *secure) Write(p []byte) (int, error) {
	if h := s.shake; h != nil {
		h.out = append(h.out, p...)
		return len(p), nil
	}
	out := &s.c.w.cipher.out
	*out = append(*out, p...)
	return len(p), nil
}

// write is Conn.Write.
func (s *secure) write(p []byte) (int, Status) {
	s.c.w.cipher.prepare()
	if s.broken || s.ended {
		return 0, Failed
	}
	flushed := s.flush()
	n := s.settle(p)
	if !flushed {
		return n, s.unsentStatus()
	}
	for n < len(p) {
		part := p[n:min(len(p), n+encryptMax)]
		if _, err := s.conn.Write(part); err != nil {
			s.fail(err)
			return n, Failed
		}
		if !s.sendNew() {
			s.owed, s.reported = len(part), 0
			s.check.set(part)
			return n + s.settle(part), s.unsentStatus()
		}
		n += len(part)
	}
	return n, OK
}

func (s *secure) unsentStatus() Status {
	if s.broken {
		return Failed
	}
	return Again
}

// settle returns how many bytes at the beginning of p, which an earlier write has encrypted, count as written now: in
// proportion to the encrypted bytes that the socket has taken, so never all of them while something is left.
func (s *secure) settle(p []byte) int {
	if s.owed == 0 {
		return 0
	}
	s.check.check(p, s.reported)
	done := s.owed
	if len(s.out) > 0 {
		done = max(s.owed*s.sent/len(s.out), s.reported)
	}
	n := min(done-s.reported, len(p))
	s.reported += n
	if s.reported == s.owed {
		s.owed, s.reported = 0, 0
	}
	return n
}

// sendNew sends what has been encrypted just now, behind what waits, and keeps the rest; it reports whether nothing is
// left.
func (s *secure) sendNew() bool {
	w := s.c.w
	fresh := w.cipher.out
	w.cipher.out = fresh[:0]
	if len(fresh) == 0 || s.broken || s.shut {
		return len(s.out) == 0
	}
	if len(s.out) == 0 {
		n, st := s.c.send(fresh)
		if st == Failed {
			s.broken = true
			return false
		}
		if n == len(fresh) {
			return true
		}
		s.out, s.sent = append(w.GetBuffer(len(fresh)), fresh...), n
		return false
	}
	s.out = s.grow(len(fresh))
	s.out = append(s.out, fresh...)
	return false
}

// grow makes room in out, so that it stays a buffer of the worker's.
func (s *secure) grow(more int) []byte {
	if cap(s.out)-len(s.out) >= more {
		return s.out
	}
	next := append(s.c.w.GetBuffer(len(s.out)+more), s.out...)
	s.c.w.PutBuffer(s.out)
	return next
}

// flush sends what waits; it reports whether nothing is left.
func (s *secure) flush() bool {
	if s.broken {
		return false
	}
	if len(s.out) == 0 {
		return true
	}
	n, st := s.c.send(s.out[s.sent:])
	s.sent += n
	if st == Failed {
		s.broken = true
		return false
	}
	if s.sent < len(s.out) {
		return false
	}
	s.c.w.PutBuffer(s.out)
	s.out, s.sent = nil, 0
	if s.shut {
		s.shutdown()
	}
	return true
}

// sendControl sends what crypto/tls has to say by itself.
func (s *secure) sendControl() {
	if len(s.c.w.cipher.out) == 0 {
		return
	}
	limit := controlBytesMax
	if s.owed > 0 {
		limit = BufferMax
	}
	if len(s.out)+len(s.c.w.cipher.out) > limit {
		s.c.w.cipher.out = s.c.w.cipher.out[:0]
		s.fail(errControlFlood)
		return
	}
	s.sendNew()
}

var errControlFlood = errors.New("the peer asks for more TLS control messages than it takes")

// onEvents sees every event first. It reports whether the handler is to get it.
func (s *secure) onEvents(ev Events) bool {
	if ev&(Readable|HangUp|Error) != 0 {
		s.empty = false
		s.hangUp = s.hangUp || ev&HangUp != 0
	}
	if !s.c.closed {
		// Bytes that an engine waits for are flushed by its Write, which has to be told how many they were.
		if ev&Writable != 0 && (s.owed == 0 || s.ended) {
			s.flush()
		}
		return true
	}
	if s.flush() || s.broken {
		s.expire(0)
	}
	return false
}

// closeWrite sends close_notify and FIN, when what waits has gone.
func (s *secure) closeWrite() {
	s.sayEnd()
	s.shut = true
	if len(s.out) == 0 {
		s.shutdown()
	}
}

func (s *secure) sayEnd() {
	if s.ended || s.broken {
		return
	}
	s.ended = true
	s.c.w.cipher.prepare()
	_ = s.conn.CloseWrite() // it only writes to us, and we always take it
	s.sendNew()
}

func (s *secure) shutdown() {
	if err := unix.Shutdown(s.c.fd, unix.SHUT_WR); err != nil {
		s.c.setErr(err)
	}
}

// close says goodbye; it reports whether the descriptor can be closed at once. An engine that closes before everything
// was written, breaks off: then the peer must not see an orderly end.
func (s *secure) close() bool {
	if s.in != nil {
		s.c.w.PutBuffer(s.in)
		s.in, s.inUsed = nil, 0
	}
	if s.owed == 0 {
		s.sayEnd()
	}
	if len(s.out) == 0 || s.broken || s.owed > 0 && !s.ended {
		s.discard()
		return true
	}
	s.closer = &clock.Timer{Fire: s.expire}
	s.c.w.wheel.Set(s.closer, s.c.w.Now()+closeFlushTime)
	return false
}

// expire ends a closed connection that waited for close_notify to leave.
func (s *secure) expire(clock.Time) {
	s.discard()
	s.c.end()
}

// discard gives back what can't be sent any more.
func (s *secure) discard() {
	s.broken = true
	if s.out != nil {
		s.c.w.PutBuffer(s.out)
		s.out, s.sent = nil, 0
	}
	if s.closer != nil {
		s.c.w.wheel.Remove(s.closer)
	}
}

// fail marks the connection as unusable for err.
func (s *secure) fail(err error) {
	if s.failure == nil {
		s.failure = err
	}
	if e, ok := err.(syscall.Errno); ok {
		s.c.setErr(e)
	}
	if len(s.out) == 0 {
		s.sendNew() // an alert
	}
	s.broken = true
	s.ended = true
}

func (b *cipherBuffers) prepare() {
	if b.in == nil {
		b.in = make([]byte, cipherReadBytes)
		b.out = make([]byte, 0, BufferMax)
	}
	b.out = b.out[:0]
}

// The rest of net.Conn: crypto/tls calls the deadlines around close_notify, and nothing else.

func (s *secure) Close() error                     { return nil }
func (s *secure) LocalAddr() net.Addr              { return net.TCPAddrFromAddrPort(s.c.LocalAddr()) }
func (s *secure) RemoteAddr() net.Addr             { return net.TCPAddrFromAddrPort(s.c.remote) }
func (s *secure) SetDeadline(time.Time) error      { return nil }
func (s *secure) SetReadDeadline(time.Time) error  { return nil }
func (s *secure) SetWriteDeadline(time.Time) error { return nil }
