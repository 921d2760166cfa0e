package route

import (
	"slices"
	"strings"
)

// hostnameBytesMax is the longest name, in bytes, that a hostname pattern other than "" matches (RFC 1035 section 2.3.4:
// 255 octets on the wire are 253 characters). It bounds the copy that a look-up makes on its stack.
const hostnameBytesMax = 253

// exactSpecificity is above that of any wildcard.
const exactSpecificity = 1 << 16

// MatchHostname reports whether host, lower case and without port, is one that pattern covers: "" covers everything,
// "*.example.com" any number of labels below example.com, anything else only itself.
func MatchHostname(pattern, host string) bool {
	if pattern == "" {
		return true
	}
	if len(host) > hostnameBytesMax {
		return false
	}
	if suffix, ok := wildcard(pattern); ok {
		return len(host) > len(suffix) && strings.HasSuffix(host, suffix)
	}
	return pattern == host
}

// HostnameSpecificity orders patterns: of several that match one host the highest wins. 0 is the pattern "", a wildcard has
// its length, and every exact name is above all wildcards.
func HostnameSpecificity(pattern string) int {
	if pattern == "" {
		return 0
	}
	if _, ok := wildcard(pattern); ok {
		return len(pattern)
	}
	return exactSpecificity
}

// wildcard returns the suffix of a wildcard pattern, with its leading dot.
func wildcard(pattern string) (suffix string, ok bool) {
	if len(pattern) > 2 && pattern[0] == '*' && pattern[1] == '.' {
		return pattern[1:], true
	}
	return "", false
}

// reverse appends host backwards to dst, so that suffixes become prefixes. A name that is too long becomes empty, which
// only the pattern "" matches.
func reverse(dst, host []byte) []byte {
	if len(host) > hostnameBytesMax {
		return dst
	}
	for i := len(host) - 1; i >= 0; i-- {
		dst = append(dst, host[i])
	}
	return dst
}

// Hosts selects among hostname patterns.
type Hosts struct {
	tree tree
	any  int
}

// BuildHosts compiles patterns. Of equal ones the first wins.
func BuildHosts(patterns []string) *Hosts {
	h := &Hosts{any: slices.Index(patterns, "")}
	values := make(map[string]int32, len(patterns))
	for i, p := range patterns {
		if _, ok := values[p]; !ok {
			values[p] = int32(i)
		}
	}
	h.tree.insertHostnames(values)
	return h
}

// Lookup returns the index of the most specific pattern that matches host, which is lower case and without port, or -1.
func (h *Hosts) Lookup(host []byte) int {
	var buf [hostnameBytesMax]byte
	name := reverse(buf[:0], host)
	full, deepest := h.tree.walk(0, name)
	if full != none {
		return int(h.tree.nodes[full].exact)
	}
	for n := deepest; n != none; n = h.tree.nodes[n].up {
		if node := &h.tree.nodes[n]; int(node.depth) < len(name) {
			return int(node.prefix)
		}
	}
	return h.any
}

// insertHostnames adds the values of all patterns except "". Names longer than hostnameBytesMax are left out: nothing
// matches them.
func (t *tree) insertHostnames(values map[string]int32) {
	items := make([]item, 0, len(values))
	for pattern, v := range values {
		it := item{exact: none, prefix: none}
		name := pattern
		if suffix, ok := wildcard(pattern); ok {
			name, it.prefix = suffix, v
		} else {
			it.exact = v
		}
		if name == "" || len(name) > hostnameBytesMax {
			continue
		}
		it.key = string(reverse(nil, []byte(name)))
		items = append(items, it)
	}
	if len(items) == 0 {
		return
	}
	items = sortItems(items)
	t.insert(items)
	t.compact()
}

// sortItems orders items by key and merges those with one key.
func sortItems(items []item) []item {
	slices.SortFunc(items, func(a, b item) int { return strings.Compare(a.key, b.key) })
	out := items[:1]
	for _, it := range items[1:] {
		last := &out[len(out)-1]
		if last.key != it.key {
			out = append(out, it)
			continue
		}
		if last.exact == none {
			last.exact = it.exact
		}
		if last.prefix == none {
			last.prefix = it.prefix
		}
	}
	return out
}
