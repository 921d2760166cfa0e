package route

import (
	"cmp"

	"rauta.io/rauta/proxy/config"
)

// kind of a path match; the smaller wins.
type kind uint8

const (
	kindExact kind = iota
	kindRegex
	kindPrefix
)

// rank is the place of an entry in the order of precedence.
type rank struct {
	host    int // HostnameSpecificity
	order   int
	length  uint16 // of a prefix or regex in bytes; 0 for exact ones, of which one path can't meet two
	headers uint8
	query   uint8
	method  bool
	kind    kind
}

func rankOf(e *Entry) rank {
	r := rank{
		host: HostnameSpecificity(e.Hostname), order: e.Order, method: e.Match.Method != "",
		headers: uint8(distinct(e.Match.Headers)), query: uint8(distinct(e.Match.Query)),
	}
	switch e.Match.Path.Kind {
	case config.PathExact:
		r.kind = kindExact
	case config.PathRegex:
		r.kind, r.length = kindRegex, uint16(len(e.Match.Path.Value))
	case config.PathPrefix:
		r.kind, r.length = kindPrefix, uint16(len(pathKey(&e.Match.Path)))
	}
	return r
}

// compare is the one definition of precedence: negative when r wins over o, and what the loser lacks.
func (r *rank) compare(o *rank) (int, string) {
	if c := cmp.Compare(o.host, r.host); c != 0 {
		return c, "a less specific hostname"
	}
	if c := cmp.Compare(r.kind, o.kind); c != 0 {
		return c, "a path match of a kind that comes later (exact, regex, prefix)"
	}
	if c := cmp.Compare(o.length, r.length); c != 0 {
		if r.kind == kindRegex {
			return c, "a shorter path regex"
		}
		return c, "a shorter path prefix"
	}
	if r.method != o.method {
		if r.method {
			return -1, "no method match"
		}
		return 1, "no method match"
	}
	if c := cmp.Compare(o.headers, r.headers); c != 0 {
		return c, "fewer header matches"
	}
	if c := cmp.Compare(o.query, r.query); c != 0 {
		return c, "fewer query matches"
	}
	return cmp.Compare(r.order, o.order), "an equal match that comes later (age of the route, name, position)"
}
