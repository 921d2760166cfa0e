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
		cr, reason := p.lineEnd(buf, lim.HeadBytes-FieldOverheadBytes*p.fields, HeadTooLarge)
		if reason != OK {
			if reason == BadValue {
				reason = refineBadByte(buf[p.start:cr])
			}
			return 0, reason
		}
		if cr < 0 {
			return 0, OK
		}
		if cr == p.start {
			n = cr + 2
			resp.Received = buf[:n:n]
			if reason = p.finish(resp, toHead); reason != OK {
				return 0, reason
			}
			p.stage = stageDone
			return n, OK
		}
		if reason = p.field(buf, cr, resp, lim); reason != OK {
			return 0, reason
		}
		p.next(cr)
	}
}

func (p *ResponseParser) parseStart(buf []byte, resp *message.Response, lim *Limits) (done bool, reason Reason) {
	if p.stage == stageStart {
		resp.Reset()
		p.stage = stageStartLine
	}
	cr, reason := p.lineEnd(buf, lim.RequestLineBytes, HeadTooLarge)
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

func (p *ResponseParser) field(buf []byte, end int, resp *message.Response, lim *Limits) Reason {
	name, value, reason := fieldLine(buf, p.start, p.token, end)
	if reason != OK {
		return reason
	}
	if p.fields++; p.fields > lim.Fields {
		return TooManyFields
	}
	id := message.LookupID(buf[name.Off : name.Off+name.Len])
	v := buf[value.Off : value.Off+value.Len]
	switch id {
	case message.ContentLength:
		return p.setContentLength(v)
	case message.TransferEncoding:
		return p.setTransferEncoding(v, resp.Version)
	case message.Connection:
		return p.setConnection(v, value)
	case message.Upgrade:
		p.setUpgrade(value)
	case message.KeepAlive, message.ProxyConnection, message.ProxyAuthenticate, message.ProxyAuthorization,
		message.TE, message.Trailer, message.Host, message.Expect, message.HTTP2Settings:
		// For one hop only, or without meaning in a response.
	default:
		resp.Append(name, value, id)
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
