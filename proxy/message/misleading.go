package message

// posedAs are the fields of framing, of the connection and of forwarding that a look-alike may pose as.
var posedAs = [fieldCount]bool{
	Host: true, ContentLength: true, TransferEncoding: true, Connection: true, Upgrade: true, Expect: true, TE: true,
	KeepAlive: true, ProxyConnection: true, ProxyAuthorization: true, ProxyAuthenticate: true, Trailer: true,
	HTTP2Settings: true, Forwarded: true, XRealIP: true,
	ClientCert: true, ClientCertChain: true, SSLClientCert: true, SSLClientVerify: true, SSLClientSubjectDN: true,
	SSLClientIssuerDN: true, SSLClientSerial: true, SSLClientFingerprint: true,
}

// Misleading reports whether an unknown request field name would be taken for another by back ends: CGI and WSGI turn "-"
// and "_" into the same, so any name with "_" can pose as a field that the proxy or a filter sets; some do so with ".".
func Misleading(name []byte) bool {
	dot := false
	for _, c := range name {
		if c == '_' {
			return true
		}
		dot = dot || c == '.'
	}
	return dot && looksLikeOurs(name)
}

// looksLikeOurs reports whether the name with "-" for "." is one of framing or forwarding.
func looksLikeOurs(name []byte) bool {
	const longest = len("ssl-client-fingerprint") + 3
	const forwardedPrefix = "x-forwarded-"
	var buf [longest]byte
	if len(name) > len(buf) {
		name = name[:len(buf)]
	}
	n := copy(buf[:], name)
	for i, c := range buf[:n] {
		if c == '.' {
			buf[i] = '-'
		}
	}
	return posedAs[LookupID(buf[:n])] || n >= len(forwardedPrefix) && equalFold(buf[:len(forwardedPrefix)], forwardedPrefix)
}
