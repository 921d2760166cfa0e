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
	kindGRPC
	kindAny // the prefix "/"
)

// rank is the place of an entry in the order of precedence.
type rank struct {
	host    int // HostnameSpecificity
	order   int
	length  uint32 // of a prefix or regex in bytes, or config.PathMatch.Rank; 0 for exact ones, of which one path can't meet two
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
		r.kind, r.length = kindRegex, uint32(len(e.Match.Path.Value))
	case config.PathGRPC:
		r.kind, r.length = kindGRPC, e.Match.Path.Rank
	case config.PathPrefix:
		r.kind, r.length = kindPrefix, uint32(len(pathKey(&e.Match.Path)))
		if r.length == 0 {
			r.kind = kindAny
		}
	}
	return r
}

func (r *rank) isPrefix() bool { return r.kind == kindPrefix || r.kind == kindAny }

// isPattern reports whether the path is matched by a regular expression instead of the tree.
func (r *rank) isPattern() bool { return r.kind == kindRegex || r.kind == kindGRPC }

// compare is the one definition of precedence: negative when r wins over o, and what the loser lacks.
func (r *rank) compare(o *rank) (int, string) {
	if c := cmp.Compare(o.host, r.host); c != 0 {
		return c, "a less specific hostname"
	}
	if c := cmp.Compare(r.kind, o.kind); c != 0 {
		if r.isPrefix() && o.isPrefix() {
			return c, "a shorter path prefix"
		}
		return c, "a path match of a kind that comes later (exact, regex, prefix, gRPC service or method)"
	}
	if c := cmp.Compare(o.length, r.length); c != 0 {
		switch r.kind {
		case kindRegex:
			return c, "a shorter path regex"
		case kindGRPC:
			return c, "a shorter gRPC service or method"
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
