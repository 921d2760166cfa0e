package server

import (
	"net/netip"
	"strings"

	"rauta.io/rauta/proxy/certs"
	"rauta.io/rauta/proxy/clock"
	"rauta.io/rauta/proxy/l4"
	"rauta.io/rauta/proxy/loop"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/snapshot"
)

// secureConn is a client connection on a port with TLS, before its first request. A PROXY header, if there has to be one,
// the handshake and the first head share one deadline.
type secureConn struct {
	// Immutable.
	w    *loopWorker
	conn *loop.Conn
	port *openPort
	opt  loop.TLSOptions

	// Owned by the worker.
	client netip.Addr
}

// secure begins the life of a connection on a port with TLS.
func (w *loopWorker) secure(conn *loop.Conn, port *openPort) {
	s := &secureConn{w: w, conn: conn, port: port}
	s.opt = loop.TLSOptions{
		Config: port.tls.Config(), Examine: port.tls.Examine, Quick: port.tls.Quick(), Deadline: conn.AcceptedAt() + clock.Time(w.headTimeout), Done: s.done,
	}
	if port.names != nil {
		s.opt.Hello = s.hello
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
	serverName := strings.ToLower(state.ServerName)
	if s.forwarded(serverName) {
		return
	}
	peer := s.w.exchange.NewPeer(s.client, message.SchemeHTTPS, s.port.ref)
	peer.ServerName = serverName
	peer.Identity, _ = state.Examined.(*certs.Identity)
	if state.Protocol == "h2" {
		peer.Protocol = "HTTP/2"
		s.w.exchange.Shard.ConnOpened()
		s.w.http2.Serve(conn, peer, nil)
	} else {
		s.w.engine.ServePeer(conn, peer)
	}
}

// unrecognizedName is the alert for a server name that nobody has (RFC 6066 section 3), as a record: fatal, 112.
var unrecognizedName = []byte{21, 3, 3, 0, 2, 2, 112}

// hello decides by the server name of a ClientHello. What can't be read is left to the handshake, which knows better and
// is asked again by done.
func (s *secureConn) hello(serverName string, known bool) func(*loop.Conn, []byte) {
	if !known {
		return nil
	}
	serverName = strings.ToLower(serverName)
	names := s.w.refresh(s.port).names
	if names == nil {
		return nil // the port has changed meanwhile
	}
	handling, route := names.Hello([]byte(serverName))
	if handling == snapshot.Terminate {
		return nil
	}
	return func(conn *loop.Conn, received []byte) {
		a := s.accepted(conn, serverName, route)
		switch {
		case handling == snapshot.PassThrough:
			a.Received = received
		case names.Terminates: // elsewhere nobody speaks TLS to clients, and a reset is all there is to say
			a.Farewell = unrecognizedName
		}
		s.w.l4.Serve(a)
	}
}

// forwarded takes a connection after its handshake if it belongs to a route, or to nobody.
func (s *secureConn) forwarded(serverName string) bool {
	names := s.w.refresh(s.port).names
	if names == nil {
		return false
	}
	handling, route := names.Hello([]byte(serverName))
	if handling == snapshot.Terminate && route == nil {
		return false
	}
	if handling != snapshot.Terminate {
		route = nil // what was decrypted is not for who wants it as it was
	}
	a := s.accepted(s.conn, serverName, route)
	a.Decrypted = true
	s.w.l4.Serve(a)
	return true
}

func (s *secureConn) accepted(conn *loop.Conn, serverName string, route *snapshot.L4Route) l4.Accepted {
	return l4.Accepted{Conn: conn, Client: s.client.Unmap(), Protocol: l4.ProtocolTLS, ServerName: serverName, Route: route}
}
