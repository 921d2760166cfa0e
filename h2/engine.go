package h2

import (
	"rauta.io/rauta/proxy/exchange"
	"rauta.io/rauta/proxy/list"
	"rauta.io/rauta/proxy/loop"
	"rauta.io/rauta/proxy/message"
)

// Engine is the HTTP/2 engine of one worker. All methods are for the worker's thread.
type Engine struct {
	// Immutable.
	loop     *loop.Worker
	exchange *exchange.Worker
	limits   Limits

	// Owned by the worker.
	conns []*serverConn
	idle  list.List[serverConn] // those without a stream, longest idle first
	head  headReader

	response    message.Response // of the block being read
	path        []byte           // memory for appendRequest
	freeStreams []*serverStream
	freeCalls   []*clientStream
	takings     [][]taking // empty ones, for reuse
}

// freeStreamsMax bounds the streams that an engine keeps for reuse.
const freeStreamsMax = 1024

// NewEngine returns the engine of a worker.
func NewEngine(w *loop.Worker, x *exchange.Worker, limits Limits) *Engine {
	e := &Engine{loop: w, exchange: x, limits: limits}
	e.head.limits, e.head.resp = &e.limits, &e.response
	return e
}

// Conns is the number of client connections.
func (e *Engine) Conns() int { return len(e.conns) }

// Serve takes over a connection whose client speaks HTTP/2, by prior knowledge or because it was negotiated. initial is
// what has been read of it, from the preface on; it is only valid during the call. Whoever accepted the connection has
// counted it with Shard.ConnOpened; the engine counts its end.
func (e *Engine) Serve(conn *loop.Conn, peer exchange.Peer, initial []byte) {
	c := newServerConn(e, conn, peer)
	c.index = len(e.conns)
	e.conns = append(e.conns, c)
	conn.SetHandler(c)
	c.begin(initial)
}

// CloseIdle closes up to n connections without a stream, the ones that have had none for longest first; it returns how
// many.
func (e *Engine) CloseIdle(n int) int {
	closed := 0
	for closed < n && e.idle.Len() > 0 {
		e.idle.Front().Item.closeIdle()
		closed++
	}
	return closed
}

// Drain asks every client to open no more streams (RFC 9113 section 6.8); connections close when their last stream has
// ended.
func (e *Engine) Drain() {
	for _, c := range e.conns {
		c.shutdown()
	}
}

func (e *Engine) remove(c *serverConn) {
	last := len(e.conns) - 1
	e.conns[c.index] = e.conns[last]
	e.conns[c.index].index = c.index
	e.conns[last] = nil
	e.conns = e.conns[:last]
}

func (e *Engine) takeServerStream() *serverStream {
	n := len(e.freeStreams)
	if n == 0 {
		return new(serverStream)
	}
	s := e.freeStreams[n-1]
	e.freeStreams = e.freeStreams[:n-1]
	return s
}

func (e *Engine) putServerStream(s *serverStream) {
	*s = serverStream{}
	if len(e.freeStreams) < freeStreamsMax {
		e.freeStreams = append(e.freeStreams, s)
	}
}

func (e *Engine) takeClientStream() *clientStream {
	n := len(e.freeCalls)
	if n == 0 {
		return new(clientStream)
	}
	s := e.freeCalls[n-1]
	e.freeCalls = e.freeCalls[:n-1]
	return s
}

func (e *Engine) putClientStream(s *clientStream) {
	*s = clientStream{}
	if len(e.freeCalls) < freeStreamsMax {
		e.freeCalls = append(e.freeCalls, s)
	}
}
