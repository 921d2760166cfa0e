package exchange

import "rauta.io/rauta/proxy/message"

// neverTrailer are the known fields that are not passed on when they come after a body (RFC 9110 section 6.5.1, attack row
// 14): fields of framing, routing, authentication and forwarding, and those that say how a message is to be handled. Whoever
// merged them into the head would let the end of a body overrule what was decided by the head.
var neverTrailer = [256]bool{
	message.Removed: true, message.Age: true, message.Authorization: true, message.CacheControl: true,
	message.Connection: true, message.ContentEncoding: true, message.ContentLength: true, message.ContentType: true,
	message.Cookie: true, message.Date: true, message.Expect: true, message.Expires: true, message.Forwarded: true,
	message.Host: true, message.HTTP2Settings: true, message.KeepAlive: true, message.Location: true, message.Origin: true,
	message.ProxyAuthenticate: true, message.ProxyAuthorization: true, message.ProxyConnection: true, message.Range: true,
	message.SetCookie: true, message.TE: true, message.Trailer: true, message.TransferEncoding: true, message.Upgrade: true,
	message.Vary: true, message.XForwardedFor: true, message.XForwardedHost: true, message.XForwardedPort: true,
	message.XForwardedProto: true, message.XRealIP: true, message.XRequestID: true,
	message.ClientCert: true, message.ClientCertChain: true, message.SSLClientCert: true, message.SSLClientVerify: true,
	message.SSLClientSubjectDN: true, message.SSLClientIssuerDN: true, message.SSLClientSerial: true,
	message.SSLClientFingerprint: true,
}

// neverTrailerPrefixes are the begins of further names that are not passed on.
var neverTrailerPrefixes = [...]string{"content-", "if-", "proxy-", "x-forwarded-", "access-control-", "www-authenticate"}

// passable removes from trailers what must not be passed on; it returns nil if nothing is left. Names of a request may not
// pose as others.
func passable(trailers *message.Head, ofRequest bool) *message.Head {
	if trailers == nil {
		return nil
	}
	left := false
	for i := range trailers.Fields {
		f := &trailers.Fields[i]
		name := trailers.Bytes(f.Name)
		if neverTrailer[f.ID] || f.ID == message.Unknown && (hasForbiddenPrefix(name) || ofRequest && message.Misleading(name)) {
			f.ID = message.Removed
			continue
		}
		left = true
	}
	if !left {
		return nil
	}
	return trailers
}

func hasForbiddenPrefix(name []byte) bool {
	for _, p := range neverTrailerPrefixes {
		if len(name) >= len(p) && message.EqualFold(name[:len(p)], p) {
			return true
		}
	}
	return false
}

// keepTrailers copies the trailers of a request that there is no back end for yet, or that a second attempt may need.
func (x *Exchange) keepTrailers(trailers *message.Head) {
	if trailers != nil && (x.attempt.stream == nil || !x.replay.gone) {
		x.trailers = new(message.Head)
		x.trailers.Copy(trailers)
	}
}
