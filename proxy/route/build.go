package route

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/message"
)

// Build compiles entries, which the table keeps: they must not be changed afterwards. The error names the first entry that
// ValidateMatch refuses.
func Build(entries []Entry) (*Table, error) {
	b := &builder{
		t:     &Table{entries: entries, candidates: make([]candidate, 0, len(entries))},
		ranks: make([]rank, 0, len(entries)),
		regex: map[string]int32{},
	}
	b.t.scratch.New = newScratch
	hosts := map[string]int32{}
	order := make([]int32, len(entries))
	for i := range entries {
		if err := b.check(int32(i)); err != nil {
			return nil, err
		}
		order[i] = int32(i)
	}
	slices.SortFunc(order, b.before)
	for len(order) > 0 {
		n := 1
		for n < len(order) && entries[order[n]].Hostname == entries[order[0]].Hostname {
			n++
		}
		hosts[entries[order[0]].Hostname] = int32(len(b.t.virtualHosts))
		b.t.virtualHosts = append(b.t.virtualHosts, b.virtualHost(order[:n]))
		order = order[n:]
	}
	b.t.hosts = newHostIndex(hosts)
	b.t.paths.compact()
	b.t.predicates = slices.Clip(b.t.predicates)
	return b.t, nil
}

type builder struct {
	t     *Table
	base  int32            // entries before it are laid out already
	ranks []rank           // by entry, from base on
	regex map[string]int32 // pattern to index in t.regexes
	items []item           // of the virtual host at hand
}

func newScratch() any { return new([regexInputMax]byte) }

// check validates an entry, the next one.
func (b *builder) check(e int32) error {
	entry := &b.t.entries[e]
	if err := validate(&entry.Match, b.compile); err != nil {
		return fmt.Errorf("entry %d (hostname %q, rule %d): %w", e, entry.Hostname, entry.Rule, err)
	}
	b.ranks = append(b.ranks, rankOf(entry))
	return nil
}

func (b *builder) rank(e int32) *rank { return &b.ranks[e-b.base] }

func (b *builder) compile(pattern string) error {
	if _, ok := b.regex[pattern]; ok {
		return nil
	}
	re, err := compileRegex(pattern)
	if err != nil {
		return err
	}
	b.regex[pattern] = int32(len(b.t.regexes))
	b.t.regexes = append(b.t.regexes, re)
	return nil
}

// before orders entries the way they are laid out: by hostname, those with a literal path first and by path, and those that
// one request path can lead to by precedence.
func (b *builder) before(i, j int32) int {
	x, y := &b.t.entries[i], &b.t.entries[j]
	if c := strings.Compare(x.Hostname, y.Hostname); c != 0 {
		return c
	}
	rx, ry := b.rank(i), b.rank(j)
	literalX, literalY := !rx.isPattern(), !ry.isPattern()
	if literalX != literalY {
		if literalX {
			return -1
		}
		return 1
	}
	if literalX {
		if c := strings.Compare(pathKey(&x.Match.Path), pathKey(&y.Match.Path)); c != 0 {
			return c
		}
	}
	if c, _ := rx.compare(ry); c != 0 {
		return c
	}
	return cmp.Compare(i, j)
}

// virtualHost lays out the entries of one hostname, which are in the order of before.
func (b *builder) virtualHost(order []int32) virtualHost {
	vh := virtualHost{root: none, regex: none, grpc: none, first: int32(len(b.t.candidates)), count: int32(len(order))}
	b.items = b.items[:0]
	for i, e := range order {
		c := int32(len(b.t.candidates))
		b.t.candidates = append(b.t.candidates, b.candidate(e))
		rank, path := b.rank(e), &b.t.entries[e].Match.Path
		startsGroup := i == 0 || !b.sameGroup(order[i-1], e)
		if !startsGroup {
			continue
		}
		if i > 0 {
			b.t.candidates[c-1].last = true
		}
		switch rank.kind {
		case kindRegex:
			vh.regex = c
			continue
		case kindGRPC:
			vh.grpc = c
			continue
		}
		key := pathKey(path)
		if n := len(b.items); n == 0 || b.items[n-1].key != key {
			b.items = append(b.items, item{key: key, exact: none, prefix: none})
		}
		it := &b.items[len(b.items)-1]
		if rank.kind == kindExact {
			it.exact = c
		} else {
			it.prefix = c
		}
	}
	b.t.candidates[len(b.t.candidates)-1].last = true
	if len(b.items) > 0 {
		vh.root = b.t.paths.insert(b.items)
	}
	return vh
}

// sameGroup reports whether adjacent entries of one hostname are asked together.
func (b *builder) sameGroup(i, j int32) bool {
	if b.rank(i).kind != b.rank(j).kind {
		return false
	}
	return b.rank(i).isPattern() ||
		pathKey(&b.t.entries[i].Match.Path) == pathKey(&b.t.entries[j].Match.Path)
}

func (b *builder) candidate(e int32) candidate {
	m := &b.t.entries[e].Match
	c := candidate{
		entry: e, rule: b.t.entries[e].Rule, regex: none, predicates: int32(len(b.t.predicates)),
		anyMethod: m.Method == "", oneLabel: b.t.entries[e].OneLabel, method: message.LookupMethod([]byte(m.Method)),
		headers: uint8(b.addPredicates(m.Headers, true)), query: uint8(b.addPredicates(m.Query, false)),
	}
	if b.rank(e).isPattern() {
		c.regex = b.regex[m.Path.Value]
	}
	return c
}

func (b *builder) addPredicates(values []config.ValueMatch, headers bool) int {
	n := 0
	for i := range values {
		if repeated(values, i) {
			continue
		}
		v := &values[i]
		p := predicate{name: v.Name, value: v.Value, regex: none}
		if v.Regex {
			p.regex = b.regex[v.Value]
		}
		if headers {
			p.id = message.LookupIDString(v.Name)
		}
		b.t.predicates = append(b.t.predicates, p)
		n++
	}
	return n
}

// pathKey is the literal that the tree holds. A prefix matches element-wise, so that a final "/" says nothing.
func pathKey(p *config.PathMatch) string {
	if p.Kind == config.PathPrefix {
		return strings.TrimSuffix(p.Value, "/")
	}
	return p.Value
}

// repeated reports whether an earlier value has the name of values[i], so that it doesn't count (Gateway API).
func repeated(values []config.ValueMatch, i int) bool {
	for j := range i {
		if values[j].Name == values[i].Name {
			return true
		}
	}
	return false
}

func distinct(values []config.ValueMatch) int {
	n := 0
	for i := range values {
		if !repeated(values, i) {
			n++
		}
	}
	return n
}
