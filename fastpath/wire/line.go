package wire

import "rauta.io/rauta/proxy/message"

// cursor walks over the lines of a head. Everything before scan is known to hold no line end and no bad byte since start.
type cursor struct {
	start int // offset of the line
	scan  int // offset from which the line has not been looked at; >= start
	token int // offset up to which the line is known to be a token, when it ends
}

// lineEnd returns the offset of the CRLF that ends the line, or -1 with OK when more bytes are needed. The line must end at
// limit at the latest. A byte that no line may have gives BareLF, BareCR, or BadValue for the caller to refine; cr is then its offset.
// The outcome does not depend on how the bytes were cut into calls.
func (c *cursor) lineEnd(buf []byte, limit int, tooLong Reason) (cr int, reason Reason) {
	token, i := indexLineEnd(buf[c.scan:])
	c.token = c.start
	if c.scan == c.start {
		c.token += token
	}
	i += c.scan
	c.scan = i
	if i > limit {
		return i, tooLong
	}
	if i+1 < len(buf) && buf[i] == '\r' && buf[i+1] == '\n' {
		return i, OK
	}
	switch {
	case i == len(buf):
		return -1, OK
	case buf[i] == '\n':
		return i, BareLF
	case buf[i] != '\r':
		return i, BadValue
	case i+1 == len(buf):
		return -1, OK
	}
	return i, BareCR
}

// next moves to the line after the one that ends at cr.
func (c *cursor) next(cr int) {
	c.start = cr + 2
	c.scan = c.start
}

// fieldLine splits the line buf[start:end], whose bytes before i are known to be token characters, into name and value
// (RFC 9112 section 5).
func fieldLine(buf []byte, start, i, end int) (name, value message.Span, reason Reason) {
	for i < end && class[buf[i]]&classToken != 0 {
		i++
	}
	if i == end || buf[i] != ':' || i == start {
		return name, value, badName(buf[start:end], i-start)
	}
	name = message.Span{Off: uint32(start), Len: uint32(i - start)}
	i++
	for i < end && (buf[i] == ' ' || buf[i] == '\t') {
		i++
	}
	for end > i && (buf[end-1] == ' ' || buf[end-1] == '\t') {
		end--
	}
	return name, message.Span{Off: uint32(i), Len: uint32(end - i)}, OK
}

// badName says what is wrong with a line whose name stops at i.
func badName(line []byte, i int) Reason {
	switch {
	case i == len(line):
		return NoColon
	case i == 0 && (line[0] == ' ' || line[0] == '\t'):
		return ObsFold
	case line[i] == ':':
		return EmptyName
	}
	for j := i; j < len(line) && (line[j] == ' ' || line[j] == '\t' || line[j] == ':'); j++ {
		if line[j] == ':' {
			return SpaceBeforeColon
		}
	}
	return BadName
}

// refineBadByte says whether the bad byte at the end of partial is in the name or in the value of a field.
func refineBadByte(partial []byte) Reason {
	for _, c := range partial {
		if c == ':' {
			return BadValue
		}
	}
	return BadName
}

// sub returns the view of the part [i, j) of the view s.
func sub(s message.Span, i, j int) message.Span {
	return message.Span{Off: s.Off + uint32(i), Len: uint32(j - i)}
}
