package exchange

import (
	"encoding/binary"
	"net/netip"

	"rauta.io/rauta/proxy/certs"
	"rauta.io/rauta/proxy/message"
)

// Via names this proxy, and the version in which it received the message (RFC 9110 section 7.6.3).
const (
	viaHTTP10 = "1.0 rauta"
	viaHTTP11 = "1.1 rauta"
	viaHTTP2  = "2.0 rauta"
)

// setForwardingFields tells the back end who the client is. What an untrusted peer says about that is overwritten;
// what a trusted proxy says is kept and extended (attack row 21).
func (x *Exchange) setForwardingFields() {
	r, p := &x.Req, x.peer
	r.Scheme = p.Scheme
	r.Remove(message.XRealIP)
	if !p.Trusted || p.Identity != nil && p.Identity.Verify != "" {
		r.RemoveClientFacts() // what the handshake has shown is added below, or by whom we trust
	}
	if !p.Trusted {
		removeForwarded(&r.Head)
		r.Remove(message.Forwarded)
		r.Remove(message.XRequestID)
		x.addFixed(p.fixed, r.Bytes(r.Authority))
		return
	}
	x.extendForwarded()
	var clientText string
	x.client, clientText = x.clientOfTrusted()
	r.Add("X-Real-IP", clientText, message.XRealIP)
	if !r.Has(message.XForwardedProto) {
		r.Add("X-Forwarded-Proto", r.Scheme.String(), message.XForwardedProto)
	}
	if authority := r.Bytes(r.Authority); !r.Has(message.XForwardedHost) && len(authority) > 0 {
		r.AddBytes("X-Forwarded-Host", authority, message.XForwardedHost)
	}
	if !r.Has(message.XRequestID) {
		r.Append(r.StoreString("X-Request-Id"), r.StoreFunc(x.appendRequestID), message.XRequestID)
	}
	x.addVia()
}

// addIdentity tells the back end what it wants to know of the client's certificate.
func (x *Exchange) addIdentity(id *certs.Identity) {
	for i := range id.Fields {
		x.Req.Add(id.Fields[i].Name, id.Fields[i].Value, id.Fields[i].ID)
	}
}

// removeForwarded removes every X-Forwarded-* field: back ends believe more of them than RAUTA knows by name.
func removeForwarded(h *message.Head) {
	const prefix = "x-forwarded-"
	for i := range h.Fields {
		f := &h.Fields[i]
		if f.Name.Len <= uint32(len(prefix)) {
			continue
		}
		if name := h.Bytes(f.Name); name[0]|0x20 == prefix[0] && message.EqualFold(name[:len(prefix)], prefix) {
			f.ID = message.Removed
		}
	}
}

// addVia appends this proxy to the request's Via; several lines are equivalent to one list (RFC 9110 section 5.3).
func (x *Exchange) addVia() {
	value := viaHTTP11
	switch x.Req.Version {
	case message.HTTP10:
		value = viaHTTP10
	case message.HTTP2:
		value = viaHTTP2
	}
	x.Req.Add("Via", value, message.Via)
}

// extendForwarded appends the trusted peer to the chains it was sent, and takes its word for the scheme.
func (x *Exchange) extendForwarded() {
	r, p := &x.Req, x.peer
	x.extend("X-Forwarded-For", message.XForwardedFor, p.ClientText)
	element := x.forwardedElement(r.Bytes(r.Authority))
	r.Remove(message.Forwarded)
	r.Append(r.StoreString("Forwarded"), element, message.Forwarded)
	if proto, ok := r.Get(message.XForwardedProto); ok {
		switch {
		case message.EqualFold(proto, "https"):
			r.Scheme = message.SchemeHTTPS
		case message.EqualFold(proto, "http"):
			r.Scheme = message.SchemeHTTP
		default:
			r.Remove(message.XForwardedProto)
		}
	}
}

// extend adds a member to a list field, whose lines become a single one.
func (x *Exchange) extend(name string, id message.FieldID, member string) {
	r := &x.Req
	value := r.StoreFunc(func(b []byte) []byte { return append(appendLines(b, &r.Head, id), member...) })
	r.Remove(id)
	r.Append(r.StoreString(name), value, id)
}

// appendLines appends the members of all lines of a list field, each line followed by a comma (RFC 9110 section 5.3).
func appendLines(b []byte, h *message.Head, id message.FieldID) []byte {
	for i := range h.Fields {
		if h.Fields[i].ID == id {
			b = append(append(b, h.Bytes(h.Fields[i].Value)...), ", "...)
		}
	}
	return b
}

// forwardedElement stores "for=...;host=...;proto=..." (RFC 7239 section 4), behind what Forwarded lines there are.
func (x *Exchange) forwardedElement(authority []byte) message.Span {
	p := x.peer
	return x.Req.StoreFunc(func(b []byte) []byte {
		b = append(appendLines(b, &x.Req.Head, message.Forwarded), "for="...)
		if p.Client.Is6() {
			b = append(append(append(b, `"[`...), p.ClientText...), `]"`...)
		} else {
			b = append(b, p.ClientText...)
		}
		if len(authority) > 0 {
			b = append(append(append(b, `;host="`...), authority...), '"')
		}
		return append(append(b, ";proto="...), p.Scheme.String()...)
	})
}

// clientOfTrusted is the right-most address of X-Forwarded-For that is not a trusted proxy, which is the client as far
// as anyone we trust knows.
func (x *Exchange) clientOfTrusted() (addr netip.Addr, text string) {
	addr, text = x.peer.Client, x.peer.ClientText
	value, _ := x.Req.Get(message.XForwardedFor)
	for len(value) > 0 {
		start := len(value)
		for start > 0 && value[start-1] != ',' {
			start--
		}
		member := message.String(trimSpace(value[start:]))
		a, err := netip.ParseAddr(member)
		if err != nil {
			break
		}
		addr, text = a.Unmap(), member
		if !x.w.Settings.Trusts(addr) {
			break
		}
		value = value[:max(start-1, 0)]
	}
	return addr, text
}

func trimSpace(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// appendRequestID appends 128 random bits in hexadecimal.
func (x *Exchange) appendRequestID(b []byte) []byte {
	for range 2 {
		v := x.w.rand()
		high, low := hexDigits(uint32(v>>32)), hexDigits(uint32(v))
		b = binary.BigEndian.AppendUint64(b, high)
		b = binary.BigEndian.AppendUint64(b, low)
	}
	return b
}

// hexDigits returns the eight lower-case hexadecimal digits of v as the bytes of a word: the nibbles are spread to one a
// byte, then each becomes '0'+n, or 'a'+n-10 where n > 9. All eight at once, since this is done for every request.
func hexDigits(v uint32) uint64 {
	n := uint64(v)
	n = (n<<16 | n) & 0x0000ffff0000ffff
	n = (n<<8 | n) & 0x00ff00ff00ff00ff
	n = (n<<4 | n) & 0x0f0f0f0f0f0f0f0f
	letters := (n + 0x0606060606060606) >> 4 & 0x0101010101010101 // 1 where n > 9
	return n + 0x3030303030303030 + letters*('a'-'0'-10)
}
