package hpack

import (
	"encoding/binary"
	"math/bits"

	"rauta.io/rauta/proxy/message"
)

// index finds fields in the table of an encoder, and remembers which ones have come lately without being added.
type index struct {
	// heads has, by hash, the sequence number of the newest entry: table.added after it was added. 0 is none.
	heads [indexBuckets]uint32
	// newest has the same by slot: most names come with the value that they had before, which needs no hash then.
	newest [slots]uint32
	links  [entriesMax]link // by sequence number
	lately [latelySets][latelyWays]uint32
}

// link leads from an entry to the next older one with the same head.
type link struct{ hash, next uint32 }

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
	if age := t.added - seq; seq != 0 && age < t.count && t.isField(age+1, n, value) {
		return age + 1
	}
	return 0
}

// find returns the place of a field in the table, 1 for the newest, 0 if it is not there.
func (x *index) find(t *table, hash uint32, n fieldName, value []byte) uint32 {
	seq := x.heads[hash%indexBuckets]
	for seq != 0 {
		age := t.added - seq
		if age >= t.count {
			return 0 // it has been evicted, and so have all before it
		}
		l := &x.links[seq%entriesMax]
		if l.hash == hash && t.isField(age+1, n, value) {
			x.newest[n.slot] = seq
			return age + 1
		}
		seq = l.next
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
func (x *index) add(seq, hash uint32, slot uint8) {
	x.newest[slot] = seq
	head := &x.heads[hash%indexBuckets]
	x.links[seq%entriesMax] = link{hash, *head}
	*head = seq
}

// again reports whether a field has come lately. Two fields with one hash are taken for the same.
func (x *index) again(hash uint32) bool {
	set := &x.lately[hash/indexBuckets%latelySets]
	for _, h := range set {
		if h == hash {
			return true
		}
	}
	copy(set[1:], set[:])
	set[0] = hash
	return false
}

// hash is one of the whole field: a part would make many entries of values that differ elsewhere. It is never 0.
func (n fieldName) hash(value []byte) uint32 {
	h := uint64(n.id)
	if n.id == message.Unknown {
		h = hashBytes(seedName, []byte(n.text))
	}
	return uint32(hashBytes(h, value)>>32) | 1<<31
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
