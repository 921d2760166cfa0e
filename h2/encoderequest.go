package h2

import (
	"strconv"

	"rauta.io/rauta/h2/hpack"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/websocket"
)

// requestBytes bounds the size of the block that appendRequest writes.
func requestBytes(r *message.Request) int {
	return blockBytes(&r.Head) + 96 + int(r.Method.Len+r.Authority.Len+r.Path.Len+r.Query.Len)
}

// listBytes is what the fields of a request count for in SETTINGS_MAX_HEADER_LIST_SIZE (RFC 9113 section 6.5.2): those that
// appendRequest writes.
func listBytes(r *message.Request, scheme message.Scheme) int {
	path := int(r.Path.Len)
	if r.HasQuery {
		path += 1 + int(r.Query.Len)
	}
	n := hpack.FieldBytes(len(":scheme"), len(scheme.String())) + hpack.FieldBytes(len(":path"), path) +
		hpack.FieldBytes(len(":authority"), int(r.Authority.Len))
	if r.Upgrade.Len > 0 {
		n += hpack.FieldBytes(len(":method"), len("CONNECT")) + hpack.FieldBytes(len(":protocol"), len(websocket.Protocol))
	} else {
		n += hpack.FieldBytes(len(":method"), int(r.Method.Len))
	}
	for i := range r.Fields {
		if f := &r.Fields[i]; !notWritten[f.ID] {
			n += hpack.FieldBytes(int(f.Name.Len), int(f.Value.Len))
		}
	}
	if r.TETrailers {
		n += hpack.FieldBytes(len("te"), len("trailers"))
	}
	if r.Framing == message.Sized {
		n += hpack.FieldBytes(len("content-length"), len(strconv.FormatInt(r.Length, 10)))
	}
	return n
}

// listBytesBound is no less than listBytes of a request with so many fields for which requestBytes is n: that counts 12
// bytes beside each field instead of 32. Most requests need no exact count.
func listBytesBound(n, fields int) int { return n + 20*fields + 7*hpack.FieldBytes(0, 0) }

// appendRequest appends the fields of a request to a block. One with Upgrade becomes an extended CONNECT (RFC 8441 section
// 4). scheme is that of the connection, whatever the client's was. scratch is for a path that has to be put together; it is
// returned for the next one.
func appendRequest(e *hpack.Encoder, dst []byte, r *message.Request, scheme message.Scheme, scratch []byte) (block, _ []byte) {
	if r.Upgrade.Len > 0 {
		dst = e.AppendMethod(dst, []byte("CONNECT"))
		dst = e.AppendProtocol(dst, []byte(websocket.Protocol))
	} else {
		dst = e.AppendMethod(dst, r.Bytes(r.Method))
	}
	dst = e.AppendScheme(dst, scheme)
	dst = e.AppendAuthority(dst, r.Bytes(r.Authority))
	path := r.Bytes(r.Path)
	if r.HasQuery {
		scratch = append(append(append(scratch[:0], path...), '?'), r.Bytes(r.Query)...)
		path = scratch
	}
	dst = e.AppendPath(dst, path)
	dst = appendFields(e, dst, &r.Head)
	if r.TETrailers {
		dst = e.AppendField(dst, message.TE, nil, []byte("trailers"), false)
	}
	if r.Framing == message.Sized {
		dst = e.AppendContentLength(dst, r.Length)
	}
	return dst, scratch
}

var errCodeNames = [...]string{
	"no_error", "protocol_error", "internal_error", "flow_control_error", "settings_timeout", "stream_closed",
	"frame_size_error", "refused_stream", "cancel", "compression_error", "connect_error", "enhance_your_calm",
	"inadequate_security", "http_1_1_required",
}

func (c errCode) String() string {
	if int(c) < len(errCodeNames) {
		return errCodeNames[c]
	}
	return "code_" + strconv.FormatUint(uint64(c), 16)
}
