package h2

import (
	"bytes"

	"golang.org/x/net/http2/hpack"

	"rauta.io/rauta/proxy/message"
)

// problem is why a request head can't be served. Without a status the stream is reset with PROTOCOL_ERROR, because the
// message is malformed (RFC 9113 section 8.1.1); else the client gets an answer. The reason is for logs and metrics, and
// the same token as on HTTP/1 where the rule is the same.
type problem struct {
	status int
	reason string
}

func (p problem) bad() bool { return p.reason != "" }

// Pseudo-header fields (RFC 9113 section 8.3.1).
const (
	pseudoMethod = 1 << iota
	pseudoScheme
	pseudoAuthority
	pseudoPath
	pseudoProtocol // RFC 8441 section 4
)

// blockMode says what a header block is.
type blockMode uint8

const (
	blockRequest blockMode = iota
	blockTrailers
	blockIgnored // it is decoded because compression state is shared, and thrown away
)

// headReader turns the fields of one block into a request. One serves all connections of an engine, since a block is
// decoded in one go.
type headReader struct {
	limits *Limits

	// Of the block.
	mode    blockMode
	req     *message.Request
	decoder *hpack.Decoder
	arena   []byte
	problem problem
	size    int
	fields  int
	crumbs  int
	dropped int
	pseudo  uint8
	regular bool // a field that is not a pseudo-header field has come
	host    message.Span
	hasHost bool
	expect  bool
	length  int64 // of Content-Length; -1: none
	scheme  message.Span
	path    message.Span
	cookies []message.Span
	// protocol is what an extended CONNECT asks for (RFC 8441).
	protocol message.Span
	// trailers are the fields of a blockTrailers.
	trailers message.Head
}

// begin makes the reader ready for a block.
func (h *headReader) begin(mode blockMode, req *message.Request, decoder *hpack.Decoder) {
	h.trailers.Reset()
	*h = headReader{
		limits: h.limits, mode: mode, req: req, decoder: decoder, arena: h.arena[:0], cookies: h.cookies[:0], length: -1,
		trailers: h.trailers,
	}
	decoder.SetEmitEnabled(mode != blockIgnored)
}

// stop ends the block's validation: what follows is decoded without being looked at.
func (h *headReader) stop(p problem) {
	h.problem = p
	h.decoder.SetEmitEnabled(false)
}

func (h *headReader) malformed(reason string) { h.stop(problem{0, reason}) }

func (h *headReader) store(s string) message.Span {
	off := len(h.arena)
	h.arena = append(h.arena, s...)
	return message.Span{Off: uint32(off), Len: uint32(len(s))}
}

// onField takes one decoded field.
func (h *headReader) onField(f hpack.HeaderField) {
	h.size += len(f.Name) + len(f.Value) + fieldOverheadBytes
	if h.size > h.limits.HeadBytes {
		h.stop(problem{431, "head_too_large"})
		return
	}
	if reason := badField(f.Name, f.Value); reason != "" {
		h.malformed(reason)
		return
	}
	switch {
	case f.Name[0] == ':':
		h.onPseudo(f.Name, f.Value)
	case h.mode == blockRequest:
		h.regular = true
		h.onRegular(f.Name, f.Value)
	case h.mode == blockTrailers:
		h.onTrailer(f.Name, f.Value)
	}
}

// onPseudo takes a pseudo-header field (RFC 9113 section 8.3): each once, before the others, never in trailers.
func (h *headReader) onPseudo(name, value string) {
	if h.regular || h.mode != blockRequest {
		h.malformed("misplaced_pseudo_header")
		return
	}
	var bit uint8
	switch name {
	case ":method":
		bit = pseudoMethod
	case ":scheme":
		bit = pseudoScheme
	case ":authority":
		bit = pseudoAuthority
	case ":path":
		bit = pseudoPath
	case ":protocol":
		bit = pseudoProtocol
	}
	if bit == 0 || h.pseudo&bit != 0 {
		h.malformed("bad_pseudo_header")
		return
	}
	h.pseudo |= bit
	span := h.store(value)
	switch bit {
	case pseudoMethod:
		h.req.Method = span
	case pseudoScheme:
		h.scheme = span
	case pseudoAuthority:
		h.req.Authority = span
	case pseudoPath:
		h.path = span
	case pseudoProtocol:
		h.protocol = span
	}
}

// onRegular takes any other field of a request.
func (h *headReader) onRegular(name, value string) {
	id := message.LookupIDString(name)
	if id != message.Cookie {
		if h.fields++; h.fields > h.limits.Fields {
			h.stop(problem{431, "too_many_fields"})
			return
		}
	}
	if h.onConnectionField(id, value) {
		return
	}
	span := h.store(name)
	if id == message.Unknown && message.Misleading(h.arena[span.Off:]) {
		if h.limits.StrictNames {
			h.stop(problem{400, "look_alike_name"})
		}
		h.dropped++
		return
	}
	h.req.Append(span, h.store(value), id)
}

// onTrailer takes a field that follows a body. Which of them are passed on is for the exchange to say.
func (h *headReader) onTrailer(name, value string) {
	if h.fields++; h.fields > h.limits.Fields {
		h.stop(problem{431, "too_many_fields"})
		return
	}
	id := message.LookupIDString(name)
	switch id {
	case message.Connection, message.ProxyConnection, message.KeepAlive, message.TransferEncoding, message.Upgrade:
		h.malformed("connection_specific_field")
		return
	}
	h.trailers.Append(h.store(name), h.store(value), id)
}

// finishTrailers returns the fields of a blockTrailers, valid until the next block; nil for none.
func (h *headReader) finishTrailers() *message.Head {
	if len(h.trailers.Fields) == 0 {
		return nil
	}
	h.trailers.Received = h.arena
	return &h.trailers
}

// onConnectionField consumes the fields that describe the framing or that no HTTP/2 message may have (RFC 9113 section
// 8.2.2); it reports whether the field was one.
func (h *headReader) onConnectionField(id message.FieldID, value string) bool {
	switch id {
	case message.Connection, message.ProxyConnection, message.KeepAlive, message.TransferEncoding, message.Upgrade:
		h.malformed("connection_specific_field")
	case message.TE:
		if value != "trailers" {
			h.malformed("bad_te")
			return true
		}
		h.req.TETrailers = true
	case message.Host:
		if h.hasHost {
			h.stop(problem{400, "dup_host"})
			return true
		}
		h.host, h.hasHost = h.store(value), true
	case message.ContentLength:
		n, ok := message.ParseLength([]byte(value))
		if !ok || h.length >= 0 {
			h.malformed("bad_content_length")
			return true
		}
		h.length = n
	case message.Expect:
		if h.expect || !message.EqualFold([]byte(value), "100-continue") {
			h.stop(problem{417, "bad_expect"})
			return true
		}
		h.expect = true
	case message.Cookie:
		h.onCookie(value)
	case message.Trailer, message.HTTP2Settings, message.ProxyAuthorization, message.ProxyAuthenticate: // for us at most
	default:
		return false
	}
	return true
}

// onCookie gathers crumbs (RFC 9113 section 8.2.3).
func (h *headReader) onCookie(value string) {
	h.crumbs++
	for i := range len(value) {
		if value[i] == ';' {
			h.crumbs++
		}
	}
	if h.crumbs > cookieCrumbsMax {
		h.stop(problem{431, "too_many_cookies"})
		return
	}
	h.cookies = append(h.cookies, h.store(value))
}

// finish checks what only the whole block tells and completes the request. Received is the reader's arena.
func (h *headReader) finish(endStream bool) problem {
	h.req.Received = h.arena
	h.req.Version = message.HTTP2
	if h.problem.bad() {
		return h.problem
	}
	method := h.req.Bytes(h.req.Method)
	if h.pseudo&pseudoMethod == 0 || len(method) > methodBytesMax || !isToken(method) {
		return problem{0, "bad_method"}
	}
	h.req.MethodID = message.LookupMethod(method)
	if h.pseudo&pseudoProtocol != 0 {
		if p := h.finishConnect(); p.bad() {
			return p
		}
	} else if h.req.MethodID == message.MethodConnect {
		if h.pseudo&(pseudoScheme|pseudoPath) != 0 || h.pseudo&pseudoAuthority == 0 { // RFC 9113 section 8.5
			return problem{0, "bad_pseudo_header"}
		}
		return problem{405, "connect_method"}
	}
	if h.pseudo&(pseudoScheme|pseudoPath) != pseudoScheme|pseudoPath {
		return problem{0, "missing_pseudo_header"}
	}
	if scheme := h.req.Bytes(h.scheme); !message.EqualFold(scheme, "http") && !message.EqualFold(scheme, "https") {
		return problem{0, "bad_scheme"}
	}
	if p := h.finishAuthority(); p.bad() {
		return p
	}
	if p := h.finishTarget(); p.bad() {
		return p
	}
	if len(h.cookies) > 0 {
		h.joinCookies()
	}
	return h.finishFraming(endStream)
}

// finishAuthority: :authority and Host must not disagree (RFC 9113 section 8.3.1, attack row 25).
func (h *headReader) finishAuthority() problem {
	req := h.req
	if h.pseudo&pseudoAuthority == 0 {
		if !h.hasHost {
			return problem{400, "missing_host"}
		}
		req.Authority = h.host
	}
	if !message.ValidAuthority(req.Bytes(req.Authority)) {
		return problem{400, "bad_host"}
	}
	if h.hasHost && !bytes.EqualFold(req.Bytes(h.host), req.Bytes(req.Authority)) {
		return problem{400, "host_mismatch"}
	}
	return problem{}
}

func (h *headReader) finishTarget() problem {
	req := h.req
	path := req.Bytes(h.path)
	req.ReceivedTarget = h.path
	if len(path) == 1 && path[0] == '*' && req.MethodID == message.MethodOptions {
		req.Path = h.path
		return problem{}
	}
	if len(path) == 0 || path[0] != '/' {
		return problem{0, "bad_path"}
	}
	if len(path) > h.limits.TargetBytes {
		return problem{414, "request_line_too_long"}
	}
	switch req.SetTarget(h.path) {
	case message.BadPath:
		return problem{400, "bad_path"}
	case message.BadPathEscape:
		return problem{400, "bad_path_escape"}
	case message.BadQuery:
		return problem{400, "bad_target"}
	}
	return problem{}
}

// joinCookies makes one field of all crumbs, as protocols before HTTP/2 need it.
func (h *headReader) joinCookies() {
	const name = "cookie"
	nameSpan := h.store(name)
	value := h.cookies[0]
	if len(h.cookies) > 1 {
		from := len(h.arena)
		for i, c := range h.cookies {
			if i > 0 {
				h.arena = append(h.arena, "; "...)
			}
			h.arena = append(h.arena, h.arena[c.Off:c.Off+c.Len]...)
		}
		value = message.Span{Off: uint32(from), Len: uint32(len(h.arena) - from)}
	}
	h.req.Received = h.arena
	h.req.Append(nameSpan, value, message.Cookie)
}

func (h *headReader) finishFraming(endStream bool) problem {
	req := h.req
	switch {
	case h.pseudo&pseudoProtocol != 0: // DATA is the tunnel's
	case endStream && h.length > 0:
		return problem{0, "content_length_mismatch"} // RFC 9113 section 8.1.1
	case endStream:
	case h.length >= 0:
		req.Framing, req.Length = message.Sized, h.length
	default:
		req.Framing, req.Length = message.Streamed, -1
	}
	req.ExpectContinue = h.expect && req.Framing != message.NoBody && req.Length != 0
	return problem{}
}

// fieldClass tells which bytes may be where in a field (RFC 9113 section 8.2.1).
var fieldClass = buildFieldClass()

const (
	classToken uint8 = 1 << iota // tchar (RFC 9110 section 5.6.2)
	className                    // tchar but upper-case letters
	classValue                   // anything but control characters; HTAB is none here
)

func buildFieldClass() (t [256]uint8) {
	const marks = "!#$%&'*+-.^_`|~"
	for c := range 256 {
		b := byte(c)
		lower, upper := 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z'
		mark := bytes.IndexByte([]byte(marks), b) >= 0
		if lower || upper || mark || '0' <= b && b <= '9' {
			t[c] |= classToken
			if !upper {
				t[c] |= className
			}
		}
		if b >= ' ' && b != 0x7f || b == '\t' {
			t[c] |= classValue
		}
	}
	return t
}

func isToken(b []byte) bool {
	for _, c := range b {
		if fieldClass[c]&classToken == 0 {
			return false
		}
	}
	return len(b) > 0
}

// badField checks a name and a value byte by byte; it returns a reason, or "".
func badField(name, value string) string {
	rest := name
	if len(rest) > 0 && rest[0] == ':' {
		rest = rest[1:]
	}
	if len(rest) == 0 {
		return "empty_name"
	}
	for i := range len(rest) {
		if fieldClass[rest[i]]&className == 0 {
			return "bad_name"
		}
	}
	for i := range len(value) {
		if fieldClass[value[i]]&classValue == 0 {
			return "bad_value"
		}
	}
	if n := len(value); n > 0 && (isSpace(value[0]) || isSpace(value[n-1])) {
		return "bad_value"
	}
	return ""
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' }
