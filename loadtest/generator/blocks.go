package generator

import (
	"bytes"
	"strings"

	"golang.org/x/net/http2/hpack"
)

// The header blocks that both ends send are constant: the first one of a connection enters its fields into the dynamic
// table, later ones refer to them (RFC 7541 section 6). That is what clients and servers do, and costs nothing here.

// Indexes of the static table (RFC 7541 appendix A).
const (
	staticAuthority = 1
	staticGET       = 2
	staticPOST      = 3
	staticPath      = 4
	staticHTTP      = 6
	staticHTTPS     = 7
	staticOK        = 8
	firstDynamic    = 62
)

// appendInteger writes with a prefix of the given number of bits, whose byte has the pattern's other bits.
func appendInteger(b []byte, pattern byte, bits int, value uint64) []byte {
	limit := uint64(1)<<bits - 1
	if value < limit {
		return append(b, pattern|byte(value))
	}
	b = append(b, pattern|byte(limit))
	for value -= limit; value >= 0x80; value >>= 7 {
		b = append(b, byte(value)|0x80)
	}
	return append(b, byte(value))
}

func appendIndexed(b []byte, index int) []byte { return appendInteger(b, 0x80, 7, uint64(index)) }

func appendText(b []byte, text string) []byte {
	b = appendInteger(b, 0x80, 7, hpack.HuffmanEncodeLength(text))
	return hpack.AppendHuffmanString(b, text)
}

// appendPath is a literal that does not enter the table: paths seldom repeat.
func appendPath(b []byte, path string) []byte {
	return appendText(appendInteger(b, 0, 4, staticPath), path)
}

// tableFields are fields that enter the dynamic table with the first block.
type tableFields []hpack.HeaderField

func (t tableFields) appendFirst(b []byte) []byte {
	for _, f := range t {
		if f.Name == ":authority" {
			b = appendInteger(b, 0x40, 6, staticAuthority)
		} else {
			b = appendText(append(b, 0x40), f.Name)
		}
		b = appendText(b, f.Value)
	}
	return b
}

func (t tableFields) appendAgain(b []byte) []byte {
	for i := range t {
		b = appendIndexed(b, firstDynamic+len(t)-1-i)
	}
	return b
}

func (t tableFields) appendLiterally(b []byte) []byte {
	for _, f := range t {
		if f.Name == ":authority" {
			b = append(b, staticAuthority)
		} else {
			b = appendText(append(b, 0), f.Name)
		}
		b = appendText(b, f.Value)
	}
	return b
}

// tableState is what has become of the dynamic table of the blocks that are sent on a connection.
type tableState uint8

const (
	tableEmpty  tableState = iota
	tableFilled            // the fields have been entered
	tableShrunk            // the other end wants less than the default, and is not told yet that it gets none (RFC 7541 section 4.2)
	tableNone
)

// appendSize comes before the first field of a block.
func (s *tableState) appendSize(b []byte) []byte {
	if *s == tableShrunk {
		*s = tableNone
		return append(b, 0x20)
	}
	return b
}

// append comes after everything else of a block.
func (s *tableState) append(b []byte, fields tableFields) []byte {
	switch *s {
	case tableEmpty:
		*s = tableFilled
		return fields.appendFirst(b)
	case tableFilled:
		return fields.appendAgain(b)
	}
	return fields.appendLiterally(b)
}

// answerHead is what the generator needs of a header block.
type answerHead struct {
	ok         bool // :status 200
	interim    bool // :status 1xx
	length     int64
	generation int64
	grpcOK     bool // grpc-status 0
	forwarded  bool // x-forwarded-for, in requests
}

// blocksKept is the number of blocks whose meaning a reader remembers: proxies send few different ones.
const blocksKept = 4

// blockReader reads the header blocks of one connection. A block that changes no table and came before, with the same
// table, means what it meant then.
type blockReader struct {
	decoder *hpack.Decoder
	head    answerHead
	kept    [blocksKept]struct {
		block []byte
		head  answerHead
	}
	next int
}

func newBlockReader() *blockReader {
	r := &blockReader{}
	r.decoder = hpack.NewDecoder(tableBytes, r.field)
	return r
}

func (r *blockReader) field(f hpack.HeaderField) {
	switch f.Name {
	case ":status":
		r.head.ok, r.head.interim = f.Value == "200", strings.HasPrefix(f.Value, "1")
	case "content-length":
		r.head.length = decimal([]byte(f.Value))
	case "grpc-status":
		r.head.grpcOK = f.Value == "0"
	case "x-forwarded-for":
		r.head.forwarded = f.Value != ""
	case "x-generation":
		r.head.generation = decimal([]byte(f.Value))
	}
}

func (r *blockReader) read(block []byte) (answerHead, bool) {
	for i := range r.kept {
		if r.kept[i].block != nil && bytes.Equal(r.kept[i].block, block) {
			return r.kept[i].head, true
		}
	}
	r.head = answerHead{length: -1, generation: -1}
	if _, err := r.decoder.Write(block); err != nil || r.decoder.Close() != nil {
		return r.head, false
	}
	if changesTable(block) {
		for i := range r.kept {
			r.kept[i].block = nil
		}
	} else {
		k := &r.kept[r.next]
		k.block, k.head = append(k.block[:0], block...), r.head
		r.next = (r.next + 1) % blocksKept
	}
	return r.head, true
}

// changesTable walks over the representations of a block that has been decoded without an error.
func changesTable(block []byte) bool {
	for len(block) > 0 {
		first := block[0]
		if first&0x80 != 0 {
			_, block = cutInteger(block, 7)
			continue
		}
		if first&0xe0 != 0 { // a literal for the table, or a new size
			return true
		}
		var name, length int
		if name, block = cutInteger(block, 4); name == 0 {
			length, block = cutInteger(block, 7)
			block = block[length:]
		}
		length, block = cutInteger(block, 7)
		block = block[length:]
	}
	return false
}

func cutInteger(b []byte, bits int) (int, []byte) {
	limit := 1<<bits - 1
	value := int(b[0]) & limit
	b = b[1:]
	if value < limit {
		return value, b
	}
	for shift := 0; ; shift += 7 {
		c := b[0]
		b = b[1:]
		value += int(c&0x7f) << shift
		if c&0x80 == 0 {
			return value, b
		}
	}
}
