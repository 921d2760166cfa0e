package route

import (
	"slices"
)

// deadShare of the entries, its inverse, is what a table may have that no virtual host has any more: then it is built anew.
const deadShare = 4

// Revise returns the table with other entries for some rules: those for which gone is true lose theirs, and fresh are added, which
// take the same hostnames. Only the virtual hosts of these hostnames are laid out again, so that a change of one route of
// thousands costs what its hostnames have. It returns nil if fresh has a hostname that is new, or if Build would be better. t
// stays as it is.
func (t *Table) Revise(gone func(rule int32) bool, fresh []Entry) (*Table, error) {
	of := map[int32][]Entry{} // by virtual host
	dead := t.dead
	for _, e := range fresh {
		h := t.hosts.find(e.Hostname)
		if h == none {
			return nil, nil
		}
		if of[h] == nil {
			dead += int(t.virtualHosts[h].count)
		}
		of[h] = append(of[h], e)
	}
	if dead*deadShare > len(t.entries) {
		return nil, nil
	}
	b := &builder{t: t.extend(), base: int32(len(t.entries)), regex: map[string]int32{}}
	b.t.dead = dead
	for h, entries := range of {
		old := &t.virtualHosts[h]
		b.knowRegexes(t, old)
		var order []int32
		add := func(e Entry) error {
			at := int32(len(b.t.entries))
			b.t.entries, order = append(b.t.entries, e), append(order, at)
			return b.check(at)
		}
		for _, c := range t.of(old) {
			if !gone(c.rule) {
				if err := add(t.entries[c.entry]); err != nil {
					return nil, err
				}
			}
		}
		for _, e := range entries {
			if err := add(e); err != nil {
				return nil, err
			}
		}
		slices.SortFunc(order, b.before)
		b.t.virtualHosts[h] = b.virtualHost(order)
	}
	return b.t, nil
}

// of returns the candidates of a virtual host.
func (t *Table) of(h *virtualHost) []candidate { return t.candidates[h.first : h.first+h.count] }

// extend returns a copy that can grow. The first one has its own behind what t has in the same lists, of which nobody who has t
// sees more than before.
func (t *Table) extend() *Table {
	next := &Table{
		entries: t.entries, hosts: t.hosts, virtualHosts: slices.Clone(t.virtualHosts), paths: t.paths,
		candidates: t.candidates, predicates: t.predicates, regexes: t.regexes,
	}
	next.scratch.New = newScratch
	if t.extended.Swap(true) {
		next.entries, next.candidates, next.predicates, next.regexes =
			slices.Clip(next.entries), slices.Clip(next.candidates), slices.Clip(next.predicates), slices.Clip(next.regexes)
		next.paths = tree{nodes: slices.Clip(t.paths.nodes), firsts: slices.Clip(t.paths.firsts), text: slices.Clip(t.paths.text)}
	}
	return next
}

// knowRegexes notes the regular expressions of a virtual host, which need not be compiled again.
func (b *builder) knowRegexes(t *Table, h *virtualHost) {
	for _, c := range t.of(h) {
		if c.regex != none {
			b.regex[t.entries[c.entry].Match.Path.Value] = c.regex
		}
		for _, p := range t.predicates[c.predicates : int(c.predicates)+int(c.headers)+int(c.query)] {
			if p.regex != none {
				b.regex[p.value] = p.regex
			}
		}
	}
}
