package l4

import (
	"net/netip"

	"rauta.io/rauta/proxy/loop"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/snapshot"
)

// batchesMax is how many batches of datagrams one socket receives before others have their turn.
const batchesMax = 4

// UDPListener is the socket of one worker for the datagrams of clients. It implements loop.Handler.
type UDPListener struct {
	// Immutable.
	e    *Engine
	addr netip.AddrPort
	sock *loop.UDPSocket

	// Owned by the worker.
	flows    map[flowKey]*flow
	snapshot *snapshot.Snapshot // the one that route is of
	route    *snapshot.L4Route  // nil: nobody takes the datagrams
	// overflows of the socket that were counted.
	overflows uint32
}

// flowKey is what makes a flow: who sent its datagrams, and to which address of ours.
type flowKey struct {
	remote netip.AddrPort
	local  netip.Addr
}

// ListenUDP opens a socket for an address of the snapshot's UDPPorts.
func (e *Engine) ListenUDP(addr netip.AddrPort) (*UDPListener, error) {
	l := &UDPListener{e: e, addr: addr, flows: map[flowKey]*flow{}}
	sock, err := e.loop.ListenUDP(addr, l)
	if err != nil {
		return nil, err
	}
	l.sock = sock
	l.Refresh() // seen now, should it go before its first datagram
	return l, nil
}

// Close ends the socket and its flows.
func (l *UDPListener) Close() {
	for _, f := range l.flows {
		f.end(reasonDrained)
	}
	l.sock.Close()
}

// Refresh takes the route of the current generation; an address that has gone keeps its last one until it is closed.
func (l *UDPListener) Refresh() {
	s := l.e.live.Current()
	if s == l.snapshot {
		return
	}
	l.snapshot = s
	for _, p := range s.UDPPorts {
		if p.Addr == l.addr {
			l.route = p.Route
		}
	}
}

// OnEvent implements loop.Handler.
func (l *UDPListener) OnEvent(loop.Events) {
	l.Refresh()
	for range batchesMax {
		n, st := l.sock.Receive()
		if st == loop.Failed {
			continue // the error of one datagram that was sent; what has come is behind it
		}
		if st != loop.OK {
			return
		}
		for from := 0; from < n; {
			remote, local := l.sock.Route(from)
			to := from + 1
			for to < n {
				if r, at := l.sock.Route(to); r != remote || at != local {
					break
				}
				to++
			}
			l.take(flowKey{remote, local}, from, to)
			from = to
		}
		l.countOverflows()
		if n < loop.DatagramsMax {
			return
		}
	}
	l.sock.Conn().Ready(loop.Readable)
}

// countOverflows books what came faster than this worker could receive it.
func (l *UDPListener) countOverflows() {
	if n := l.sock.Overflows(); n != l.overflows {
		l.counters().Dropped(reasonReceiveBuffer, int(n-l.overflows))
		l.overflows = n
	}
}

// take forwards datagrams of one client.
func (l *UDPListener) take(key flowKey, from, to int) {
	f := l.flows[key]
	if f != nil && f.route != l.route && !f.adopt(l.route) {
		f.end(reasonRouteChanged)
		f = nil
	}
	if f == nil {
		var reason string
		if f, reason = l.open(key); f == nil {
			l.counters().Dropped(reason, to-from)
			return
		}
	}
	f.forward(from, to)
}

// counters are those of the route.
func (l *UDPListener) counters() *observe.L4Counters {
	if l.route == nil {
		return l.e.shard.L4Route(nil)
	}
	return l.e.shard.L4Route(l.route.Stats)
}
