package hpack

import (
	"strconv"

	"rauta.io/rauta/proxy/message"
)

// Representations of fields (RFC 7541 section 6), with the bits that tell them apart.
const (
	reprIndexed      = 0x80 // 7-bit index
	reprWithIndex    = 0x40 // 6-bit index of the name
	maskWithIndex    = 0xc0
	reprTableSize    = 0x20 // 5-bit size
	maskTableSize    = 0xe0
	reprNeverIndexed = 0x10 // 4-bit index of the name
	maskNeverIndexed = 0xf0
	reprWithoutIndex = 0x00 // 4-bit index of the name

	flagHuffman = 0x80 // of a string, before its 7-bit length
)

// Encoder is the encoding side of one direction of a connection. A block must be sent once it is encoded, and blocks in the
// order in which they were encoded, since each may refer to what the ones before added to the table.
//
// What is worth a place in the table is decided by the name (policyOf, isSecret) and by having been seen before: a value
// that comes once would drive out one that comes with every message.
type Encoder struct {
	table table
	index *index // of the table; nil until something could be added

	// A change of the table's size that the peer has to be told of at the beginning of the next block.
	owed    bool
	owedMin int // the smallest size since the last block (RFC 7541 section 4.2)
}

const (
	// nameIndexedMax bounds names that get into the table, in bytes; the longest that is registered has 43.
	nameIndexedMax = 64
	// entryBytesMax bounds what one field may take of the table: it would drive out too many others.
	entryBytesMax = TableBytes / 4
)

// NewEncoder returns an encoder that uses a table of up to TableBytes.
func NewEncoder() *Encoder { return &Encoder{table: table{max: TableBytes}} }

// SetTableSize takes the peer's SETTINGS_HEADER_TABLE_SIZE. More than TableBytes is not used.
func (e *Encoder) SetTableSize(n uint32) {
	size := int(min(n, TableBytes))
	if size == e.table.max && !e.owed {
		return
	}
	if !e.owed || size < e.owedMin {
		e.owedMin = size
	}
	e.owed = true
	e.table.setMax(size)
}

// Begin begins a block.
func (e *Encoder) Begin(dst []byte) []byte {
	if !e.owed {
		return dst
	}
	e.owed = false
	if e.owedMin < e.table.max {
		dst = appendInt(dst, reprTableSize, 5, uint64(e.owedMin))
	}
	return appendInt(dst, reprTableSize, 5, uint64(e.table.max))
}

// AppendStatus appends :status.
func (e *Encoder) AppendStatus(dst []byte, status int) []byte {
	for i := indexStatus200; staticFields[i].facts.pseudo == Status; i++ {
		if text := staticFields[i].pair[len(":status"):]; status == int(text[0]-'0')*100+int(text[1]-'0')*10+int(text[2]-'0') {
			return append(dst, reprIndexed|byte(i))
		}
	}
	dst = append(dst, reprWithoutIndex|indexStatus200, 3)
	return strconv.AppendInt(dst, int64(status), 10)
}

// AppendMethod appends :method.
func (e *Encoder) AppendMethod(dst, method []byte) []byte {
	switch string(method) {
	case "GET":
		return append(dst, reprIndexed|indexMethodGet)
	case "POST":
		return append(dst, reprIndexed|indexMethodPost)
	}
	return e.append(dst, fieldName{text: ":method", static: indexMethodGet, slot: slotMethod}, method, eager)
}

// AppendScheme appends :scheme.
func (e *Encoder) AppendScheme(dst []byte, s message.Scheme) []byte {
	if s == message.SchemeHTTPS {
		return append(dst, reprIndexed|indexSchemeHTTPS)
	}
	return append(dst, reprIndexed|indexSchemeHTTP)
}

// AppendAuthority appends :authority.
func (e *Encoder) AppendAuthority(dst, authority []byte) []byte {
	return e.append(dst, fieldName{text: ":authority", static: indexAuthority, slot: slotAuthority}, authority, eager)
}

// AppendPath appends :path.
func (e *Encoder) AppendPath(dst, path []byte) []byte {
	if len(path) == 1 && path[0] == '/' {
		return append(dst, reprIndexed|indexPathRoot)
	}
	return e.append(dst, fieldName{text: ":path", static: indexPathRoot, slot: slotPath}, path, repeated)
}

// AppendProtocol appends :protocol (RFC 8441 section 4).
func (e *Encoder) AppendProtocol(dst, protocol []byte) []byte {
	return e.append(dst, fieldName{text: ":protocol", slot: slotProtocol}, protocol, eager)
}

// AppendContentLength appends Content-Length.
func (e *Encoder) AppendContentLength(dst []byte, n int64) []byte {
	var digits [20]byte
	text := strconv.AppendInt(digits[:0], n, 10)
	dst = appendInt(dst, reprWithoutIndex, 4, indexContentLength)
	return append(append(dst, byte(len(text))), text...)
}

// AppendField appends any other field. The name may be in any case and is written in lower case (RFC 9113 section 8.2);
// id is that of the name. A sensitive field is one that came as never indexed.
func (e *Encoder) AppendField(dst []byte, id message.FieldID, name, value []byte, sensitive bool) []byte {
	p := policyOf[id]
	if sensitive {
		p = never
	}
	var buf [nameIndexedMax]byte
	n := fieldName{id: id, text: id.Name(), static: int(staticOfID[id]), slot: uint8(id)}
	if id == message.Unknown {
		if len(name) > nameIndexedMax {
			return appendLongName(dst, name, value, p)
		}
		lower := appendLower(buf[:0], name)
		n.text, n.static, n.slot = message.String(lower), staticUnknown, slotOf(lower)
	}
	switch {
	case p == never:
		return n.appendLiteral(dst, reprNeverIndexed, 4, value)
	case p == volatile:
		return n.appendLiteral(dst, reprWithoutIndex, 4, value)
	case id == message.AcceptEncoding && string(value) == "gzip, deflate":
		return append(dst, reprIndexed|indexGzipDeflate)
	}
	return e.append(dst, n, value, p)
}

// append appends a field that may be in the table, or gets into it.
func (e *Encoder) append(dst []byte, n fieldName, value []byte, p policy) []byte {
	size := len(n.text) + len(value) + entryOverheadBytes
	if size > entryBytesMax || size > e.table.max {
		return n.appendLiteral(dst, n.unindexed(), 4, value)
	}
	if e.index == nil {
		e.index = new(index)
	}
	if i := e.index.last(&e.table, n, value); i > 0 {
		return appendInt(dst, reprIndexed, 7, uint64(staticCount)+uint64(i))
	}
	hash := n.hash(value)
	if i := e.index.find(&e.table, hash, n, value); i > 0 {
		return appendInt(dst, reprIndexed, 7, uint64(staticCount)+uint64(i))
	}
	if first := n.unindexed(); first == reprNeverIndexed {
		return n.appendLiteral(dst, first, 4, value)
	}
	if p == repeated && !e.index.again(hash) {
		return n.appendLiteral(dst, reprWithoutIndex, 4, value)
	}
	e.table.add(n.text, value, facts{id: n.id})
	e.index.add(&e.table, hash, n.slot)
	return n.appendLiteral(dst, reprWithIndex, 6, value)
}

// fieldName is the name of a field that is encoded.
type fieldName struct {
	id     message.FieldID
	slot   uint8  // of index.newest
	static int    // the index of the name in the static table, 0 for none, or staticUnknown
	text   string // in lower case
}

// staticUnknown: nobody has looked whether the static table has the name, which is not needed for a field in the dynamic one.
const staticUnknown = -1

// unindexed is the representation of a field that does not get into the table.
func (n fieldName) unindexed() byte {
	if n.id == message.Unknown && isSecret(n.text) {
		return reprNeverIndexed
	}
	return reprWithoutIndex
}

// appendLiteral appends a field with its value; first tells the representation, with a prefix of some bits. What gets into
// the table is Huffman-coded, because that is done once; the rest is not, because the processor's time counts more here
// than bytes.
func (n fieldName) appendLiteral(dst []byte, first byte, prefix uint, value []byte) []byte {
	if n.static == staticUnknown {
		n.static = staticIndex(n.id, n.text)
	}
	dst = appendInt(dst, first, prefix, uint64(n.static))
	if first != reprWithIndex {
		if n.static == 0 {
			dst = append(appendInt(dst, 0, 7, uint64(len(n.text))), n.text...)
		}
		return append(appendInt(dst, 0, 7, uint64(len(value))), value...)
	}
	if n.static == 0 {
		dst = appendCoded(dst, n.text)
	}
	return appendCoded(dst, message.String(value))
}

// appendLongName appends a field whose name is too long for the table.
func appendLongName(dst, name, value []byte, p policy) []byte {
	first := byte(reprWithoutIndex)
	if p == never {
		first = reprNeverIndexed
	}
	dst = appendLower(appendInt(append(dst, first), 0, 7, uint64(len(name))), name)
	return append(appendInt(dst, 0, 7, uint64(len(value))), value...)
}

// appendInt appends n with a prefix of some bits, behind the bits that first has (RFC 7541 section 5.1).
func appendInt(dst []byte, first byte, prefix uint, n uint64) []byte {
	limit := uint64(1)<<prefix - 1
	if n < limit {
		return append(dst, first|byte(n))
	}
	dst = append(dst, first|byte(limit))
	for n -= limit; n >= 0x80; n >>= 7 {
		dst = append(dst, byte(n)|0x80)
	}
	return append(dst, byte(n))
}

// appendCoded appends a string, Huffman-coded if that is shorter (RFC 7541 section 5.2).
func appendCoded(dst []byte, s string) []byte {
	n := huffmanBytes(s)
	if n >= len(s) {
		return append(appendInt(dst, 0, 7, uint64(len(s))), s...)
	}
	return appendHuffman(appendInt(dst, flagHuffman, 7, uint64(n)), s)
}

func appendLower(dst, name []byte) []byte {
	at := len(dst)
	dst = append(dst, name...)
	for i, c := range dst[at:] {
		if 'A' <= c && c <= 'Z' {
			dst[at+i] = c | 0x20
		}
	}
	return dst
}
