package server

import (
	"net/netip"
	"strings"

	"rauta.io/rauta/proxy/clock"
	"rauta.io/rauta/proxy/exchange"
	"rauta.io/rauta/proxy/loop"
	"rauta.io/rauta/proxy/message"
)

// secureConn is a client connection on a port with TLS, before its first request. A PROXY header, if there has to be one,
// the handshake and the first head share one deadline.
type secureConn struct {
	// Immutable.
	w    *loopWorker
	conn *loop.Conn
	port *exchange.PortRef
	opt  loop.TLSOptions

	// Owned by the worker.
	client netip.Addr
}

// secure begins the life of a connection on a port with TLS.
func (w *loopWorker) secure(conn *loop.Conn, port *openPort) {
	s := &secureConn{w: w, conn: conn, port: port.ref}
	s.opt = loop.TLSOptions{
		Config: port.tls.Config(), Deadline: conn.AcceptedAt() + clock.Time(w.headTimeout), Done: s.done,
	}
	w.greet(conn, port, s.opt.Deadline, s.begin)
}

// begin starts the handshake.
func (s *secureConn) begin(client netip.Addr, received []byte) {
	s.client, s.opt.Received = client, received
	s.conn.StartTLS(s.opt)
}

// done hands the connection to an engine; the loop has counted and closed it if the handshake failed.
func (s *secureConn) done(conn *loop.Conn, err error) {
	if err != nil {
		return
	}
	state, _ := conn.TLS()
	peer := s.w.exchange.NewPeer(s.client, message.SchemeHTTPS, s.port)
	peer.ServerName = strings.ToLower(state.ServerName)
	if state.Protocol == "h2" {
		peer.Protocol = "HTTP/2"
		s.w.exchange.Shard.ConnOpened()
		s.w.http2.Serve(conn, peer, nil)
	} else {
		s.w.engine.ServePeer(conn, peer)
	}
}
