package exchange

import (
	"rauta.io/rauta/proxy/message"
)

// fixedFields are the parts of the forwarding fields that are the same for every request of an untrusted peer, made
// once per connection, so that a request copies them in one go. Spans are relative to text.
type fixedFields struct {
	text   []byte
	fields [fixedCount]struct{ name, value message.Span }
}

// Fixed fields. Values that differ from request to request are empty.
const (
	fixedFor = iota
	fixedForwarded
	fixedRealIP
	fixedProto
	fixedHost
	fixedRequestID
	fixedVia   // of HTTP/1.1
	fixedVia10 // of HTTP/1.0
	fixedVia2  // of HTTP/2
	fixedCount
)

// fixedOf builds the block of a peer.
func fixedOf(p *Peer) *fixedFields {
	f := &fixedFields{}
	forwardedFor := "for=" + p.ClientText
	if p.Client.Is6() {
		forwardedFor = `for="[` + p.ClientText + `]"`
	}
	for i, field := range [fixedCount]struct{ name, value string }{
		fixedFor: {"X-Forwarded-For", p.ClientText}, fixedForwarded: {"Forwarded", forwardedFor},
		fixedRealIP: {"X-Real-IP", p.ClientText}, fixedProto: {"X-Forwarded-Proto", p.Scheme.String()},
		fixedHost: {"X-Forwarded-Host", ""}, fixedRequestID: {"X-Request-Id", ""}, fixedVia: {"Via", viaHTTP11},
		fixedVia10: {"Via", viaHTTP10}, fixedVia2: {"Via", viaHTTP2},
	} {
		f.fields[i].name = f.store(field.name)
		f.fields[i].value = f.store(field.value)
	}
	return f
}

func (f *fixedFields) store(s string) message.Span {
	at := message.Span{Off: uint32(len(f.text)), Len: uint32(len(s))}
	f.text = append(f.text, s...)
	return at
}

// addFixed adds all forwarding fields of an untrusted peer.
func (x *Exchange) addFixed(f *fixedFields, authority []byte) {
	r := &x.Req
	base := r.Store(f.text).Off
	at := func(s message.Span) message.Span { return message.Span{Off: base + s.Off, Len: s.Len} }
	add := func(i int, id message.FieldID) { r.Append(at(f.fields[i].name), at(f.fields[i].value), id) }
	add(fixedFor, message.XForwardedFor)
	add(fixedRealIP, message.XRealIP)
	add(fixedProto, message.XForwardedProto)
	switch r.Version {
	case message.HTTP2:
		add(fixedVia2, message.Via)
	case message.HTTP10:
		add(fixedVia10, message.Via)
	default:
		add(fixedVia, message.Via)
	}
	r.Append(at(f.fields[fixedRequestID].name), r.StoreFunc(x.appendRequestID), message.XRequestID)
	forwarded := r.StoreFunc(func(b []byte) []byte {
		value := f.fields[fixedForwarded].value
		b = append(b, f.text[value.Off:value.Off+value.Len]...)
		if len(authority) > 0 {
			b = append(append(append(b, `;host="`...), authority...), '"')
		}
		return append(append(b, ";proto="...), x.peer.Scheme.String()...)
	})
	r.Append(at(f.fields[fixedForwarded].name), forwarded, message.Forwarded)
	if len(authority) > 0 {
		r.Append(at(f.fields[fixedHost].name), r.Authority, message.XForwardedHost)
	}
}
