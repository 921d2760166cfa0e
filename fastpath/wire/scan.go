package wire

import (
	"encoding/binary"
	"math/bits"
)

// indexLineEndScalar looks at the line that b starts with. It is the definition of what indexLineEnd does on every machine.
//
// end is the index of the first byte that cannot be in a field value: a control character other than HTAB, or DEL (RFC 9110
// section 5.5). CR and LF are among them, so this finds the end of a line too. It is len(b) if there is none.
// name is the number of token characters that b starts with.
func indexLineEndScalar(b []byte) (name, end int) {
	for name < len(b) && class[b[name]]&classToken != 0 {
		name++
	}
	return name, indexValueEndScalar(b)
}

func indexValueEndScalar(b []byte) int {
	for i, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return i
		}
	}
	return len(b)
}

// indexValueEndSWAR is indexValueEndScalar, eight bytes at a time.
func indexValueEndSWAR(b []byte) int {
	const (
		low  = 0x0101010101010101
		high = 0x8080808080808080
	)
	i := 0
	for ; i+8 <= len(b); i += 8 {
		x := binary.LittleEndian.Uint64(b[i:])
		// A zero byte of y is a byte of x that equals c. The lowest hit is exact; only bytes above a hit may be false ones.
		del := x ^ 0x7f*low
		hit := (x-' '*low)&^x | (del-low)&^del
		if hit &= high; hit == 0 {
			continue
		}
		at := i + bits.TrailingZeros64(hit)/8
		if b[at] != '\t' {
			return at
		}
		// HTAB is rare: look at this word byte by byte.
		if n := indexValueEndScalar(b[i : i+8]); n < 8 {
			return i + n
		}
	}
	return i + indexValueEndScalar(b[i:])
}
