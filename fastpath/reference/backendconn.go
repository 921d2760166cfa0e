package reference

import (
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"time"

	"rauta.io/rauta/fastpath/wire"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/upstream"
)

// backendState is what the next byte from the back end is.
type backendState uint8

const (
	backendIdle backendState = iota
	backendHead
	backendBody
	backendTunnel
	backendClosed
)

// backendConn is a connection to a back end. It implements upstream.Conn and upstream.Stream; one goroutine reads and one
// writes, and both become the worker's thread for what they have to tell.
type backendConn struct {
	// Immutable.
	core *core
	pool *upstream.Pool
	nc   transport
	raw  syscall.RawConn // nil with TLS

	// Guarded by core.mu; changed is signalled with it held.
	changed sync.Cond
	slot    upstream.Slot
	sink    upstream.Sink
	state   backendState
	hangUp  bool // the back end has closed its half
	paused  bool // the exchange takes no body

	out       []byte // waits for the writer
	writing   int    // bytes that the writer has taken and not yet written
	broken    bool   // a write failed
	halfClose bool   // once everything is written
	starved   bool   // the exchange waits for OnWritable

	parser wire.ResponseParser
	head   message.Response
	req    backendRequest
	body   backendBodyState
}

// backendRequest belongs to the request under way.
type backendRequest struct {
	head, upgrade, chunked bool
	ended                  bool // handed to the writer completely
	wrote                  bool // a byte may have reached the back end
	answered, begun        bool // a byte of the response, its final head, has come
}

// backendBodyState belongs to the response body under way.
type backendBodyState struct {
	chunks  wire.ChunkReader
	framing message.Framing
	left    int64
	closes  bool // the back end closes after it
}

// transport is a connection in plain text or with TLS.
type transport interface {
	net.Conn
	// CloseWrite ends our half: with FIN or close_notify.
	CloseWrite() error
}

// tunnelEndTime is how long the last bytes of a tunnel may take to be written.
const tunnelEndTime = 30 * time.Second

// Dial implements upstream.Dialer.
func (c *core) Dial(p *upstream.Pool) {
	dialer := &net.Dialer{Timeout: time.Duration(p.ConnectTimeout())}
	dialer.SetMultipathTCP(false)
	c.e.running.Go(func() {
		deadline := time.Now().Add(dialer.Timeout)
		nc, err := dialer.DialContext(c.e.ctx, "tcp", p.Endpoint().Name)
		var t transport
		var failure upstream.Failure
		if err != nil {
			failure = dialFailure(err)
		} else {
			t, failure = c.e.secure(nc.(*net.TCPConn), p.Endpoint(), deadline)
		}
		c.e.guard(func() { c.do(func() { c.dialled(p, t, failure) }) })
	})
}

// dialled tells the pool how a dial ended; nc is nil if it has failed.
func (c *core) dialled(p *upstream.Pool, nc transport, failure upstream.Failure) {
	switch {
	case nc == nil:
		p.DialFailed(failure)
	case c.stopped:
		nc.Close()
		p.DialFailed(upstream.Failure{Stage: upstream.StageConnect, Cause: upstream.CauseShutdown})
	default:
		b := &backendConn{core: c, pool: p, nc: nc}
		if plain, ok := nc.(*net.TCPConn); ok {
			b.raw, _ = plain.SyscallConn() // fails for a nil connection only
		}
		b.changed.L = &c.mu
		c.backends[b] = struct{}{}
		c.e.running.Go(func() { b.run(b.readLoop) })
		c.e.running.Go(func() { b.run(b.writeLoop) })
		p.Ready(b)
	}
}

// run runs one of the connection's goroutines; a panic in it ends the connection.
func (b *backendConn) run(f func()) {
	if !b.core.e.guard(f) {
		b.core.do(b.drop)
	}
}

func dialFailure(err error) upstream.Failure {
	f := upstream.Failure{Stage: upstream.StageConnect, Cause: upstream.CauseConnectFailed, Err: err}
	var timeout net.Error
	switch {
	case errors.Is(err, context.Canceled):
		f.Cause = upstream.CauseShutdown
	case errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, syscall.ETIMEDOUT):
		f.Cause = upstream.CauseConnectTimeout
	}
	return f
}

// Slot implements upstream.Conn.
func (b *backendConn) Slot() *upstream.Slot { return &b.slot }

// Capacity implements upstream.Conn.
func (b *backendConn) Capacity() int { return 1 }

// Start implements upstream.Conn.
func (b *backendConn) Start(sink upstream.Sink) upstream.Stream {
	b.sink = sink
	b.state = backendHead
	b.req = backendRequest{}
	b.paused, b.starved = false, false
	b.parser.Reset()
	return b
}

// Close implements upstream.Conn: the pool gives an idle connection up.
func (b *backendConn) Close() { b.abandon() }

// SendHead implements upstream.Stream.
func (b *backendConn) SendHead(req *message.Request) {
	b.req.head = req.MethodID == message.MethodHead
	b.req.upgrade = req.Upgrade.Len > 0
	b.req.chunked = req.Framing == message.Streamed
	b.req.ended = req.Framing == message.NoBody
	b.out = wire.AppendRequestHead(b.out, req)
	b.flush()
}

// SendData implements upstream.Stream.
func (b *backendConn) SendData(p []byte) bool {
	if len(p) == 0 {
		return true
	}
	if b.req.chunked && b.state != backendTunnel {
		b.out = wire.AppendChunkHeader(b.out, len(p))
		b.out = append(b.out, p...)
		b.out = append(b.out, wire.ChunkEnd...)
	} else {
		b.out = append(b.out, p...)
	}
	b.flush()
	b.starved = len(b.out) >= bufferedHigh
	return !b.starved
}

// SendEnd implements upstream.Stream.
func (b *backendConn) SendEnd(*message.Head) {
	if b.state == backendClosed || b.req.ended && b.state != backendTunnel {
		return
	}
	b.req.ended = true
	if b.state == backendTunnel {
		b.halfClose = true
	} else if b.req.chunked {
		b.out = append(b.out, wire.LastChunk...)
	}
	b.flush()
}

// flush writes what the socket takes at once and leaves the rest to the writer. Besides saving a switch of goroutines,
// a response can then not overtake the news that its request was written, which would keep the connection from being
// used again. With TLS, where a write may block, all is left to the writer.
func (b *backendConn) flush() {
	switch {
	case b.writing > 0 || b.broken:
		return
	case b.raw == nil:
		b.changed.Broadcast()
		return
	}
	if len(b.out) > 0 {
		n := 0
		b.raw.Write(func(fd uintptr) bool {
			n, _ = syscall.Write(int(fd), b.out) // the descriptor is non-blocking
			return true
		})
		if n > 0 {
			b.req.wrote = true
			b.out = b.out[:copy(b.out, b.out[n:])]
		}
	}
	switch {
	case len(b.out) > 0:
		b.changed.Broadcast()
	case b.halfClose:
		b.halfClose = false
		b.nc.CloseWrite()
	}
}

// PauseBody implements upstream.Stream.
func (b *backendConn) PauseBody() { b.paused = true }

// ResumeBody implements upstream.Stream.
func (b *backendConn) ResumeBody() {
	b.paused = false
	b.changed.Broadcast()
}

// Cancel implements upstream.Stream. A tunnel whose halves have both ended is not cut off: what waits is still written,
// for tunnelEndTime at most.
func (b *backendConn) Cancel() {
	if b.hangUp && b.state == backendTunnel && b.req.ended && len(b.out)+b.writing > 0 && !b.broken {
		b.sink = nil
		b.nc.SetWriteDeadline(time.Now().Add(tunnelEndTime))
		return
	}
	b.drop()
}

// fail ends the connection and tells the exchange how far it had come.
func (b *backendConn) fail(cause upstream.Cause, detail string, err error) {
	f := upstream.Failure{Stage: b.stage(), Cause: cause, Detail: detail, Err: err}
	sink := b.sink
	b.drop()
	if sink != nil {
		sink.OnFailure(f)
	}
}

func (b *backendConn) stage() upstream.Stage {
	switch {
	case b.req.begun:
		return upstream.StageBody
	case b.req.answered:
		return upstream.StageHead
	case b.req.wrote:
		return upstream.StageSent
	}
	return upstream.StageUnsent
}

// drop ends the connection and tells its pool.
func (b *backendConn) drop() {
	if b.state == backendClosed {
		return
	}
	b.abandon()
	b.pool.Closed(b)
}

// abandon gives everything back; the two goroutines end by it.
func (b *backendConn) abandon() {
	if b.state == backendClosed {
		return
	}
	idle := b.state == backendIdle
	b.state = backendClosed
	b.sink = nil
	b.end(idle)
	delete(b.core.backends, b)
	b.changed.Broadcast()
}

// writeLoop writes what the exchange sends.
func (b *backendConn) writeLoop() {
	c := b.core
	c.lock()
	defer c.mu.Unlock()
	var spare []byte
	for b.state != backendClosed {
		if len(b.out) == 0 && !b.halfClose || b.broken {
			b.changed.Wait()
			continue
		}
		piece, half := b.out, b.halfClose
		b.out, b.writing, b.halfClose = spare[:0], len(piece), false
		b.req.wrote = b.req.wrote || len(piece) > 0
		c.mu.Unlock()
		_, err := b.nc.Write(piece)
		if half {
			b.nc.CloseWrite()
		}
		c.lock()
		spare = piece
		b.writing = 0
		// A failed write is not reported: the reader finds what the back end may have answered before it closed, and
		// then the end of the connection.
		b.broken = err != nil
		if b.sink == nil && b.state == backendTunnel && (b.broken || len(b.out) == 0 && !b.halfClose) {
			b.drop() // see Cancel
		}
		if b.starved && len(b.out) <= bufferedLow && b.sink != nil {
			b.starved = false
			b.sink.OnWritable()
		}
	}
}
