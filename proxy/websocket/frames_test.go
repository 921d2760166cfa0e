package websocket

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// frame is a frame with n bytes of payload.
func frame(opcode byte, masked bool, n int) []byte {
	b := []byte{opcode, 0}
	switch {
	case n < length16:
		b[1] = byte(n)
	case n < 1<<16:
		b[1] = length16
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	default:
		b[1] = length64
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	if masked {
		b[1] |= maskBit
		b = append(b, 1, 2, 3, 4)
	}
	return append(b, bytes.Repeat([]byte{0x88}, n)...)
}

func TestFramesAreFollowedHoweverTheyAreCut(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var stream []byte
		ends := map[int]bool{0: true}
		for range 1 + random.IntN(8) {
			n := []int{0, 1, 2, 125, 126, 127, 200, 65535, 65536, 70000}[random.IntN(10)]
			stream = append(stream, frame([]byte{0x00, 0x01, 0x82, 0x80, 0x89, 0x8a}[random.IntN(6)], random.IntN(2) == 0, n)...)
			ends[len(stream)] = true
		}
		var whole, single Tracker
		for at := 0; at < len(stream); {
			n := min(1+random.IntN(1+random.IntN(len(stream))), len(stream)-at)
			one := single
			if cut := one.PassFrame(stream[at : at+n]); !ends[at] && ends[at+cut] != one.AtBoundary() || ends[at] && cut != 0 {
				t.Fatalf("the frame under way at %d ends at %d, boundary %v", at, at+cut, one.AtBoundary())
			}
			whole.Pass(stream[at : at+n])
			for i := at; i < at+n; i++ {
				single.Pass(stream[i : i+1])
				if single.AtBoundary() != ends[i+1] {
					t.Fatalf("after %d bytes: boundary %v, want %v", i+1, single.AtBoundary(), ends[i+1])
				}
			}
			at += n
			if whole.AtBoundary() != ends[at] {
				t.Fatalf("after %d bytes at once: boundary %v, want %v", n, whole.AtBoundary(), ends[at])
			}
		}
	}
}

func TestNothingFollowsACloseFrame(t *testing.T) {
	var tr Tracker
	tr.Pass(frame(0x81, false, 5))
	tr.Pass(frame(0x88, false, 2))
	if tr.AtBoundary() {
		t.Error("another frame could follow")
	}
	if n := tr.PassFrame([]byte("rest")); n != 4 {
		t.Errorf("%d bytes of the rest belong to it", n)
	}
}

func TestWhatIsNoFrameIsNeverABoundary(t *testing.T) {
	var tr Tracker
	tr.Pass([]byte{0x82, 0x7f, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3})
	if tr.AtBoundary() || tr.PassFrame([]byte("xyz")) != 3 || tr.AtBoundary() {
		t.Error("a length of 2^63 and more was believed")
	}
}

func TestTheCloseFrameIsAWholeFrame(t *testing.T) {
	var tr Tracker
	f := CloseGoingAway()
	if f != [4]byte{0x88, 2, 0x03, 0xe9} {
		t.Errorf("% x", f)
	}
	tr.Pass(f[:])
	if tr.left != 0 || tr.have != 0 || !tr.ended {
		t.Errorf("%+v", tr)
	}
}

func BenchmarkPass(b *testing.B) {
	message := bytes.Repeat(frame(0x82, false, 120), 10)
	var tr Tracker
	b.SetBytes(int64(len(message)))
	for b.Loop() {
		tr.Pass(message)
	}
}
