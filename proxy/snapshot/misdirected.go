package snapshot

// Misdirected reports whether a request to host (lower case, no port) came over a TLS connection that was made for the
// server name of another listener: certificate, client authentication and protocol versions are then those of a
// listener that the request does not belong to, and the client has to open a connection for it (RFC 9110 section
// 15.5.20). A client that named no server has not chosen any; a host that no listener has is somebody else's problem.
func (p *Port) Misdirected(serverName string, host []byte) bool {
	if serverName == "" || string(host) == serverName {
		return false
	}
	of := p.hosts.Lookup(host)
	if of < 0 {
		return false
	}
	made := p.hosts.Lookup([]byte(serverName))
	return made >= 0 && made != of
}
