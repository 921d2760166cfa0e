package server

import (
	"net/netip"
	"strings"

	"rauta.io/rauta/proxy/clock"
	"rauta.io/rauta/proxy/exchange"
	"rauta.io/rauta/proxy/loop"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/proxyproto"
)

// secureConn is a client connection on a port with TLS, before its first request: a PROXY header, if there has to be
// one, then the handshake. All of it, and the first head, share one deadline. It implements loop.Handler while it waits
// for the header.
type secureConn struct {
	// Immutable.
	w    *loopWorker
	conn *loop.Conn
	port *exchange.PortRef
	opt  loop.TLSOptions

	// Owned by the worker.
	client   netip.Addr
	received []byte
	timer    clock.Timer
}

// secure begins the life of a connection on a port with TLS.
func (w *loopWorker) secure(conn *loop.Conn, port *openPort) {
	s := &secureConn{w: w, conn: conn, port: port.ref, client: conn.RemoteAddr().Addr()}
	s.opt = loop.TLSOptions{
		Config: port.tls.Config(), Deadline: conn.AcceptedAt() + clock.Time(w.headTimeout), Done: s.done,
	}
	if len(port.proxyFrom) == 0 {
		conn.StartTLS(s.opt)
		return
	}
	if !contains(port.proxyFrom, s.client) {
		conn.Close()
		return
	}
	s.timer.Fire = s.onDeadline
	w.loop.Wheel().Set(&s.timer, s.opt.Deadline)
	conn.SetHandler(s)
}

func contains(networks []netip.Prefix, a netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// OnEvent implements loop.Handler: it takes the PROXY header off.
func (s *secureConn) OnEvent(loop.Events) {
	for {
		buf := s.w.loop.ReadBuffer()[:proxyReadBytes]
		n, st := s.conn.Read(buf)
		switch st {
		case loop.Again:
			return
		case loop.EOF, loop.Failed:
			s.close()
			return
		}
		s.received = append(s.received, buf[:n]...)
		source, used, result := proxyproto.Parse(s.received)
		switch result {
		case proxyproto.Bad:
			s.close()
			return
		case proxyproto.Done:
			if source.IsValid() {
				s.client = source.Addr()
			}
			s.w.loop.Wheel().Remove(&s.timer)
			s.opt.Received = s.received[used:]
			s.conn.StartTLS(s.opt)
			return
		}
	}
}

// proxyReadBytes is the most that is read at a time before the handshake: a PROXY header and a ClientHello fit in.
const proxyReadBytes = 8 << 10

func (s *secureConn) onDeadline(clock.Time) {
	s.w.loop.Blame(s.conn)
	s.close()
	s.w.loop.Blame(nil)
}

func (s *secureConn) close() {
	s.w.loop.Wheel().Remove(&s.timer)
	s.conn.Close()
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
