package h2

import (
	"strconv"

	"rauta.io/rauta/proxy/message"
)

// Prefixes of header field representations (RFC 7541 section 6). We add nothing to the client's dynamic table: an entry
// there would need a copy of every string that could be in it, and responses differ in what is worth keeping.
const (
	reprIndexed      = 0x80 // 7-bit index
	reprWithoutIndex = 0x00 // 4-bit index of the name
	reprNeverIndexed = 0x10 // 4-bit index of the name
	reprTableSize    = 0x20 // 5-bit size
)

// staticStatus is the index of ":status" in the static table (RFC 7541 appendix A).
const staticStatus = 8

// staticName has the index of a field name in the static table, 0 for none.
var staticName = [256]uint8{
	message.Accept: 19, message.AcceptEncoding: 16, message.AcceptLanguage: 17, message.Age: 21, message.Authorization: 23,
	message.CacheControl: 24, message.ContentEncoding: 26, message.ContentLength: 28, message.ContentType: 31,
	message.Cookie: 32, message.Date: 33, message.ETag: 34, message.Expect: 35, message.Expires: 36, message.Host: 38,
	message.LastModified: 44, message.Location: 46, message.ProxyAuthenticate: 48, message.ProxyAuthorization: 49,
	message.Range: 50, message.Referer: 51, message.Server: 54, message.SetCookie: 55, message.UserAgent: 58,
	message.Vary: 59, message.Via: 60,
}

// notWritten are fields that no HTTP/2 message has (RFC 9113 section 8.2.2), or that are written from typed parts.
var notWritten = [256]bool{
	message.Removed: true, message.Host: true, message.ContentLength: true, message.TransferEncoding: true,
	message.Connection: true, message.KeepAlive: true, message.ProxyConnection: true, message.Upgrade: true,
	message.Trailer: true, message.HTTP2Settings: true,
}

// neverIndexed are values that no table on the way may keep (RFC 7541 section 7.1.3).
var neverIndexed = [256]bool{message.SetCookie: true, message.Authorization: true, message.Cookie: true}

// appendInt appends n with a prefix of bits bits (RFC 7541 section 5.1).
func appendInt(dst []byte, first byte, bits uint, n int) []byte {
	limit := 1<<bits - 1
	if n < limit {
		return append(dst, first|byte(n))
	}
	dst = append(dst, first|byte(limit))
	for n -= limit; n >= 128; n >>= 7 {
		dst = append(dst, byte(n)|0x80)
	}
	return append(dst, byte(n))
}

// appendLength appends the header of a string literal that is not Huffman-coded (RFC 7541 section 5.2).
func appendLength(dst []byte, n int) []byte { return appendInt(dst, 0, 7, n) }

// blockBytes bounds the size of the block that is written of a head.
func blockBytes(h *message.Head) int {
	n := 64
	for i := range h.Fields {
		f := &h.Fields[i]
		n += int(f.Name.Len) + int(f.Value.Len) + 12
	}
	return n
}

// appendResponse appends the header block of a response.
func appendResponse(dst []byte, r *message.Response, toHead bool) []byte {
	dst = appendStatus(dst, r.Status)
	dst = appendFields(dst, &r.Head)
	bodyless := toHead || r.Status == 204 || r.Status == 304
	switch {
	case r.Status < 200 || r.Status == 204: // RFC 9110 section 8.6: no Content-Length here
	case r.Framing == message.Sized && r.Status != 304, r.Framing == message.NoBody && r.Length >= 0 && bodyless:
		dst = appendContentLength(dst, r.Length)
	case r.Framing == message.NoBody && !bodyless:
		dst = appendContentLength(dst, 0)
	}
	return dst
}

// appendFields appends the fields of a head or of trailers.
func appendFields(dst []byte, h *message.Head) []byte {
	for i := range h.Fields {
		f := &h.Fields[i]
		if !notWritten[f.ID] {
			dst = appendField(dst, h, f)
		}
	}
	return dst
}

func appendStatus(dst []byte, status int) []byte {
	index := 0
	switch status { // the static table has these (RFC 7541 appendix A)
	case 200:
		index = 8
	case 204:
		index = 9
	case 206:
		index = 10
	case 304:
		index = 11
	case 400:
		index = 12
	case 404:
		index = 13
	case 500:
		index = 14
	}
	if index > 0 {
		return append(dst, reprIndexed|byte(index))
	}
	dst = append(dst, reprWithoutIndex|staticStatus, 3)
	return strconv.AppendUint(dst, uint64(status), 10)
}

func appendContentLength(dst []byte, n int64) []byte {
	var digits [20]byte
	text := strconv.AppendInt(digits[:0], n, 10)
	dst = appendInt(dst, reprWithoutIndex, 4, int(staticName[message.ContentLength]))
	return append(appendLength(dst, len(text)), text...)
}

// appendField appends a field as a literal; names are in lower case (RFC 9113 section 8.2).
func appendField(dst []byte, h *message.Head, f *message.Field) []byte {
	first := byte(reprWithoutIndex)
	if neverIndexed[f.ID] {
		first = reprNeverIndexed
	}
	if index := staticName[f.ID]; index > 0 {
		dst = appendInt(dst, first, 4, int(index))
	} else {
		name := h.Bytes(f.Name)
		dst = appendLength(append(dst, first), len(name))
		for _, c := range name {
			if 'A' <= c && c <= 'Z' {
				c |= 0x20
			}
			dst = append(dst, c)
		}
	}
	value := h.Bytes(f.Value)
	return append(appendLength(dst, len(value)), value...)
}
