package wire

import "rauta.io/rauta/proxy/message"

// cursor walks over the lines of a head. Everything before scan is known to hold no line end and no bad byte since start.
type cursor struct {
	start int // offset of the line
	scan  int // offset from which the line has not been looked at; >= start
}

// lineEnd returns the offset of the CRLF that ends the line, or -1 with OK when more bytes are needed, and the offset up to
// which the line is known to be token characters. The line must end at limit at the latest. A byte that no line may have
// gives BareLF, BareCR, or BadValue for the caller to refine; cr is then its offset. The outcome does not depend on how the
// bytes were cut into calls.
func (c *cursor) lineEnd(buf []byte, limit int, tooLong Reason) (cr, token int, reason Reason) {
	start, scan := c.start, c.scan
	token, i := indexLineEnd(buf[scan:])
	if scan != start {
		token = 0
	}
	token += start
	i += scan
	c.scan = i
	if i > limit {
		return i, token, tooLong
	}
	if i+1 < len(buf) && buf[i] == '\r' && buf[i+1] == '\n' {
		return i, token, OK
	}
	switch {
	case i == len(buf):
		return -1, token, OK
	case buf[i] == '\n':
		return i, token, BareLF
	case buf[i] != '\r':
		return i, token, BadValue
	case i+1 == len(buf):
		return -1, token, OK
	}
	return i, token, BareCR
}

// headEnds reports whether the empty line that ends a head is next, and at hand, without the cost of a scan.
func (c *cursor) headEnds(buf []byte, limit int) bool {
	i := c.start
	return i+1 < len(buf) && buf[i] == '\r' && buf[i+1] == '\n' && i <= limit
}

// next moves to the line after the one that ends at cr.
func (c *cursor) next(cr int) {
	c.start = cr + 2
	c.scan = c.start
}

// fieldLine splits the line buf[start:end], whose bytes before i are known to be token characters, into name and value
// (RFC 9112 section 5). The name is buf[start:colon], the value buf[from:to].
func fieldLine(buf []byte, start, i, end int) (colon, from, to int, reason Reason) {
	for i < end && class[buf[i]]&classToken != 0 {
		i++
	}
	if i == end || buf[i] != ':' || i == start {
		return 0, 0, 0, badName(buf[start:end], i-start)
	}
	colon = i
	i++
	for i < end && (buf[i] == ' ' || buf[i] == '\t') {
		i++
	}
	for end > i && (buf[end-1] == ' ' || buf[end-1] == '\t') {
		end--
	}
	return colon, i, end, OK
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

// span returns the view of buf[i:j].
func span(i, j int) message.Span { return message.Span{Off: uint32(i), Len: uint32(j - i)} }

// sub returns the view of the part [i, j) of the view s.
func sub(s message.Span, i, j int) message.Span {
	return message.Span{Off: s.Off + uint32(i), Len: uint32(j - i)}
}
