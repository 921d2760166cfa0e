package upstream

import (
	"encoding/binary"
	"math/bits"
)

// The sizes of tables are primes. With the small one, less than 1% of the keys change their endpoint although it is
// still there when another one goes (0.2% of 10 endpoints, 0.9% of 500), and each of up to 655 endpoints has at least
// maglevShare entries, which makes shares equal within 1%. It costs 128 KiB. There is no smaller one for fewer
// endpoints, because crossing a step spreads all keys anew; and the size depends on nothing but the number of
// endpoints, so that every node has the same table.
const (
	maglevSmall = 65537
	maglevLarge = 655373
	maglevShare = 100
	// maglevEndpointsMax is what an entry can tell apart; endpoints beyond it only get requests without a key.
	maglevEndpointsMax = 1 << 16
)

// maglev is a lookup table from hash to endpoint in which endpoints have equal shares, and in which hardly any entry
// changes but those of an endpoint that comes or goes ("Maglev: A Fast and Reliable Software Network Load Balancer",
// NSDI 2016, section 3.4). An entry is an index into the list that the table was made from.
type maglev struct {
	entries []uint16
}

func newMaglev(list []*Endpoint) maglev {
	list = list[:min(len(list), maglevEndpointsMax)]
	size := uint32(maglevSmall)
	if len(list)*maglevShare > maglevSmall {
		size = maglevLarge
	}
	// Each endpoint has its own order of preference over the entries, at + k*skip; they take turns in claiming the next
	// free one in their order.
	type order struct{ at, skip uint32 }
	orders := make([]order, len(list))
	for i, e := range list {
		h := HashKey([]byte(e.Name))
		orders[i] = order{uint32(h % uint64(size)), uint32(mix(h)%uint64(size-1)) + 1}
	}
	entries := make([]uint16, size)
	taken := make([]bool, size)
	for filled := uint32(0); ; {
		for i := range orders {
			o := &orders[i]
			for taken[o.at] {
				o.at = (o.at + o.skip) % size
			}
			entries[o.at], taken[o.at] = uint16(i), true
			if filled++; filled == size {
				return maglev{entries}
			}
		}
	}
}

// at returns the index of the endpoint for key.
func (m *maglev) at(key uint64) int { return int(m.entries[key%uint64(len(m.entries))]) }

// Constants of HashKey and mix: the golden ratio, and odd numbers with about half of their bits set.
const (
	hashSeed = 0x9e3779b97f4a7c15
	hashA    = 0xa0761d6478bd642f
	hashB    = 0xe7037ed1a0b428db
)

// HashKey hashes the key of a Maglev cluster. It is the same on every node and in every version, because nodes must
// agree on the endpoint of a key, and is never 0. It does not withstand chosen collisions: whoever can choose keys could
// as well send one key over and over.
func HashKey(key []byte) uint64 {
	h := uint64(hashSeed) ^ uint64(len(key))
	for ; len(key) >= 8; key = key[8:] {
		h = fold(h^hashA, binary.LittleEndian.Uint64(key)^hashB)
	}
	var tail uint64
	for i, b := range key {
		tail |= uint64(b) << (8 * i)
	}
	h = mix(fold(h^hashA, tail^hashB) ^ h)
	if h == 0 {
		return 1
	}
	return h
}

// fold multiplies to 128 bits and adds up the halves.
func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}

// mix spreads every bit of x over the result (the finaliser of splitmix64).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
