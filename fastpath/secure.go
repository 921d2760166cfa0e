package fastpath

import (
	"rauta.io/rauta/proxy/exchange"
	"rauta.io/rauta/proxy/loop"
)

// ServePeer takes over a connection of which everything is known that comes before the first request: who the client
// is, and on a TLS connection the handshake. The first head is due in Limits.HeadTimeout from the accept, whatever came
// before it has taken its time from that.
func (e *Engine) ServePeer(conn *loop.Conn, peer exchange.Peer) {
	c := e.adopt(conn, peer)
	c.readDeadline = conn.AcceptedAt() + nanos(e.limits.HeadTimeout)
	c.listen()
}
