package generator

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"syscall"

	"golang.org/x/sys/unix"

	"rauta.io/rauta/loadtest/rawio"
)

const (
	// MessageBytesMax is the longest message of a WebSocket: it keeps the frame's head at its short form (RFC 6455 section 5.2).
	MessageBytesMax = 125
	// The client's key may be constant, since nobody caches in between, and with it the proof that it expects (section 1.3).
	webSocketKey    = "dGhlIHNhbXBsZSBub25jZQ=="
	webSocketAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
	// webSocketFields turn a request head into one for a WebSocket.
	webSocketFields = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + webSocketKey + "\r\n"
	webSocketGUID   = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
)

const (
	webSocketBinary = 0x82 // a whole message
	webSocketMasked = 0x80
)

// answerUpgrade is the back end's answer to a key: where clients have none (RFC 8441 section 5), proxies make one.
func answerUpgrade(key string) []byte {
	proof := sha1.Sum([]byte(key + webSocketGUID))
	head := []byte("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: ")
	return append(base64.StdEncoding.AppendEncode(head, proof[:]), "\r\n\r\n"...)
}

// clientMessage is a masked frame; the mask may be constant, for the same reason as the key.
func clientMessage(size int) []byte {
	mask := [4]byte{0x37, 0xfa, 0x21, 0x3d}
	b := append([]byte{webSocketBinary, webSocketMasked | byte(size)}, mask[:]...)
	for i, c := range pattern(size) {
		b = append(b, c^mask[i%4])
	}
	return b
}

func serverMessage(size int) []byte {
	return append([]byte{webSocketBinary, byte(size)}, pattern(size)...)
}

// wsConn is a client's WebSocket with one message in flight. A request is a message, and the answer the one that comes
// back; the first one of a connection waits for the upgrade.
type wsConn struct {
	socket
	target   *target
	upgrade  []byte // the head that asks for it
	message  []byte
	answer   []byte
	upgraded bool
	asked    bool
	due      int64
	got      []byte // of the 101, or of the answer
}

func newWSConn(t *target, head string, command *Command) *wsConn {
	upgrade := append([]byte(head[:len(head)-2]), webSocketFields+"\r\n"...)
	return &wsConn{socket: socket{fd: -1}, target: t, upgrade: upgrade, message: clientMessage(command.UploadBytes), answer: serverMessage(command.BodyBytes)}
}

func (c *wsConn) of() *target { return c.target }
func (c *wsConn) busy() bool  { return c.asked }

func (c *wsConn) disconnect(l *loop) {
	l.closeWatched(&c.socket)
	c.upgraded, c.got = false, c.got[:0]
}

func (c *wsConn) send(l *loop, due int64) bool {
	if c.fd < 0 && !(c.open(c.target) && l.watchSocket(&c.socket, c)) {
		c.target.fail(failConnect)
		return false
	}
	c.asked, c.due = true, due
	l.load.inFlight++
	if !c.upgraded {
		c.write(c.upgrade)
		return true
	}
	c.write(c.message)
	return true
}

// write relies on the kernel taking a whole message: there is never more than one. An error comes back as an event.
func (c *wsConn) write(b []byte) { c.socket.send(b) }

func (c *wsConn) ready(l *loop, events uint32) {
	if events&unix.EPOLLOUT != 0 {
		c.writable()
	}
	fd := c.fd
	for events&rawio.InputMask != 0 && c.fd == fd && fd >= 0 {
		n, errno := c.recv(l.in)
		switch {
		case errno == syscall.EAGAIN:
			return
		case (errno != 0 || n == 0) && c.asked:
			c.fail(l, failClosed)
			return
		case errno != 0 || n == 0:
			c.disconnect(l)
			c.target.result.Reconnects++
			return
		}
		c.take(l, l.in[:n])
	}
}

func (c *wsConn) take(l *loop, in []byte) {
	c.got = append(c.got, in...)
	if !c.upgraded {
		end := bytes.Index(c.got, []byte("\r\n\r\n"))
		if end < 0 {
			return
		}
		if !bytes.HasPrefix(c.got, []byte("HTTP/1.1 101 ")) || !bytes.Contains(c.got[:end], []byte(webSocketAccept)) || !c.asked {
			c.fail(l, failStatus)
			return
		}
		c.upgraded = true
		c.got = c.got[:copy(c.got, c.got[end+4:])]
		c.write(c.message)
	}
	switch {
	case len(c.got) > len(c.answer) || !c.asked && len(c.got) > 0:
		c.fail(l, failExtra)
	case !bytes.Equal(c.got, c.answer[:len(c.got)]):
		c.fail(l, failCorrupt)
	case len(c.got) == len(c.answer):
		c.got = c.got[:0]
		now := l.now()
		c.target.answered(l, now, c.due)
		c.release(l, now)
	}
}

func (c *wsConn) fail(l *loop, reason string) {
	c.target.fail(reason)
	c.disconnect(l)
	if c.asked {
		c.release(l, l.now())
	}
}

func (c *wsConn) release(l *loop, now int64) {
	c.asked = false
	l.load.released(l, c, now)
}
