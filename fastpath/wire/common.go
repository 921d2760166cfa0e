package wire

import (
	"bytes"

	"rauta.io/rauta/proxy/message"
)

// hop is what both sides learn from the fields that concern one hop only.
type hop struct {
	contentLength      int64
	hasContentLength   bool
	chunked            bool
	close              bool
	keepAlive          bool
	connectionUpgrade  bool
	upgrades           uint8 // Upgrade fields seen, at most 2
	connectionFieldCnt uint8
	upgrade            message.Span
	// connectionFields are the Connection fields with options that may name other fields.
	connectionFields [4]message.Span
}

// setContentLength takes the value of a Content-Length field. Identical duplicates are bad too: two readers that keep
// different ones must not exist.
func (h *hop) setContentLength(v []byte) Reason {
	if h.hasContentLength {
		return DupContentLength
	}
	if h.chunked {
		return CLAndTE
	}
	n, ok := message.ParseLength(v)
	if !ok {
		return BadContentLength
	}
	h.contentLength, h.hasContentLength = n, true
	return OK
}

// setTransferEncoding takes the value of a Transfer-Encoding field: "chunked" and nothing else (RFC 9112 section 6.1).
func (h *hop) setTransferEncoding(v []byte, version message.Version) Reason {
	switch {
	case version == message.HTTP10:
		return TransferEncodingInHTTP10
	case h.chunked:
		return DupTransferEncoding
	case h.hasContentLength:
		return CLAndTE
	case message.EqualFold(v, "chunked"):
		h.chunked = true
		return OK
	case isToken(v):
		return UnsupportedTransferEncoding
	}
	return BadTransferEncoding
}

// setConnection takes the value of a Connection field (RFC 9110 section 7.6.1).
func (h *hop) setConnection(b []byte, v message.Span) Reason {
	names := false
	for len(b) > 0 {
		var option []byte
		option, b = cutOption(b)
		switch {
		case len(option) == 0:
		case message.EqualFold(option, "close"):
			h.close = true
		case message.EqualFold(option, "keep-alive"):
			h.keepAlive = true
		case message.EqualFold(option, "upgrade"):
			h.connectionUpgrade = true
		default:
			names = true
		}
	}
	if !names {
		return OK
	}
	if int(h.connectionFieldCnt) == len(h.connectionFields) {
		return TooManyConnectionOptions
	}
	h.connectionFields[h.connectionFieldCnt] = v
	h.connectionFieldCnt++
	return OK
}

// cutOption returns the first element of a list, trimmed, and the rest of the list.
func cutOption(b []byte) (option, rest []byte) {
	if i := bytes.IndexByte(b, ','); i >= 0 {
		option, rest = b[:i], b[i+1:]
	} else {
		option = b
	}
	for len(option) > 0 && (option[0] == ' ' || option[0] == '\t') {
		option = option[1:]
	}
	for n := len(option); n > 0 && (option[n-1] == ' ' || option[n-1] == '\t'); n = len(option) {
		option = option[:n-1]
	}
	return option, rest
}

// removeListed removes the fields that Connection names, which were meant for us only. Fields that others rely on stay,
// because a client must not be able to take away what its own request says or what a proxy said about it.
func (h *hop) removeListed(head *message.Head) Reason {
	options := 0
	for _, v := range h.connectionFields[:h.connectionFieldCnt] {
		b := head.Bytes(v)
		for len(b) > 0 {
			var option []byte
			option, b = cutOption(b)
			if len(option) == 0 || keptByConnection(option) {
				continue
			}
			if options++; options > ConnectionOptionsMax {
				return TooManyConnectionOptions
			}
			removeNamed(head, option)
		}
	}
	return OK
}

func keptByConnection(option []byte) bool {
	switch message.LookupID(option) {
	case message.Host, message.ContentLength, message.TransferEncoding, message.Authorization, message.Cookie,
		message.XRealIP, message.Forwarded:
		return true
	}
	const forwardedPrefix = "x-forwarded-"
	return len(option) >= len(forwardedPrefix) && message.EqualFold(option[:len(forwardedPrefix)], forwardedPrefix)
}

func removeNamed(head *message.Head, name []byte) {
	id := message.LookupID(name)
	if id != message.Unknown {
		head.Remove(id)
		return
	}
	for i := range head.Fields {
		f := &head.Fields[i]
		if f.ID == message.Unknown && int(f.Name.Len) == len(name) && bytes.EqualFold(head.Bytes(f.Name), name) {
			f.ID = message.Removed
		}
	}
}

func (h *hop) setUpgrade(v message.Span) {
	if h.upgrades < 2 {
		h.upgrades++
	}
	h.upgrade = v
}

// upgradeTo returns the one protocol that the peer wants to change to, or an empty view. h2c is not offered (RFC 9113
// section 3.1 took it back), and a list is not an offer that we could check an answer against.
func (h *hop) upgradeTo(head *message.Head, version message.Version) message.Span {
	if h.upgrades != 1 || !h.connectionUpgrade || version == message.HTTP10 {
		return message.Span{}
	}
	name := head.Bytes(h.upgrade)
	if i := bytes.IndexByte(name, '/'); i >= 0 { // protocol-name "/" protocol-version
		if !isToken(name[i+1:]) {
			return message.Span{}
		}
		name = name[:i]
	}
	if !isToken(name) || message.EqualFold(name, "h2c") || message.EqualFold(name, "h2") {
		return message.Span{}
	}
	return h.upgrade
}
