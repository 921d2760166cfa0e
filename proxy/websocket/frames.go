package websocket

import "encoding/binary"

// Tracker follows the frames of one direction of a WebSocket by their headers alone (RFC 6455 section 5.2), to know where
// a frame of ours would not fall into the middle of another. The zero value stands before the first frame.
type Tracker struct {
	left   uint64 // of the payload, and of the masking key
	header [10]byte
	have   uint8 // bytes of header
	ended  bool  // a close frame has begun: none may follow it
	broken bool  // this is no WebSocket: nothing is known any more
}

// Parts of a frame's header.
const (
	opcodeMask  = 0x0f
	opcodeClose = 0x8
	maskBit     = 0x80
	maskBytes   = 4
	length16    = 126 // two bytes follow with the length
	length64    = 127 // eight do
)

// headerBytes is the size of the header without masking key, as far as its first two bytes tell.
func headerBytes(second byte) uint8 {
	switch second &^ maskBit {
	case length16:
		return 2 + 2
	case length64:
		return 2 + 8
	}
	return 2
}

// AtBoundary reports whether another frame may be put behind what has passed.
func (t *Tracker) AtBoundary() bool { return t.have == 0 && t.left == 0 && !t.ended && !t.broken }

// Pass follows p.
func (t *Tracker) Pass(p []byte) {
	for len(p) > 0 && !t.broken {
		p = p[t.step(p):]
	}
}

// PassFrame follows p up to the end of the frame under way and returns how many bytes that is; if p ends before, all.
func (t *Tracker) PassFrame(p []byte) int {
	done := 0
	for done < len(p) && !t.AtBoundary() && !t.broken && !t.ended {
		done += t.step(p[done:])
	}
	if t.broken || t.ended {
		return len(p)
	}
	return done
}

// step takes a part of p, which is not empty: payload, or bytes of a header.
func (t *Tracker) step(p []byte) int {
	if t.left > 0 {
		n := min(uint64(len(p)), t.left)
		t.left -= n
		return int(n)
	}
	need := uint8(2)
	if t.have >= 2 {
		need = headerBytes(t.header[1])
	}
	n := copy(t.header[t.have:need], p)
	t.have += uint8(n)
	if t.have >= 2 && t.have == headerBytes(t.header[1]) {
		t.endHeader()
	}
	return n
}

// endHeader takes what a complete header says.
func (t *Tracker) endHeader() {
	t.have = 0
	t.ended = t.ended || t.header[0]&opcodeMask == opcodeClose
	switch length := t.header[1] &^ maskBit; length {
	case length16:
		t.left = uint64(binary.BigEndian.Uint16(t.header[2:]))
	case length64:
		t.left = binary.BigEndian.Uint64(t.header[2:])
		t.broken = t.left>>63 != 0
	default:
		t.left = uint64(length)
	}
	if t.header[1]&maskBit != 0 {
		t.left += maskBytes
	}
}

// statusGoingAway tells that an endpoint leaves, such as a server that is shut down (RFC 6455 section 7.4.1).
const statusGoingAway = 1001

// CloseGoingAway is the close frame of a server that goes away. Servers do not mask.
func CloseGoingAway() [4]byte {
	return [4]byte{0x80 | opcodeClose, 2, statusGoingAway >> 8, statusGoingAway & 0xff}
}
