package fastpath

import (
	"net/netip"

	"rauta.io/rauta/proxy/exchange"
	"rauta.io/rauta/proxy/list"
	"rauta.io/rauta/proxy/loop"
	"rauta.io/rauta/proxy/message"
)

// Engine is the HTTP/1.1 engine of one worker. All methods are for the worker's thread.
type Engine struct {
	// Immutable.
	loop     *loop.Worker
	exchange *exchange.Worker
	limits   Limits

	http2 func(conn *loop.Conn, peer exchange.Peer, initial []byte) // nil: not spoken

	// Owned by the worker.
	conns     int
	idle      list.List[serverConn] // those that wait for a request, longest waiting first
	responses []*message.Response   // heads that no connection holds
}

// NewEngine returns the engine of a worker. x.Upstream.Dialer is to hand it connections with Attach.
func NewEngine(w *loop.Worker, x *exchange.Worker, limits Limits) *Engine {
	return &Engine{loop: w, exchange: x, limits: limits}
}

// HandOver makes serve take over the connections whose client begins with the preface of HTTP/2 (prior knowledge, RFC 9113
// section 3.3). initial is what has been read from the preface on, valid only during the call. To be called before the
// first connection.
func (e *Engine) HandOver(serve func(conn *loop.Conn, peer exchange.Peer, initial []byte)) {
	e.http2 = serve
}

// Conns is the number of client connections.
func (e *Engine) Conns() int { return e.conns }

// Serve takes over a connection that was accepted on port. If proxyFrom is not empty, the connection must come from one
// of these networks and begin with a PROXY protocol header.
func (e *Engine) Serve(conn *loop.Conn, port *exchange.PortRef, proxyFrom []netip.Prefix) {
	c := e.adopt(conn, e.exchange.NewPeer(conn.RemoteAddr().Addr(), message.SchemeHTTP, port))
	c.readDeadline = e.loop.Now() + nanos(e.limits.HeadTimeout)
	if len(proxyFrom) > 0 {
		if !contains(proxyFrom, c.peer.Client) {
			c.close()
			return
		}
		c.state = awaitProxyHeader
	}
	c.listen()
}

// adopt counts a connection as one of the engine's.
func (e *Engine) adopt(conn *loop.Conn, peer exchange.Peer) *serverConn {
	c := &serverConn{conn: conn, e: e, peer: peer}
	c.peer.Queued = conn.Queued()
	c.place.Item = c
	c.timer.Fire = c.onTimer
	e.conns++
	e.exchange.Shard.ConnOpened()
	return c
}

// listen waits for the first bytes, until readDeadline.
func (c *serverConn) listen() {
	c.arm()
	c.e.idle.PushBack(&c.place)
	c.conn.OpenRequests()
	c.conn.SetHandler(c)
	c.conn.ReceiveAhead()
}

func contains(networks []netip.Prefix, a netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// CloseIdle closes up to n connections that wait for a request, the ones that wait longest first; it returns how many.
// One whose request has come but was not read yet is served instead, and one that has only just been accepted is left
// to send its first: closing them would lose a request that somebody has sent in good faith.
func (e *Engine) CloseIdle(n int) int {
	closed := 0
	place := e.idle.Front()
	for scanned := 0; place != nil && place.In() && closed < n && scanned < n*idleScanFactor; scanned++ {
		c, next := place.Item, place.Next()
		if !c.justAccepted() {
			c.in.readable = true
			c.read()
			if place.In() {
				c.close()
				closed++
			}
		}
		place = next
	}
	return closed
}

const (
	// firstRequestGrace is how long an accepted connection may take to its first byte before it counts as idle.
	firstRequestGrace = 1e9
	// idleScanFactor bounds the walk over connections that are too new to be closed.
	idleScanFactor = 4
)

// Drain closes the connections that wait for a request; with exchange.Worker.Draining set, the others close after the
// response that they are working on.
func (e *Engine) Drain() { e.CloseIdle(e.conns) }

// takeResponse returns an empty head to parse into.
func (e *Engine) takeResponse() *message.Response {
	if n := len(e.responses); n > 0 {
		r := e.responses[n-1]
		e.responses = e.responses[:n-1]
		return r
	}
	r := new(message.Response)
	r.Fields = make([]message.Field, 0, 32)
	return r
}

func (e *Engine) putResponse(r *message.Response) {
	r.Reset()
	e.responses = append(e.responses, r)
}
