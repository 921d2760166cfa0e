package wire

import (
	"bytes"

	"rauta.io/rauta/proxy/message"
)

// target parses the request target (RFC 9112 section 3.2) into Path, Query, and the authority of the absolute form.
func (p *RequestParser) target(req *message.Request, t message.Span) Reason {
	b := req.Bytes(t)
	if b[0] == '/' {
		return originForm(req, t)
	}
	if len(b) == 1 && b[0] == '*' {
		if req.MethodID != message.MethodOptions {
			return BadTarget
		}
		req.Path = t
		return OK
	}
	i := bytes.Index(b, []byte("://"))
	if i < 0 || !message.EqualFold(b[:i], "http") && !message.EqualFold(b[:i], "https") {
		return BadTarget
	}
	i += len("://")
	j := i
	for j < len(b) && b[j] != '/' && b[j] != '?' {
		j++
	}
	if !validAuthority(b[i:j]) {
		return BadTarget
	}
	p.authority = sub(t, i, j)
	rest := sub(t, j, len(b))
	if j < len(b) && b[j] == '/' {
		return originForm(req, rest)
	}
	// RFC 9112 section 3.2.4: OPTIONS for a URI without path and query is about the server as a whole.
	if j == len(b) && req.MethodID == message.MethodOptions {
		req.Path = req.StoreString("*")
		return OK
	}
	req.Path = req.StoreString("/")
	return query(req, rest)
}

// originForm parses a path with an optional query.
func originForm(req *message.Request, t message.Span) Reason { return targetReason(req.SetTarget(t)) }

func query(req *message.Request, t message.Span) Reason { return targetReason(req.SetQuery(t)) }

func targetReason(p message.TargetProblem) Reason {
	switch p {
	case message.TargetOK:
		return OK
	case message.BadPath:
		return BadPath
	case message.BadPathEscape:
		return BadPathEscape
	}
	return BadTarget
}

func validAuthority(b []byte) bool { return message.ValidAuthority(b) }

func misleads(name []byte) bool { return message.Misleading(name) }
