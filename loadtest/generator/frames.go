package generator

import (
	"encoding/binary"
	"syscall"

	"golang.org/x/sys/unix"

	"rauta.io/rauta/loadtest/rawio"
)

// HTTP/2 framing (RFC 9113 sections 4 and 6), as far as both ends of the load test need it.
const (
	frameHeadBytes = 9
	frameBytesMax  = 16384 // what nobody may refuse, and nobody here exceeds
	preface        = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

	frameData         = 0
	frameHeaders      = 1
	frameReset        = 3
	frameSettings     = 4
	framePing         = 6
	frameGoAway       = 7
	frameWindowUpdate = 8

	flagEndStream  = 0x1 // of DATA and HEADERS
	flagAck        = 0x1 // of SETTINGS and PING
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20

	settingTable   = 1
	settingPush    = 2
	settingStreams = 3
	settingWindow  = 4
	settingConnect = 8 // RFC 8441 section 3
)

const (
	// windowDefault is what both sides may send before any WINDOW_UPDATE.
	windowDefault = 65535
	// windowOffered is how far both ends raise their connection windows: far enough to be no limit for seconds.
	windowOffered = 1 << 30
	// streamWindowOffered holds any body of an HTTP/2 scenario.
	streamWindowOffered = 1 << 20
	// streamsOffered is what the back end allows on a connection; common servers allow 100 to 250.
	streamsOffered = 250
	// tableBytes is the dynamic table of header blocks, the default of RFC 9113.
	tableBytes = 4096
)

type frame struct {
	kind, flags byte
	stream      uint32
	payload     []byte
}

// cutFrame takes a whole frame from the input.
func cutFrame(in []byte) (f frame, rest []byte, whole bool) {
	if len(in) < frameHeadBytes {
		return f, in, false
	}
	length := int(in[0])<<16 | int(in[1])<<8 | int(in[2])
	if len(in) < frameHeadBytes+length {
		return f, in, false
	}
	f = frame{in[3], in[4], binary.BigEndian.Uint32(in[5:]) &^ (1 << 31), in[frameHeadBytes : frameHeadBytes+length]}
	return f, in[frameHeadBytes+length:], true
}

func appendFrameHead(b []byte, length int, kind, flags byte, stream uint32) []byte {
	b = append(b, byte(length>>16), byte(length>>8), byte(length), kind, flags)
	return binary.BigEndian.AppendUint32(b, stream)
}

func appendWindowUpdate(b []byte, increment uint32) []byte {
	return binary.BigEndian.AppendUint32(appendFrameHead(b, 4, frameWindowUpdate, 0, 0), increment)
}

// appendGreeting is the first thing that either end says: its settings, and credit for the whole connection.
func appendGreeting(b []byte, settings ...uint32) []byte {
	b = appendFrameHead(b, 3*len(settings), frameSettings, 0, 0)
	for i := 0; i < len(settings); i += 2 {
		b = binary.BigEndian.AppendUint16(b, uint16(settings[i]))
		b = binary.BigEndian.AppendUint32(b, settings[i+1])
	}
	return appendWindowUpdate(b, windowOffered)
}

// unpadded is the content of a DATA or HEADERS frame.
func (f *frame) unpadded() ([]byte, bool) {
	content, padding, skip := f.payload, 0, 0
	if f.flags&flagPadded != 0 {
		if len(content) == 0 {
			return nil, false
		}
		padding, skip = int(content[0]), 1
	}
	if f.kind == frameHeaders && f.flags&flagPriority != 0 {
		skip += 5
	}
	if skip+padding > len(content) {
		return nil, false
	}
	return content[skip : len(content)-padding], true
}

// link is one end of an HTTP/2 connection: what both ends do alike. Frames of one turn leave in one send.
type link struct {
	socket
	side     side
	skip     string // that the other end must say before its first frame
	partial  []byte // an incomplete frame
	out      []byte // frames to send
	dirty    bool   // is in the loop's list of those that have something to send
	window   int    // DATA bytes that may be sent
	received int    // DATA bytes taken since the last credit
	table    tableState

	streamWindow int  // DATA bytes that may be sent on a new stream
	connects     bool // the other end takes extended CONNECT
}

// side is what an end does of its own. A reason is why the connection is of no use any more, or "".
type side interface {
	handler
	frame(l *loop, f *frame) (reason string)
	widened(l *loop)
	broken(l *loop, reason string)
}

// The reasons for which a connection of HTTP/2 fails.
const (
	failFrame    = "malformed or unexpected frame"
	failSettings = "settings that the load test cannot work with"
	failReset    = "stream reset"
)

func (k *link) begin(s side) {
	k.side, k.partial, k.out, k.window, k.received = s, k.partial[:0], k.out[:0], windowDefault, 0
	k.table, k.streamWindow, k.connects = tableEmpty, windowDefault, false
}

// endFrame writes the length of the frame whose head is at a position of the output, and which is the last one.
func (k *link) endFrame(at int) {
	length := len(k.out) - at - frameHeadBytes
	k.out[at], k.out[at+1], k.out[at+2] = byte(length>>16), byte(length>>8), byte(length)
}

// later has the output sent at the end of the turn.
func (k *link) later(l *loop) {
	if !k.dirty {
		k.dirty = true
		l.dirty = append(l.dirty, k)
	}
}

func (k *link) flush() {
	k.dirty = false
	if k.fd < 0 || len(k.out) == 0 {
		return
	}
	n, _ := k.send(k.out) // the event that follows an error tells of it
	k.out = k.out[:copy(k.out, k.out[n:])]
}

// ready reads until there is nothing left.
func (k *link) ready(l *loop, events uint32) {
	if events&unix.EPOLLOUT != 0 {
		k.writable()
		if len(k.out) > 0 {
			k.flush()
		}
	}
	fd := k.fd
	for events&rawio.InputMask != 0 && k.fd == fd && fd >= 0 {
		n, errno := k.recv(l.in)
		if errno == syscall.EAGAIN {
			return
		}
		if errno != 0 || n == 0 {
			k.side.broken(l, failClosed)
			return
		}
		if reason := k.consume(l, l.in[:n]); reason != "" {
			k.side.broken(l, reason)
			return
		}
		if k.fd == fd && k.drained(n, len(l.in)) && events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) == 0 {
			return
		}
	}
}

func (k *link) consume(l *loop, in []byte) string {
	if k.skip != "" {
		n := min(len(in), len(k.skip))
		if string(in[:n]) != k.skip[:n] {
			return failFrame
		}
		k.skip, in = k.skip[n:], in[n:]
	}
	if len(k.partial) > 0 {
		k.partial = append(k.partial, in...)
		in = k.partial
	}
	fd := k.fd
	for {
		f, rest, whole := cutFrame(in)
		if !whole {
			if len(in) >= 3 && int(in[0])<<16|int(in[1])<<8|int(in[2]) > frameBytesMax {
				return failFrame
			}
			k.partial = append(k.partial[:0], in...) // moves within the buffer, or copies out of the loop's
			return ""
		}
		in = rest
		if reason := k.dispatch(l, &f); reason != "" || k.fd != fd {
			return reason
		}
	}
}

func (k *link) dispatch(l *loop, f *frame) string {
	switch f.kind {
	case frameSettings:
		return k.settings(l, f)
	case framePing:
		if len(f.payload) != 8 {
			return failFrame
		}
		if f.flags&flagAck == 0 {
			k.out = append(appendFrameHead(k.out, 8, framePing, flagAck, 0), f.payload...)
			k.later(l)
		}
		return ""
	case frameWindowUpdate:
		if len(f.payload) != 4 {
			return failFrame
		}
		if f.stream == 0 {
			k.window += int(binary.BigEndian.Uint32(f.payload))
			k.side.widened(l)
			return ""
		}
	case frameData:
		if k.received += len(f.payload); k.received > windowOffered/2 {
			k.out = appendWindowUpdate(k.out, uint32(k.received))
			k.received = 0
			k.later(l)
		}
	}
	return k.side.frame(l, f)
}

// settings refuses windows that whole bodies do not fit.
func (k *link) settings(l *loop, f *frame) string {
	if f.flags&flagAck != 0 {
		return ""
	}
	for p := f.payload; len(p) >= 6; p = p[6:] {
		value := binary.BigEndian.Uint32(p[2:])
		switch binary.BigEndian.Uint16(p) {
		case settingTable:
			if value < tableBytes {
				k.table = tableShrunk
			}
		case settingWindow:
			if value < frameBytesMax {
				return failSettings
			}
			k.streamWindow = int(value)
		case settingConnect:
			k.connects = value == 1
		}
	}
	k.out = appendFrameHead(k.out, 0, frameSettings, flagAck, 0)
	k.later(l)
	k.side.widened(l)
	return k.side.frame(l, f)
}
