package upstream

// A direct connection is one that its user opens and closes himself, because it carries raw bytes and can never be
// pooled. It counts like any other: towards the limit of its endpoint, and as load of its worker.

// Reserve takes room for a direct connection. False means that the endpoint has as many connections as it may have.
// After true the caller calls Unreserve once.
func (p *Pool) Reserve() bool {
	if !p.reserve() {
		return false
	}
	p.conns++
	p.active++
	p.updateStarved()
	return true
}

// Unreserve gives the room back: the connection is closed, or could not be opened. Others may get it before
// Unreserve returns.
func (p *Pool) Unreserve() {
	p.conns--
	p.active--
	p.endpoint.connections.Add(-1)
	p.updateStarved()
	p.fill()
}
