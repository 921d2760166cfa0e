package h2

import (
	"bytes"

	"rauta.io/rauta/h2/hpack"
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
	pseudoStatus
)

// blockMode says what a header block is.
type blockMode uint8

const (
	blockRequest blockMode = iota
	blockTrailers
	blockResponse
	blockIgnored // it is decoded because compression state is shared, and thrown away
)

// headReader turns the fields of one block into a request, a response or trailers. One serves all connections of an
// engine, since a block is decoded in one go.
type headReader struct {
	limits *Limits
	// resp is what responses become.
	resp *message.Response
	// trailers are the fields of a blockTrailers.
	trailers message.Head
	block    hpack.Block // its arena becomes the one of the head
	cookies  []message.Span
	blockState
}

// blockState is what is known of the block that is being read.
type blockState struct {
	mode    blockMode
	req     *message.Request
	problem problem
	fields  int
	crumbs  int
	dropped int
	pseudo  uint8
	regular bool // a field that is not a pseudo-header field has come
	hasHost bool
	expect  bool
	length  int64 // of Content-Length; -1: none
	host    message.Span
	scheme  message.Span
	path    message.Span
	// protocol is what an extended CONNECT asks for (RFC 8441).
	protocol message.Span
}

// read decodes a block and looks at its fields. An error ends the connection; what is wrong with the message is a problem,
// and does no harm to the compression state.
func (h *headReader) read(mode blockMode, req *message.Request, decoder *hpack.Decoder, fragment []byte) error {
	h.blockState = blockState{mode: mode, req: req, length: -1}
	h.cookies = h.cookies[:0]
	if mode == blockTrailers {
		h.trailers.Reset()
	}
	limit := h.limits.headBytes(mode)
	if mode == blockIgnored {
		limit = 0
	}
	if err := decoder.Decode(&h.block, fragment, limit); err != nil {
		return err
	}
	for i := range h.block.Fields {
		if h.problem.bad() {
			return nil
		}
		h.onField(&h.block.Fields[i])
	}
	if h.block.TooLarge && !h.problem.bad() {
		h.stop(problem{431, "head_too_large"})
	}
	return nil
}

// stop ends the block's validation.
func (h *headReader) stop(p problem) { h.problem = p }

func (h *headReader) malformed(reason string) { h.stop(problem{0, reason}) }

func (h *headReader) bytes(s message.Span) []byte { return h.block.Arena[s.Off : s.Off+s.Len] }

// onField takes one decoded field.
func (h *headReader) onField(f *hpack.Field) {
	switch {
	case f.Verdict > hpack.LookAlike:
		h.malformed(malformedFields[f.Verdict])
	case f.Pseudo != hpack.Regular && h.mode == blockResponse && !h.regular:
		h.onStatus(f)
	case f.Pseudo != hpack.Regular:
		h.onPseudo(f)
	case h.mode == blockRequest:
		h.regular = true
		h.onRegular(f)
	case h.mode == blockResponse:
		h.regular = true
		h.onResponseField(f)
	case h.mode == blockTrailers:
		h.onTrailer(f)
	}
}

// malformedFields are the reasons for what the codec finds (RFC 9113 section 8.2.1).
var malformedFields = [...]string{hpack.EmptyName: "empty_name", hpack.BadName: "bad_name", hpack.BadValue: "bad_value"}

// onPseudo takes a pseudo-header field (RFC 9113 section 8.3): each once, before the others, never in trailers.
func (h *headReader) onPseudo(f *hpack.Field) {
	if h.regular || h.mode != blockRequest {
		h.malformed("misplaced_pseudo_header")
		return
	}
	var bit uint8
	switch f.Pseudo {
	case hpack.Method:
		bit = pseudoMethod
		h.req.Method = f.Value
	case hpack.Scheme:
		bit = pseudoScheme
		h.scheme = f.Value
	case hpack.Authority:
		bit = pseudoAuthority
		h.req.Authority = f.Value
	case hpack.Path:
		bit = pseudoPath
		h.path = f.Value
	case hpack.Protocol:
		bit = pseudoProtocol
		h.protocol = f.Value
	}
	if bit == 0 || h.pseudo&bit != 0 {
		h.malformed("bad_pseudo_header")
		return
	}
	h.pseudo |= bit
}

// onRegular takes any other field of a request.
func (h *headReader) onRegular(f *hpack.Field) {
	if f.ID != message.Cookie {
		if h.fields++; h.fields > h.limits.Fields {
			h.stop(problem{431, "too_many_fields"})
			return
		}
	}
	if h.onConnectionField(f) {
		return
	}
	if f.Verdict == hpack.LookAlike {
		if h.limits.StrictNames {
			h.stop(problem{400, "look_alike_name"})
		}
		h.dropped++
		return
	}
	appendTo(&h.req.Head, f)
}

// appendTo adds a field to a head.
func appendTo(head *message.Head, f *hpack.Field) {
	head.Append(f.Name, f.Value, f.ID)
	head.Fields[len(head.Fields)-1].Sensitive = f.Sensitive
}

// onTrailer takes a field that follows a body. Which of them are passed on is for the exchange to say.
func (h *headReader) onTrailer(f *hpack.Field) {
	if h.fields++; h.fields > h.limits.Fields {
		h.stop(problem{431, "too_many_fields"})
		return
	}
	switch f.ID {
	case message.Connection, message.ProxyConnection, message.KeepAlive, message.TransferEncoding, message.Upgrade:
		h.malformed("connection_specific_field")
		return
	}
	appendTo(&h.trailers, f)
}

// finishTrailers returns the fields of a blockTrailers, valid until the next block; nil for none.
func (h *headReader) finishTrailers() *message.Head {
	if len(h.trailers.Fields) == 0 {
		return nil
	}
	h.trailers.Received = h.block.Arena
	return &h.trailers
}

// onConnectionField consumes the fields that describe the framing or that no HTTP/2 message may have (RFC 9113 section
// 8.2.2); it reports whether the field was one.
func (h *headReader) onConnectionField(f *hpack.Field) bool {
	switch f.ID {
	case message.Connection, message.ProxyConnection, message.KeepAlive, message.TransferEncoding, message.Upgrade:
		h.malformed("connection_specific_field")
	case message.TE:
		if string(h.bytes(f.Value)) != "trailers" {
			h.malformed("bad_te")
			return true
		}
		h.req.TETrailers = true
	case message.Host:
		if h.hasHost {
			h.stop(problem{400, "dup_host"})
			return true
		}
		h.host, h.hasHost = f.Value, true
	case message.ContentLength:
		n, ok := message.ParseLength(h.bytes(f.Value))
		if !ok || h.length >= 0 {
			h.malformed("bad_content_length")
			return true
		}
		h.length = n
	case message.Expect:
		if h.expect || !message.EqualFold(h.bytes(f.Value), "100-continue") {
			h.stop(problem{417, "bad_expect"})
			return true
		}
		h.expect = true
	case message.Cookie:
		h.onCookie(f.Value)
	case message.Trailer, message.HTTP2Settings, message.ProxyAuthorization, message.ProxyAuthenticate: // for us at most
	default:
		return false
	}
	return true
}

// onCookie gathers crumbs (RFC 9113 section 8.2.3).
func (h *headReader) onCookie(value message.Span) {
	h.crumbs += 1 + bytes.Count(h.bytes(value), []byte{';'})
	if h.crumbs > cookieCrumbsMax {
		h.stop(problem{431, "too_many_cookies"})
		return
	}
	h.cookies = append(h.cookies, value)
}

// finish checks what only the whole block tells and completes the request. Received is the arena of the reader's block.
func (h *headReader) finish(endStream bool) problem {
	h.req.Received = h.block.Arena
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
	arena := append(h.block.Arena, name...)
	nameSpan := message.Span{Off: uint32(len(arena) - len(name)), Len: uint32(len(name))}
	value := h.cookies[0]
	if len(h.cookies) > 1 {
		from := len(arena)
		for i, c := range h.cookies {
			if i > 0 {
				arena = append(arena, "; "...)
			}
			arena = append(arena, arena[c.Off:c.Off+c.Len]...)
		}
		value = message.Span{Off: uint32(from), Len: uint32(len(arena) - from)}
	}
	h.block.Arena, h.req.Received = arena, arena
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

// isToken: tchar only (RFC 9110 section 5.6.2).
func isToken(b []byte) bool {
	for _, c := range b {
		if !tokenByte[c] {
			return false
		}
	}
	return len(b) > 0
}

var tokenByte = buildTokenByte()

func buildTokenByte() (t [256]bool) {
	for _, c := range []byte("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") {
		t[c] = true
	}
	return t
}
