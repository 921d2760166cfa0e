package trace

import (
	"encoding/hex"

	"rauta.io/rauta/proxy/message"
)

// Fields of B3 (github.com/openzipkin/b3-propagation), in lower case.
const (
	nameB3        = "b3"
	nameB3TraceID = "x-b3-traceid"
	nameB3SpanID  = "x-b3-spanid"
	nameB3Sampled = "x-b3-sampled"
	nameB3Flags   = "x-b3-flags"
	nameB3Parent  = "x-b3-parentspanid"
)

// readB3 reads "TRACE-SPAN[-SAMPLED[-PARENT]]". A value that is a decision alone is returned without a context.
func readB3(h *message.Head) (c Context, says verdict, ok bool) {
	v, ok := only(h, nameB3, message.Unknown)
	if !ok {
		return c, undecided, false
	}
	if len(v) == 1 {
		says, _ = decision(v)
		return c, says, false
	}
	id, rest := cut(v)
	span, rest := cut(rest)
	if !c.readIDs(id, span) {
		return c, undecided, false
	}
	if len(rest) == 0 {
		return c, undecided, len(v) == len(id)+1+len(span)
	}
	mark, parent := cut(rest)
	if says, ok = decision(mark); !ok {
		return c, undecided, false
	}
	var unused [8]byte
	if len(rest) > len(mark) && !readHex(unused[:], parent) {
		return c, undecided, false
	}
	return c, says, true
}

// readB3Multi reads X-B3-TraceId and X-B3-SpanId, with X-B3-Sampled or X-B3-Flags. A decision alone is returned without a
// context.
func readB3Multi(h *message.Head) (c Context, says verdict, ok bool) {
	if v, has := only(h, nameB3Sampled, message.Unknown); has {
		switch string(v) { // older libraries write it as a word
		case "1", "true":
			says = sampled
		case "0", "false":
			says = dropped
		}
	}
	if v, has := only(h, nameB3Flags, message.Unknown); has && string(v) == "1" {
		says = debugged
	}
	id, hasID := only(h, nameB3TraceID, message.Unknown)
	span, hasSpan := only(h, nameB3SpanID, message.Unknown)
	if !hasID || !hasSpan || !c.readIDs(id, span) {
		return Context{}, says, false
	}
	return c, says, true
}

// readIDs reads both ids. A trace id of 64 bits is the lower half of one.
func (c *Context) readIDs(id, span []byte) bool {
	whole := c.TraceID[:]
	if len(id) == len(whole) {
		whole = whole[8:]
	}
	return readHex(whole, id) && readHex(c.SpanID[:], span) && c.TraceID != [16]byte{} && c.SpanID != [8]byte{}
}

// decision reads the third part of b3.
func decision(v []byte) (verdict, bool) {
	switch string(v) {
	case "0":
		return dropped, true
	case "1":
		return sampled, true
	case "d":
		return debugged, true
	}
	return undecided, false
}

// cut returns what is before the first hyphen, and what is after it.
func cut(v []byte) (before, after []byte) {
	for i, c := range v {
		if c == '-' {
			return v[:i], v[i+1:]
		}
	}
	return v, nil
}

func (c *Context) appendB3(b []byte, debug bool) []byte {
	b = hex.AppendEncode(b, c.TraceID[:])
	b = hex.AppendEncode(append(b, '-'), c.SpanID[:])
	switch {
	case debug:
		return append(b, "-d"...)
	case c.Sampled:
		return append(b, "-1"...)
	}
	return append(b, "-0"...)
}

// decide adds the decision to a context that a head has without one, so that all who read it decide alike.
func decide(h *message.Head, f Format, c *Context) {
	if f == B3 {
		write(h, f, c, false)
		return
	}
	mark := "0"
	if c.Sampled {
		mark = "1"
	}
	h.Add("X-B3-Sampled", mark, message.Unknown)
}

// nameSampled is the field that decide replaces.
func nameSampled(f Format) string {
	if f == B3 {
		return nameB3
	}
	return nameB3Sampled
}
