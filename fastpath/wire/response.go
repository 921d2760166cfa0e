package wire

import "rauta.io/rauta/proxy/message"

// ResponseParser parses one response head. The zero value is ready; call Reset between heads, also after a 1xx one. It holds
// offsets only.
type ResponseParser struct {
	cursor
	stage  uint8
	fields int
	hop
}

// Reset makes the parser ready for the next head.
func (p *ResponseParser) Reset() { *p = ResponseParser{} }

// Parse is RequestParser.Parse for responses; toHead says that the request was HEAD. A bad head is a 502 for the client
// and the end of the connection to the back end.
//
// Length is -1 when Framing is Streamed or UntilClose, and when there is no body and no length was announced.
func (p *ResponseParser) Parse(buf []byte, resp *message.Response, toHead bool, lim *Limits) (n int, reason Reason) {
	if p.stage != stageFields {
		if done, reason := p.parseStart(buf, resp, lim); !done {
			return 0, reason
		}
	}
	resp.Received = buf
	for {
		limit := lim.HeadBytes - FieldOverheadBytes*p.fields
		if p.headEnds(buf, limit) {
			return p.end(buf, resp, toHead)
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
		if reason = p.field(buf, token, cr, resp, lim); reason != OK {
			return 0, reason
		}
		p.next(cr)
	}
}

// end takes the empty line that ends the head.
func (p *ResponseParser) end(buf []byte, resp *message.Response, toHead bool) (n int, reason Reason) {
	n = p.start + 2
	resp.Received = buf[:n:n]
	if reason = p.finish(resp, toHead); reason != OK {
		return 0, reason
	}
	p.stage = stageDone
	return n, OK
}

func (p *ResponseParser) parseStart(buf []byte, resp *message.Response, lim *Limits) (done bool, reason Reason) {
	if p.stage == stageStart {
		resp.Reset()
		p.stage = stageStartLine
	}
	cr, _, reason := p.lineEnd(buf, lim.RequestLineBytes, HeadTooLarge)
	switch {
	case reason == BadValue:
		return false, BadStatusLine
	case reason != OK || cr < 0:
		return false, reason
	}
	resp.Received = buf
	if reason = statusLine(buf[:cr], resp); reason != OK {
		return false, reason
	}
	p.next(cr)
	p.stage = stageFields
	return true, OK
}

// statusLine parses HTTP-version SP status-code SP [reason-phrase] (RFC 9112 section 4). The phrase is dropped; the space
// before a missing phrase may be missing too, as many servers have it.
func statusLine(line []byte, resp *message.Response) Reason {
	const shortest = len("HTTP/1.1 200")
	if len(line) < shortest || line[8] != ' ' || len(line) > shortest && line[shortest] != ' ' {
		return BadStatusLine
	}
	version, reason := parseVersion(line[:8])
	if reason == BadVersion {
		return BadVersion
	}
	if reason != OK {
		return BadStatusLine
	}
	status := 0
	for _, c := range line[9:shortest] {
		if c < '0' || c > '9' {
			return BadStatusLine
		}
		status = status*10 + int(c-'0')
	}
	if status < 100 {
		return BadStatusLine
	}
	resp.Version, resp.Status = version, status
	return OK
}

// oneHop are the response fields that are consumed here: those of framing and connection, and those that are for one hop
// only or without meaning in a response.
var oneHop = [256]bool{
	message.ContentLength: true, message.TransferEncoding: true, message.Connection: true, message.Upgrade: true,
	message.KeepAlive: true, message.ProxyConnection: true, message.ProxyAuthenticate: true, message.ProxyAuthorization: true,
	message.TE: true, message.Trailer: true, message.Host: true, message.Expect: true, message.HTTP2Settings: true,
}

// field parses the field line that ends at end, whose bytes before token are known to be token characters.
func (p *ResponseParser) field(buf []byte, token, end int, resp *message.Response, lim *Limits) Reason {
	start := p.start
	colon, from, to, reason := fieldLine(buf, start, token, end)
	if reason != OK {
		return reason
	}
	if p.fields++; p.fields > lim.Fields {
		return TooManyFields
	}
	id := message.LookupID(buf[start:colon])
	if !oneHop[id] {
		resp.Append(span(start, colon), span(from, to), id)
		return OK
	}
	switch id {
	case message.ContentLength:
		return p.setContentLength(buf[from:to])
	case message.TransferEncoding:
		return p.setTransferEncoding(buf[from:to], resp.Version)
	case message.Connection:
		return p.setConnection(buf[from:to], span(from, to))
	case message.Upgrade:
		p.setUpgrade(span(from, to))
	}
	return OK
}

// finish derives the framing (RFC 9112 section 6.3).
func (p *ResponseParser) finish(resp *message.Response, toHead bool) Reason {
	resp.Length = -1
	switch {
	case toHead || resp.Status == 304:
		if p.hasContentLength {
			resp.Length = p.contentLength
		}
	case resp.Status < 200 || resp.Status == 204:
		// RFC 9112 section 6.3: there is no body, whatever is announced. A peer that announces one may send it after all,
		// and then it would be taken for the next response.
		if p.chunked || p.contentLength > 0 {
			p.close = true
		}
	case p.chunked:
		resp.Framing = message.Streamed
	case p.hasContentLength:
		resp.Framing, resp.Length = message.Sized, p.contentLength
	default:
		resp.Framing = message.UntilClose
	}
	resp.Close = p.close || resp.Framing == message.UntilClose || resp.Version == message.HTTP10 && !p.keepAlive
	if resp.Status == 101 {
		resp.Upgrade = p.upgradeTo(&resp.Head, resp.Version)
	}
	if p.connectionFieldCnt > 0 {
		return p.removeListed(&resp.Head)
	}
	return OK
}
