package generator

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"

	"golang.org/x/net/http2/hpack"
	"golang.org/x/sys/unix"

	"rauta.io/rauta/loadtest/rawio"
)

// headsChecked is the number of requests of each connection whose fields are looked at. Reading all of them would cost
// more than everything else that the back end does.
const headsChecked = 16

// backendH2 is the back end for proxies that speak HTTP/2 to it: without TLS by prior knowledge, or with TLS.
type backendH2 struct {
	listener int
	port     int
	secure   tlsListener
	fields   tableFields // of the answer
	body     []byte
	upload   []byte // what request bodies must be
	trailers []byte // a block; nil: none
	prepared int    // counts the changes of the above
}

func (b *backendH2) open(l *loop) error {
	listener, port, err := rawio.Listen(0)
	if err != nil {
		return fmt.Errorf("opening the back end for HTTP/2: %w", err)
	}
	b.listener, b.port = listener, port
	b.prepare(&Command{})
	if err := b.secure.open(l, "h2", serveH2); err != nil {
		return err
	}
	if err := l.watch(listener, b, unix.EPOLLIN); err != nil {
		return fmt.Errorf("watching the back end's listener: %w", err)
	}
	return nil
}

func (b *backendH2) prepare(command *Command) {
	b.fields = tableFields{{Name: "server", Value: "backend"}, {Name: "date", Value: "Mon, 02 Jan 2006 15:04:05 GMT"}}
	b.body, b.upload, b.trailers = pattern(command.BodyBytes), nil, nil
	b.prepared++
	if command.UploadBytes > 0 {
		b.upload = pattern(command.UploadBytes)
	}
	if command.GRPC {
		b.body, b.upload = grpcMessage(b.body), grpcMessage(pattern(command.UploadBytes))
		b.fields = append(b.fields, hpack.HeaderField{Name: "content-type", Value: "application/grpc"})
		b.trailers = appendText(appendText([]byte{0}, "grpc-status"), "0")
		return
	}
	b.fields = append(b.fields, hpack.HeaderField{Name: "content-type", Value: "text/plain"},
		hpack.HeaderField{Name: "content-length", Value: strconv.Itoa(command.BodyBytes)})
}

func (b *backendH2) ready(l *loop, _ uint32) {
	for {
		fd, err := rawio.Accept(b.listener)
		if err != nil {
			return
		}
		serveH2(l, socket{fd: fd})
	}
}

func serveH2(l *loop, accepted socket) {
	s := &h2ServerConn{reader: newBlockReader(), taking: map[uint32]int{}}
	s.socket = accepted
	s.begin(s)
	s.skip = preface
	s.out = appendGreeting(s.out, settingStreams, streamsOffered, settingWindow, streamWindowOffered)
	if !l.watchSocket(&s.socket, s) {
		return
	}
	s.later(l)
	if s.secure != nil {
		s.ready(l, unix.EPOLLIN) // what came with the handshake
	}
}

// h2ServerConn is a connection from a proxy.
type h2ServerConn struct {
	link
	reader  *blockReader
	entered int // the back end's fields in this connection's table, by their count of changes
	heads   int
	taking  map[uint32]int // streams whose request is not complete: bytes taken, or corrupt
	owed    []uint32       // streams whose answer waits for the connection's window
}

// corrupt stands for the number of bytes of a body that is not what was sent.
const corrupt = -1

func (s *h2ServerConn) broken(l *loop, _ string) { l.closeWatched(&s.socket) }

func (s *h2ServerConn) frame(l *loop, f *frame) string {
	switch f.kind {
	case frameHeaders:
		return s.head(l, f)
	case frameData:
		return s.body(l, f)
	case frameReset:
		delete(s.taking, f.stream)
		s.owed = slices.DeleteFunc(s.owed, func(id uint32) bool { return id == f.stream })
	}
	return ""
}

func (s *h2ServerConn) head(l *loop, f *frame) string {
	if _, more := s.taking[f.stream]; more { // trailers
		return s.complete(l, f)
	}
	if s.heads < headsChecked {
		s.heads++
		block, ok := f.unpadded()
		if !ok || f.flags&flagEndHeaders == 0 {
			return failFrame
		}
		head, ok := s.reader.read(block)
		if !ok {
			return failFrame
		}
		if !head.forwarded {
			s.refuse(l, f.stream, "421")
			return ""
		}
	}
	s.taking[f.stream] = 0
	return s.complete(l, f)
}

func (s *h2ServerConn) body(l *loop, f *frame) string {
	taken, open := s.taking[f.stream]
	content, ok := f.unpadded()
	if !ok {
		return failFrame
	}
	if !open {
		return "" // refused
	}
	if upload := l.backendH2.upload; taken != corrupt {
		if len(content) > len(upload)-taken || !bytes.Equal(content, upload[taken:taken+len(content)]) {
			taken = corrupt
		} else {
			taken += len(content)
		}
	}
	s.taking[f.stream] = taken
	return s.complete(l, f)
}

// complete answers when the request has ended. Readiness probes come without a body.
func (s *h2ServerConn) complete(l *loop, f *frame) string {
	if f.flags&flagEndStream == 0 {
		return ""
	}
	taken := s.taking[f.stream]
	delete(s.taking, f.stream)
	if taken != 0 && taken != len(l.backendH2.upload) {
		s.refuse(l, f.stream, "422")
		return ""
	}
	if s.window < len(l.backendH2.body) {
		s.owed = append(s.owed, f.stream)
		return ""
	}
	s.answer(l, f.stream)
	return ""
}

func (s *h2ServerConn) widened(l *loop) {
	for len(s.owed) > 0 && s.window >= len(l.backendH2.body) {
		id := s.owed[0]
		s.owed = slices.Delete(s.owed, 0, 1)
		s.answer(l, id)
	}
}

func (s *h2ServerConn) answer(l *loop, id uint32) {
	b := &l.backendH2
	at := len(s.out)
	flags := byte(flagEndHeaders)
	if len(b.body) == 0 && b.trailers == nil {
		flags |= flagEndStream
	}
	if s.entered != b.prepared {
		s.entered = b.prepared
		if s.table == tableFilled {
			s.table = tableEmpty // with other fields, that is; the old ones only move down
		}
	}
	s.out = s.table.appendSize(appendFrameHead(s.out, 0, frameHeaders, flags, id))
	s.out = s.table.append(appendIndexed(s.out, staticOK), b.fields)
	s.endFrame(at)
	if len(b.body) > 0 {
		s.window -= len(b.body)
		flags = 0
		if b.trailers == nil {
			flags = flagEndStream
		}
		s.out = append(appendFrameHead(s.out, len(b.body), frameData, flags, id), b.body...)
	}
	if b.trailers != nil {
		s.out = append(appendFrameHead(s.out, len(b.trailers), frameHeaders, flagEndHeaders|flagEndStream, id), b.trailers...)
	}
	s.later(l)
}

// refuse is the answer to a request that a proxy damaged.
func (s *h2ServerConn) refuse(l *loop, id uint32, status string) {
	at := len(s.out)
	s.out = appendFrameHead(s.out, 0, frameHeaders, flagEndHeaders|flagEndStream, id)
	s.out = appendText(appendInteger(s.out, 0, 4, staticOK), status)
	s.endFrame(at)
	s.later(l)
}
