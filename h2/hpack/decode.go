package hpack

import (
	"errors"

	"rauta.io/rauta/proxy/message"
)

// ErrTextTooLong is a string that is longer than NewDecoder was told. What follows is not worth waiting for.
var ErrTextTooLong = errors.New("hpack: a string is longer than any head may be")

// Errors after which the tables of both sides may differ: the connection is of no use any more (RFC 9113 section 4.3).
var (
	errTruncated  = errors.New("hpack: the block ends within a field")
	errInteger    = errors.New("hpack: an integer is too large")
	errIndex      = errors.New("hpack: an index is in neither table")
	errHuffman    = errors.New("hpack: a string is no valid Huffman code")
	errTableSize  = errors.New("hpack: the table is made larger than allowed")
	errLateUpdate = errors.New("hpack: the size of the table changes behind a field")
)

// Field is a decoded field, views into the arena of its Block. Name and value are next to each other.
type Field struct {
	Name, Value message.Span
	ID          message.FieldID
	Pseudo      Pseudo
	Verdict     Verdict
	// Sensitive: the field must not get into any table on its way on (RFC 7541 section 7.1.3).
	Sensitive bool
}

// Block is what a header block is decoded into. Its memory is used again.
type Block struct {
	Arena  []byte
	Fields []Field
	// Size counts 32 bytes for each field beside its own (RFC 9113 section 6.5.2).
	Size int
	// TooLarge: Size is above the limit. The fields before that are there.
	TooLarge bool

	limit int
}

// begin empties the block; above limit no more fields are put into it.
func (b *Block) begin(limit int) {
	b.Arena, b.Fields = b.Arena[:0], b.Fields[:0]
	b.Size, b.TooLarge, b.limit = 0, false, limit
}

// emit adds the field whose bytes are the arena's from off on, or takes them back if it is too large.
func (b *Block) emit(off, nameLen int, f facts, sensitive bool) {
	size := len(b.Arena) - off
	if b.Size += size + entryOverheadBytes; b.Size > b.limit {
		b.TooLarge = true
		b.Arena = b.Arena[:off]
		return
	}
	// The place is taken first and filled then: building the field beside it costs as much again (BenchmarkDecode).
	n := len(b.Fields)
	if n == cap(b.Fields) {
		b.Fields = append(b.Fields, Field{})
	} else {
		b.Fields = b.Fields[:n+1]
	}
	field := &b.Fields[n]
	field.Name = message.Span{Off: uint32(off), Len: uint32(nameLen)}
	field.Value = message.Span{Off: uint32(off + nameLen), Len: uint32(size - nameLen)}
	field.ID, field.Pseudo, field.Verdict, field.Sensitive = f.id, f.pseudo, f.verdict, sensitive
}

// Decoder is the decoding side of one direction of a connection.
type Decoder struct {
	table   table
	allowed int
	textMax int
}

// NewDecoder returns a decoder whose peer may use a table of up to TableBytes, and strings of up to textMax bytes.
func NewDecoder(textMax int) *Decoder {
	return &Decoder{table: table{max: TableBytes}, allowed: TableBytes, textMax: textMax}
}

// Changes counts the changes of the table: while it stays the same, so does the meaning of a block.
func (d *Decoder) Changes() uint64 { return d.table.changes }

// Decode decodes a whole block into b. Of a block with more than limit bytes, as Block.Size counts, the rest is read only
// as far as the table needs it; with limit 0 that is all of it. After an error the tables of both sides may differ, and the
// connection must end.
func (d *Decoder) Decode(b *Block, block []byte, limit int) error {
	b.begin(limit)
	fields := false
	for len(block) > 0 {
		c := block[0]
		var err error
		switch {
		case c&reprIndexed != 0:
			fields = true
			block, err = d.indexed(b, block)
		case c&maskTableSize == reprTableSize:
			if fields { // RFC 7541 section 4.2
				return errLateUpdate
			}
			block, err = d.resize(block)
		default:
			fields = true
			block, err = d.literal(b, block)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// resize takes a change of the table's size (RFC 7541 section 6.3).
func (d *Decoder) resize(p []byte) ([]byte, error) {
	n, p, err := readInt(p, 5)
	if err != nil {
		return nil, err
	}
	if n > uint64(d.allowed) {
		return nil, errTableSize
	}
	d.table.setMax(int(n))
	return p, nil
}

// indexed takes a field from a table (RFC 7541 section 6.1).
func (d *Decoder) indexed(b *Block, p []byte) ([]byte, error) {
	index := uint64(p[0] &^ reprIndexed)
	if index < 0x7f { // nearly always
		p = p[1:]
	} else {
		var err error
		if index, p, err = readInt(p, 7); err != nil {
			return nil, err
		}
	}
	pair, nameLen, f := d.at(index)
	if nameLen < 0 {
		return nil, errIndex
	}
	if !b.TooLarge {
		off := len(b.Arena)
		b.Arena = append(b.Arena, pair...)
		b.emit(off, nameLen, f, false)
	}
	return p, nil
}

// at returns a field of either table; without one, nameLen is negative. pair is valid until the table changes.
func (d *Decoder) at(index uint64) (pair string, nameLen int, f facts) {
	if index-1 < uint64(staticCount) {
		s := &staticFields[index]
		return s.pair, int(s.nameLen), s.facts
	}
	i := index - uint64(staticCount)
	if i-1 >= uint64(d.table.count) {
		return "", -1, f
	}
	e := d.table.at(uint32(i))
	return message.String(d.table.pair(e)), int(e.nameLen), e.facts
}

// literal takes a field that is not in a table (RFC 7541 section 6.2).
func (d *Decoder) literal(b *Block, p []byte) ([]byte, error) {
	first := p[0]
	add, prefix := first&maskWithIndex == reprWithIndex, uint(4)
	if add {
		prefix = 6
	}
	index, p, err := readInt(p, prefix)
	if err != nil {
		return nil, err
	}
	wanted := add || !b.TooLarge
	off := len(b.Arena)
	var f facts
	if index == 0 {
		if p, err = d.text(b, p, wanted); err != nil {
			return nil, err
		}
		f = factsOfName(b.Arena[off:])
	} else {
		pair, n, known := d.at(index)
		if n < 0 {
			return nil, errIndex
		}
		b.Arena = append(b.Arena, pair[:n]...)
		f = known
	}
	nameLen := len(b.Arena) - off
	if p, err = d.text(b, p, wanted); err != nil {
		return nil, err
	}
	if wanted {
		pair := b.Arena[off:]
		f = f.withValue(pair[:nameLen], pair[nameLen:])
		if add {
			d.table.add(message.String(pair[:nameLen]), pair[nameLen:], f)
		}
	}
	if b.TooLarge {
		b.Arena = b.Arena[:off]
		return p, nil
	}
	b.emit(off, nameLen, f, first&maskNeverIndexed == reprNeverIndexed)
	return p, nil
}

// text appends a string to the arena if it is wanted (RFC 7541 section 5.2).
func (d *Decoder) text(b *Block, p []byte, wanted bool) ([]byte, error) {
	if len(p) == 0 {
		return nil, errTruncated
	}
	coded := p[0]&flagHuffman != 0
	n, p, err := readInt(p, 7)
	if err != nil {
		return nil, err
	}
	if n > uint64(d.textMax) {
		return nil, ErrTextTooLong
	}
	if n > uint64(len(p)) {
		return nil, errTruncated
	}
	s, p := p[:n], p[n:]
	switch {
	case !wanted:
	case coded:
		var ok bool
		if b.Arena, ok = appendHuffmanDecoded(b.Arena, s); !ok {
			return nil, errHuffman
		}
	default:
		b.Arena = append(b.Arena, s...)
	}
	return p, nil
}

// integerBitsMax bounds an integer; more octets than it takes are an error too (RFC 7541 section 5.1).
const integerBitsMax = 63

// readInt reads an integer with a prefix of some bits from p, which is not empty.
func readInt(p []byte, prefix uint) (uint64, []byte, error) {
	limit := uint64(1)<<prefix - 1
	n := uint64(p[0]) & limit
	p = p[1:]
	if n < limit {
		return n, p, nil
	}
	for shift := uint(0); shift < integerBitsMax; shift += 7 {
		if len(p) == 0 {
			return 0, nil, errTruncated
		}
		c := p[0]
		p = p[1:]
		n += uint64(c&0x7f) << shift
		if c&0x80 == 0 {
			return n, p, nil
		}
	}
	return 0, nil, errInteger
}
