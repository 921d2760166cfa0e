// Package trace makes requests part of a trace: it reads the trace context that a client sends, begins a trace where there
// is none, and says it to back ends in every format that they are to understand.
//
// It owns the grammars of W3C Trace Context and of B3. It does not own spans, only their ids: where spans are exported the
// parent that a back end sees is RAUTA's own, else the client's. proxy/exchange calls Join once for every request, and Attempt
// for every attempt of one that has spans.
package trace

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"rauta.io/rauta/proxy/message"
)

// Format is a way to write a trace context into a head.
type Format uint8

// Formats.
const (
	W3C     Format = iota // traceparent and tracestate (W3C Trace Context)
	B3                    // one field, b3
	B3Multi               // X-B3-TraceId and its siblings
	formatCount
)

// ShareMax is the share of all traces, in 1/ShareMax.
const ShareMax = 1 << 32

// ShareOf is a percentage in 1/ShareMax.
func ShareOf(percent float64) uint64 { return uint64(percent / 100 * ShareMax) }

func formatNames() [formatCount]string { return [formatCount]string{"w3c", "b3", "b3multi"} }

// ParseFormats reads names of formats.
func ParseFormats(names []string) ([]Format, error) {
	var formats []Format
	known := formatNames()
	for _, name := range names {
		i := slices.Index(known[:], strings.TrimSpace(name))
		if i < 0 {
			return nil, fmt.Errorf("%q is none of %s", name, strings.Join(known[:], ", "))
		}
		if slices.Contains(formats, Format(i)) {
			return nil, fmt.Errorf("%q is there twice", name)
		}
		formats = append(formats, Format(i))
	}
	return formats, nil
}

// Propagation says how requests become part of traces. It does not change.
type Propagation struct {
	// Formats are looked for in this order, and all of them are sent to back ends.
	Formats []Format
	// Share of the traces that begin here is marked as sampled, in 1/ShareMax. Rules may have another one.
	Share uint64
	// Spans gives sampled requests a span of their own, a child of the client's, and one to each attempt, which back ends see
	// as their parent.
	Spans bool
}

// Context is the place of a request in a trace.
type Context struct {
	TraceID [16]byte
	SpanID  [8]byte // whose child the next span is: the one that the head names
	Sampled bool
	// Own says that SpanID is RAUTA's own span, and ParentID the client's, zero if the trace begins here.
	Own      bool
	ParentID [8]byte
}

// verdict is what a context says about sampling.
type verdict uint8

const (
	undecided verdict = iota // whoever reads it decides
	dropped
	sampled
	debugged // sampled, whatever else may be said
)

// Join makes a request part of a trace: of the one that it says it belongs to, if it is believed, else of a new one. What
// the head says in the other formats, or says wrongly, is replaced. A share of what nobody has decided about is sampled, in
// 1/ShareMax. room says that there is room for spans: without it the request has none, and its context names the client's.
// random returns 64 random bits.
func (p *Propagation) Join(h *message.Head, believed bool, share uint64, room bool, random func() uint64) Context {
	var c Context
	var says verdict
	source := formatCount
	if believed {
		for _, f := range p.Formats {
			var ok bool
			if c, says, ok = read(h, f); ok {
				source = f
				break
			}
			if says != undecided { // a decision about a trace that has no name yet
				break
			}
		}
	}
	if source == formatCount {
		c = newContext(random)
	}
	if says == undecided {
		c.Sampled = random()>>32 < share
	} else {
		c.Sampled = says >= sampled
	}
	c.Own = p.Spans && c.Sampled && room
	if c.Own && source != formatCount {
		c.ParentID, c.SpanID = c.SpanID, newSpanID(random)
	}
	for _, f := range p.Formats {
		if c.Own && f == W3C && source == W3C {
			h.Remove(message.Traceparent) // tracestate goes on, as the trace is the same
			write(h, f, &c, false)
		} else if f != source || c.Own { // what is right stays as it is, with parts that later versions may add
			remove(h, f)
			write(h, f, &c, says == debugged)
		} else if says == undecided {
			h.RemoveName(nameSampled(f), message.Unknown)
			decide(h, f, &c)
		}
	}
	return c
}

// Attempt makes a head that Join has been through name a new span as the parent of what follows, and returns its id. Fields
// that have been changed since stay as they are. It changes c.SpanID, and is for contexts with Own.
func (p *Propagation) Attempt(h *message.Head, c *Context, random func() uint64) [8]byte {
	old := *c
	c.SpanID = newSpanID(random)
	for _, f := range p.Formats {
		name, id, at := spanField(f)
		i := h.Lookup(name, id, 0)
		if i < 0 {
			continue
		}
		var space [valueBytesMax]byte
		v := h.Bytes(h.Fields[i].Value)
		if len(v) > len(space) || !old.writtenAs(f, v) {
			continue
		}
		v = space[:copy(space[:], v)]
		hex.Encode(v[at:], c.SpanID[:])
		h.Fields[i].Value = h.Store(v)
	}
	return c.SpanID
}

// spanField is the field of a format that has the id of the span, and where in it.
func spanField(f Format) (name string, id message.FieldID, at int) {
	switch f {
	case W3C:
		return "traceparent", message.Traceparent, 36
	case B3:
		return nameB3, message.Unknown, 33
	}
	return nameB3SpanID, message.Unknown, 0
}

// writtenAs reports whether write has made a value of c, the one with the id of the span.
func (c *Context) writtenAs(f Format, v []byte) bool {
	var space [valueBytesMax]byte
	switch f {
	case W3C:
		return string(c.appendW3C(space[:0])) == string(v)
	case B3:
		return string(c.appendB3(space[:0], false)) == string(v) || string(c.appendB3(space[:0], true)) == string(v)
	}
	return string(hex.AppendEncode(space[:0], c.SpanID[:])) == string(v)
}

// newContext begins a trace. Neither id is zero, which would make it invalid.
func newContext(random func() uint64) Context {
	var c Context
	for i := range 3 {
		v := random() | 1
		for j := range 8 {
			if at := i*8 + j; at < len(c.TraceID) {
				c.TraceID[at] = byte(v >> (56 - 8*j))
			} else {
				c.SpanID[at-len(c.TraceID)] = byte(v >> (56 - 8*j))
			}
		}
	}
	return c
}

// newSpanID returns an id that is not zero.
func newSpanID(random func() uint64) (id [8]byte) {
	binary.BigEndian.PutUint64(id[:], random()|1)
	return id
}

// read returns the context that a head has in a format, and whether it has one that is valid.
func read(h *message.Head, f Format) (Context, verdict, bool) {
	switch f {
	case W3C:
		return readW3C(h)
	case B3:
		return readB3(h)
	}
	return readB3Multi(h)
}

// remove removes what a head says in a format.
func remove(h *message.Head, f Format) {
	switch f {
	case W3C:
		h.Remove(message.Traceparent)
		h.Remove(message.Tracestate) // it belongs to the parent (section 3.3)
	case B3:
		h.RemoveName(nameB3, message.Unknown)
	case B3Multi:
		for _, name := range [...]string{nameB3TraceID, nameB3SpanID, nameB3Sampled, nameB3Flags, nameB3Parent} {
			h.RemoveName(name, message.Unknown)
		}
	}
}

// write adds a context to a head that has none of this format.
func write(h *message.Head, f Format, c *Context, debug bool) {
	var space [valueBytesMax]byte
	switch f {
	case W3C:
		h.AddBytes("traceparent", c.appendW3C(space[:0]), message.Traceparent)
	case B3:
		h.AddBytes(nameB3, c.appendB3(space[:0], debug), message.Unknown)
	case B3Multi:
		h.AddBytes("X-B3-TraceId", hex.AppendEncode(space[:0], c.TraceID[:]), message.Unknown)
		h.AddBytes("X-B3-SpanId", hex.AppendEncode(space[:0], c.SpanID[:]), message.Unknown)
		if debug {
			h.Add("X-B3-Flags", "1", message.Unknown) // which implies that it is sampled
		} else {
			decide(h, f, c)
		}
	}
}

// only returns the value of the only field of a name; none if there are several, of which it would be a guess.
func only(h *message.Head, name string, id message.FieldID) ([]byte, bool) {
	i := h.Lookup(name, id, 0)
	if i < 0 || h.Lookup(name, id, i+1) >= 0 {
		return nil, false
	}
	return h.Bytes(h.Fields[i].Value), true
}
