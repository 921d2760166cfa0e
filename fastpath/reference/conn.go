package reference

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"rauta.io/rauta/proxy/exchange"
	"rauta.io/rauta/proxy/proxyproto"
)

// conn is a connection that a client opened, as fasthttp and http2 see it.
type conn struct {
	net.Conn // TCPConn, without its other methods: ReadFrom would go past Write and its time limit

	// Immutable.
	TCPConn *net.TCPConn
	e       *Engine
	core    *core
	// Set before a server gets the connection.
	peer exchange.Peer

	// Owned by the goroutine that reads.
	gate    gate
	readErr error // of the last read; fasthttp's errors do not always wrap it

	// Atomic.
	active  atomic.Bool // a request is under way
	lingers atomic.Bool // what the client still sends is taken before closing
	resets  atomic.Bool // closing must be seen as an error

	// mu guards what was read ahead of the server.
	mu       sync.Mutex
	read     sync.Cond
	ahead    []byte
	aheadErr error
	watching bool

	closed sync.Once
}

func newConn(e *Engine, c *core, nc *net.TCPConn) *conn {
	k := &conn{Conn: nc, TCPConn: nc, e: e, core: c}
	k.read.L = &k.mu
	k.gate.limits = &e.opt.Limits.Request
	return k
}

// Read implements net.Conn: what the gate lets through.
func (c *conn) Read(p []byte) (int, error) {
	g := &c.gate
	for {
		n, err := g.take(p)
		if n > 0 || err != nil || len(p) == 0 {
			return n, err
		}
		if g.state == gateOpen {
			return c.readRaw(p)
		}
		have := len(g.buf)
		if cap(g.buf)-have < gateRoom {
			g.buf = append(make([]byte, 0, 2*have+readChunk), g.buf...)
		}
		n, err = c.readRaw(g.buf[have:cap(g.buf)])
		g.buf = g.buf[:have+n]
		if c.readErr = err; n == 0 {
			return 0, err
		}
	}
}

// gateRoom is the least room for a read, in bytes.
const gateRoom = 1 << 10

// readRaw reads what comes: first what was read ahead.
func (c *conn) readRaw(p []byte) (int, error) {
	c.mu.Lock()
	for c.watching {
		c.read.Wait()
	}
	if len(c.ahead) > 0 {
		n := copy(p, c.ahead)
		c.ahead = c.ahead[n:]
		c.mu.Unlock()
		return n, nil
	}
	err := c.aheadErr
	c.aheadErr = nil
	c.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return c.TCPConn.Read(p)
}

// Write implements net.Conn: the client must take something of each piece within WriteIdle.
func (c *conn) Write(p []byte) (int, error) {
	done := 0
	for {
		c.TCPConn.SetWriteDeadline(time.Now().Add(time.Duration(c.e.opt.Limits.WriteIdle)))
		n, err := c.TCPConn.Write(p[done:])
		done += n
		if err == nil {
			return done, nil
		}
		if n == 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			c.resets.Store(true) // what the client has is not the whole response
			return done, err
		}
	}
}

// SetWriteDeadline implements net.Conn. Time limits of writes are Write's.
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error { return c.TCPConn.SetReadDeadline(t) }

// watch looks whether the client goes away while nothing is read from it: it reads one byte ahead, as net/http does. The
// end of the client's half means nothing; gone is called when the connection is broken.
func (c *conn) watch(gone func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.watching || len(c.ahead) > 0 || c.aheadErr != nil {
		return
	}
	c.watching = true
	c.TCPConn.SetReadDeadline(time.Time{})
	go func() {
		var b [1]byte
		n, err := c.TCPConn.Read(b[:])
		c.mu.Lock()
		c.ahead = append(c.ahead[:0], b[:n]...)
		c.aheadErr = err
		c.watching = false
		c.read.Broadcast()
		c.mu.Unlock()
		if err != nil && isConnError(err) {
			gone()
		}
	}()
}

// isConnError reports whether err means that a connection is of no more use in either direction.
func isConnError(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ETIMEDOUT) ||
		errors.Is(err, net.ErrClosed)
}

// Close implements net.Conn. Where the client may still be sending, the response would be lost if the connection were
// simply closed, so its bytes are taken for a while (RFC 9112 section 9.6).
func (c *conn) Close() error {
	c.closed.Do(func() {
		switch {
		case c.resets.Load():
			c.TCPConn.SetLinger(0)
		case c.lingers.Load():
			c.linger()
		}
		c.TCPConn.Close()
		c.e.forget(c)
	})
	return nil
}

func (c *conn) linger() {
	limits := &c.e.opt.Limits
	c.gate.state, c.gate.err = gateOpen, nil
	c.TCPConn.CloseWrite()
	c.TCPConn.SetReadDeadline(time.Now().Add(time.Duration(limits.LingerTime)))
	io.CopyN(io.Discard, struct{ io.Reader }{c}, limits.LingerBytes)
}

// cut ends the connection at once, also when it lingers.
func (c *conn) cut() {
	c.lingers.Store(false)
	c.TCPConn.Close()
	c.Close()
}

// http2Preface begins a connection of a client that knows that HTTP/2 is spoken here (RFC 9113 section 3.4).
const http2Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// sniffBytesMax bounds what is read before a server gets the connection: a PROXY protocol header of version 2 (its own
// bound) and the preface of HTTP/2.
const sniffBytesMax = 4 << 10

// open reads the PROXY protocol header if there is to be one, and enough to tell HTTP/2 from HTTP/1. What it read stays
// ahead. An error means that the connection is to be closed without an answer.
func (c *conn) open(proxyHeader bool) (http2 bool, err error) {
	c.TCPConn.SetReadDeadline(time.Now().Add(time.Duration(c.e.opt.Limits.HeadTimeout)))
	buf := make([]byte, 0, sniffBytesMax)
	for {
		n, err := c.TCPConn.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if n == 0 && err != nil {
			return false, err
		}
		if proxyHeader {
			source, n, result := proxyproto.Parse(buf)
			switch result {
			case proxyproto.Bad:
				return false, errProxyHeader
			case proxyproto.Done:
				proxyHeader = false
				if source.IsValid() {
					c.peer = c.core.exchange.NewPeer(source.Addr(), c.peer.Scheme, c.peer.Port)
				}
				buf = buf[n:]
			}
		}
		if !proxyHeader && len(buf) > 0 {
			n := min(len(buf), len(http2Preface))
			if matches := string(buf[:n]) == http2Preface[:n]; !matches || n == len(http2Preface) {
				c.ahead = buf
				return matches, nil
			}
		}
		if len(buf) == cap(buf) {
			return false, errProxyHeader
		}
	}
}

var errProxyHeader = errors.New("no PROXY protocol header where one must be")
