package wire

import (
	"bytes"
	"testing"
)

// checkLineEnd holds indexLineEnd and its parts against the scalar definition.
func checkLineEnd(t *testing.T, b []byte) {
	t.Helper()
	wantName, wantEnd := indexLineEndScalar(b)
	name, end := indexLineEnd(b)
	if end != wantEnd || name > wantName {
		t.Fatalf("indexLineEnd(%q) = %d, %d; scalar %d, %d", b, name, end, wantName, wantEnd)
	}
	if got := indexValueEndSWAR(b); got != wantEnd {
		t.Fatalf("indexValueEndSWAR(%q) = %d; scalar %d", b, got, wantEnd)
	}
}

func TestEveryByteIsScannedLikeTheScalarDoesAtEveryPositionAndLength(t *testing.T) {
	for length := 0; length <= 100; length++ {
		b := bytes.Repeat([]byte{'a'}, length)
		checkLineEnd(t, b)
		for at := range b {
			for c := 0; c < 256; c++ {
				b[at] = byte(c)
				checkLineEnd(t, b)
			}
			b[at] = 'a'
		}
	}
}

func TestScanningFindsTheFirstOfTwoBytesThatStopIt(t *testing.T) {
	stops := []byte{'\t', '\r', '\n', 0, 0x1f, 0x7f, 0x80, 0xff, ' ', '!'}
	for _, length := range []int{2, 7, 8, 9, 31, 32, 33, 40, 63, 64, 65, 70} { // around the blocks of both scans
		b := bytes.Repeat([]byte{'a'}, length)
		for i := range b {
			for j := i + 1; j < length; j++ {
				for _, x := range stops {
					for _, y := range stops {
						b[i], b[j] = x, y
						checkLineEnd(t, b)
					}
				}
				b[j] = 'a'
			}
			b[i] = 'a'
		}
	}
}

func TestScanningStaysInsideTheSlice(t *testing.T) {
	b := bytes.Repeat([]byte{'a'}, 200)
	b[150] = '\n'
	for end := 0; end <= 150; end++ {
		if _, got := indexLineEnd(b[:end]); got != end {
			t.Fatalf("length %d: end %d", end, got)
		}
	}
}

func FuzzScanners(f *testing.F) {
	f.Add([]byte("Host: example.com\r\nAccept: text/html,application/xhtml+xml\r\n\r\n"))
	f.Add([]byte("\t\t\t\t\t\t\t\t\x7f\x80\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for i := 0; i < len(b) && i < 40; i++ { // every alignment
			checkLineEnd(t, b[i:])
		}
	})
}

func BenchmarkIndexLineEnd(b *testing.B) {
	line := []byte("User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0\r\n")
	b.Run("chosen", func(b *testing.B) {
		for b.Loop() {
			indexLineEnd(line)
		}
	})
	b.Run("swar", func(b *testing.B) {
		for b.Loop() {
			indexValueEndSWAR(line)
		}
	})
	b.Run("scalar", func(b *testing.B) {
		for b.Loop() {
			indexLineEndScalar(line)
		}
	})
}
