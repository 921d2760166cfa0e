package trace

import (
	"encoding/hex"

	"rauta.io/rauta/proxy/message"
)

const (
	// valueBytesMax is the longest value that is written, in bytes: b3 has 32 + 1 + 16 + 2.
	valueBytesMax = 64
	// parentBytes is the length of a traceparent of version 00, in bytes; later ones may be longer.
	parentBytes = 55
	flagSampled = 1
)

// readW3C reads a traceparent (W3C Trace Context section 3.2). Of later versions the parts are read that version 00 has.
func readW3C(h *message.Head) (c Context, says verdict, ok bool) {
	v, ok := only(h, "traceparent", message.Traceparent)
	if !ok || len(v) < parentBytes || v[2] != '-' || v[35] != '-' || v[52] != '-' {
		return c, undecided, false
	}
	var version, flags [1]byte
	if !readHex(version[:], v[:2]) || version[0] == 0xff || !readHex(c.TraceID[:], v[3:35]) || !readHex(c.SpanID[:], v[36:52]) ||
		!readHex(flags[:], v[53:55]) || c.TraceID == [16]byte{} || c.SpanID == [8]byte{} {
		return c, undecided, false
	}
	if len(v) > parentBytes && (version[0] == 0 || v[parentBytes] != '-') {
		return c, undecided, false
	}
	if flags[0]&flagSampled != 0 {
		return c, sampled, true
	}
	return c, dropped, true
}

func (c *Context) appendW3C(b []byte) []byte {
	b = hex.AppendEncode(append(b, "00-"...), c.TraceID[:])
	b = hex.AppendEncode(append(b, '-'), c.SpanID[:])
	if c.Sampled {
		return append(b, "-01"...)
	}
	return append(b, "-00"...)
}

// readHex reads hexadecimal digits, two for each byte of dst. Unlike encoding/hex it takes lower case only, as both formats say.
func readHex(dst, text []byte) bool {
	if len(text) != 2*len(dst) {
		return false
	}
	for i := range dst {
		high, low := hexValue(text[2*i]), hexValue(text[2*i+1])
		if high|low > 15 {
			return false
		}
		dst[i] = high<<4 | low
	}
	return true
}

// hexValue is the value of a digit, more than 15 if it is none.
func hexValue(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	}
	return 0xff
}
