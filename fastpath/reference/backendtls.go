package reference

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"

	"rauta.io/rauta/proxy/certs"
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/upstream"
)

// secure makes the handshake that an endpoint asks for, if it does. Only HTTP/1.1 is offered, because that is all that is
// spoken to back ends here; snapshots have no clusters that insist on HTTP/2. It returns nil after a failure.
func (e *Engine) secure(nc *net.TCPConn, endpoint *upstream.Endpoint, deadline time.Time) (transport, upstream.Failure) {
	if endpoint.TLS == nil {
		return nc, upstream.Failure{}
	}
	ctx, cancel := context.WithDeadline(e.ctx, deadline)
	defer cancel()
	conn := tls.Client(rawConn{nc}, endpoint.TLS.Config(endpoint.Name, config.BackendHTTP1))
	err := conn.HandshakeContext(ctx)
	if err == nil {
		return conn, upstream.Failure{}
	}
	nc.Close()
	switch {
	case e.ctx.Err() != nil:
		return nil, dialFailure(context.Canceled)
	case errors.Is(err, context.DeadlineExceeded):
		return nil, dialFailure(err)
	}
	return nil, upstream.Failure{Stage: upstream.StageConnect, Cause: upstream.CauseTLS, Detail: certs.Problem(err), Err: err}
}

// rawConn is what is below TLS. An end there is none that the back end has sent in TLS, which crypto/tls does not tell apart:
// somebody in between can make a FIN, but no close_notify.
type rawConn struct{ *net.TCPConn }

var errTruncated = errors.New("the connection ended without close_notify")

// Read implements net.Conn.
func (c rawConn) Read(p []byte) (int, error) {
	n, err := c.TCPConn.Read(p)
	if err == io.EOF {
		err = errTruncated
	}
	return n, err
}

// end closes the transport. close_notify may block, and is only for connections that nothing is under way on: what was
// given up must not look complete.
func (b *backendConn) end(idle bool) {
	conn, secured := b.nc.(*tls.Conn)
	switch {
	case !secured:
		b.nc.Close()
	case idle:
		b.core.e.running.Go(func() { conn.Close() })
	default:
		conn.NetConn().Close()
	}
}
