package wire

// Character classes. A class is a bit in the table class.
const (
	// classToken: tchar (RFC 9110 section 5.6.2).
	classToken = 1 << iota
	// classHex: HEXDIG in either case.
	classHex
)

var class = buildClass()

func buildClass() (t [256]uint8) {
	const tokenMarks = "!#$%&'*+-.^_`|~"
	for c := 0; c < 256; c++ {
		b := byte(c)
		alnum := 'a' <= b|0x20 && b|0x20 <= 'z' || '0' <= b && b <= '9'
		if alnum {
			t[c] |= classToken
		}
		if '0' <= b && b <= '9' || 'a' <= b|0x20 && b|0x20 <= 'f' {
			t[c] |= classHex
		}
	}
	for i := 0; i < len(tokenMarks); i++ {
		t[tokenMarks[i]] |= classToken
	}
	return t
}

func isToken(b []byte) bool {
	for _, c := range b {
		if class[c]&classToken == 0 {
			return false
		}
	}
	return len(b) > 0
}

// hexValue is valid for classHex only.
func hexValue(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}
