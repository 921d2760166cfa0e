package generator

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// connectFields turn a request head into one that asks for a WebSocket by extended CONNECT (RFC 8441 section 4).
var connectFields = tableFields{{Name: ":protocol", Value: "websocket"}, {Name: "sec-websocket-version", Value: "13"}}

// tunnelsTo is what the connections of one group ask for: a WebSocket on each path of one host.
func tunnelsTo(a *authority) *authority {
	fields := slices.Concat(connectFields[:1], a.fields, connectFields[1:])
	fixed := appendIndexed(appendText(appendInteger(nil, 0, 4, staticGET), "CONNECT"), staticHTTP)
	return &authority{fields: fields, fixed: fixed, paths: a.paths}
}

// h2Tunnels is a client's connection of HTTP/2 whose streams are WebSockets. A request is a message, and the answer the one
// that comes back; the first one of a stream waits for the tunnel.
type h2Tunnels struct {
	h2Client
	message, answer []byte
	sockets         []*h2WebSocket
	tunnels         map[uint32]*h2WebSocket
	waiting         []*h2WebSocket // for the proxy's settings, or for room in a window
}

// h2WebSocket is one stream, with one message in flight.
type h2WebSocket struct {
	conn     *h2Tunnels
	id       uint32 // 0: there is none
	accepted bool
	asked    bool
	due      int64
	room     int // bytes that may be sent on the stream
	received int // bytes since the stream was last given credit
	got      int // bytes of the answer
}

func newH2Tunnels(t *target, asks *authority, command *Command) *h2Tunnels {
	c := &h2Tunnels{h2Client: h2Client{target: t, asks: tunnelsTo(asks)}, message: clientMessage(command.UploadBytes), answer: serverMessage(command.BodyBytes),
		tunnels: map[uint32]*h2WebSocket{}}
	c.fd = -1
	for range command.Streams {
		c.sockets = append(c.sockets, &h2WebSocket{conn: c})
	}
	return c
}

func (c *h2Tunnels) disconnect(l *loop) {
	l.closeWatched(&c.socket)
	clear(c.tunnels)
	c.waiting = c.waiting[:0]
	for _, s := range c.sockets {
		s.id = 0
	}
}

func (s *h2WebSocket) of() *target { return s.conn.target }
func (s *h2WebSocket) busy() bool  { return s.asked }

func (s *h2WebSocket) disconnect(l *loop) { s.conn.disconnect(l) }

func (s *h2WebSocket) fail(l *loop, reason string) { s.conn.broken(l, reason) }

func (s *h2WebSocket) send(l *loop, due int64) bool {
	c := s.conn
	if c.fd < 0 && !c.greet(l, c) {
		c.target.fail(failConnect)
		return false
	}
	s.asked, s.due = true, due
	l.load.inFlight++
	c.proceed(l, s)
	return true
}

// proceed asks for the tunnel, or sends the message, or has either wait.
func (c *h2Tunnels) proceed(l *loop, s *h2WebSocket) {
	switch {
	case s.id == 0 && c.connects:
		c.ask(l, s)
	case s.id == 0 || s.accepted && min(c.window, s.room) < len(c.message):
		c.waiting = append(c.waiting, s)
	case s.accepted:
		c.window -= len(c.message)
		s.room -= len(c.message)
		c.out = append(appendFrameHead(c.out, len(c.message), frameData, 0, s.id), c.message...)
		c.later(l)
	}
}

func (c *h2Tunnels) ask(l *loop, s *h2WebSocket) {
	*s = h2WebSocket{conn: c, id: c.openStream(l, 0), asked: s.asked, due: s.due, room: c.streamWindow}
	c.tunnels[s.id] = s
}

// widened lets those go on that wait for a window, or for the settings.
func (c *h2Tunnels) widened(l *loop) {
	for range len(c.waiting) {
		s := c.waiting[0]
		c.waiting = slices.Delete(c.waiting, 0, 1)
		c.proceed(l, s)
	}
}

func (c *h2Tunnels) frame(l *loop, f *frame) string {
	s := c.tunnels[f.stream]
	switch {
	case f.kind == frameGoAway:
		return failClosed
	case f.kind == frameSettings && !c.connects:
		return failSettings
	case s == nil && (f.kind == frameHeaders || f.kind == frameData):
		return failExtra
	case s == nil:
		return ""
	}
	switch f.kind {
	case frameWindowUpdate:
		s.room += int(binary.BigEndian.Uint32(f.payload))
		c.widened(l)
	case frameReset:
		c.lose(l, s, failReset)
	case frameHeaders:
		return c.head(l, f, s)
	case frameData:
		content, ok := f.unpadded()
		if !ok {
			return failFrame
		}
		c.credit(l, s, len(f.payload))
		c.data(l, s, content, f.flags&flagEndStream != 0)
	}
	return ""
}

// head takes the answer to extended CONNECT.
func (c *h2Tunnels) head(l *loop, f *frame, s *h2WebSocket) string {
	block, ok := f.unpadded()
	if !ok || f.flags&flagEndHeaders == 0 {
		return failFrame
	}
	head, ok := c.reader.read(block)
	switch {
	case !ok:
		return failFrame
	case head.interim:
	case !head.ok || s.accepted || f.flags&flagEndStream != 0:
		c.lose(l, s, failStatus)
	default:
		s.accepted = true
		c.proceed(l, s)
	}
	return ""
}

func (c *h2Tunnels) data(l *loop, s *h2WebSocket, content []byte, end bool) {
	switch {
	case !s.asked && len(content) > 0 || len(content) > len(c.answer)-s.got:
		c.lose(l, s, failExtra)
	case !bytes.Equal(content, c.answer[s.got:s.got+len(content)]):
		c.lose(l, s, failCorrupt)
	case end:
		c.lose(l, s, failClosed)
	default:
		if s.got += len(content); s.got == len(c.answer) {
			s.got = 0
			now := l.now()
			c.target.answered(l, now, s.due)
			s.release(l, now)
		}
	}
}

// credit gives the stream's window back, half of it at a time.
func (c *h2Tunnels) credit(l *loop, s *h2WebSocket, n int) {
	if s.received += n; s.received >= streamWindowOffered/2 {
		c.out = binary.BigEndian.AppendUint32(appendFrameHead(c.out, 4, frameWindowUpdate, 0, s.id), uint32(s.received))
		s.received = 0
		c.later(l)
	}
}

func (s *h2WebSocket) release(l *loop, now int64) {
	s.asked = false
	l.load.released(l, s, now)
}

// lose gives a stream up, and its message. The next message opens another one.
func (c *h2Tunnels) lose(l *loop, s *h2WebSocket, reason string) {
	delete(c.tunnels, s.id)
	c.waiting = slices.DeleteFunc(c.waiting, func(w *h2WebSocket) bool { return w == s })
	s.id = 0
	c.target.fail(reason)
	if s.asked {
		s.release(l, l.now())
	}
}

// broken ends the connection, and with it every message in flight. Without one it is the proxy's right to close.
func (c *h2Tunnels) broken(l *loop, reason string) {
	var lost []*h2WebSocket
	for _, s := range c.sockets {
		if s.asked {
			lost = append(lost, s)
		}
	}
	c.disconnect(l)
	if len(lost) == 0 {
		c.target.result.Reconnects++
	}
	for _, s := range lost {
		c.target.fail(reason)
		s.release(l, l.now())
	}
}
