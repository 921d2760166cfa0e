// Package route finds the rule that a request belongs to.
//
// It owns the matching semantics of Gateway API's HTTPRoute and GRPCRoute (and of Ingress, which is a subset): which host name, path,
// method, header fields and query parameters a rule asks for, and which of several matching rules wins. It does not own
// what a rule does, nor anything about policy: a rule is a number that the caller chose. proxy/snapshot builds tables,
// proxy/exchange looks requests up, the explain command asks for the reasons of the same look-up.
//
// A Table is immutable. All workers read one at the same time; a look-up takes no lock and allocates nothing.
//
// # Precedence
//
// The hostname comes first: an exact one, then wildcards from the longest suffix to the shortest, then "any". When no
// entry of a more specific hostname takes the request, the next less specific one is asked: so is it for a name of several
// labels below the wildcard of an Ingress, which covers one. Within one hostname the first difference decides:
//
//  1. the path: Exact, then Regex (a longer pattern first), then Prefix (a longer prefix first). Gateway API leaves the
//     place of Regex open; this is the order of Envoy Gateway, so that YAML means the same here. GRPC comes after all
//     prefixes but "/", the larger rank first;
//  2. an entry with a method before one without;
//  3. more header matches, then more query matches;
//  4. the smaller Entry.Order.
package route

import (
	"bytes"
	"sync"
	"sync/atomic"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/message"
)

// Entry is one (hostname, match) that leads to a rule.
type Entry struct {
	// Hostname is "" for any, "a.example.com" for exactly that, or "*.example.com" for any number of labels below
	// example.com but not example.com itself. Lower case, without port or trailing dot.
	Hostname string
	// Match is what the request must look like. Of several header or query matches with one name only the first counts
	// (Gateway API, HTTPHeaderMatch and HTTPQueryParamMatch).
	Match config.Match
	// Rule is what Lookup returns.
	Rule int32
	// OneLabel has a wildcard cover one label and not more, as an Ingress asks. It stands here because it takes no room here.
	OneLabel bool
	// Order breaks ties that the match leaves: the smaller wins. The caller ranks by age of the route, then its name,
	// then the index of the rule, then that of the match.
	Order int
}

// Result of a look-up.
type Result struct {
	// Rule is the Entry.Rule of the winner.
	Rule int32
	// Prefix is how many bytes of the path the winner's path match covered: for a Prefix match its length without a final
	// "/" (so 0 for "/"), and what follows is empty or starts with "/"; for other kinds the whole path. The path "*"
	// is covered by the prefix "/" with 0 bytes.
	Prefix int
	// Path is the path match of the winner. It belongs to the table.
	Path *config.PathMatch
}

// Table is a compiled set of entries.
type Table struct {
	// entries as given to Build, and those of Revise: read by explain, and for methods without an id.
	entries []Entry
	// hosts finds indices into virtualHosts.
	hosts        hostIndex
	virtualHosts []virtualHost
	// paths is a forest with one root for each virtual host; its values are indices into candidates.
	paths      tree
	candidates []candidate
	predicates []predicate
	regexes    []regex
	// scratch holds *[regexInputMax]byte: a value that has to be put together before a regex can see it.
	scratch sync.Pool

	// dead counts the entries that no virtual host has any more.
	dead int
	// extended: a table that came of this one by Revise has put its own behind what this one has in its lists.
	extended atomic.Bool
}

// virtualHost is the entries of one hostname.
type virtualHost struct {
	root  int32 // in Table.paths, or none
	regex int32 // first candidate with a path regex, or none
	grpc  int32 // first candidate with a pattern for a gRPC service or method, or none
	first int32 // candidate
	count int32 // of candidates
}

// candidate is an Entry compiled. Candidates that share a path are adjacent, in order of precedence; the last one of such
// a group is marked. Neither it nor tree holds a pointer, so that the garbage collector scans nothing of them.
type candidate struct {
	entry      int32
	rule       int32
	regex      int32 // of the path, or none
	predicates int32 // first of headers+query predicates
	headers    uint8
	query      uint8
	method     message.MethodID
	anyMethod  bool
	oneLabel   bool
	last       bool
}

// none is the absent index.
const none = -1

// search is one look-up under way.
type search struct {
	req  *message.Request
	path []byte
	tr   *tracer // or nil
	deep bool    // the wildcard at hand stands for more than one label of the host
	work int     // what regexes may still cost, see regexWorkMax; negative when that was not enough
}

// Lookup returns the winner for a request to host, which is lower case and without port. There is none if the regexes that
// had to be asked cost too much (regexWorkMax): nobody can say then which entry the request belongs to. Lookup may be called
// concurrently.
func (t *Table) Lookup(host []byte, req *message.Request) (Result, bool) {
	return t.lookup(host, req, nil)
}

// lookup asks the virtual hosts from the most specific to the least. With a tracer it doesn't stop at the winner, so that
// the tracer sees all that a less specific match could have had.
func (t *Table) lookup(host []byte, req *message.Request, tr *tracer) (Result, bool) {
	s := search{req: req, path: req.Bytes(req.Path), tr: tr, work: regexWorkMax}
	if h, ok := t.hosts.exact[string(host)]; ok {
		if r, ok := t.lookupHost(h, &s); ok {
			return r, true
		}
	}
	for n := t.hosts.longest(host); n != none; n = t.hosts.wild.nodes[n].up {
		node := &t.hosts.wild.nodes[n]
		// node.depth is the length of the suffix with its dot: what is before it is what the wildcard stands for.
		s.deep = bytes.IndexByte(host[:len(host)-int(node.depth)], '.') >= 0
		if r, ok := t.lookupHost(node.prefix, &s); ok {
			return r, true
		}
	}
	if t.hosts.any != none {
		s.deep = false
		return t.lookupHost(t.hosts.any, &s)
	}
	return Result{}, false
}

// lookupHost asks one virtual host.
func (t *Table) lookupHost(h int32, s *search) (Result, bool) {
	vh, path := t.virtualHosts[h], s.path
	if s.tr != nil {
		s.tr.host(h)
	}
	full, deepest := int32(none), int32(none)
	// "*" (RFC 9112 section 3.2.4) has no elements to compare: only the prefix "/", which is the empty key, takes it.
	asterisk := len(path) == 1 && path[0] == '*'
	if vh.root != none {
		full, deepest = t.paths.walk(vh.root, path)
	}
	if full != none {
		if c := t.scan(t.paths.nodes[full].exact, s); c != none {
			return t.result(c, len(path)), true
		}
	}
	if vh.regex != none && !asterisk {
		if c := t.scan(vh.regex, s); c != none {
			return t.result(c, len(path)), true
		}
	}
	slash := int32(none) // candidate with the prefix "/"
	for n := deepest; n != none; n = t.paths.nodes[n].up {
		node := &t.paths.nodes[n]
		depth := int(node.depth)
		if depth == 0 {
			slash = node.prefix
			break
		}
		if depth < len(path) && path[depth] != '/' {
			continue // "/a" doesn't match "/ab"
		}
		if c := t.scan(node.prefix, s); c != none {
			return t.result(c, depth), true
		}
	}
	if vh.grpc != none && !asterisk {
		if c := t.scan(vh.grpc, s); c != none {
			return t.result(c, len(path)), true
		}
	}
	if slash != none {
		if c := t.scan(slash, s); c != none {
			return t.result(c, 0), true
		}
	}
	return Result{}, false
}

// result is what becomes of a request that a candidate has won.
func (t *Table) result(c int32, prefix int) Result {
	winner := &t.candidates[c]
	return Result{winner.rule, prefix, &t.entries[winner.entry].Match.Path}
}

// scan returns the first candidate of a group that takes the request, or none.
func (t *Table) scan(first int32, s *search) int32 {
	for i := first; ; i++ {
		c := &t.candidates[i]
		v := t.check(c, s)
		if s.work < 0 {
			v = verdict{reason: tooMuchWork}
		}
		if s.tr != nil {
			s.tr.candidate(i, v)
			if s.tr.winner != none {
				s.work = regexWorkMax // what comes now, only the tracer asks
			}
		} else if v.reason == matched {
			return i
		}
		if c.last {
			return none
		}
	}
}
