package l4

import (
	"errors"
	"net/netip"
	"syscall"

	"rauta.io/rauta/proxy/clock"
	"rauta.io/rauta/proxy/list"
	"rauta.io/rauta/proxy/loop"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/snapshot"
	"rauta.io/rauta/proxy/upstream"
)

// udpIdleTimeoutDefault, in nanoseconds, is that of Envoy's UDP proxy.
const udpIdleTimeoutDefault = 60e9

// flow is the datagrams between one client and one endpoint. It implements loop.Handler for the socket to the endpoint,
// whose port is how answers find their client.
type flow struct {
	// Immutable.
	e        *Engine
	l        *UDPListener
	key      flowKey
	cluster  *upstream.Cluster
	endpoint *upstream.Endpoint
	pool     *upstream.Pool // where room is reserved
	sock     *loop.UDPSocket
	began    clock.Time

	// Owned by the worker.
	place    list.Node[flow] // in the flow table
	route    *snapshot.L4Route
	idle     clock.Time // 0: for ever
	timer    clock.Timer
	answered bool
	done     bool
	counters *observe.L4Counters // of the route
	backend  *observe.L4Counters // of the endpoint
	record   observe.L4Record
}

// open begins a flow; without one it says why.
func (l *UDPListener) open(key flowKey) (f *flow, reason string) {
	e, route := l.e, l.route
	switch {
	case key.remote.Port() == 0 || key.remote == netip.AddrPortFrom(key.local, l.addr.Port()):
		// An answer would come back as a question, for ever (CVE-2024-2169).
		return nil, reasonLoop
	case route == nil:
		return nil, reasonNoRoute
	}
	b := route.Pick(e.upstream.Random())
	switch {
	case b == nil:
		return nil, reasonNoBackend
	case b.Cluster == nil:
		return nil, reasonInvalidBackend
	}
	endpoint := b.Cluster.Pick(e.upstream, hashKey(b.Cluster, key.remote.Addr()), nil)
	if endpoint == nil {
		return nil, reasonNoEndpoint
	}
	if e.flows.len() >= e.flowsMax {
		e.flows.oldest().end(reasonEvicted)
	}
	pool := endpoint.Pool(e.upstream)
	if !pool.Reserve() {
		return nil, reasonOverflow
	}
	f = &flow{e: e, l: l, key: key, cluster: b.Cluster, endpoint: endpoint, pool: pool, began: e.loop.Now()}
	sock, err := e.loop.ConnectUDP(endpoint.Addr, f)
	if err != nil {
		endpoint.Report(e.upstream, false)
		pool.Unreserve()
		return nil, reasonNoSocket
	}
	f.sock = sock
	f.timer.Fire = f.onIdle
	f.serve(route)
	f.record = observe.L4Record{
		Route: route.Stats, Endpoint: endpoint.Stats, EndpointAddr: endpoint.Name, Protocol: protocolUDP,
		Client: key.remote.Addr(), ReceivedAt: e.unix(), Attempts: 1,
	}
	f.backend = e.shard.L4Endpoint(endpoint.Stats)
	f.counters.Opened()
	f.backend.Opened()
	f.place.Item = f
	e.flows.silent.PushFront(&f.place)
	l.flows[key] = f
	return f, ""
}

// serve makes route the one that the flow is for.
func (f *flow) serve(route *snapshot.L4Route) {
	f.route = route
	f.counters = f.e.shard.L4Route(route.Stats)
	if f.idle = clock.Time(route.IdleTimeout); f.idle == 0 {
		f.idle = udpIdleTimeoutDefault
	}
}

// adopt makes the flow one of a newer version of its route, if its back end is still one of that.
func (f *flow) adopt(route *snapshot.L4Route) bool {
	if route == nil || route.Name != f.route.Name {
		return false
	}
	for i := range route.Backends {
		if b := &route.Backends[i]; b.Weight > 0 && b.Cluster != nil && b.Cluster.Name() == f.cluster.Name() {
			f.serve(route)
			return true
		}
	}
	return false
}

// forward sends datagrams of the client to the endpoint.
func (f *flow) forward(from, to int) {
	for from < to {
		sent, st := f.sock.Forward(from, to)
		bytes := f.bytes(from, from+sent)
		f.record.BytesIn += int64(bytes)
		f.record.DatagramsIn += int64(sent)
		f.counters.Bytes(bytes, 0)
		f.counters.Datagrams(sent, 0)
		f.backend.Bytes(bytes, 0)
		from += sent
		switch {
		case st == loop.Again:
			f.counters.Dropped(reasonBackendFull, to-from)
			from = to
		case st == loop.Failed && tooLarge(f.sock):
			f.counters.Dropped(reasonTooLarge, 1)
			from++
		case st == loop.Failed:
			f.counters.Dropped(reasonRefused, to-from)
			f.fail()
			return
		}
	}
	f.touch()
}

// tooLarge reports whether a datagram was refused because the way to its target takes no such large one; others may pass.
func tooLarge(s *loop.UDPSocket) bool { return errors.Is(s.Conn().Err(), syscall.EMSGSIZE) }

// OnEvent implements loop.Handler: the endpoint has answered, or refuses.
func (f *flow) OnEvent(ev loop.Events) {
	if ev&(loop.Readable|loop.HangUp|loop.Error) == 0 {
		return
	}
	for range batchesMax {
		if f.done {
			return
		}
		n, st := f.sock.Receive()
		switch st {
		case loop.Again:
			return
		case loop.Failed:
			f.fail()
			return
		}
		f.answer(n)
		if n < loop.DatagramsMax {
			return
		}
	}
	f.sock.Conn().Ready(loop.Readable)
}

// answer sends what the endpoint has sent to the client, from the address that the client wrote to.
func (f *flow) answer(n int) {
	if !f.answered {
		f.e.flows.heard(f)
		f.endpoint.Report(f.e.upstream, true)
		f.record.ConnectedAt = max(int64(f.e.loop.Now()-f.began), 1)
	}
	for at := 0; at < n; {
		sent, st := f.l.sock.ForwardTo(at, n, f.key.remote, f.key.local)
		bytes := f.bytes(at, at+sent)
		f.record.BytesOut += int64(bytes)
		f.record.DatagramsOut += int64(sent)
		f.counters.Bytes(0, bytes)
		f.counters.Datagrams(0, sent)
		f.backend.Bytes(0, bytes)
		at += sent
		switch st {
		case loop.Again:
			f.counters.Dropped(reasonClientFull, n-at)
			at = n
		case loop.Failed: // this one; the socket belongs to all
			f.counters.Dropped(reasonClientUnreachable, 1)
			at++
		}
	}
	f.touch()
}

// bytes is the length of datagrams of the last batch.
func (f *flow) bytes(from, to int) (n int) {
	for i := from; i < to; i++ {
		n += len(f.e.loop.Datagram(i))
	}
	return n
}

// touch puts the idle timeout off.
func (f *flow) touch() {
	f.e.flows.used(f)
	if f.idle > 0 {
		f.e.loop.Wheel().Set(&f.timer, f.e.loop.Now()+f.idle)
	} else {
		f.e.loop.Wheel().Set(&f.timer, 0)
	}
}

// fail ends the flow because its endpoint can't be reached; the next datagram of the client begins another.
func (f *flow) fail() {
	f.endpoint.Report(f.e.upstream, false)
	f.end(reasonRefused)
}

func (f *flow) onIdle(clock.Time) { f.end(reasonIdle) }

// end is the only exit.
func (f *flow) end(reason string) {
	if f.done {
		return
	}
	f.done = true
	f.e.loop.Wheel().Remove(&f.timer)
	f.e.flows.list(f).Remove(&f.place)
	delete(f.l.flows, f.key)
	f.sock.Close()
	f.counters.Closed(reason)
	f.backend.Closed(reason)
	f.record.Reason = reason
	f.record.EndAt = int64(f.e.loop.Now() - f.began)
	f.e.shard.LogL4(&f.record)
	f.pool.Unreserve()
}
