package route

import (
	"bytes"

	"rauta.io/rauta/proxy/message"
)

// predicate is one header or query match compiled.
type predicate struct {
	name  string
	value string
	regex int32 // in Table.regexes, or none: value is compared byte for byte
	id    message.FieldID
}

// reason says why a candidate did not take a request.
type reason uint8

const (
	matched reason = iota
	deepHost
	otherMethod
	otherPath
	noHeader
	otherHeader
	noQuery
	otherQuery
	tooMuchWork
)

// verdict on a candidate. index is that of the predicate that failed, counted from candidate.predicates.
type verdict struct {
	reason reason
	index  uint8
}

// check compares all but a literal path, which the tree has compared.
func (t *Table) check(c *candidate, s *search) verdict {
	if s.deep && c.oneLabel {
		return verdict{reason: deepHost}
	}
	if !c.anyMethod {
		if c.method != s.req.MethodID {
			return verdict{reason: otherMethod}
		}
		if c.method == message.MethodOther && string(s.req.Bytes(s.req.Method)) != t.entries[c.entry].Match.Method {
			return verdict{reason: otherMethod}
		}
	}
	if c.regex != none && !t.regexes[c.regex].match(s.path, &s.work) {
		return verdict{reason: otherPath}
	}
	n := int(c.headers) + int(c.query)
	if n == 0 {
		return verdict{}
	}
	predicates := t.predicates[c.predicates : int(c.predicates)+n]
	for i := range predicates {
		r := matched
		if i < int(c.headers) {
			r = t.checkHeader(&predicates[i], s)
		} else {
			r = t.checkQuery(&predicates[i], s)
		}
		if r != matched {
			return verdict{reason: r, index: uint8(i)}
		}
	}
	return verdict{}
}

// checkHeader compares the value of a field; the lines of a repeated one are combined (RFC 9110 section 5.3).
func (t *Table) checkHeader(p *predicate, s *search) reason {
	req := s.req
	i := req.Lookup(p.name, p.id, 0)
	if i < 0 {
		return t.checkControl(p, s)
	}
	first := req.Bytes(req.Fields[i].Value)
	next := req.Lookup(p.name, p.id, i+1)
	ok := false
	switch {
	case next < 0 && p.regex == none:
		ok = string(first) == p.value
	case next < 0:
		ok = t.regexes[p.regex].match(first, &s.work)
	case p.regex == none:
		ok = equalCombined(p, req, i)
	default:
		ok = t.matchCombined(p, s, i)
	}
	if ok {
		return matched
	}
	return otherHeader
}

// checkControl compares the fields that engines take out of the field list.
func (t *Table) checkControl(p *predicate, s *search) reason {
	var value message.Span
	switch p.id {
	case message.Host:
		value = s.req.Authority
	case message.Upgrade:
		value = s.req.Upgrade
	}
	if value.Len == 0 {
		return noHeader
	}
	text := s.req.Bytes(value)
	if p.regex != none && t.regexes[p.regex].match(text, &s.work) || p.regex == none && string(text) == p.value {
		return matched
	}
	return otherHeader
}

// separator joins the lines of a field: Cookie is the exception to the comma (RFC 9113 section 8.2.3).
func (p *predicate) separator() string {
	if p.id == message.Cookie {
		return "; "
	}
	return ", "
}

// equalCombined compares the combined value from field i on without building it.
func equalCombined(p *predicate, req *message.Request, i int) bool {
	rest, sep := p.value, p.separator()
	for first := true; i >= 0; i, first = req.Lookup(p.name, p.id, i+1), false {
		if !first {
			if len(rest) < len(sep) || rest[:len(sep)] != sep {
				return false
			}
			rest = rest[len(sep):]
		}
		line := req.Bytes(req.Fields[i].Value)
		if len(rest) < len(line) || rest[:len(line)] != string(line) {
			return false
		}
		rest = rest[len(line):]
	}
	return rest == ""
}

// matchCombined builds the combined value from field i on for a regex; one that is longer than a regex may see doesn't match.
func (t *Table) matchCombined(p *predicate, s *search, i int) bool {
	req := s.req
	buf := t.scratch.Get().(*[regexInputMax]byte)
	defer t.scratch.Put(buf)
	sep, n := p.separator(), 0
	for first := true; i >= 0; i, first = req.Lookup(p.name, p.id, i+1), false {
		line := req.Bytes(req.Fields[i].Value)
		if n+len(sep)+len(line) > len(buf) {
			return false
		}
		if !first {
			n += copy(buf[n:], sep)
		}
		n += copy(buf[n:], line)
	}
	return t.regexes[p.regex].match(buf[:n], &s.work)
}

// checkQuery compares the first parameter of the name (WHATWG URL section 5.1: pairs split at "&", then at the first "=",
// "+" is a space, percent-encoding is decoded, and a broken escape stands for itself).
func (t *Table) checkQuery(p *predicate, s *search) reason {
	query := s.req.Bytes(s.req.Query)
	for len(query) > 0 {
		pair := query
		if i := bytes.IndexByte(query, '&'); i >= 0 {
			pair, query = query[:i], query[i+1:]
		} else {
			query = nil
		}
		name, value := pair, []byte(nil)
		if i := bytes.IndexByte(pair, '='); i >= 0 {
			name, value = pair[:i], pair[i+1:]
		}
		if len(name) < len(p.name) || !equalDecoded(name, p.name) {
			continue
		}
		if p.regex == none {
			if equalDecoded(value, p.value) {
				return matched
			}
			return otherQuery
		}
		if t.matchDecoded(p, value, &s.work) {
			return matched
		}
		return otherQuery
	}
	return noQuery
}

// equalDecoded compares a query component with a decoded text.
func equalDecoded(raw []byte, text string) bool {
	i := 0
	for len(raw) > 0 {
		c, n := decode(raw)
		if i == len(text) || text[i] != c {
			return false
		}
		raw = raw[n:]
		i++
	}
	return i == len(text)
}

// matchDecoded decodes a query value for a regex.
func (t *Table) matchDecoded(p *predicate, raw []byte, work *int) bool {
	re := &t.regexes[p.regex]
	if bytes.IndexByte(raw, '%') < 0 && bytes.IndexByte(raw, '+') < 0 {
		return re.match(raw, work)
	}
	buf := t.scratch.Get().(*[regexInputMax]byte)
	defer t.scratch.Put(buf)
	n := 0
	for len(raw) > 0 {
		if n == len(buf) {
			return false
		}
		c, used := decode(raw)
		buf[n] = c
		n++
		raw = raw[used:]
	}
	return re.match(buf[:n], work)
}

// decode returns the first byte that raw, which is not empty, stands for, and how many bytes spell it.
func decode(raw []byte) (c byte, n int) {
	switch raw[0] {
	case '+':
		return ' ', 1
	case '%':
		if len(raw) >= 3 {
			hi, ok1 := unhex(raw[1])
			lo, ok2 := unhex(raw[2])
			if ok1 && ok2 {
				return hi<<4 | lo, 3
			}
		}
	}
	return raw[0], 1
}

func unhex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	}
	return 0, false
}
