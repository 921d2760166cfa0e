package message

import (
	"bytes"
	"math"
	"net/netip"
)

// AuthorityBytesMax bounds an authority in bytes: a DNS name has at most 253, the port 6 more with its colon.
const AuthorityBytesMax = 259

// TargetProblem says what is wrong with a path and query.
type TargetProblem uint8

// Problems of a target.
const (
	TargetOK TargetProblem = iota
	// BadPath: a byte that no path may have, or no "/" at its start.
	BadPath
	// BadPathEscape: a "%" without two hexadecimal digits, or %00.
	BadPathEscape
	// BadQuery: a byte that no query may have, such as "#".
	BadQuery
)

// Classes of the bytes of a target.
const (
	classHex   uint8 = 1 << iota // HEXDIG in either case
	classPath                    // passes in a path without a second look. "%" and "." need one; "?" ends the path
	classQuery                   // passes in a query: visible ASCII but "#" (RFC 9112 section 3.2: a target has no fragment)
	classHost                    // letters, digits, "-", "_": what a label of a name in an authority is made of
)

var targetClass = buildTargetClass()

func buildTargetClass() (t [256]uint8) {
	for c := '!'; c <= '~'; c++ {
		alpha := 'a' <= c|0x20 && c|0x20 <= 'z'
		digit := '0' <= c && c <= '9'
		if alpha || digit || c == '-' || c == '_' {
			t[c] |= classHost
		}
		if digit || alpha && c|0x20 <= 'f' {
			t[c] |= classHex
		}
		if c != '#' {
			t[c] |= classQuery
			if c != '%' && c != '.' && c != '?' {
				t[c] |= classPath
			}
		}
	}
	return t
}

func hexValue(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}

// sub is the part [from, to) of a view.
func (s Span) sub(from, to int) Span { return Span{Off: s.Off + uint32(from), Len: uint32(to - from)} }

// SetTarget takes a path with an optional query (RFC 9112 section 3.2.1; :path of RFC 9113 section 8.3.1) and sets Path,
// Query and HasQuery. Dot segments are resolved; %2F, %5C and "\" stay as they are, because decoding them here would make
// a path mean something else to us than to the back end.
func (r *Request) SetTarget(t Span) TargetProblem {
	b := r.Bytes(t)
	if len(b) == 0 || b[0] != '/' {
		return BadPath
	}
	dots := false
	i := 1
	for ; i < len(b); i++ {
		c := b[i]
		if targetClass[c]&classPath != 0 {
			continue
		}
		if c == '.' {
			dots = dots || b[i-1] == '/'
			continue
		}
		if c == '?' {
			break
		}
		if c != '%' {
			return BadPath
		}
		if i+2 >= len(b) || targetClass[b[i+1]]&targetClass[b[i+2]]&classHex == 0 {
			return BadPathEscape
		}
		switch hexValue(b[i+1])<<4 | hexValue(b[i+2]) {
		case 0:
			return BadPathEscape
		case '.':
			dots = dots || b[i-1] == '/'
		}
		i += 2
	}
	r.Path = t.sub(0, i)
	if dots && hasDotSegment(b[:i]) {
		path := b[:i]
		r.Path = r.StoreFunc(func(dst []byte) []byte { return appendResolved(dst, path) })
	}
	return r.SetQuery(t.sub(i, len(b)))
}

// SetQuery takes "?" and the query, or nothing. Escapes in it are not checked: no one resolves them on the way, and
// browsers send stray "%".
func (r *Request) SetQuery(t Span) TargetProblem {
	if t.Len == 0 {
		return TargetOK
	}
	for _, c := range r.Bytes(t) {
		if targetClass[c]&classQuery == 0 {
			return BadQuery
		}
	}
	r.Query, r.HasQuery = t.sub(1, int(t.Len)), true
	return TargetOK
}

// dotSegment returns 1 for the segment ".", 2 for "..", each dot also as %2e, else 0.
func dotSegment(s []byte) int {
	n := 0
	for len(s) > 0 {
		switch {
		case s[0] == '.':
			s = s[1:]
		case len(s) >= 3 && s[0] == '%' && s[1] == '2' && s[2]|0x20 == 'e':
			s = s[3:]
		default:
			return 0
		}
		if n++; n > 2 {
			return 0
		}
	}
	return n
}

// cutSegment returns the segment after the slash that path starts with, and the rest, which starts with a slash or is empty.
func cutSegment(path []byte) (segment, rest []byte) {
	path = path[1:]
	if i := bytes.IndexByte(path, '/'); i >= 0 {
		return path[:i], path[i:]
	}
	return path, nil
}

func hasDotSegment(path []byte) bool {
	for len(path) > 0 {
		var segment []byte
		segment, path = cutSegment(path)
		if dotSegment(segment) > 0 {
			return true
		}
	}
	return false
}

// appendResolved appends path without its dot segments (RFC 3986 section 5.2.4). ".." at the root stays at the root.
func appendResolved(dst, path []byte) []byte {
	root := len(dst)
	for len(path) > 0 {
		var segment []byte
		segment, path = cutSegment(path)
		dots := dotSegment(segment)
		if dots == 2 {
			if i := bytes.LastIndexByte(dst[root:], '/'); i >= 0 {
				dst = dst[:root+i]
			}
		}
		if dots == 0 {
			dst = append(append(dst, '/'), segment...)
		} else if len(path) == 0 {
			dst = append(dst, '/')
		}
	}
	return dst
}

// ValidAuthority reports whether b is host [":" port] (RFC 9110 section 7.2) with a name, an IPv4 address or an IPv6
// address in brackets. It is narrower than RFC 3986: no userinfo, no escapes, no sub-delims, no zone, no empty port.
func ValidAuthority(b []byte) bool {
	if len(b) == 0 || len(b) > AuthorityBytesMax {
		return false
	}
	if b[0] == '[' {
		end := bytes.IndexByte(b, ']')
		if end < 0 || bytes.IndexByte(b, '%') >= 0 {
			return false
		}
		if addr, err := netip.ParseAddr(String(b[1:end])); err != nil || !addr.Is6() {
			return false
		}
		return end+1 == len(b) || b[end+1] == ':' && validPort(b[end+2:])
	}
	label := 0 // bytes of the current label
	for i, c := range b {
		if targetClass[c]&classHost != 0 {
			label++
			continue
		}
		if label == 0 && !(c == ':' && i > 1) {
			return false // an empty label; only the root after the last dot is empty
		}
		if c == ':' {
			return validPort(b[i+1:])
		}
		if c != '.' {
			return false
		}
		label = 0
	}
	return label > 0 || len(b) > 1
}

// validPort reports whether b is a decimal port from 1 to 65535.
func validPort(b []byte) bool {
	n, ok := ParseLength(b)
	return ok && len(b) <= 5 && 0 < n && n <= 65535
}

// lengthDigitsMax: 19 digits hold every int64.
const lengthDigitsMax = 19

// ParseLength reads 1*DIGIT, the value of Content-Length (RFC 9110 section 8.6).
func ParseLength(v []byte) (int64, bool) {
	if len(v) == 0 || len(v) > lengthDigitsMax {
		return 0, false
	}
	var n uint64
	for _, c := range v {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return int64(n), n <= math.MaxInt64
}
