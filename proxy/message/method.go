package message

// MethodID is the id of a request method.
type MethodID uint8

// Methods. MethodOther is every method without an id of its own.
const (
	MethodOther MethodID = iota
	MethodGet
	MethodHead
	MethodPost
	MethodPut
	MethodDelete
	MethodConnect
	MethodOptions
	MethodTrace
	MethodPatch
	methodCount
)

var methodNames = [methodCount]string{
	"OTHER", "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
}

// MethodCount is the number of method ids, for tables.
const MethodCount = int(methodCount)

// String returns the method, or "OTHER".
func (m MethodID) String() string { return methodNames[m] }

// LookupMethod returns the id of a method; methods are case-sensitive (RFC 9110 section 9.1).
func LookupMethod(b []byte) MethodID {
	switch string(b) { // the compiler does not allocate for this conversion
	case "GET":
		return MethodGet
	case "HEAD":
		return MethodHead
	case "POST":
		return MethodPost
	case "PUT":
		return MethodPut
	case "DELETE":
		return MethodDelete
	case "CONNECT":
		return MethodConnect
	case "OPTIONS":
		return MethodOptions
	case "TRACE":
		return MethodTrace
	case "PATCH":
		return MethodPatch
	}
	return MethodOther
}

// Safe and without a body of its own: a request that may be repeated after it was sent (RFC 9110 section 9.2.1).
func (m MethodID) Safe() bool {
	return m == MethodGet || m == MethodHead || m == MethodOptions
}

// Idempotent: the request may be sent several times with the effect of one (RFC 9110 section 9.2.2).
func (m MethodID) Idempotent() bool {
	return m.Safe() || m == MethodPut || m == MethodDelete || m == MethodTrace
}

// MethodNames returns the name of every method id, in order.
func MethodNames() []string { return append([]string(nil), methodNames[:]...) }
