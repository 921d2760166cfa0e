package fastpath

import (
	"rauta.io/rauta/fastpath/wire"
	"rauta.io/rauta/proxy/clock"
	"rauta.io/rauta/proxy/loop"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/upstream"
	"rauta.io/rauta/proxy/websocket"
)

// clientState is what a connection to a back end waits for.
type clientState uint8

const (
	idle clientState = iota // in its pool
	awaitRespHead
	awaitRespBody
	clientTunnel
	clientClosed
)

// clientConn is a connection to a back end. It implements loop.Handler, upstream.Conn and upstream.Stream.
type clientConn struct {
	// Immutable.
	conn *loop.Conn
	e    *Engine
	pool *upstream.Pool

	// Owned by the worker.
	slot   upstream.Slot
	sink   upstream.Sink
	timer  clock.Timer // of a tunnel's last bytes
	in     inbound
	out    outbound
	parser wire.ResponseParser
	head   *message.Response // held only while a head is parsed

	state   clientState
	inside  bool // consume is on the stack
	paused  bool // the exchange takes no body
	starved bool // the exchange waits for OnWritable
	chunk   int  // bytes that one read may take: see adaptChunk
	ended   bool // of a tunnel: the back end's half is over
	req     requestState
	body    responseBody
}

// requestState belongs to the request under way.
type requestState struct {
	head       bool // HEAD
	upgrade    bool // asked to switch protocols
	chunked    bool
	ended      bool                         // sent completely
	halfClosed bool                         // of a tunnel: the client's half is over
	answered   bool                         // a byte of the response has come
	begun      bool                         // the final head has been delivered
	accept     *[websocket.AcceptBytes]byte // what the back end must answer to a key of ours; nil: the key is the client's
}

// responseBody belongs to the response body under way.
type responseBody struct {
	chunks  wire.ChunkReader
	framing message.Framing
	left    int64
	closes  bool // the back end closes after it
}

// Attach takes over an open connection to p's endpoint, which owes nothing and has sent nothing.
func (e *Engine) Attach(conn *loop.Conn, p *upstream.Pool) {
	c := &clientConn{conn: conn, e: e, pool: p, chunk: readChunk}
	conn.SetHandler(c)
	conn.ReceiveAhead()
	p.Ready(c)
}

// Slot implements upstream.Conn.
func (c *clientConn) Slot() *upstream.Slot { return &c.slot }

// Capacity implements upstream.Conn.
func (c *clientConn) Capacity() int { return 1 }

// Start implements upstream.Conn.
func (c *clientConn) Start(sink upstream.Sink) upstream.Stream {
	c.sink = sink
	c.state = awaitRespHead
	c.req = requestState{}
	c.paused, c.starved = false, false
	c.out.wrote = false
	c.parser.Reset()
	return c
}

// Close implements upstream.Conn: the pool gives an idle connection up.
func (c *clientConn) Close() { c.abandon() }

// OnEvent implements loop.Handler.
func (c *clientConn) OnEvent(ev loop.Events) {
	if ev&(loop.HangUp|loop.Error) != 0 {
		c.in.hangUp = true
		if c.conn.Closed() {
			c.panicked()
			return
		}
	}
	if ev&loop.Writable != 0 && c.out.blocked {
		c.flush()
	}
	if ev&(loop.Readable|loop.HangUp|loop.Error) != 0 {
		c.in.readable = true
		c.read()
	}
	if c.out.broken && c.state != clientClosed && !c.in.readable {
		// Whatever the back end had sent before it closed has been read.
		c.fail(upstream.CauseReset, "", c.conn.Err())
	}
}

// fail ends the connection and tells the exchange how far it had come.
func (c *clientConn) fail(cause upstream.Cause, detail string, err error) {
	f := upstream.Failure{Stage: c.stage(), Cause: cause, Detail: detail, Err: err}
	sink := c.sink
	c.drop()
	if sink != nil {
		sink.OnFailure(f)
	}
}

// panicked gives up what the loop has closed after a panic, which may have left consume in the middle.
func (c *clientConn) panicked() {
	if c.inside {
		c.inside = false
		c.in.release(c.e.loop)
		if c.head != nil {
			c.releaseHead()
		}
	}
	if c.state != clientClosed {
		c.fail(upstream.CauseShutdown, "", c.conn.Err())
	}
}

func (c *clientConn) stage() upstream.Stage {
	switch {
	case c.req.begun:
		return upstream.StageBody
	case c.req.answered:
		return upstream.StageHead
	case c.out.wrote:
		return upstream.StageSent
	}
	return upstream.StageUnsent
}

// drop ends the connection and tells its pool.
func (c *clientConn) drop() {
	if c.state == clientClosed {
		return
	}
	c.abandon()
	c.pool.Closed(c)
}

// abandon gives everything back.
func (c *clientConn) abandon() {
	if c.state == clientClosed {
		return
	}
	c.state = clientClosed
	c.sink = nil
	c.conn.Close()
	c.e.loop.Wheel().Remove(&c.timer)
	if !c.inside {
		c.in.release(c.e.loop)
	}
	c.out.release(c.e.loop)
	if c.head != nil && !c.inside {
		c.releaseHead()
	}
}

func (c *clientConn) releaseHead() {
	c.e.putResponse(c.head)
	c.head = nil
}
