package hpack

import (
	"encoding/binary"
	"math/bits"

	"rauta.io/rauta/proxy/message"
)

// index finds fields in the table of an encoder, and remembers which ones have come lately without being added. It is
// small, because every connection has one.
type index struct {
	// heads has the newest entry by hash.
	heads [indexBuckets]sequence
	// newest has it by slot: most names come with the value that they had before, which needs no hash then.
	newest [slots]sequence
	links  [entriesMax]link // by sequence
	lately [latelySets][latelyWays]uint16
}

// sequence is table.added after an entry was added, as far as it matters; 0 is none. It wraps around, so that an entry that
// has gone long ago may seem to be there again: whatever is found is compared.
type sequence uint16

// age is how many entries came after it, which is no less than the size of the table if it has gone.
func (s sequence) age(t *table) uint32 { return uint32(sequence(t.added) - s) }

// link leads from an entry to the next older one with the same head.
type link struct {
	mark uint16 // of the hash
	next sequence
}

// All are powers of two.
const (
	indexBuckets = 64
	entriesMax   = TableBytes / entryOverheadBytes
	latelySets   = 32
	latelyWays   = 4
)

// Slots are the ids of names; behind them come pseudo-header fields, then names without id by a few of their bytes.
const (
	slots      = 192
	slotMethod = 123 + iota
	slotAuthority
	slotPath
	slotProtocol
	slotUnknown
)

func slotOf(name []byte) uint8 {
	n := len(name)
	if n == 0 {
		return slotUnknown
	}
	return slotUnknown + (uint8(n)*31+name[n-1]*7+name[n/2])%(slots-slotUnknown)
}

// last returns the place of a field if it is the last one of its slot, 1 for the newest, else 0.
func (x *index) last(t *table, n fieldName, value []byte) uint32 {
	seq := x.newest[n.slot]
	if age := seq.age(t); seq != 0 && age < t.count && t.isField(age+1, n, value) {
		return age + 1
	}
	return 0
}

// find returns the place of a field in the table, 1 for the newest, 0 if it is not there.
func (x *index) find(t *table, hash uint32, n fieldName, value []byte) uint32 {
	seq, younger := x.heads[hash%indexBuckets], -1
	for seq != 0 {
		age := seq.age(t)
		if age >= t.count || int(age) <= younger {
			return 0 // it has been evicted, and so have all before it
		}
		l := &x.links[seq%entriesMax]
		if l.mark == markOf(hash) && t.isField(age+1, n, value) {
			x.newest[n.slot] = seq
			return age + 1
		}
		seq, younger = l.next, int(age)
	}
	return 0
}

// isField reports whether an entry of an encoder's table is a field.
func (t *table) isField(i uint32, n fieldName, value []byte) bool {
	e := t.at(i)
	if e.facts.id != n.id || int(e.size)-int(e.nameLen) != len(value) {
		return false
	}
	pair := t.pair(e)
	return string(pair[e.nameLen:]) == string(value) && (n.id != message.Unknown || string(pair[:e.nameLen]) == n.text)
}

// add notes the newest entry.
func (x *index) add(t *table, hash uint32, slot uint8) {
	seq := sequence(t.added)
	x.newest[slot] = seq
	head := &x.heads[hash%indexBuckets]
	x.links[seq%entriesMax] = link{markOf(hash), *head}
	*head = seq
}

// again reports whether a field has come lately. Two fields with one mark are taken for the same.
func (x *index) again(hash uint32) bool {
	set := &x.lately[hash/indexBuckets%latelySets]
	for _, m := range set {
		if m == markOf(hash) {
			return true
		}
	}
	copy(set[1:], set[:])
	set[0] = markOf(hash)
	return false
}

// markOf has bits of a hash that choose neither head nor set. It is never 0.
func markOf(hash uint32) uint16 { return uint16(hash>>16) | 1 }

// hash is one of the whole field: a part would make many entries of values that differ elsewhere.
func (n fieldName) hash(value []byte) uint32 {
	h := uint64(n.id)
	if n.id == message.Unknown {
		h = hashBytes(seedName, []byte(n.text))
	}
	return uint32(hashBytes(h, value) >> 32)
}

// Multipliers are odd and have about as many ones as zeros.
const (
	seedName  = 0x9e3779b97f4a7c15
	mixBytes  = 0xa0761d6478bd642f
	mixLength = 0xe7037ed1a0b428db
)

func hashBytes(h uint64, b []byte) uint64 {
	h ^= uint64(len(b)) * mixLength
	for ; len(b) >= 8; b = b[8:] {
		h = mix(h ^ binary.LittleEndian.Uint64(b))
	}
	var tail uint64
	for i, c := range b {
		tail |= uint64(c) << (8 * i)
	}
	return mix(h ^ tail ^ seedName)
}

func mix(h uint64) uint64 {
	hi, lo := bits.Mul64(h, mixBytes)
	return hi ^ lo
}
