package wire

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// readChunks feeds in up to each of ends as a connection does: what was not consumed comes again.
func readChunks(in []byte, ends []int) (data []byte, consumed int, done bool, reason Reason) {
	var r ChunkReader
	for _, end := range ends {
		for consumed < end && !done {
			var part []byte
			var n int
			part, n, done, reason = r.Next(in[consumed:end])
			data = append(data, part...)
			consumed += n
			if reason != OK {
				return data, consumed, false, reason
			}
			if n == 0 && !done {
				panic("ChunkReader.Next consumed nothing and is not done")
			}
		}
	}
	return data, consumed, done, OK
}

func chunksOutcome(_ *wireCase, in []byte, ends []int) string {
	data, consumed, done, reason := readChunks(in, ends)
	var b strings.Builder
	fmt.Fprintf(&b, "data %q\n", data)
	switch {
	case reason != OK:
		fmt.Fprintln(&b, reason)
	case done:
		b.WriteString("done\n")
		writeRest(&b, in[consumed:])
	default:
		b.WriteString("more\n")
	}
	return b.String()
}

func TestChunkedBodiesHaveOneOutcomeHoweverTheyAreCut(t *testing.T) {
	runCases(t, "chunked", chunksOutcome)
}

// wholeAndInPieces gives the reason for in, which must not depend on how it is cut.
func wholeAndInPieces(t *testing.T, in string) Reason {
	t.Helper()
	_, _, _, whole := readChunks([]byte(in), []int{len(in)})
	for _, step := range []int{1, 7, 4096} {
		var ends []int
		for end := step; end < len(in); end += step {
			ends = append(ends, end)
		}
		if _, _, _, reason := readChunks([]byte(in), append(ends, len(in))); reason != whole {
			t.Errorf("%.40q: %v, in parts of %d %v", in, whole, step, reason)
		}
	}
	return whole
}

func TestExtensionsAreBoundedOverTheWholeBody(t *testing.T) {
	const chunk = "1;a=bcdefghijkl\r\n" // one byte over what is free
	body := func(chunks int) string { return strings.Repeat(chunk+"x\r\n", chunks) }
	if len(chunk) != ChunkHeaderBytesFree+1 {
		t.Fatal("the chunk header has the wrong length for this test")
	}
	if reason := wholeAndInPieces(t, body(ChunkExcessBytesMax)); reason != OK {
		t.Error("at the bound:", reason)
	}
	if reason := wholeAndInPieces(t, body(ChunkExcessBytesMax+1)); reason != ChunkOverhead {
		t.Error("over the bound:", reason)
	}
	if reason := wholeAndInPieces(t, "1;a="+strings.Repeat("b", 1<<20)); reason != ChunkOverhead {
		t.Error("one extension without end:", reason)
	}
}

func TestShortChunksWithoutExtensionsAreNoExcess(t *testing.T) {
	if reason := wholeAndInPieces(t, strings.Repeat("1\r\nx\r\n", 100_000)); reason != OK {
		t.Error(reason)
	}
}

func TestTrailersAreBounded(t *testing.T) {
	section := func(bytes int) string { // with its empty line and the overhead of one field
		return "0\r\nA:" + strings.Repeat("b", bytes-FieldOverheadBytes-len("A:\r\n\r\n")) + "\r\n\r\n"
	}
	if reason := wholeAndInPieces(t, section(TrailerBytesMax)); reason != OK {
		t.Error("at the bound:", reason)
	}
	for _, in := range []string{section(TrailerBytesMax + 1), "0\r\nA:" + strings.Repeat("b", 1<<20), "0\r\n" + strings.Repeat("A", 1<<20)} {
		if reason := wholeAndInPieces(t, in); reason != TrailerTooLarge {
			t.Errorf("%.20q: %v", in, reason)
		}
	}
}

func TestWrittenChunksReadTheSame(t *testing.T) {
	for _, size := range []int{1, 9, 10, 15, 16, 255, 256, 65535, 1 << 20} {
		want := bytes.Repeat([]byte{'\r'}, size)
		body := AppendChunkHeader(nil, size)
		body = append(append(append(body, want...), ChunkEnd...), LastChunk...)
		data, consumed, done, reason := readChunks(body, []int{len(body)})
		if !bytes.Equal(data, want) || consumed != len(body) || !done || reason != OK {
			t.Errorf("%d bytes: %d, consumed %d of %d, done %t, %v", size, len(data), consumed, len(body), done, reason)
		}
	}
}

func TestRemainingCountsTheDataThatIsStillToCome(t *testing.T) {
	var r ChunkReader
	if _, _, _, reason := r.Next([]byte("64\r\n")); reason != OK || r.Remaining() != 100 {
		t.Fatal(reason, r.Remaining())
	}
	r.Next(make([]byte, 40))
	if r.Remaining() != 60 {
		t.Error(r.Remaining())
	}
	r.Reset()
	if r != (ChunkReader{}) {
		t.Error("Reset leaves something behind")
	}
}
