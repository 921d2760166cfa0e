//go:build linux

package loop

import (
	"bytes"
	"testing"
)

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

// inRecords puts content into records of a size.
func inRecords(content []byte, size int) []byte {
	var out []byte
	for len(content) > 0 {
		n := min(size, len(content))
		out = append(out, recordTypeHandshake, 3, 1, byte(n>>8), byte(n))
		out = append(out, content[:n]...)
		content = content[n:]
	}
	return out
}

func TestAHelloIsTheSameInSmallRecords(t *testing.T) {
	message := func(n int) []byte {
		m := append([]byte{typeClientHello, byte(n >> 16), byte(n >> 8), byte(n)}, make([]byte, n)...)
		for i := range m[handshakeHeaderBytes:] {
			m[handshakeHeaderBytes+i] = byte(i)
		}
		return m
	}
	after := []byte{20, 3, 3, 0, 1, 1, 23, 3} // a whole record, and the begin of one
	for _, n := range []int{0, 1, 443, 444, 445, 1700, 16000} {
		for _, size := range []int{1, 3, 448, 2000, 1 << 14} {
			got := refragment(append(inRecords(message(n), size), after...))
			want := append(inRecords(message(n), helloFragment), after...)
			if !bytes.Equal(got, want) {
				t.Errorf("%d bytes in records of %d: %d bytes come out, want %d", n, size, len(got), len(want))
			}
		}
	}
	hello := message(1000)
	for what, b := range map[string][]byte{
		"nothing":                   nil,
		"half a hello":              inRecords(hello, 400)[:700],
		"no hello":                  inRecords(append([]byte{2}, hello[1:]...), 400),
		"two messages in a record":  inRecords(append(hello[:len(hello):len(hello)], 1, 0, 0, 0), 2000),
		"an empty record":           append([]byte{recordTypeHandshake, 3, 1, 0, 0}, inRecords(hello, 400)...),
		"a record of another type":  append(inRecords(hello[:400], 400), append([]byte{23, 3, 1, 0, 1, 9}, inRecords(hello[400:], 400)...)...),
		"records of two versions":   append(inRecords(hello[:400], 400), append([]byte{recordTypeHandshake, 3, 3, 2, 92}, hello[400:]...)...),
		"a record beyond the limit": inRecords(message(20000), 1<<14+1),
		"plain text":                []byte("GET / HTTP/1.1\r\n\r\n"),
	} {
		if got := refragment(b); !bytes.Equal(got, b) {
			t.Errorf("%s is changed", what)
		}
	}
}
