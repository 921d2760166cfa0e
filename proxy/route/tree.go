package route

import "bytes"

// tree is a radix tree (or, for paths, a forest) over bytes, laid out in arrays: a node is a number, its children are
// adjacent, and their first bytes lie beside each other so that one IndexByte finds the child whatever the fan-out.
type tree struct {
	nodes []node
	// firsts[i] is the byte that leads from its parent to node i.
	firsts []byte
	// text holds the labels.
	text []byte
}

// node stands for one key: the bytes on the way from the root to it.
type node struct {
	label    uint32 // offset in text of the bytes after the one in firsts
	children int32  // index of the first child
	exact    int32  // value for a key that ends here, or none
	prefix   int32  // value for every key that goes on from here, or none
	up       int32  // nearest ancestor with a prefix value, or none
	labelLen uint16
	depth    uint16 // length of the node's key
	fanout   uint16
}

// walk follows key from root. full is the node whose key is the whole of key and which has an exact value; deepest the last
// one on the way with a prefix value, from which node.up leads to the shorter ones. Both may be none.
func (t *tree) walk(root int32, key []byte) (full, deepest int32) {
	full, deepest = none, none
	if int(root) >= len(t.nodes) {
		return full, deepest
	}
	n, pos := root, 0
	for {
		nd := &t.nodes[n]
		if l := int(nd.labelLen); l != 0 {
			if len(key)-pos < l || string(key[pos:pos+l]) != string(t.text[nd.label:nd.label+uint32(l)]) {
				return full, deepest
			}
			pos += l
		}
		if nd.prefix != none {
			deepest = n
		}
		if pos == len(key) {
			if nd.exact != none {
				full = n
			}
			return full, deepest
		}
		i := bytes.IndexByte(t.firsts[nd.children:int(nd.children)+int(nd.fanout)], key[pos])
		if i < 0 {
			return full, deepest
		}
		n = nd.children + int32(i)
		pos++
	}
}

// item is a key with its values, for insertion.
type item struct {
	key           string
	exact, prefix int32
}

// insert adds a root for items, which are in order of key, without duplicates and not empty, and returns it.
func (t *tree) insert(items []item) int32 {
	root := t.grow(1)
	t.fill(root, items, 0, none)
	return root
}

func (t *tree) grow(n int) int32 {
	first := int32(len(t.nodes))
	for range n {
		t.nodes = append(t.nodes, node{exact: none, prefix: none, up: none})
		t.firsts = append(t.firsts, 0)
	}
	return first
}

// fill builds node n and what is below it for items, whose keys have their first depth bytes in common and already spelled
// by the way to n.
func (t *tree) fill(n int32, items []item, depth int, up int32) {
	end := depth + commonPrefix(items[0].key[depth:], items[len(items)-1].key[depth:])
	nd := &t.nodes[n]
	nd.label, nd.labelLen, nd.depth, nd.up = uint32(len(t.text)), uint16(end-depth), uint16(end), up
	t.text = append(t.text, items[0].key[depth:end]...)
	if len(items[0].key) == end {
		nd.exact, nd.prefix = items[0].exact, items[0].prefix
		if nd.prefix != none {
			up = n
		}
		items = items[1:]
	}
	fanout := 0
	for i := range items {
		if i == 0 || items[i].key[end] != items[i-1].key[end] {
			fanout++
		}
	}
	nd.fanout = uint16(fanout)
	if fanout == 0 {
		return
	}
	child := t.grow(fanout) // invalidates nd
	t.nodes[n].children = child
	for len(items) > 0 {
		b, same := items[0].key[end], 1
		for same < len(items) && items[same].key[end] == b {
			same++
		}
		t.firsts[child] = b
		t.fill(child, items[:same], end+1, up)
		items = items[same:]
		child++
	}
}

// compact gives back the room that growing left over.
func (t *tree) compact() {
	t.nodes = append([]node(nil), t.nodes...)
	t.firsts = bytes.Clone(t.firsts)
	t.text = bytes.Clone(t.text)
}

func commonPrefix(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}
