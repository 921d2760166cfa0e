package server

import (
	"net/netip"

	"rauta.io/rauta/proxy/clock"
	"rauta.io/rauta/proxy/loop"
	"rauta.io/rauta/proxy/proxyproto"
)

// greeting takes the PROXY header off a connection before anybody else reads from it. It implements loop.Handler.
type greeting struct {
	// Immutable.
	w    *loopWorker
	conn *loop.Conn
	next func(client netip.Addr, received []byte)

	// Owned by the worker.
	received []byte
	timer    clock.Timer
}

// greet calls next with the address of the client, and with what came behind the PROXY header if the port asks for one.
// A connection without it, or from somebody who may not send one, is closed; so is one whose header takes until deadline.
func (w *loopWorker) greet(conn *loop.Conn, port *openPort, deadline clock.Time, next func(client netip.Addr, received []byte)) {
	client := conn.RemoteAddr().Addr()
	if len(port.proxyFrom) == 0 {
		next(client, nil)
		return
	}
	if !contains(port.proxyFrom, client) {
		conn.Close()
		return
	}
	g := &greeting{w: w, conn: conn, next: next}
	g.timer.Fire = g.onDeadline
	w.loop.Wheel().Set(&g.timer, deadline)
	conn.SetHandler(g)
}

func contains(networks []netip.Prefix, a netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// greetingReadBytes is the most that is read at a time: a PROXY header and a ClientHello fit in.
const greetingReadBytes = 8 << 10

// OnEvent implements loop.Handler.
func (g *greeting) OnEvent(loop.Events) {
	for {
		buf := g.w.loop.ReadBuffer()[:greetingReadBytes]
		n, st := g.conn.Read(buf)
		switch st {
		case loop.Again:
			return
		case loop.EOF, loop.Failed:
			g.close()
			return
		}
		g.received = append(g.received, buf[:n]...)
		source, used, result := proxyproto.Parse(g.received)
		switch result {
		case proxyproto.Bad:
			g.close()
			return
		case proxyproto.Done:
			client := g.conn.RemoteAddr().Addr()
			if source.IsValid() {
				client = source.Addr()
			}
			g.w.loop.Wheel().Remove(&g.timer)
			g.next(client, g.received[used:])
			return
		}
	}
}

func (g *greeting) onDeadline(clock.Time) {
	g.w.loop.Blame(g.conn)
	g.close()
	g.w.loop.Blame(nil)
}

func (g *greeting) close() {
	g.w.loop.Wheel().Remove(&g.timer)
	g.conn.Close()
}
