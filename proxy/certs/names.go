package certs

import "strings"

// serverNameBytesMax is the longest name that a server can have (RFC 1035 section 2.3.4, as text). It also bounds the
// work that a look-up does for a name that somebody made up.
const serverNameBytesMax = 253

// none is what a look-up gives when nothing covers the name.
const none = -1

// names finds numbers by hostname: exact names first, then the longest wildcard, then the number for every other name.
type names struct {
	exact map[string]int
	wild  map[string]int // by what follows "*."
	any   int
}

func newNames() names { return names{exact: map[string]int{}, wild: map[string]int{}, any: none} }

// add gives a hostname its number: "" stands for every name, "*.suffix" for one or more labels before the suffix.
func (n *names) add(hostname string, number int) {
	switch suffix, wildcard := strings.CutPrefix(hostname, "*."); {
	case hostname == "":
		n.any = number
	case wildcard:
		n.wild[suffix] = number
	default:
		n.exact[hostname] = number
	}
}

// lookup takes a name in lower case, "" for a client that named none.
func (n *names) lookup(name string) int {
	if len(name) > serverNameBytesMax {
		return none
	}
	if i, ok := n.exact[name]; ok {
		return i
	}
	for {
		_, rest, found := strings.Cut(name, ".")
		if !found {
			return n.any
		}
		if i, ok := n.wild[rest]; ok {
			return i
		}
		name = rest
	}
}
