package hpack

// TableBytes is the size of a dynamic table unless the side that decodes says otherwise (RFC 9113 section 6.5.2), and the
// largest one that we use.
const TableBytes = 4096

// entryOverheadBytes counts for each entry beside its bytes (RFC 7541 section 4.1), and so it does for each field of a head
// (RFC 9113 section 10.5.1), so that empty fields and indexed ones are not free (attack row 30).
const entryOverheadBytes = 32

// FieldBytes is what a field with a name and a value of so many bytes counts for.
func FieldBytes(name, value int) int { return name + value + entryOverheadBytes }

// entry is one field of a table. Its bytes are name and value in one piece.
type entry struct {
	pos     uint32 // of the first byte, counted over everything that the table has ever held
	nameLen uint16
	size    uint16 // of name and value
	facts   facts
}

// table is a dynamic table (RFC 7541 section 2.3.2): a ring of entries, whose bytes follow each other in one buffer.
// Positions and sequence numbers wrap around; only their differences are used.
type table struct {
	ring  []entry // a power of two
	bytes []byte
	base  uint32 // position of bytes[0]
	added uint32 // entries that were ever added
	count uint32
	used  int // bytes, as RFC 7541 section 4.1 counts
	max   int
	// changes counts what may make the same block mean something else.
	changes uint64
}

const (
	ringMin  = 16
	bytesMin = 512
)

// at returns an entry: 1 is the newest.
func (t *table) at(i uint32) *entry { return &t.ring[(t.added-i)&uint32(len(t.ring)-1)] }

// pair returns name and value in one piece.
func (t *table) pair(e *entry) []byte {
	off := e.pos - t.base
	return t.bytes[off : off+uint32(e.size) : off+uint32(e.size)]
}

// setMax changes the size (RFC 7541 section 4.3).
func (t *table) setMax(n int) {
	if n != t.max {
		t.changes++
		t.max = n
		t.evict(n)
	}
}

// evict removes the oldest entries until no more than limit is used.
func (t *table) evict(limit int) {
	for t.used > limit {
		t.used -= int(t.at(t.count).size) + entryOverheadBytes
		t.count--
	}
}

// add adds a field, whose bytes must not be those of the table. One that does not fit empties it (RFC 7541 section 4.4).
func (t *table) add(name string, value []byte, f facts) {
	size := len(name) + len(value)
	need := size + entryOverheadBytes
	t.changes++
	if need > t.max {
		t.evict(0)
		return
	}
	t.evict(t.max - need)
	t.used += need
	if t.count == uint32(len(t.ring)) {
		t.growRing()
	}
	if len(t.bytes)+size > cap(t.bytes) {
		t.makeRoom(size)
	}
	t.ring[t.added&uint32(len(t.ring)-1)] = entry{
		pos: t.base + uint32(len(t.bytes)), nameLen: uint16(len(name)), size: uint16(size), facts: f,
	}
	t.bytes = append(append(t.bytes, name...), value...)
	t.added++
	t.count++
}

func (t *table) growRing() {
	next := make([]entry, max(ringMin, 2*len(t.ring)))
	for i := uint32(1); i <= t.count; i++ {
		next[(t.added-i)&uint32(len(next)-1)] = *t.at(i)
	}
	t.ring = next
}

// makeRoom moves the bytes that are still in use to the front. The buffer has at least twice their size, so that a byte is
// moved once on average.
func (t *table) makeRoom(n int) {
	live := t.bytes[len(t.bytes):]
	if t.count > 0 {
		oldest := t.at(t.count)
		live = t.bytes[oldest.pos-t.base:]
	}
	t.base += uint32(len(t.bytes) - len(live))
	if 2*(len(live)+n) <= cap(t.bytes) {
		t.bytes = t.bytes[:copy(t.bytes[:cap(t.bytes)], live)]
		return
	}
	t.bytes = append(make([]byte, 0, max(bytesMin, 2*cap(t.bytes), 2*(len(live)+n))), live...)
}
