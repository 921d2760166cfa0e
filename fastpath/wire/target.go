package wire

import (
	"bytes"
	"net/netip"

	"rauta.io/rauta/proxy/message"
)

// target parses the request target (RFC 9112 section 3.2) into Path, Query, and the authority of the absolute form.
func (p *RequestParser) target(req *message.Request, t message.Span) Reason {
	b := req.Bytes(t)
	if b[0] == '/' {
		return originForm(req, t)
	}
	if len(b) == 1 && b[0] == '*' {
		if req.MethodID != message.MethodOptions {
			return BadTarget
		}
		req.Path = t
		return OK
	}
	i := bytes.Index(b, []byte("://"))
	if i < 0 || !message.EqualFold(b[:i], "http") && !message.EqualFold(b[:i], "https") {
		return BadTarget
	}
	i += len("://")
	j := i
	for j < len(b) && b[j] != '/' && b[j] != '?' {
		j++
	}
	if !validAuthority(b[i:j]) {
		return BadTarget
	}
	p.authority = sub(t, i, j)
	rest := sub(t, j, len(b))
	if j < len(b) && b[j] == '/' {
		return originForm(req, rest)
	}
	// RFC 9112 section 3.2.4: OPTIONS for a URI without path and query is about the server as a whole.
	if j == len(b) && req.MethodID == message.MethodOptions {
		req.Path = req.StoreString("*")
		return OK
	}
	req.Path = req.StoreString("/")
	return query(req, rest)
}

// originForm parses a path with an optional query. Dot segments are resolved; %2F, %5C and "\" stay as they are, because
// decoding them here would make a path mean something else to us than to the back end.
func originForm(req *message.Request, t message.Span) Reason {
	b := req.Bytes(t)
	dots := false
	i := 1
	for ; i < len(b); i++ {
		c := b[i]
		if class[c]&classPath != 0 {
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
		if i+2 >= len(b) || class[b[i+1]]&class[b[i+2]]&classHex == 0 {
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
	req.Path = sub(t, 0, i)
	if dots && hasDotSegment(b[:i]) {
		path := b[:i]
		req.Path = req.StoreFunc(func(dst []byte) []byte { return appendResolved(dst, path) })
	}
	return query(req, sub(t, i, len(b)))
}

// query takes "?" and the query, or nothing. Escapes in it are not checked: no one resolves them on the way, and
// browsers send stray "%".
func query(req *message.Request, t message.Span) Reason {
	if t.Len == 0 {
		return OK
	}
	for _, c := range req.Bytes(t) {
		if class[c]&classQuery == 0 {
			return BadTarget
		}
	}
	req.Query, req.HasQuery = sub(t, 1, int(t.Len)), true
	return OK
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

// validAuthority reports whether b is host [":" port] (RFC 9110 section 7.2) with a name, an IPv4 address or an IPv6
// address in brackets. It is narrower than RFC 3986: no userinfo, no escapes, no sub-delims, no zone, no empty port.
func validAuthority(b []byte) bool {
	if len(b) == 0 || len(b) > AuthorityBytesMax {
		return false
	}
	if b[0] == '[' {
		end := bytes.IndexByte(b, ']')
		if end < 0 || bytes.IndexByte(b, '%') >= 0 {
			return false
		}
		if addr, err := netip.ParseAddr(message.String(b[1:end])); err != nil || !addr.Is6() {
			return false
		}
		return end+1 == len(b) || b[end+1] == ':' && validPort(b[end+2:])
	}
	label := 0 // bytes of the current label
	for i, c := range b {
		if class[c]&classHost != 0 {
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
	n, ok := parseLength(b)
	return ok && len(b) <= 5 && 0 < n && n <= 65535
}

// misleads reports whether an unknown request field name would be taken for another by back ends: CGI and WSGI turn "-"
// and "_" into the same, so any name with "_" can pose as a field that the proxy or a filter sets; some do so with ".".
func misleads(name []byte) bool {
	dot := false
	for _, c := range name {
		if c == '_' {
			return true
		}
		dot = dot || c == '.'
	}
	return dot && looksLikeOurs(name)
}

// looksLikeOurs reports whether the name with "-" for "." is one of framing or forwarding.
func looksLikeOurs(name []byte) bool {
	const longest = len("x-forwarded-proto") + 8
	const forwardedPrefix = "x-forwarded-"
	var buf [longest]byte
	if len(name) > len(buf) {
		name = name[:len(buf)]
	}
	n := copy(buf[:], name)
	for i, c := range buf[:n] {
		if c == '.' {
			buf[i] = '-'
		}
	}
	switch id := message.LookupID(buf[:n]); id {
	case message.Unknown, message.Cookie:
	case message.Forwarded, message.XRealIP:
		return true
	default:
		if hopFields[id] {
			return true
		}
	}
	return n >= len(forwardedPrefix) && message.EqualFold(buf[:len(forwardedPrefix)], forwardedPrefix)
}
