package fastpath

import (
	"rauta.io/rauta/proxy/exchange"
	"rauta.io/rauta/proxy/loop"
)

// ServePeer takes over a connection of which everything is known that comes before the first request: who the client
// is, and on a TLS connection the handshake. The first head is due in Limits.HeadTimeout from the accept, whatever came
// before it has taken its time from that.
func (e *Engine) ServePeer(conn *loop.Conn, peer exchange.Peer) {
	c := &serverConn{conn: conn, e: e, peer: peer}
	c.peer.Queued = conn.Queued()
	c.place.Item = c
	c.timer.Fire = c.onTimer
	e.conns++
	e.exchange.Shard.ConnOpened()
	c.readDeadline = conn.AcceptedAt() + nanos(e.limits.HeadTimeout)
	c.arm()
	e.idle.PushBack(&c.place)
	conn.SetHandler(c)
}
