package hpack

import (
	"encoding/binary"

	"rauta.io/rauta/proxy/message"
)

// Verdict is what is to be said about the bytes of a field (RFC 9113 section 8.2.1). Whatever is not Good or LookAlike is
// malformed.
type Verdict uint8

// Verdicts.
const (
	Good Verdict = iota
	// LookAlike is well-formed, but back ends may take the name for that of another field (message.Misleading).
	LookAlike
	EmptyName
	BadName
	BadValue
)

// facts are what is known about a field. They are found when it is first seen, and kept in the table with it.
type facts struct {
	id      message.FieldID
	pseudo  Pseudo
	verdict Verdict
}

func factsOf(name, value []byte) facts {
	return factsOfName(name).withValue(name, value)
}

// factsOfName leaves the value open: the verdict is that of the name.
func factsOfName(name []byte) facts {
	f := facts{pseudo: pseudoOf(name)}
	rest := name
	if f.pseudo != Regular {
		rest = name[1:]
	} else {
		f.id = message.LookupID(name)
	}
	switch {
	case len(rest) == 0:
		f.verdict = EmptyName
	case !isName(rest):
		f.verdict = BadName
	case f.id == message.Unknown && f.pseudo == Regular && message.Misleading(name):
		f.verdict = LookAlike
	}
	return f
}

// withValue completes facts of a name that may come from a field with another value.
func (f facts) withValue(name, value []byte) facts {
	if f.verdict == BadValue {
		f.verdict = factsOfName(name).verdict
	}
	if (f.verdict == Good || f.verdict == LookAlike) && !isValue(value) {
		f.verdict = BadValue
	}
	return f
}

// nameByte has the bytes of a name: tchar but upper-case letters (RFC 9113 section 8.2.1, RFC 9110 section 5.6.2).
var nameByte = buildNameByte()

func buildNameByte() (t [256]bool) {
	for _, c := range []byte("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz") {
		t[c] = true
	}
	return t
}

func isName(b []byte) bool {
	ok := true
	for _, c := range b {
		ok = ok && nameByte[c]
	}
	return ok
}

// isValue: no control characters but tabs, no white space at either end (RFC 9110 section 5.5).
func isValue(b []byte) bool {
	n := len(b)
	if n == 0 {
		return true
	}
	if isSpace(b[0]) || isSpace(b[n-1]) {
		return false
	}
	i := 0
	for ; i+8 <= n; i += 8 {
		if suspicious(binary.LittleEndian.Uint64(b[i:])) && !areValueBytes(b[i:i+8]) {
			return false
		}
	}
	return areValueBytes(b[i:])
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' }

func areValueBytes(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// suspicious reports whether one of eight bytes may be a control character (BenchmarkDecode pays for it). Bytes from 0x80
// on are none; a byte that follows a control character may be taken for one, which the slow way clears up.
func suspicious(x uint64) bool {
	const (
		ones  = 0x0101010101010101
		highs = 0x8080808080808080
	)
	low := (x - ones*0x20) & ^x & highs
	del := x ^ ones*0x7f
	return low|(del-ones)&^del&highs != 0
}
