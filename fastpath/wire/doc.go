// Package wire is the HTTP/1.1 codec (RFC 9112): it turns bytes into message heads and message heads into bytes.
//
// It owns the grammar of request and response heads, of the chunked coding, the limits of a head, and the canonical form in
// which heads are forwarded. It does not own connections or buffers (fastpath), and no policy beyond what makes a message
// unambiguous: what it accepts has one reading only. fastpath and fastpath/reference's tests call it.
//
// Parsers work on memory of the caller and keep offsets only, so the caller may move the bytes between two calls.
package wire

import "rauta.io/rauta/proxy/message"

// Limits of a head. Use DefaultRequestLimits or DefaultResponseLimits as the start.
type Limits struct {
	// RequestLineBytes is the longest start line, in bytes without CRLF.
	RequestLineBytes int
	// HeadBytes is the largest head, in bytes, counting FieldOverheadBytes more for each field.
	HeadBytes int
	// Fields is the largest number of field lines.
	Fields int
	// StrictNames rejects requests with misleading field names, which are otherwise dropped and counted.
	StrictNames bool
}

// Bounds of a head and of the chunked coding.
const (
	// RequestLineBytesMax bounds the request line, in bytes. RFC 9112 section 3 asks for 8000 at least.
	RequestLineBytesMax = 8 << 10
	// RequestHeadBytesMax bounds a request head, in bytes including FieldOverheadBytes per field.
	RequestHeadBytesMax = 32 << 10
	// ResponseHeadBytesMax is larger, because back ends are trusted more and set many cookies.
	ResponseHeadBytesMax = 64 << 10
	// FieldOverheadBytes is what a field costs us beside its bytes (as RFC 9113 section 6.5.2 counts).
	FieldOverheadBytes = 32
	// CookieCrumbsMax bounds the cookies of a request: back ends split them, so they cost like fields.
	CookieCrumbsMax = 200
	// MethodBytesMax bounds the method; the longest registered one has 17 bytes.
	MethodBytesMax = 32
	// AuthorityBytesMax bounds Host.
	AuthorityBytesMax = message.AuthorityBytesMax
	// ConnectionOptionsMax bounds the options of Connection that name fields; each costs a walk over all fields.
	ConnectionOptionsMax = 16
	// ChunkExcessBytesMax bounds, over one body, what chunk headers have beyond ChunkHeaderBytesFree each. Extensions
	// have no use, and without a bound they let a peer make us read without end.
	ChunkExcessBytesMax = 16 << 10
	// ChunkHeaderBytesFree is the part of a chunk header, in bytes with CRLF, that does not count as excess.
	ChunkHeaderBytesFree = 16
	// TrailerBytesMax bounds a trailer section, in bytes including FieldOverheadBytes per field.
	TrailerBytesMax = 16 << 10
	// TrailerFieldsMax bounds the fields of a trailer section.
	TrailerFieldsMax = message.FieldsMax
)

// DefaultRequestLimits returns the limits for requests of clients.
func DefaultRequestLimits() Limits {
	return Limits{RequestLineBytes: RequestLineBytesMax, HeadBytes: RequestHeadBytesMax, Fields: message.FieldsMax}
}

// DefaultResponseLimits returns the limits for responses of back ends.
func DefaultResponseLimits() Limits {
	return Limits{RequestLineBytes: RequestLineBytesMax, HeadBytes: ResponseHeadBytesMax, Fields: message.FieldsMax}
}
