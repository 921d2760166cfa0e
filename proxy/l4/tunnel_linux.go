package l4

import (
	"cmp"
	"errors"
	"net/netip"

	"rauta.io/rauta/proxy/certs"
	"rauta.io/rauta/proxy/clock"
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/list"
	"rauta.io/rauta/proxy/loop"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/snapshot"
	"rauta.io/rauta/proxy/upstream"
)

// probeAfter, in nanoseconds, is how old a tunnel gets before the kernel has to look whether its back end is still there:
// short connections are spared the four system calls for that.
const probeAfter = 30e9

// tunnel is one forwarded connection: a client's, and one to a back end.
type tunnel struct {
	// Immutable.
	e      *Engine
	route  *snapshot.L4Route // nil: refused
	client netip.Addr
	began  clock.Time
	// decrypted: see Accepted.
	decrypted bool

	// Owned by the worker.
	place     list.Node[tunnel]
	down, up  side
	timer     clock.Timer // of the connect, later of silence
	idle      clock.Time  // how long both sides may be silent; not above 0: for ever
	last      clock.Time  // when something moved
	probed    bool        // the kernel looks after the connection to the back end
	cluster   *upstream.Cluster
	endpoint  *upstream.Endpoint
	pool      *upstream.Pool // where room is reserved; nil: nowhere
	connected bool
	splices   bool // both sides are plain, so that bytes may stay in the kernel
	done      bool
	counters  *observe.L4Counters // of the route
	backend   *observe.L4Counters // of the endpoint, once connected
	record    observe.L4Record
}

// begin chooses a back end and connects.
func (t *tunnel) begin() {
	if t.route == nil {
		t.refuse(reasonNoRoute)
		return
	}
	b := t.route.Pick(t.e.upstream.Random())
	switch {
	case b == nil:
		t.refuse(reasonNoBackend)
		return
	case b.Cluster == nil:
		t.refuse(reasonInvalidBackend)
		return
	}
	t.cluster = b.Cluster
	t.e.upstream.CountRequest()
	t.connect(nil, reasonNoEndpoint)
}

// connect tries an endpoint, if possible another than failed, and goes on to further ones as long as the budget of retries
// permits. reason is why the last one could not be had.
func (t *tunnel) connect(failed *upstream.Endpoint, reason string) {
	for {
		if t.record.Attempts >= attemptsMax || t.record.Attempts > 0 && !t.e.upstream.AllowRetry() {
			t.refuse(reason)
			return
		}
		e := t.cluster.Pick(t.e.upstream, hashKey(t.cluster, t.client), failed)
		if e == nil || e == failed {
			t.refuse(reason)
			return
		}
		t.endpoint = e
		t.record.Attempts++
		t.record.Endpoint, t.record.EndpointAddr = e.Stats, e.Name
		if reason = t.dial(); reason == "" {
			return
		}
		failed = e
	}
}

// dial begins to connect to the endpoint; it returns why it can't.
func (t *tunnel) dial() (reason string) {
	pool := t.endpoint.Pool(t.e.upstream)
	if !pool.Reserve() {
		t.e.shard.L4Endpoint(t.endpoint.Stats).Refused(reasonOverflow)
		return reasonOverflow
	}
	conn, err := t.e.loop.ConnectTo(t.endpoint.Addr, t.endpoint.Stats, &t.up)
	if err != nil {
		t.endpoint.Report(t.e.upstream, false)
		t.e.shard.L4Endpoint(t.endpoint.Stats).Refused(reasonConnectFailed)
		pool.Unreserve()
		return reasonConnectFailed
	}
	t.pool, t.up.conn = pool, conn
	t.e.loop.Wheel().Set(&t.timer, t.e.loop.Now()+clock.Time(t.cluster.ConnectTimeout()))
	return ""
}

// hashKey is the key of consistent hashing. Of what a cluster can hash, a connection has the client's address only.
func hashKey(c *upstream.Cluster, client netip.Addr) uint64 {
	if on := c.HashOn(); on == nil || on.Kind != config.HashSourceIP {
		return 0
	}
	a := client.As16()
	return upstream.HashKey(a[:])
}

// onConnecting handles events before the back end is reached.
func (t *tunnel) onConnecting(s *side, ev loop.Events) {
	if s == &t.down {
		s.readable = s.readable || ev&(loop.Readable|loop.HangUp) != 0
		s.hangUp = s.hangUp || ev&loop.HangUp != 0
		if ev&loop.Error != 0 { // a reset: whoever only closes his half still waits for an answer
			t.cut(reasonClientReset)
		}
		return
	}
	err := s.conn.ConnectResult()
	switch {
	case errors.Is(err, loop.ErrConnecting):
		return
	case err != nil:
		t.connectFailed(reasonConnectFailed)
		return
	}
	if t.decrypted && t.endpoint.TLS != nil {
		t.encrypt()
		return
	}
	s.hangUp = ev&loop.HangUp != 0
	s.readable = ev&(loop.Readable|loop.HangUp|loop.Error) != 0
	t.established()
}

// encrypt makes the handshake with the back end, within the time for connecting. Nobody knows what is inside, so no
// protocol is offered (ALPN).
func (t *tunnel) encrypt() {
	config := t.endpoint.TLS.Config(t.endpoint.Name, "")
	config.NextProtos = nil
	deadline := t.timer.Deadline()
	t.e.loop.Wheel().Set(&t.timer, 0)
	t.up.conn.StartTLS(loop.TLSOptions{Client: true, Config: config, Deadline: deadline, Done: func(c *loop.Conn, err error) {
		switch {
		case errors.Is(err, loop.ErrHandshakeTimeout):
			t.connectFailed(reasonConnectTimeout)
		case err != nil:
			t.connectFailed(cmp.Or(certs.Problem(err), reasonHandshakeFailed))
		default:
			c.SetHandler(&t.up)
			t.established()
		}
	}})
}

// established begins to forward.
func (t *tunnel) established() {
	t.connected = true
	t.splices = !t.down.conn.Secured() && !t.up.conn.Secured()
	t.endpoint.Report(t.e.upstream, true)
	t.record.ConnectedAt = max(int64(t.e.loop.Now()-t.began), 1)
	t.backend = t.e.shard.L4Endpoint(t.endpoint.Stats)
	t.backend.Opened()
	if t.idle = clock.Time(t.route.IdleTimeout); t.idle == 0 {
		t.idle = idleTimeoutDefault
	}
	t.last = t.e.loop.Now()
	t.armIdle()
	if t.up.flush() {
		t.down.pump()
	}
	if !t.done {
		t.up.pump()
	}
}

// connectFailed gives an endpoint up.
func (t *tunnel) connectFailed(reason string) {
	t.up.conn.Close()
	t.up.conn = nil
	t.endpoint.Report(t.e.upstream, false)
	t.e.shard.L4Endpoint(t.endpoint.Stats).Refused(reason)
	t.unreserve()
	t.connect(t.endpoint, reason)
}

func (t *tunnel) unreserve() {
	if pool := t.pool; pool != nil {
		t.pool = nil
		pool.Unreserve()
	}
}

// moved puts the idle timeout off: the timer finds out when it fires.
func (t *tunnel) moved() { t.last = t.e.loop.Now() }

func (t *tunnel) onTimer(now clock.Time) {
	t.e.loop.Blame(t.down.conn)
	defer t.e.loop.Blame(nil)
	switch {
	case !t.connected:
		t.connectFailed(reasonConnectTimeout)
		return
	case t.idle > 0 && now >= t.last+t.idle && (t.up.blocked() || t.down.blocked()):
		t.cut(reasonIdle) // what waits is lost, which must show
		return
	case t.idle > 0 && now >= t.last+t.idle:
		t.end(reasonIdle)
		return
	}
	if !t.probed && now >= t.began+probeAfter {
		t.probed = true
		t.up.conn.KeepAlive()
	}
	t.armIdle()
}

// armIdle makes the timer fire when it has something to do.
func (t *tunnel) armIdle() {
	next := clock.Time(0)
	if t.idle > 0 {
		next = t.last + t.idle
	}
	if probe := t.began + probeAfter; !t.probed && (next == 0 || probe < next) {
		next = probe
	}
	t.e.loop.Wheel().Set(&t.timer, next)
}

// count books what was received from the client and given to it.
func (t *tunnel) count(s *side, n int) {
	in, out := n, 0
	if s == &t.up {
		in, out = 0, n
	}
	t.record.BytesIn += int64(in)
	t.record.BytesOut += int64(out)
	t.counters.Bytes(in, out)
	if t.backend != nil {
		t.backend.Bytes(in, out)
	}
}

// quietAfter, in nanoseconds, is how long nothing must have moved for nothing to be under way: bytes on their way through a
// network take less.
const quietAfter = 1e9

// underWay reports whether a transfer seems to be in progress.
func (t *tunnel) underWay() bool {
	return !t.connected || t.up.blocked() || t.down.blocked() || t.e.loop.Now() < t.last+quietAfter
}

// refuse turns the client away: it sees a reset, so that it does not take this for an answer.
func (t *tunnel) refuse(reason string) { t.cut(reason) }

// cut breaks off: whoever is still there sees a reset, as the other side did.
func (t *tunnel) cut(reason string) {
	t.down.conn.Reset()
	if t.up.conn != nil {
		t.up.conn.Reset()
	}
	t.end(reason)
}

// end closes both sides and is the only exit.
func (t *tunnel) end(reason string) {
	if t.done {
		return
	}
	t.done = true
	e := t.e
	e.loop.Wheel().Remove(&t.timer)
	e.tunnels.Remove(&t.place)
	t.down.release()
	t.up.release()
	e.shard.ConnClosed()
	t.counters.Closed(reason)
	if t.backend != nil {
		t.backend.Closed(reason)
	}
	t.record.Reason, t.record.Client = reason, t.client
	t.record.EndAt = int64(e.loop.Now() - t.began)
	e.shard.LogL4(&t.record)
	t.unreserve()
}
