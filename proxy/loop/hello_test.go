//go:build linux

package loop

import "testing"

// records are two handshake records, the first one with half of a ClientHello of 6 bytes, and one of data.
var records = []byte{22, 3, 1, 0, 5, 1, 0, 0, 6, 'a', 22, 3, 1, 0, 5, 'b', 'c', 'd', 'e', 'f', 23, 3, 3, 0, 1, 'x'}

// helloEnd and recordEnds are places in records.
const helloEnd = 20

var recordEnds = []int{10, 20, 26}

func TestTheEndOfAClientHelloIsFoundHoweverItComes(t *testing.T) {
	for step := 1; step <= len(records); step++ {
		var s helloScan
		for n := step; n <= len(records); n += step {
			if got, want := s.complete(records[:n]), n >= helloEnd; got != want {
				t.Errorf("steps of %d: after %d bytes complete is %v", step, n, got)
			}
		}
	}
}

func TestWhatIsNoClientHelloIsNotWaitedFor(t *testing.T) {
	for _, b := range [][]byte{[]byte("G"), {21, 3, 1, 0, 2}, {22, 3, 1, 0, 4, 2}} {
		var s helloScan
		if !s.complete(b) {
			t.Errorf("%v is waited for", b)
		}
	}
}

func TestPiecesNeverReachBeyondTheEndOfARecord(t *testing.T) {
	for step := 1; step <= len(records); step++ {
		var cut recordCut
		ends := map[int]bool{}
		for at := 0; at < len(records); {
			n := cut.next(records[at:min(at+step, len(records))])
			if n == 0 {
				t.Fatalf("steps of %d: no progress at %d", step, at)
			}
			for _, end := range recordEnds {
				if at < end && at+n > end {
					t.Errorf("steps of %d: the piece from %d to %d reaches beyond %d", step, at, at+n, end)
				}
				ends[at+n] = true
			}
			at += n
		}
		for _, end := range recordEnds {
			if !ends[end] {
				t.Errorf("steps of %d: no piece ends at %d", step, end)
			}
		}
	}
}
