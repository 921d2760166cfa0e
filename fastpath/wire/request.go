package wire

import (
	"bytes"

	"rauta.io/rauta/proxy/message"
)

// Stages of a head.
const (
	stageStart uint8 = iota // before the start line; one CRLF may come first
	stageStartLine
	stageFields
	stageDone
)

// RequestParser parses one request head. The zero value is ready; call Reset between heads. It holds offsets only.
type RequestParser struct {
	// DroppedFields is the number of fields of this head that were dropped because their names mislead back ends.
	DroppedFields int

	cursor
	stage     uint8
	hasHost   bool
	expect    bool
	fields    int
	crumbs    int
	authority message.Span // of the absolute form
	hop
}

// Reset makes the parser ready for the next head.
func (p *RequestParser) Reset() { *p = RequestParser{} }

// Parse parses buf, which starts with the head and holds all bytes received so far: the same bytes again, plus more, at each
// call. It fills req, whose views point into buf, and resets it first; the same req must come with each call.
//
// n > 0: the head is complete and has n bytes. n == 0 with OK: more bytes are needed. Any other reason: the head is bad,
// the connection must be closed after the answer, because where the next message starts is unknown.
//
// Length is -1 when Framing is Streamed. Scheme is left at its zero value, the caller knows it.
func (p *RequestParser) Parse(buf []byte, req *message.Request, lim *Limits) (n int, reason Reason) {
	if p.stage != stageFields {
		if done, reason := p.parseStart(buf, req, lim); !done {
			return 0, reason
		}
	}
	req.Received = buf
	for {
		limit := lim.HeadBytes - FieldOverheadBytes*p.fields
		if p.headEnds(buf, limit) {
			return p.end(buf, req)
		}
		cr, token, reason := p.lineEnd(buf, limit, HeadTooLarge)
		if reason != OK {
			if reason == BadValue {
				reason = refineBadByte(buf[p.start:cr])
			}
			return 0, reason
		}
		if cr < 0 {
			return 0, OK
		}
		if reason = p.field(buf, token, cr, req, lim); reason != OK {
			return 0, reason
		}
		p.next(cr)
	}
}

// end takes the empty line that ends the head.
func (p *RequestParser) end(buf []byte, req *message.Request) (n int, reason Reason) {
	n = p.start + 2
	req.Received = buf[:n:n]
	if reason = p.finish(req); reason != OK {
		return 0, reason
	}
	p.stage = stageDone
	return n, OK
}

// parseStart parses an empty line if there is one (RFC 9112 section 2.2) and the request line.
func (p *RequestParser) parseStart(buf []byte, req *message.Request, lim *Limits) (done bool, reason Reason) {
	if p.stage == stageStart {
		req.Reset()
		if len(buf) == 0 {
			return false, OK
		}
		if buf[0] == '\r' {
			if len(buf) == 1 {
				return false, OK
			}
			if buf[1] != '\n' {
				return false, BareCR
			}
			p.next(0)
		}
		p.stage = stageStartLine
	}
	cr, _, reason := p.lineEnd(buf, p.start+lim.RequestLineBytes, RequestLineTooLong)
	switch {
	case reason == BadValue:
		return false, BadRequestLine
	case reason != OK || cr < 0:
		return false, reason
	}
	req.Received = buf
	if reason = p.requestLine(buf, cr, req); reason != OK {
		return false, reason
	}
	p.next(cr)
	p.stage = stageFields
	return true, OK
}

// requestLine parses method SP request-target SP HTTP-version (RFC 9112 section 3). Single spaces are required.
func (p *RequestParser) requestLine(buf []byte, end int, req *message.Request) Reason {
	line := buf[p.start:end]
	i := bytes.IndexByte(line, ' ')
	if i < 0 {
		return BadRequestLine
	}
	method := line[:i]
	if len(method) > MethodBytesMax || !isToken(method) {
		return BadMethod
	}
	j := len(line) - len(" HTTP/1.1")
	if j <= i || line[j] != ' ' {
		return badRequestLine(line)
	}
	version, reason := parseVersion(line[j+1:])
	if reason == BadRequestLine {
		return badRequestLine(line)
	}
	if reason != OK {
		return reason
	}
	req.Version = version
	req.Method = message.Span{Off: uint32(p.start), Len: uint32(i)}
	req.MethodID = message.LookupMethod(method)
	if req.MethodID == message.MethodConnect {
		return ConnectMethod
	}
	if j == i+1 || j < i+1 {
		return BadRequestLine
	}
	target := message.Span{Off: uint32(p.start + i + 1), Len: uint32(j - i - 1)}
	req.ReceivedTarget = target
	return p.target(req, target)
}

// badRequestLine tells a line that is no request in any version of HTTP from one that is malformed: three words of which
// the last names something else.
func badRequestLine(line []byte) Reason {
	const name = "http/"
	i, j := bytes.IndexByte(line, ' '), bytes.LastIndexByte(line, ' ')
	last := line[j+1:]
	words := bytes.Count(line, []byte{' '}) == 2 && j > i+1 && len(last) > 0
	if words && (len(last) < len(name) || !message.EqualFold(last[:len(name)], name)) {
		return UnknownProtocol
	}
	return BadRequestLine
}

// parseVersion reads HTTP-version (RFC 9112 section 2.3); b has 8 bytes.
func parseVersion(b []byte) (message.Version, Reason) {
	switch string(b) {
	case "HTTP/1.1":
		return message.HTTP11, OK
	case "HTTP/1.0":
		return message.HTTP10, OK
	}
	isDigit := func(c byte) bool { return '0' <= c && c <= '9' }
	if string(b[:5]) == "HTTP/" && isDigit(b[5]) && b[6] == '.' && isDigit(b[7]) {
		return 0, BadVersion
	}
	return 0, BadRequestLine
}

// field parses the field line that ends at end, whose bytes before token are known to be token characters.
func (p *RequestParser) field(buf []byte, token, end int, req *message.Request, lim *Limits) Reason {
	start := p.start
	colon, from, to, reason := fieldLine(buf, start, token, end)
	if reason != OK {
		return reason
	}
	if p.fields++; p.fields > lim.Fields {
		return TooManyFields
	}
	name := buf[start:colon]
	id := message.LookupID(name)
	if id == message.Unknown {
		if misleads(name) {
			if lim.StrictNames {
				return LookAlikeName
			}
			p.DroppedFields++
			return OK
		}
	} else if hopFields[id] {
		return p.hopField(buf, id, span(from, to), req)
	}
	req.Append(span(start, colon), span(from, to), id)
	return OK
}

// hopFields are the request fields that hopField looks at.
var hopFields = [256]bool{
	message.Host: true, message.ContentLength: true, message.TransferEncoding: true, message.Connection: true,
	message.Upgrade: true, message.Expect: true, message.TE: true, message.Cookie: true, message.KeepAlive: true,
	message.ProxyConnection: true, message.ProxyAuthorization: true, message.ProxyAuthenticate: true,
	message.Trailer: true, message.HTTP2Settings: true,
}

// hopField consumes the fields that describe the connection or the framing; they are not among req.Fields.
func (p *RequestParser) hopField(buf []byte, id message.FieldID, value message.Span, req *message.Request) Reason {
	v := buf[value.Off : value.Off+value.Len]
	switch id {
	case message.Host:
		if p.hasHost {
			return DupHost
		}
		p.hasHost = true
		if !validAuthority(v) {
			return BadHost
		}
		req.Authority = value
	case message.ContentLength:
		return p.setContentLength(v)
	case message.TransferEncoding:
		return p.setTransferEncoding(v, req.Version)
	case message.Connection:
		return p.setConnection(v, value)
	case message.Upgrade:
		p.setUpgrade(value)
	case message.Expect:
		if p.expect || !message.EqualFold(v, "100-continue") {
			return BadExpect
		}
		p.expect = true
	case message.TE:
		for len(v) > 0 {
			var option []byte
			option, v = cutOption(v)
			req.TETrailers = req.TETrailers || message.EqualFold(option, "trailers")
		}
	case message.Cookie:
		if p.crumbs += 1 + bytes.Count(v, []byte{';'}); p.crumbs > CookieCrumbsMax {
			return TooManyCookies
		}
		name := message.Span{Off: uint32(p.start), Len: uint32(len("cookie"))}
		req.Append(name, value, id)
	}
	return OK
}

// finish checks what only the whole head tells.
func (p *RequestParser) finish(req *message.Request) Reason {
	if !p.hasHost && req.Version != message.HTTP10 {
		return MissingHost // RFC 9112 section 3.2
	}
	if p.authority.Len > 0 {
		if p.hasHost && !bytes.EqualFold(req.Bytes(p.authority), req.Bytes(req.Authority)) {
			return HostMismatch
		}
		req.Authority = p.authority
	}
	switch {
	case p.chunked:
		req.Framing, req.Length = message.Streamed, -1
	case p.hasContentLength:
		req.Framing, req.Length = message.Sized, p.contentLength
	}
	req.Close = p.close || req.Version == message.HTTP10 && !p.keepAlive
	// RFC 9110 section 10.1.1: not from HTTP/1.0, and without a body there is nothing to wait for.
	req.ExpectContinue = p.expect && req.Version != message.HTTP10 && req.Framing != message.NoBody && req.Length != 0
	req.Upgrade = p.upgradeTo(&req.Head, req.Version)
	if p.connectionFieldCnt > 0 {
		return p.removeListed(&req.Head)
	}
	return OK
}
