package snapshot

import "rauta.io/rauta/proxy/message"

// Misdirected reports whether a request to host (lower case, no port) came over a TLS connection that was made for the
// server name (lower case, empty if the client named none) of another TLS policy: its certificate, client
// authentication and protocol versions are then not those that the host asks for, and the client has to open a
// connection of its own (RFC 9110 section 15.5.20). The same goes for a host of a listener that looks into nothing. A host
// that no listener has is misdirected nowhere.
func (p *Port) Misdirected(serverName string, host []byte) bool {
	if p.TLS == nil || string(host) == serverName {
		return false
	}
	i := p.hosts.Lookup(host)
	if i < 0 {
		return false
	}
	return p.sites[i].names != nil || p.TLS.Identity(message.String(host)) != p.TLS.Identity(serverName)
}
