package hpack

import "encoding/binary"

// huffmanLengths has the length in bits of the code of every byte (RFC 7541 appendix B). The code is canonical: among codes
// of one length the bytes are in order, and shorter codes come first, so that the lengths say everything.
var huffmanLengths = [256]uint8{
	13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
	6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
	13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
	15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
	20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
	22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
	26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
	20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
}

const (
	huffmanBitsMin = 5
	huffmanBitsMax = 30
	// huffmanTableBits: what fits into that many bits is decoded with one look-up, and most texts two bytes at a time.
	// BenchmarkHuffmanDecode pays for the size of the table.
	huffmanTableBits = 12
)

// huffmanStep is what a prefix of huffmanTableBits bits decodes to: one or two bytes, or none if the first code is longer.
type huffmanStep struct {
	bytes [2]byte
	n     uint8
	bits  uint8 // that they take
}

// huffmanCode is the code in the forms that both directions need.
type huffmanCode struct {
	codes [256]uint32
	steps [1 << huffmanTableBits]huffmanStep

	// By length, for codes that are longer than huffmanTableBits.
	first  [huffmanBitsMax + 1]uint32 // the first code of the length
	count  [huffmanBitsMax + 1]uint32
	offset [huffmanBitsMax + 1]uint32 // of its byte in symbols
	// symbols are all bytes in the order of their codes.
	symbols [256]byte
}

var huffman = buildHuffman()

func buildHuffman() *huffmanCode {
	h := new(huffmanCode)
	code, n := uint32(0), uint32(0)
	for length := uint8(huffmanBitsMin); length <= huffmanBitsMax; length++ {
		h.first[length], h.offset[length] = code, n
		for b, l := range huffmanLengths {
			if l == length {
				h.codes[b] = code
				h.symbols[n] = byte(b)
				code++
				n++
			}
		}
		h.count[length] = code - h.first[length]
		code <<= 1
	}
	for prefix := range h.steps {
		h.steps[prefix] = h.step(uint32(prefix))
	}
	return h
}

// step works out an entry of the table.
func (h *huffmanCode) step(prefix uint32) (s huffmanStep) {
	for int(s.n) < len(s.bytes) {
		left := huffmanTableBits - s.bits
		rest := prefix & (1<<left - 1)
		b, bits, ok := h.symbol(uint64(rest)<<(64-left), uint(left))
		if !ok {
			break
		}
		s.bytes[s.n] = b
		s.n++
		s.bits += uint8(bits)
	}
	return s
}

// symbol decodes one byte from the n highest bits of acc, whatever the length of its code.
func (h *huffmanCode) symbol(acc uint64, n uint) (b byte, bits uint, ok bool) {
	for length := uint(huffmanBitsMin); length <= min(n, huffmanBitsMax); length++ {
		if i := uint32(acc>>(64-length)) - h.first[length]; i < h.count[length] {
			return h.symbols[h.offset[length]+i], length, true
		}
	}
	return 0, 0, false
}

// appendHuffmanDecoded decodes src (RFC 7541 section 5.2); false: it is no valid code.
func appendHuffmanDecoded(dst, src []byte) ([]byte, bool) {
	// A code has 5 bits at least, so that the text has at most 8/5 of the length. A step writes two bytes in any case.
	at := len(dst)
	dst = grow(dst, len(src)*8/5+2)
	out := dst[:cap(dst)]
	var acc uint64 // the next bits, from the highest on
	var n uint     // how many of them count
	h := huffman
	for len(src) >= 8 {
		acc |= binary.BigEndian.Uint64(src) >> n
		src = src[(63-n)/8:]
		n |= 56
		for n >= 56-3*huffmanTableBits { // four steps without new bits
			s := &h.steps[acc>>(64-huffmanTableBits)]
			bits := uint(s.bits)
			out[at], out[at+1] = s.bytes[0], s.bytes[1]
			at += int(s.n)
			if bits == 0 {
				var ok bool
				if out[at], bits, ok = h.symbol(acc, n); !ok && n >= huffmanBitsMax {
					return out[:at], false
				} else if !ok {
					break // the rest of the code has to come
				}
				at++
			}
			acc <<= bits
			n -= bits
		}
	}
	acc &= ^uint64(0) << (64 - n)
	for {
		for n <= 56 && len(src) > 0 {
			acc |= uint64(src[0]) << (56 - n)
			src = src[1:]
			n += 8
		}
		s := &h.steps[acc>>(64-huffmanTableBits)]
		if bits := uint(s.bits); bits != 0 && bits <= n {
			out[at], out[at+1] = s.bytes[0], s.bytes[1]
			at += int(s.n)
			acc <<= bits
			n -= bits
			continue
		}
		b, bits, ok := h.symbol(acc, n)
		if !ok {
			break
		}
		out[at] = b
		at++
		acc <<= bits
		n -= bits
	}
	// What is left is padding: less than a byte of ones, the beginning of the code for the end of the string.
	ok := n < 8 && acc == ^uint64(0)<<(64-n)
	return out[:at], ok
}

// grow makes room for n more bytes.
func grow(b []byte, n int) []byte {
	if cap(b)-len(b) >= n {
		return b
	}
	return append(make([]byte, 0, 2*cap(b)+n), b...)
}

// huffmanBytes is the length of s when encoded.
func huffmanBytes(s string) int {
	n := 0
	for i := range len(s) {
		n += int(huffmanLengths[s[i]])
	}
	return (n + 7) / 8
}

// appendHuffman encodes s.
func appendHuffman(dst []byte, s string) []byte {
	var acc uint64 // the lowest n bits wait
	n := uint(0)
	for i := range len(s) {
		length := uint(huffmanLengths[s[i]])
		acc = acc<<length | uint64(huffman.codes[s[i]])
		for n += length; n >= 8; {
			n -= 8
			dst = append(dst, byte(acc>>n))
		}
	}
	if n > 0 {
		dst = append(dst, byte(acc<<(8-n))|byte(0xff)>>n)
	}
	return dst
}
