package generator

import (
	"bytes"
	"fmt"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"rauta.io/rauta/loadtest/rawio"
)

// backend is the listener behind the proxies. It answers every correct request with the same response.
type backend struct {
	listener int
	port     int
	secure   tlsListener
	response []byte // head and body
	upload   []byte // what request bodies must be
	message  []byte // what comes through a WebSocket
	echo     []byte // the answer
}

// The answers to a request that a proxy damaged: the client side then sees a status other than 200.
const (
	answerNoForwardedFor = "HTTP/1.1 421 X-Forwarded-For Missing\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
	answerNoLength       = "HTTP/1.1 411 Length Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
	answerCorrupt        = "HTTP/1.1 422 Request Body Corrupt\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
	answerHeadTooLarge   = "HTTP/1.1 431 Request Head Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
)

// headBytesMax bounds an incomplete head on either side.
const headBytesMax = 32 << 10

func (b *backend) open(l *loop) error {
	listener, port, err := rawio.Listen(0)
	if err != nil {
		return fmt.Errorf("opening the back end: %w", err)
	}
	b.listener, b.port = listener, port
	b.prepare(0, 0)
	if err := b.secure.open(l, "http/1.1", serveH1); err != nil {
		return err
	}
	if err := l.watch(listener, b, unix.EPOLLIN); err != nil {
		return fmt.Errorf("watching the back end's listener: %w", err)
	}
	return nil
}

func (b *backend) prepare(bodyBytes, uploadBytes int) {
	head := "HTTP/1.1 200 OK\r\nServer: backend\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\nContent-Type: text/plain\r\n" +
		"Content-Length: " + strconv.Itoa(bodyBytes) + "\r\n\r\n"
	b.response = append([]byte(head), pattern(bodyBytes)...)
	b.upload = pattern(uploadBytes)
	if max(bodyBytes, uploadBytes) <= MessageBytesMax {
		b.message, b.echo = clientMessage(uploadBytes), serverMessage(bodyBytes)
	}
}

func (b *backend) ready(l *loop, _ uint32) {
	for {
		fd, err := rawio.Accept(b.listener)
		if err != nil {
			return
		}
		serveH1(l, socket{fd: fd})
	}
}

// serveH1 watches a connection and reads what has come already.
func serveH1(l *loop, accepted socket) {
	s := &serverConn{socket: accepted}
	if l.watchSocket(&s.socket, s) && s.secure != nil {
		s.ready(l, unix.EPOLLIN)
	}
}

// serverConn is a connection from a proxy to the back end.
type serverConn struct {
	socket
	checked   bool // the first request had X-Forwarded-For
	ended     bool // the proxy has sent its last byte
	closing   bool // close when the answers are out
	closed    bool
	left      int    // request body bytes to come
	partial   []byte // an incomplete head
	unsent    []byte // the rest of the answer being sent
	waiting   int    // further answers that are due: the proxy pipelines
	corrupted bool   // the body being read is not what was sent
	upgraded  bool   // messages of a WebSocket follow
}

func (s *serverConn) ready(l *loop, events uint32) {
	if events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		s.ended = true
	}
	if events&unix.EPOLLOUT != 0 {
		s.writable()
		if len(s.unsent) > 0 {
			s.flush(l)
		}
	}
	for events&rawio.InputMask != 0 && !s.closed {
		n, errno := s.recv(l.in)
		if errno == syscall.EAGAIN {
			return
		}
		if errno != 0 || n == 0 {
			s.close(l)
			return
		}
		s.consume(l, l.in[:n])
		if s.drained(n, len(l.in)) && !s.ended {
			return
		}
	}
}

// consume handles all requests in the input.
func (s *serverConn) consume(l *loop, in []byte) {
	for len(in) > 0 && !s.closing && !s.closed {
		if s.upgraded {
			s.messages(l, in)
			return
		}
		if s.left > 0 {
			taken := min(len(in), s.left)
			offset := len(l.backend.upload) - s.left
			if !bytes.Equal(in[:taken], l.backend.upload[offset:offset+taken]) {
				s.corrupted = true
			}
			s.left -= taken
			in = in[taken:]
			if s.left == 0 {
				s.answerBody(l)
			}
			continue
		}
		if len(s.partial) > 0 {
			s.partial = append(s.partial, in...)
			in = s.partial
		}
		end := bytes.Index(in, []byte("\r\n\r\n"))
		if end < 0 {
			if len(s.partial) == 0 {
				s.partial = append(s.partial, in...)
			}
			if len(in) > headBytesMax {
				s.refuse(l, answerHeadTooLarge)
			}
			return
		}
		s.request(l, parseHead(in[:end+2]))
		in = in[end+4:]
		s.partial = nil
	}
}

func (s *serverConn) request(l *loop, fields headFields) {
	switch {
	case !s.checked && !fields.forwarded:
		s.refuse(l, answerNoForwardedFor)
	case fields.upgrade:
		s.upgraded = true
		s.unsent = answerUpgrade(fields.key)
		s.flush(l)
	case fields.chunked:
		s.refuse(l, answerNoLength)
	case len(l.backend.upload) > 0 && fields.length != len(l.backend.upload):
		// Readiness probes come without a body while an upload is being prepared.
		if fields.length > 0 {
			s.refuse(l, answerNoLength)
			return
		}
		s.answer(l)
	case fields.length > 0 && len(l.backend.upload) == 0:
		s.refuse(l, answerCorrupt)
	case fields.length > 0:
		s.left = fields.length
	default:
		s.answer(l)
	}
	s.checked = true
}

// messages answers each whole message, and closes after one that is not what was sent.
func (s *serverConn) messages(l *loop, in []byte) {
	if len(s.partial) > 0 {
		s.partial = append(s.partial, in...)
		in = s.partial
	}
	size := len(l.backend.message)
	for len(in) >= size && !s.closed {
		if !bytes.Equal(in[:size], l.backend.message) {
			s.close(l)
			return
		}
		in = in[size:]
		if len(s.unsent) == 0 {
			s.unsent = l.backend.echo
		} else { // a copy, since what is being sent belongs to all connections
			s.unsent = append(s.unsent[:len(s.unsent):len(s.unsent)], l.backend.echo...)
		}
		s.flush(l)
	}
	s.partial = append(s.partial[:0], in...)
}

func (s *serverConn) answerBody(l *loop) {
	if s.corrupted {
		s.refuse(l, answerCorrupt)
		return
	}
	s.answer(l)
}

func (s *serverConn) answer(l *loop) {
	if len(s.unsent) > 0 {
		s.waiting++
		return
	}
	s.unsent = l.backend.response
	s.flush(l)
}

func (s *serverConn) refuse(l *loop, text string) {
	s.closing = true
	if len(s.unsent) == 0 {
		s.unsent = []byte(text)
		s.flush(l)
	}
}

func (s *serverConn) flush(l *loop) {
	for len(s.unsent) > 0 {
		n, errno := s.send(s.unsent)
		if errno == syscall.EAGAIN {
			return
		}
		if errno != 0 {
			s.close(l)
			return
		}
		s.unsent = s.unsent[n:]
		if len(s.unsent) == 0 && s.waiting > 0 {
			s.waiting--
			s.unsent = l.backend.response
		}
	}
	if s.closing {
		s.close(l)
	}
}

func (s *serverConn) close(l *loop) {
	if !s.closed {
		s.closed = true
		l.closeWatched(&s.socket)
	}
}
