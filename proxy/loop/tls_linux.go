package loop

import (
	"crypto/tls"
	"errors"

	"rauta.io/rauta/proxy/clock"
)

// Errors of TLS connections, besides those of crypto/tls.
var (
	// ErrTruncated: the peer closed the TCP connection without saying so in TLS first (close_notify, RFC 8446 section
	// 6.1). What was received may not be all that was sent.
	ErrTruncated = errors.New("the connection ended without close_notify: what was received may be incomplete")
	// ErrHandshakeTimeout: TLSOptions.Deadline passed before the handshake was complete.
	ErrHandshakeTimeout = errors.New("the TLS handshake took too long")
	// ErrHandshakeEvicted: handshakesMax were under way, and this was the oldest.
	ErrHandshakeEvicted = errors.New("too many TLS handshakes at once: the oldest was given up")
)

// TLSOptions says how a connection becomes a TLS connection.
type TLSOptions struct {
	// Config is used as it is; set DynamicRecordSizingDisabled in it, since small records cost more than they gain behind a
	// loop that sends once per turn.
	Config *tls.Config
	// Client makes us the side that begins.
	Client bool
	// Quick says that computing takes well below a millisecond, so that it may be done on the worker's thread; of a client's
	// handshake it is ignored.
	Quick bool
	// Received are bytes that were already read from the socket. They are copied.
	Received []byte
	// Deadline on the worker's clock; 0 means none. The connection is closed when it passes before the end.
	Deadline clock.Time
	// Hello, if set, is called once on the side that is connected to, on the worker's thread, when the ClientHello has come
	// and before anything is computed. The name is as the client wrote it and empty if it named none; known is false if what came
	// can't be read, which the handshake will refuse. A function that it returns takes the connection over: the handshake is
	// off, nothing was sent, and received is all that has come, valid during the call.
	Hello func(serverName string, known bool) (take func(c *Conn, received []byte))
	// Examine, if set, is called when the handshake is complete, on its goroutine and not on the worker's thread: so it may
	// take its time. What it returns is TLSState.Examined.
	Examine func(tls.ConnectionState) any
	// Done is called once, on the worker's thread: with nil, then it sets the connection's handler, which gets Readable
	// as soon as there is something to read; or with the reason of the failure, then the connection has been closed. It is not called after
	// Close or Reset, nor when Hello has given the connection away.
	Done func(c *Conn, err error)
}

// TLSState is what is known about a TLS connection after its handshake.
type TLSState struct {
	// ServerName is what the client asked for (RFC 6066 section 3): lower or mixed case, empty if it named none.
	ServerName string
	// Protocol is what both sides agreed on (ALPN, RFC 7301), such as "h2"; empty if nothing.
	Protocol string
	// Version and CipherSuite are the numbers of crypto/tls.
	Version, CipherSuite uint16
	// Resumed: the session was taken up again without a certificate.
	Resumed bool
	// Examined is what TLSOptions.Examine has returned.
	Examined any
}

// StartTLS begins the handshake. The connection belongs to the loop until Done: it has no other handler, and is neither
// read nor written from outside.
func (c *Conn) StartTLS(opt TLSOptions) {
	c.w.owner.check()
	if c.closed {
		return
	}
	w := c.w
	c.LocalAddr() // asked for now: a callback of the configuration may want it on another thread
	h := &handshake{
		c: c, opt: opt, list: &w.handshakes, tokens: w.group.computing, in: append([]byte(nil), opt.Received...),
		resume: make(chan struct{}, 1), aborted: make(chan struct{}),
	}
	if opt.Client {
		h.list, h.tokens = &w.dialled, w.group.dialling
	}
	h.opt.Received = nil
	h.opt.Quick = opt.Quick && !opt.Client
	h.mail.To = h
	h.timer.Fire = h.onDeadline
	c.shake = h
	h.place.Item = h
	h.list.PushBack(&h.place)
	w.countsChanged = true
	w.wheel.Set(&h.timer, opt.Deadline)
	c.SetHandler(h)
	if opt.Client {
		h.readable = true // the event that told of the connect may have told of bytes too, or of the end
		h.start()
	} else {
		h.readable = c.slot != noSlot // before that, the first event tells
		h.receive()
	}
	if h.list.Len() > h.list.max {
		h.list.Front().Item.fail(ErrHandshakeEvicted)
	}
}

// TLS returns what is known about a TLS connection; ok is false for a plain one and before the end of the handshake.
func (c *Conn) TLS() (state TLSState, ok bool) {
	if c.tls == nil {
		return TLSState{}, false
	}
	s := c.tls.conn.ConnectionState()
	return TLSState{
		ServerName: s.ServerName, Protocol: s.NegotiatedProtocol, Version: s.Version, CipherSuite: s.CipherSuite,
		Resumed: s.DidResume, Examined: c.tls.examined,
	}, true
}

// Secured says whether the connection is a TLS connection with its handshake behind it.
func (c *Conn) Secured() bool { return c.tls != nil }

// AcceptedAt is when the connection was accepted, or connected, by the worker's clock.
func (c *Conn) AcceptedAt() clock.Time { return c.began }

// CloseHandshakes gives up to n handshakes with clients up, the oldest first, and returns how many: for OnPressure.
func (w *Worker) CloseHandshakes(n int) int {
	w.owner.check()
	closed := 0
	for closed < n && w.handshakes.Len() > 0 {
		w.handshakes.Front().Item.fail(ErrHandshakeEvicted)
		closed++
	}
	return closed
}

// Handshakes is the number of TLS handshakes with clients under way.
func (w *Worker) Handshakes() int { return w.handshakes.Len() }
