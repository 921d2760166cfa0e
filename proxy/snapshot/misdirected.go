package snapshot

import (
	"rauta.io/rauta/proxy/certs"
	"rauta.io/rauta/proxy/message"
)

// Misdirected reports whether a request to host (lower case, no port) came over a TLS connection of another TLS policy:
// its certificate, client authentication and protocol versions are then not those that the host asks for, and the client
// has to open a connection of its own (RFC 9110 section 15.5.20). The connection was made in a realm, for the server name
// (lower case, empty if the client named none); realm is nil if that is all that is known. A connection that was made
// before clients of its name were asked for certificates, or for others, is misdirected too. So is a request to a host of
// a listener that looks into nothing. A host that no listener has is misdirected nowhere.
func (p *Port) Misdirected(realm *certs.Realm, serverName string, host []byte) bool {
	if p.TLS == nil {
		return false
	}
	own := string(host) == serverName
	if own && realm == nil {
		return false
	}
	i := p.hosts.Lookup(host)
	if i < 0 {
		return false
	}
	if !own && p.sites[i].names != nil {
		return true
	}
	if realm == nil {
		realm, _ = p.TLS.Realm(serverName)
	}
	wanted, open := p.TLS.Realm(message.String(host))
	switch {
	case wanted == nil:
		return !own
	case !own && !open:
		return true
	}
	return !wanted.Admits(realm)
}
