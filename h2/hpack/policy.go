package hpack

import (
	"strings"

	"rauta.io/rauta/proxy/message"
)

// policy is what an encoder does with a field that is in no table yet.
type policy uint8

const (
	// repeated fields are added when they come for the second time.
	repeated policy = iota
	// eager fields have few values and are added at once.
	eager
	// volatile fields are hardly ever the same again, and are not added.
	volatile
	// never: nobody on the way may keep them, since whoever can make a table hold guesses of his own would see from the
	// length of a block when he is right (RFC 7541 section 7.1).
	never
)

// policyOf has the policy of every name with an id; names without one are repeated. As cookies are never added, the Cookie
// of a request goes out as one field: split into crumbs (RFC 9113 section 8.2.3) each of them would be a literal again, with
// a name and a length more.
var policyOf = [256]policy{
	message.Authorization: never, message.Cookie: never, message.ProxyAuthorization: never, message.SetCookie: never,

	message.Age: volatile, message.ContentLength: volatile, message.Date: volatile, message.ETag: volatile,
	message.Expires: volatile, message.LastModified: volatile, message.Location: volatile, message.Range: volatile,
	message.Traceparent: volatile, message.Tracestate: volatile, message.XRequestID: volatile,

	message.Accept: eager, message.AcceptEncoding: eager, message.AcceptLanguage: eager, message.CacheControl: eager,
	message.ContentEncoding: eager, message.ContentType: eager, message.Server: eager, message.TE: eager,
	message.Vary: eager, message.Via: eager, message.XForwardedHost: eager, message.XForwardedPort: eager,
	message.XForwardedProto: eager,
}

// isSecret reports whether a name without an id ends in a word that is used for secrets, such as X-Api-Key. Requests of
// many clients share the table of a connection to a back end. It is asked for fields that are not in the table only.
func isSecret(name string) bool {
	switch name[strings.LastIndexByte(name, '-')+1:] {
	case "assertion", "auth", "authorization", "credential", "credentials", "csrf", "jwt", "key", "otp", "passphrase", "password",
		"secret", "session", "sessionid", "sid", "signature", "token", "xsrf":
		return true
	}
	return false
}
