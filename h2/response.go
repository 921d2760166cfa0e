package h2

import (
	"rauta.io/rauta/h2/hpack"
	"rauta.io/rauta/proxy/message"
)

// onStatus takes the pseudo-header field of a response (RFC 9113 section 8.3.2).
func (h *headReader) onStatus(f *hpack.Field) {
	if f.Pseudo != hpack.Status || h.pseudo&pseudoStatus != 0 {
		h.malformed("bad_pseudo_header")
		return
	}
	h.pseudo |= pseudoStatus
	value := h.bytes(f.Value)
	if len(value) != 3 {
		h.malformed("bad_status")
		return
	}
	status := 0
	for _, c := range value {
		if c < '0' || c > '9' {
			h.malformed("bad_status")
			return
		}
		status = status*10 + int(c-'0')
	}
	if status < 100 || status == statusSwitching { // RFC 9113 section 8.6
		h.malformed("bad_status")
		return
	}
	h.resp.Status = status
}

// onResponseField takes any other field of a response. Those that are for one hop are malformed or dropped.
func (h *headReader) onResponseField(f *hpack.Field) {
	if h.fields++; h.fields > h.limits.ResponseFields {
		h.stop(problem{431, "too_many_fields"})
		return
	}
	switch f.ID {
	case message.Connection, message.ProxyConnection, message.KeepAlive, message.TransferEncoding, message.Upgrade:
		h.malformed("connection_specific_field")
	case message.ContentLength:
		n, ok := message.ParseLength(h.bytes(f.Value))
		if !ok || h.length >= 0 {
			h.malformed("bad_content_length")
			return
		}
		h.length = n
	case message.TE, message.Trailer, message.Host, message.Expect, message.HTTP2Settings, message.ProxyAuthenticate,
		message.ProxyAuthorization:
	default:
		appendTo(&h.resp.Head, f)
	}
}

// finishResponse completes a response head. Received is the arena of the reader's block.
func (h *headReader) finishResponse(endStream, toHead, connect bool) problem {
	r := h.resp
	r.Received = h.block.Arena
	r.Version = message.HTTP2
	r.Length = -1
	if h.problem.bad() {
		return h.problem
	}
	if h.pseudo&pseudoStatus == 0 {
		return problem{0, "missing_pseudo_header"}
	}
	switch {
	case r.Status < statusOK:
		if endStream { // RFC 9113 section 8.1: an interim response does not end the stream
			return problem{0, "interim_with_end"}
		}
	case connect && r.Status < 300:
		if h.length >= 0 { // RFC 9110 section 8.6: none in a 2xx to CONNECT
			return problem{0, "bad_content_length"}
		}
	case toHead || r.Status == 304:
		r.Length = h.length
	case r.Status == 204 || endStream:
		if h.length > 0 { // RFC 9113 section 8.1.1
			return problem{0, "content_length_mismatch"}
		}
		if h.length == 0 && r.Status != 204 {
			r.Framing, r.Length = message.Sized, 0
		}
	case h.length >= 0:
		r.Framing, r.Length = message.Sized, h.length
	default:
		r.Framing = message.Streamed
	}
	return problem{}
}
