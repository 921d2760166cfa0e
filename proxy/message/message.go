// Package message is the head of a request or response as views over bytes, neutral of the protocol that carried it.
//
// It owns the field list, the ids of field names that the proxy knows, and the edits on a head. It does not own
// parsing (fastpath/wire, h2) nor policy (proxy/filter, proxy/exchange). Engines fill a head, exchange and filters edit it,
// engines write it out again.
//
// A view is pointer-free {offset, length} into one of two arenas: the bytes as received, and the bytes that were added
// since. A head therefore costs the garbage collector nothing, and copying the received arena copies all views.
package message

import "unsafe"

// Limits of a head, which are also the bounds of the offsets below.
const (
	// HeadBytesLimit is the largest head, in bytes, that any flag can allow.
	HeadBytesLimit = 128 << 10
	// FieldsMax is the number of fields in one head (facts: Envoy 100, HAProxy 101). Cookie crumbs of HTTP/2 come on top.
	FieldsMax = 100
)

// Span is a view: Len bytes at Off. The highest bit of Off chooses the arena.
type Span struct{ Off, Len uint32 }

const addedArena = 1 << 31

// Field is one header field. A field whose ID is Removed is skipped when the head is written.
type Field struct {
	Name, Value Span
	ID          FieldID
	// Sensitive: the sender does not want the field in a compression table on its way (RFC 7541 section 7.1.3).
	Sensitive bool
}

// Head is what requests and responses share. Its byte slices alias the arenas.
type Head struct {
	// Received is the arena of the bytes as they came; the views of an engine's parser point here.
	Received []byte
	// Fields in the order received, then in the order added.
	Fields []Field

	added []byte
	// seen has the bit of every FieldID that was ever appended, so that a look-up of an absent field is one test.
	seen [2]uint64
}

// Reset empties the head and keeps its memory.
func (h *Head) Reset() {
	h.Received = nil
	h.Fields = h.Fields[:0]
	h.added = h.added[:0]
	h.seen = [2]uint64{}
}

// Bytes returns the bytes of a view. They are valid until the next edit of the head and must not be changed.
func (h *Head) Bytes(s Span) []byte {
	if s.Off&addedArena != 0 {
		off := s.Off &^ addedArena
		return h.added[off : off+s.Len : off+s.Len]
	}
	return h.Received[s.Off : s.Off+s.Len : s.Off+s.Len]
}

// Append adds a parsed field; the parser has validated name and value.
func (h *Head) Append(name, value Span, id FieldID) {
	h.Fields = append(h.Fields, Field{Name: name, Value: value, ID: id})
	h.seen[id>>6&1] |= 1 << (id & 63)
}

// Store copies b into the added arena and returns its view.
func (h *Head) Store(b []byte) Span {
	off := len(h.added)
	h.added = append(h.added, b...)
	return Span{Off: uint32(off) | addedArena, Len: uint32(len(b))}
}

// StoreString is Store for a string.
func (h *Head) StoreString(s string) Span {
	off := len(h.added)
	h.added = append(h.added, s...)
	return Span{Off: uint32(off) | addedArena, Len: uint32(len(s))}
}

// StoreFunc lets f append to the added arena and returns the view of what it appended.
func (h *Head) StoreFunc(f func([]byte) []byte) Span {
	off := len(h.added)
	h.added = f(h.added)
	return Span{Off: uint32(off) | addedArena, Len: uint32(len(h.added) - off)}
}

// Has reports whether a field with the id is present. id must be a known one.
func (h *Head) Has(id FieldID) bool { return h.find(id) >= 0 }

// Get returns the value of the first field with the id, and whether there is one. id must be a known one.
func (h *Head) Get(id FieldID) ([]byte, bool) {
	i := h.find(id)
	if i < 0 {
		return nil, false
	}
	return h.Bytes(h.Fields[i].Value), true
}

func (h *Head) find(id FieldID) int {
	if h.seen[id>>6&1]&(1<<(id&63)) == 0 {
		return -1
	}
	for i := range h.Fields {
		if h.Fields[i].ID == id {
			return i
		}
	}
	return -1
}

// Lookup returns the index of the next field at or after from whose name equals the lower-case name, or -1.
// id is LookupID(name), which callers know beforehand.
func (h *Head) Lookup(name string, id FieldID, from int) int {
	if id != Unknown && h.seen[id>>6&1]&(1<<(id&63)) == 0 {
		return -1
	}
	for i := from; i < len(h.Fields); i++ {
		f := &h.Fields[i]
		if f.ID != id {
			continue
		}
		if id != Unknown || equalFold(h.Bytes(f.Name), name) {
			return i
		}
	}
	return -1
}

// Remove removes every field with the id; it reports whether there was one. id must be a known one.
func (h *Head) Remove(id FieldID) bool {
	if h.seen[id>>6&1]&(1<<(id&63)) == 0 {
		return false
	}
	found := false
	for i := range h.Fields {
		if h.Fields[i].ID == id {
			h.Fields[i].ID = Removed
			found = true
		}
	}
	return found
}

// clientFacts are the bits of the ids from ClientCert to SSLClientFingerprint in Head.seen.
const clientFacts = (1<<(SSLClientFingerprint+1-ClientCert) - 1) << ClientCert

// The ids lie within the first word of Head.seen.
const _ = uint(63 - SSLClientFingerprint)

// RemoveClientFacts removes what is said about a client's certificate.
func (h *Head) RemoveClientFacts() {
	if h.seen[0]&clientFacts == 0 {
		return
	}
	for i := range h.Fields {
		if id := h.Fields[i].ID; id >= ClientCert && id <= SSLClientFingerprint {
			h.Fields[i].ID = Removed
		}
	}
}

// RemoveName removes every field with the lower-case name.
func (h *Head) RemoveName(name string, id FieldID) {
	for i := h.Lookup(name, id, 0); i >= 0; i = h.Lookup(name, id, i+1) {
		h.Fields[i].ID = Removed
	}
}

// Add appends a field. name and value must be valid (RFC 9110 section 5).
func (h *Head) Add(name, value string, id FieldID) {
	h.Append(h.StoreString(name), h.StoreString(value), id)
}

// AddBytes is Add with a byte value, which is copied.
func (h *Head) AddBytes(name string, value []byte, id FieldID) {
	h.Append(h.StoreString(name), h.Store(value), id)
}

// Set replaces every field of the name by one.
func (h *Head) Set(name, value string, id FieldID) {
	if id != Unknown {
		h.Remove(id)
	} else {
		h.RemoveName(lower(name), id)
	}
	h.Add(name, value, id)
}

// Copy makes h an independent copy of src; h's memory is reused.
func (h *Head) Copy(src *Head) {
	h.Received = append(h.Received[:0], src.Received...)
	h.Fields = append(h.Fields[:0], src.Fields...)
	h.added = append(h.added[:0], src.added...)
	h.seen = src.seen
}

// Framing says how the length of a body is known (RFC 9112 section 6, RFC 9113 section 8.1).
type Framing uint8

// Framings.
const (
	// NoBody: the message ends with its head.
	NoBody Framing = iota
	// Sized: Length bytes follow; Length may be 0.
	Sized
	// Streamed: the end is marked by the protocol (chunked coding, END_STREAM).
	Streamed
	// UntilClose: a response that ends with the connection.
	UntilClose
)

// Version of the protocol a message came in.
type Version uint8

// Versions.
const (
	HTTP10 Version = 10
	HTTP11 Version = 11
	HTTP2  Version = 20
)

// Request is the head of a request.
type Request struct {
	Head
	// Method as received; MethodID is its id or MethodOther.
	Method   Span
	MethodID MethodID
	Version  Version
	// Framing and Length of the body. Content-Length and Transfer-Encoding are not among Fields.
	Framing Framing
	Length  int64
	// Scheme is the scheme of the connection or of what a trusted proxy said: "http" or "https".
	Scheme Scheme
	// Authority is host and port as the client named it (Host, :authority, or the absolute form). Not among Fields.
	Authority Span
	// Path starts with "/" (or is "*" for OPTIONS); dot segments are resolved.
	Path Span
	// Query is what follows "?", without it; HasQuery tells "/?" from "/".
	Query    Span
	HasQuery bool
	// ReceivedTarget is the request target as received, for the access log.
	ReceivedTarget Span
	// Upgrade is the protocol asked for with "Connection: upgrade" (a single token), or with CONNECT and :protocol, empty if
	// none.
	Upgrade Span
	// ExpectContinue: the client waits for 100 (Continue).
	ExpectContinue bool
	// Close: the client asked to close the connection after this request.
	Close bool
	// TETrailers: the client accepts trailers (TE: trailers).
	TETrailers bool
}

// ExtendedConnect reports whether the upgrade was asked for with CONNECT (RFC 8441), where any 2xx response opens the tunnel.
func (r *Request) ExtendedConnect() bool { return r.Version == HTTP2 && r.Upgrade.Len > 0 }

// Reset empties the request and keeps its memory.
func (r *Request) Reset() {
	// Field by field: copying the slices of Head out and in again costs write barriers and 20 ns (BenchmarkExchange).
	r.Head.Reset()
	r.Method, r.Authority, r.Path, r.Query = Span{}, Span{}, Span{}, Span{}
	r.ReceivedTarget, r.Upgrade = Span{}, Span{}
	r.MethodID, r.Version, r.Framing, r.Scheme, r.Length = 0, 0, 0, 0, 0
	r.HasQuery, r.ExpectContinue, r.Close, r.TETrailers = false, false, false, false
}

// Response is the head of a response.
type Response struct {
	Head
	// Status is 100 to 999.
	Status  int
	Version Version
	// Framing and Length of the body. Content-Length and Transfer-Encoding are not among Fields. After a HEAD request, or
	// with 304, Framing is NoBody and Length is the Content-Length that the field announced, or -1.
	Framing Framing
	Length  int64
	// Upgrade is the protocol of a 101 response (a single token), empty if none.
	Upgrade Span
	// Close: the peer closes the connection after this response.
	Close bool
}

// Reset empties the response and keeps its memory.
func (r *Response) Reset() {
	r.Head.Reset()
	r.Status, r.Version, r.Framing, r.Length, r.Upgrade, r.Close = 0, 0, 0, 0, Span{}, false
}

// Scheme of a request.
type Scheme uint8

// Schemes.
const (
	SchemeHTTP Scheme = iota
	SchemeHTTPS
)

func (s Scheme) String() string {
	if s == SchemeHTTPS {
		return "https"
	}
	return "http"
}

// String views b as a string without copying; it is valid only as long as b is not changed.
func String(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
