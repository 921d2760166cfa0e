package wire

// ChunkReader decodes the chunked coding (RFC 9112 section 7.1). The zero value is ready for a body.
type ChunkReader struct {
	// left is how many bytes of the chunk's data are still to come.
	left   int64
	excess int
	header int // bytes of the current chunk header so far
	digits int
	state  chunkState

	trailerBytes, trailerFields int
}

type chunkState uint8

const (
	chunkSize chunkState = iota
	chunkExtName
	chunkExtNameMore
	chunkExtValue
	chunkExtToken
	chunkExtQuoted
	chunkExtEscaped
	chunkExtQuotedEnd
	chunkHeaderLF
	chunkData
	chunkDataCR
	chunkDataLF
	trailerLineStart
	trailerName
	trailerValue
	trailerLF
	trailerEndLF
	chunkDone
)

// chunkDigitsMax: 16 hexadecimal digits hold 64 bits; more are an attack on those who wrap around.
const chunkDigitsMax = 16

// Reset makes the reader ready for the next body.
func (c *ChunkReader) Reset() { *c = ChunkReader{} }

// Remaining returns how many bytes of the current chunk's data are still to come.
func (c *ChunkReader) Remaining() int64 { return c.left }

// Next decodes a part of in. It returns how many bytes it consumed, and the data among them, which is a view of in and may be
// empty. Call it again with the rest of in until everything is consumed or done is true: the last chunk and the trailer
// section are over, and what follows in in belongs to the next message. Trailer fields are checked and dropped. With a
// reason other than OK the body is bad and the connection of no more use.
func (c *ChunkReader) Next(in []byte) (data []byte, consumed int, done bool, reason Reason) {
	i := 0
	for i < len(in) && c.state != chunkDone {
		if c.state == chunkData {
			n := len(in) - i
			if int64(n) >= c.left {
				n = int(c.left)
				c.state = chunkDataCR
			}
			c.left -= int64(n)
			return in[i : i+n : i+n], i + n, false, OK
		}
		if c.state == trailerValue {
			_, n := indexLineEnd(in[i:])
			i += n
			if c.trailerBytes += n; c.trailerBytes > TrailerBytesMax {
				return nil, i, false, TrailerTooLarge
			}
			if i == len(in) {
				break
			}
		}
		if c.state < trailerLineStart {
			reason = c.chunkByte(in[i])
		} else {
			reason = c.trailerByte(in[i])
		}
		if reason != OK {
			return nil, i, false, reason
		}
		i++
	}
	return nil, i, c.state == chunkDone, OK
}

// chunkByte takes one byte of a chunk header, or of the CRLF after the data.
func (c *ChunkReader) chunkByte(b byte) Reason {
	switch c.state {
	case chunkDataCR:
		if b != '\r' {
			return BadChunkEnd
		}
		c.state = chunkDataLF
		return OK
	case chunkDataLF:
		if b != '\n' {
			return BadChunkEnd
		}
		c.state, c.header, c.digits = chunkSize, 0, 0
		return OK
	}
	if c.header++; c.header > ChunkHeaderBytesFree {
		if c.excess++; c.excess > ChunkExcessBytesMax {
			return ChunkOverhead
		}
	}
	switch c.state {
	case chunkSize:
		return c.sizeByte(b)
	case chunkHeaderLF:
		if b != '\n' {
			return BareCR
		}
		c.state = chunkData
		if c.left == 0 {
			c.state = trailerLineStart
		}
		return OK
	}
	return c.extensionByte(b)
}

func (c *ChunkReader) sizeByte(b byte) Reason {
	if class[b]&classHex != 0 {
		if c.digits++; c.digits > chunkDigitsMax || c.left>>(63-4) != 0 {
			return BadChunkSize
		}
		c.left = c.left<<4 | int64(hexValue(b))
		return OK
	}
	if b == '\n' {
		return BareLF
	}
	if c.digits == 0 {
		return BadChunkSize
	}
	switch b {
	case '\r':
		c.state = chunkHeaderLF
	case ';':
		c.state = chunkExtName
	default:
		return BadChunkSize
	}
	return OK
}

// extensionByte checks *( ";" name [ "=" ( token / quoted-string ) ] ) of RFC 9112 section 7.1.1, without its "bad"
// whitespace. Extensions are dropped.
func (c *ChunkReader) extensionByte(b byte) Reason {
	token := class[b]&classToken != 0
	switch c.state {
	case chunkExtQuoted:
		switch {
		case b == '"':
			c.state = chunkExtQuotedEnd
		case b == '\\':
			c.state = chunkExtEscaped
		case b < ' ' && b != '\t' || b == 0x7f:
			return BadChunkExtension
		}
		return OK
	case chunkExtEscaped:
		if b < ' ' && b != '\t' || b == 0x7f {
			return BadChunkExtension
		}
		c.state = chunkExtQuoted
		return OK
	case chunkExtName, chunkExtValue:
		switch {
		case token && c.state == chunkExtName:
			c.state = chunkExtNameMore
		case token:
			c.state = chunkExtToken
		case b == '"' && c.state == chunkExtValue:
			c.state = chunkExtQuoted
		default:
			return BadChunkExtension
		}
		return OK
	}
	switch {
	case token && c.state != chunkExtQuotedEnd:
	case b == '=' && c.state == chunkExtNameMore:
		c.state = chunkExtValue
	case b == ';':
		c.state = chunkExtName
	case b == '\r':
		c.state = chunkHeaderLF
	default:
		return BadChunkExtension
	}
	return OK
}

// trailerByte takes one byte of the trailer section (RFC 9112 section 7.1.2). In trailerValue, b ends the value.
func (c *ChunkReader) trailerByte(b byte) Reason {
	if c.trailerBytes++; c.trailerBytes > TrailerBytesMax {
		return TrailerTooLarge
	}
	if c.state != trailerLF && c.state != trailerEndLF && b == '\n' {
		return BareLF
	}
	switch c.state {
	case trailerLineStart:
		return c.trailerLineByte(b)
	case trailerName:
		switch {
		case b == ':':
			c.state = trailerValue
		case b == ' ' || b == '\t':
			return SpaceBeforeColon
		case b == '\r':
			return NoColon
		case class[b]&classToken == 0:
			return BadName
		}
	case trailerValue:
		if b != '\r' {
			return BadValue
		}
		c.state = trailerLF
	case trailerLF, trailerEndLF:
		if b != '\n' {
			return BareCR
		}
		if c.state == trailerEndLF {
			c.state = chunkDone
		} else {
			c.state = trailerLineStart
		}
	}
	return OK
}

func (c *ChunkReader) trailerLineByte(b byte) Reason {
	switch {
	case b == '\r':
		c.state = trailerEndLF
		return OK
	case b == ' ' || b == '\t':
		return ObsFold
	case b == ':':
		return EmptyName
	case class[b]&classToken == 0:
		return BadName
	}
	c.trailerBytes += FieldOverheadBytes
	if c.trailerFields++; c.trailerFields > TrailerFieldsMax {
		return TrailerTooLarge
	}
	c.state = trailerName
	return OK
}
