package message

// FieldID is the id of a field name that the proxy knows.
type FieldID uint8

// Field ids. The names are in fieldNames.
const (
	// Unknown is every name without an id.
	Unknown FieldID = iota
	Accept
	AcceptEncoding
	AcceptLanguage
	Age
	Authorization
	CacheControl
	Connection
	ContentEncoding
	ContentLength
	ContentType
	Cookie
	Date
	ETag
	Expect
	Expires
	Forwarded
	GRPCStatus
	GRPCTimeout
	Host
	HTTP2Settings
	KeepAlive
	LastModified
	Location
	Origin
	ProxyAuthenticate
	ProxyAuthorization
	ProxyConnection
	Range
	Referer
	Server
	SetCookie
	TE
	Trailer
	TransferEncoding
	Upgrade
	UserAgent
	Vary
	Via
	XForwardedFor
	XForwardedHost
	XForwardedPort
	XForwardedProto
	XRealIP
	XRequestID
	Traceparent
	Tracestate

	// What is said about a client's certificate; Head.RemoveClientFacts takes them as one range.
	ClientCert
	ClientCertChain
	SSLClientCert
	SSLClientVerify
	SSLClientSubjectDN
	SSLClientIssuerDN
	SSLClientSerial
	SSLClientFingerprint
	fieldCount

	// Removed marks a field that is not written.
	Removed FieldID = 127
)

var fieldNames = [fieldCount]string{
	Unknown: "", Accept: "accept", AcceptEncoding: "accept-encoding", AcceptLanguage: "accept-language", Age: "age",
	Authorization: "authorization", CacheControl: "cache-control", Connection: "connection",
	ContentEncoding: "content-encoding", ContentLength: "content-length", ContentType: "content-type", Cookie: "cookie",
	Date: "date", ETag: "etag", Expect: "expect", Expires: "expires", Forwarded: "forwarded",
	GRPCStatus: "grpc-status", GRPCTimeout: "grpc-timeout", Host: "host",
	HTTP2Settings: "http2-settings", KeepAlive: "keep-alive", LastModified: "last-modified", Location: "location",
	Origin: "origin", ProxyAuthenticate: "proxy-authenticate", ProxyAuthorization: "proxy-authorization",
	ProxyConnection: "proxy-connection", Range: "range", Referer: "referer", Server: "server", SetCookie: "set-cookie",
	TE: "te", Trailer: "trailer", TransferEncoding: "transfer-encoding", Upgrade: "upgrade", UserAgent: "user-agent",
	Vary: "vary", Via: "via", XForwardedFor: "x-forwarded-for", XForwardedHost: "x-forwarded-host",
	XForwardedPort: "x-forwarded-port", XForwardedProto: "x-forwarded-proto", XRealIP: "x-real-ip",
	XRequestID: "x-request-id", Traceparent: "traceparent", Tracestate: "tracestate",
	ClientCert: "client-cert", ClientCertChain: "client-cert-chain",
	SSLClientCert: "ssl-client-cert", SSLClientVerify: "ssl-client-verify", SSLClientSubjectDN: "ssl-client-subject-dn",
	SSLClientIssuerDN: "ssl-client-issuer-dn", SSLClientSerial: "ssl-client-serial",
	SSLClientFingerprint: "ssl-client-fingerprint",
}

// Name returns the lower-case name of a known field.
func (id FieldID) Name() string {
	if id >= fieldCount {
		return ""
	}
	return fieldNames[id]
}

// nameHashSize is a power of two; nameTable is a perfect hash of fieldNames (TestFieldNamesHashWithoutCollision).
const nameHashSize = 256

var nameTable = buildNameTable()

func nameHash(length int, first, middle, penult byte) uint32 {
	h := uint32(length)*nameMulLen + uint32(first|0x20)*nameMulFirst + uint32(middle|0x20)*nameMulMiddle + uint32(penult|0x20)*nameMulPenult
	return h >> 7 & (nameHashSize - 1)
}

// Multipliers found by search so that no two names collide.
const (
	nameMulLen    = 714341
	nameMulFirst  = 622051
	nameMulMiddle = 957432
	nameMulPenult = 980443
)

func buildNameTable() (t [nameHashSize]FieldID) {
	for id := Unknown + 1; id < fieldCount; id++ {
		n := fieldNames[id]
		t[nameHash(len(n), n[0], n[len(n)/2], n[len(n)-2])] = id
	}
	return t
}

// LookupID returns the id of a field name in any case, or Unknown.
func LookupID(name []byte) FieldID {
	if len(name) < 2 {
		return Unknown
	}
	id := nameTable[nameHash(len(name), name[0], name[len(name)/2], name[len(name)-2])]
	// Most peers write names the usual way, which is compared at once; the loop is for the others.
	if string(name) == usualNames[id] || id != Unknown && equalFold(name, fieldNames[id]) {
		return id
	}
	return Unknown
}

// usualNames are fieldNames with the capitals that HTTP/1 peers write.
var usualNames = buildUsualNames()

func buildUsualNames() (names [fieldCount]string) {
	for id, name := range fieldNames {
		b := []byte(name)
		for i, c := range b {
			if 'a' <= c && c <= 'z' && (i == 0 || b[i-1] == '-') {
				b[i] = c &^ 0x20
			}
		}
		names[id] = string(b)
	}
	return names
}

// LookupIDString is LookupID for a string.
func LookupIDString(name string) FieldID {
	if len(name) < 2 {
		return Unknown
	}
	id := nameTable[nameHash(len(name), name[0], name[len(name)/2], name[len(name)-2])]
	if id == Unknown || lower(name) != fieldNames[id] {
		return Unknown
	}
	return id
}

// equalFold compares a token with a lower-case one. Tokens are ASCII.
func equalFold(b []byte, lowerCase string) bool {
	if len(b) != len(lowerCase) {
		return false
	}
	for i := 0; i < len(b); i++ {
		c := b[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != lowerCase[i] {
			return false
		}
	}
	return true
}

// EqualFold compares b with a lower-case ASCII token.
func EqualFold(b []byte, lowerCase string) bool { return equalFold(b, lowerCase) }

// lower returns s in ASCII lower case; it does not allocate when s already is.
func lower(s string) string {
	for i := 0; i < len(s); i++ {
		if 'A' <= s[i] && s[i] <= 'Z' {
			b := []byte(s)
			for j := i; j < len(b); j++ {
				if 'A' <= b[j] && b[j] <= 'Z' {
					b[j] |= 0x20
				}
			}
			return string(b)
		}
	}
	return s
}
