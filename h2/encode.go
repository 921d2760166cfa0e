package h2

import (
	"rauta.io/rauta/h2/hpack"
	"rauta.io/rauta/proxy/message"
)

// notWritten are fields that no HTTP/2 message has (RFC 9113 section 8.2.2), or that are written from typed parts.
var notWritten = [256]bool{
	message.Removed: true, message.Host: true, message.ContentLength: true, message.TransferEncoding: true,
	message.Connection: true, message.KeepAlive: true, message.ProxyConnection: true, message.Upgrade: true,
	message.Trailer: true, message.HTTP2Settings: true,
}

// blockBytes bounds the size of the block that is written of a head.
func blockBytes(h *message.Head) int {
	n := 64
	for i := range h.Fields {
		f := &h.Fields[i]
		n += int(f.Name.Len) + int(f.Value.Len) + 12
	}
	return n
}

// appendResponse appends the fields of a response to a block.
func appendResponse(e *hpack.Encoder, dst []byte, r *message.Response, toHead bool) []byte {
	dst = e.AppendStatus(dst, r.Status)
	dst = appendFields(e, dst, &r.Head)
	bodyless := toHead || r.Status == 204 || r.Status == 304
	switch {
	case r.Status < 200 || r.Status == 204: // RFC 9110 section 8.6: no Content-Length here
	case r.Framing == message.Sized && r.Status != 304, r.Framing == message.NoBody && r.Length >= 0 && bodyless:
		dst = e.AppendContentLength(dst, r.Length)
	}
	return dst
}

// appendFields appends the fields of a head or of trailers.
func appendFields(e *hpack.Encoder, dst []byte, h *message.Head) []byte {
	for i := range h.Fields {
		f := &h.Fields[i]
		if !notWritten[f.ID] {
			dst = e.AppendField(dst, f.ID, h.Bytes(f.Name), h.Bytes(f.Value), f.Sensitive)
		}
	}
	return dst
}
