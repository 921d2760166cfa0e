package wire

import (
	"bytes"
	"testing"
)

// inputBytesMax keeps one input of a fuzz test fast when it is fed byte by byte.
const inputBytesMax = 4 << 10

// byteByByte are the ends of every prefix of in.
func byteByByte(in []byte) []int {
	ends := make([]int, 0, len(in))
	for i := range in {
		ends = append(ends, i+1)
	}
	return ends
}

func FuzzRequest(f *testing.F) {
	addCases(f, "request", func(c *wireCase) { f.Add(c.in, uint16(len(c.in)/2)) })
	addCases(f, "chunked", func(c *wireCase) {
		f.Add(append([]byte("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"), c.in...), uint16(60))
	})
	f.Fuzz(func(t *testing.T, in []byte, cut uint16) {
		if len(in) > inputBytesMax || int(cut) > len(in) {
			return
		}
		c := &wireCase{}
		whole := requestOutcome(c, in, []int{len(in)})
		for _, ends := range [][]int{byteByByte(in), {int(cut), len(in)}} {
			if got := requestOutcome(c, in, ends); got != whole && len(in) > 0 {
				t.Fatalf("%q: whole\n%sin parts\n%s", in, whole, got)
			}
		}
		checkRoundTrip(t, in)
		checkReadings(t, in)
	})
}

func FuzzResponse(f *testing.F) {
	addCases(f, "response", func(c *wireCase) { f.Add(c.in, uint16(len(c.in)/2), c.has("head")) })
	f.Fuzz(func(t *testing.T, in []byte, cut uint16, toHead bool) {
		if len(in) > inputBytesMax || int(cut) > len(in) {
			return
		}
		c := &wireCase{}
		if toHead {
			c.options = []string{"head"}
		}
		whole := responseOutcome(c, in, []int{len(in)})
		for _, ends := range [][]int{byteByByte(in), {int(cut), len(in)}} {
			if got := responseOutcome(c, in, ends); got != whole && len(in) > 0 {
				t.Fatalf("%q: whole\n%sin parts\n%s", in, whole, got)
			}
		}
		checkResponseRoundTrip(t, in, toHead)
	})
}

func FuzzChunked(f *testing.F) {
	addCases(f, "chunked", func(c *wireCase) { f.Add(c.in, uint16(len(c.in)/2)) })
	f.Fuzz(func(t *testing.T, in []byte, cut uint16) {
		if len(in) > inputBytesMax || int(cut) > len(in) {
			return
		}
		whole := chunksOutcome(nil, in, []int{len(in)})
		for _, ends := range [][]int{byteByByte(in), {int(cut), len(in)}} {
			if got := chunksOutcome(nil, in, ends); got != whole {
				t.Fatalf("%q: whole\n%sin parts\n%s", in, whole, got)
			}
		}
		data, _, done, _ := readChunks(in, []int{len(in)})
		if !done {
			return
		}
		var canonical []byte
		if len(data) > 0 {
			canonical = append(append(AppendChunkHeader(nil, len(data)), data...), ChunkEnd...)
		}
		canonical = append(canonical, LastChunk...)
		if again, consumed, ok, _ := readChunks(canonical, []int{len(canonical)}); !ok || consumed != len(canonical) || !bytes.Equal(again, data) {
			t.Fatalf("%q: the data %q becomes %q", in, data, again)
		}
	})
}
