package generator

import (
	"bytes"
	"slices"
	"strings"

	"golang.org/x/net/http2/hpack"
)

// bodyBytesMaxH2 is what fits into one DATA frame, with the prefix of a gRPC message.
const bodyBytesMaxH2 = frameBytesMax - grpcPrefixBytes

// grpcPrefixBytes come before each message: not compressed, and its length.
const grpcPrefixBytes = 5

// grpcMessage puts the prefix before a message.
func grpcMessage(message []byte) []byte {
	n := len(message)
	return append([]byte{0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, message...)
}

// authority is what the connections of one group ask for: one host, as clients do, and the paths below it.
type authority struct {
	fields tableFields
	fixed  []byte // method and scheme, before the path
	paths  [][]byte
	body   []byte
}

// authorities sorts whole heads of HTTP/1.1 by host.
func authorities(heads []string, command *Command) []*authority {
	var hosts []string
	groups := map[string]*authority{}
	for _, head := range heads {
		lines := strings.Split(strings.TrimSuffix(head, "\r\n\r\n"), "\r\n")
		host := strings.TrimPrefix(lines[1], "Host: ")
		a := groups[host]
		if a == nil {
			a = newAuthority(host, lines[2:], command)
			hosts, groups[host] = append(hosts, host), a
		}
		a.paths = append(a.paths, appendPath(nil, strings.Fields(lines[0])[1]))
	}
	var all []*authority
	for _, host := range hosts {
		all = append(all, groups[host])
	}
	return all
}

func newAuthority(host string, lines []string, command *Command) *authority {
	a := &authority{fields: tableFields{{Name: ":authority", Value: host}}}
	method, scheme := staticGET, staticHTTP
	if command.UploadBytes > 0 {
		method, a.body = staticPOST, pattern(command.UploadBytes)
	}
	if command.Secure {
		scheme = staticHTTPS
	}
	if command.GRPC {
		method, a.body = staticPOST, grpcMessage(pattern(command.UploadBytes))
		a.fields = append(a.fields, hpack.HeaderField{Name: "content-type", Value: "application/grpc"}, hpack.HeaderField{Name: "te", Value: "trailers"})
	}
	a.fixed = appendIndexed(appendIndexed(nil, method), scheme)
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		if name = strings.ToLower(name); name != "content-type" || !command.GRPC {
			a.fields = append(a.fields, hpack.HeaderField{Name: name, Value: value})
		}
	}
	return a
}

// h2Client is the client's end of a connection, whatever its streams are for.
type h2Client struct {
	link
	target *target
	asks   *authority
	reader *blockReader
	nextID uint32
	next   int // index of the next path
}

// greet connects, and says what a client says first.
func (c *h2Client) greet(l *loop, s side) bool {
	if !c.open(c.target) || !l.watchSocket(&c.socket, s) {
		return false
	}
	c.begin(s)
	c.reader, c.nextID = newBlockReader(), 1
	c.out = append(c.out, preface...)
	c.out = appendGreeting(c.out, settingPush, 0, settingWindow, streamWindowOffered)
	c.later(l)
	return true
}

// openStream sends the head for the next path, and returns the number of its stream.
func (c *h2Client) openStream(l *loop, flags byte) uint32 {
	id, at := c.nextID, len(c.out)
	c.out = c.table.appendSize(appendFrameHead(c.out, 0, frameHeaders, flagEndHeaders|flags, id))
	c.out = append(append(c.out, c.asks.fixed...), c.asks.paths[c.next]...)
	c.out = c.table.append(c.out, c.asks.fields)
	c.endFrame(at)
	c.nextID += 2
	if c.next++; c.next == len(c.asks.paths) {
		c.next = 0
	}
	c.later(l)
	return id
}

// h2Conn is a client's connection with a fixed number of streams in flight.
type h2Conn struct {
	h2Client
	body    []byte // what answers must have
	grpc    bool
	streams []*h2Stream
	flying  map[uint32]*h2Stream
	waiting []*h2Stream // for the connection's window, or for another connection
	leaving bool
}

// h2Stream is the place of one request in flight.
type h2Stream struct {
	conn   *h2Conn
	asked  bool
	id     uint32
	due    int64
	head   bool // of the answer, has come
	ended  bool // grpc-status 0 has come
	offset int
	wrong  string // why the answer is none
}

func newH2Conn(t *target, asks *authority, body []byte, command *Command) *h2Conn {
	c := &h2Conn{h2Client: h2Client{target: t, asks: asks}, body: body, grpc: command.GRPC, flying: map[uint32]*h2Stream{}}
	c.fd = -1
	for range command.Streams {
		c.streams = append(c.streams, &h2Stream{conn: c})
	}
	return c
}

func (c *h2Conn) connect(l *loop) bool {
	c.leaving = false
	return c.greet(l, c)
}

func (c *h2Conn) disconnect(l *loop) {
	l.closeWatched(&c.socket)
	clear(c.flying)
	c.waiting = c.waiting[:0]
}

func (s *h2Stream) of() *target { return s.conn.target }
func (s *h2Stream) busy() bool  { return s.asked }

func (s *h2Stream) disconnect(l *loop) { s.conn.disconnect(l) }

func (s *h2Stream) fail(l *loop, reason string) { s.conn.broken(l, reason) }

func (s *h2Stream) send(l *loop, due int64) bool {
	c := s.conn
	if c.fd < 0 && !c.connect(l) {
		c.target.fail(failConnect)
		return false
	}
	s.asked, s.due = true, due
	l.load.inFlight++
	c.ask(l, s)
	return true
}

// ask sends the request, or has it wait.
func (c *h2Conn) ask(l *loop, s *h2Stream) {
	if c.leaving || c.window < len(c.asks.body) {
		c.waiting = append(c.waiting, s)
		return
	}
	flags := byte(0)
	if len(c.asks.body) == 0 {
		flags = flagEndStream
	}
	s.id, s.head, s.ended, s.offset, s.wrong = c.openStream(l, flags), false, false, 0, ""
	c.flying[s.id] = s
	if len(c.asks.body) > 0 {
		c.window -= len(c.asks.body)
		c.out = append(appendFrameHead(c.out, len(c.asks.body), frameData, flagEndStream, s.id), c.asks.body...)
	}
}

// widened sends what waited for the connection's window.
func (c *h2Conn) widened(l *loop) {
	for !c.leaving && len(c.waiting) > 0 && c.window >= len(c.asks.body) {
		s := c.waiting[0]
		c.waiting = slices.Delete(c.waiting, 0, 1)
		c.ask(l, s)
	}
}

func (c *h2Conn) frame(l *loop, f *frame) string {
	if f.kind == frameGoAway {
		return c.goAway(l, f)
	}
	s := c.flying[f.stream]
	if s == nil {
		if f.kind == frameHeaders || f.kind == frameData {
			return failExtra
		}
		return ""
	}
	switch f.kind {
	case frameReset:
		s.wrong = failReset
		c.finish(l, s)
		return ""
	case frameHeaders:
		if reason := c.headers(f, s); reason != "" {
			return reason
		}
	case frameData:
		content, ok := f.unpadded()
		if !ok {
			return failFrame
		}
		s.data(content, c.body)
	default:
		return ""
	}
	if f.flags&flagEndStream != 0 {
		c.finish(l, s)
	}
	return ""
}

func (c *h2Conn) headers(f *frame, s *h2Stream) string {
	block, ok := f.unpadded()
	if !ok || f.flags&flagEndHeaders == 0 {
		return failFrame
	}
	head, ok := c.reader.read(block)
	switch {
	case !ok:
		return failFrame
	case s.head:
		s.ended = head.grpcOK
	case head.interim:
	case !head.ok:
		s.wrong = failStatus
	case head.length >= 0 && head.length != int64(len(c.body)):
		s.wrong = failFraming
	default:
		s.head = true
		if head.generation >= 0 {
			c.target.sawGeneration(head.generation)
		}
	}
	return ""
}

func (s *h2Stream) data(content, body []byte) {
	switch {
	case s.wrong != "":
	case len(content) > len(body)-s.offset:
		s.wrong = failExtra
	case !bytes.Equal(content, body[s.offset:s.offset+len(content)]):
		s.wrong = failCorrupt
	}
	s.offset += len(content)
}

// finish ends a stream whose answer is complete.
func (c *h2Conn) finish(l *loop, s *h2Stream) {
	delete(c.flying, s.id)
	if s.wrong == "" && (!s.head || s.offset != len(c.body) || c.grpc && !s.ended) {
		s.wrong = failTruncated
	}
	now := l.now()
	if s.wrong != "" {
		c.target.fail(s.wrong)
	} else {
		c.target.answered(l, now, s.due)
	}
	s.release(l, now)
	if c.leaving && len(c.flying) == 0 {
		c.moveOn(l)
	}
}

func (s *h2Stream) release(l *loop, now int64) {
	s.asked = false
	l.load.released(l, s, now)
}

// goAway lets the streams that the other end has seen come to their end; the others go to the next connection.
func (c *h2Conn) goAway(l *loop, f *frame) string {
	if len(f.payload) < 8 {
		return failFrame
	}
	c.leaving = true
	last := uint32(f.payload[0])<<24 | uint32(f.payload[1])<<16 | uint32(f.payload[2])<<8 | uint32(f.payload[3])
	for _, s := range c.streams {
		if c.flying[s.id] == s && s.id > last {
			delete(c.flying, s.id)
			c.waiting = append(c.waiting, s)
		}
	}
	if len(c.flying) == 0 {
		c.moveOn(l)
	}
	return ""
}

// moveOn opens the next connection when there is something to send on it.
func (c *h2Conn) moveOn(l *loop) {
	waiting := slices.Clone(c.waiting)
	c.disconnect(l)
	c.target.result.Reconnects++
	if len(waiting) > 0 && !c.connect(l) {
		c.lose(l, waiting, failConnect)
		return
	}
	for _, s := range waiting {
		c.ask(l, s)
	}
}

// broken ends the connection, and with it every request in flight. Without one it is the proxy's right to close.
func (c *h2Conn) broken(l *loop, reason string) {
	var lost []*h2Stream
	for _, s := range c.streams {
		if s.asked {
			lost = append(lost, s)
		}
	}
	c.disconnect(l)
	if len(lost) == 0 {
		c.target.result.Reconnects++
	}
	c.lose(l, lost, reason)
}

func (c *h2Conn) lose(l *loop, lost []*h2Stream, reason string) {
	for _, s := range lost {
		c.target.fail(reason)
		s.release(l, l.now())
	}
}
