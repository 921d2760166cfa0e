package l4

import (
	"net/netip"

	"rauta.io/rauta/proxy/list"
	"rauta.io/rauta/proxy/loop"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/snapshot"
	"rauta.io/rauta/proxy/upstream"
)

const (
	// idleTimeoutDefault, in nanoseconds, is that of Envoy's TCP proxy: longer than the keep-alive of most protocols.
	idleTimeoutDefault = 3600e9
	// attemptsMax is how many endpoints are tried for one connection: its client waits meanwhile.
	attemptsMax = 3
)

// Protocols, as the access log calls them.
const (
	ProtocolTCP = "TCP"
	ProtocolTLS = "TLS"
	protocolUDP = "UDP"
)

// Reasons for which a connection ends. They are tokens of metrics and the access log.
const (
	reasonClosed         = "closed"     // both sides were done
	reasonNoRoute        = "no_route"   // nothing is configured for it
	reasonNoBackend      = "no_backend" // the route's weights sum to 0
	reasonInvalidBackend = "invalid_backend"
	reasonNoEndpoint     = "no_endpoint"
	reasonOverflow       = "overflow" // every endpoint has as many connections as it may have
	reasonConnectFailed  = "connect_failed"
	reasonConnectTimeout = "connect_timeout"
	// reasonHandshakeFailed: with the back end; certs.Problem may know more.
	reasonHandshakeFailed = "tls_handshake_failed"
	reasonClientReset     = "client_reset"
	reasonBackendReset    = "backend_reset"
	reasonIdle            = "idle_timeout"
	reasonDrained         = "drained" // the process ends
	reasonInternal        = "internal_error"
)

// Reasons of flows and dropped datagrams, besides.
const (
	reasonRefused      = "refused"       // nobody listens at the endpoint
	reasonEvicted      = "evicted"       // for a newer one, at the limit
	reasonRouteChanged = "route_changed" // its back end is no longer one of the route's
	reasonRetired      = "endpoint_removed"
	reasonNoSocket     = "no_socket"
	reasonLoop         = "loop"         // it claims to come from the listener itself, or from no port
	reasonBackendFull  = "backend_full" // the socket to the back end takes no more
	reasonClientFull   = "client_full"  // the listening socket takes no more
	reasonTooLarge     = "too_large"    // for the way to the endpoint

	reasonClientUnreachable = "client_unreachable"
	reasonReceiveBuffer     = "receive_buffer" // they came faster than the worker received them
)

// Engine forwards on one worker.
type Engine struct {
	// Immutable.
	loop     *loop.Worker
	upstream *upstream.Worker
	shard    *observe.Shard
	unix     func() int64

	live     *snapshot.Live
	flowsMax int

	// Owned by the worker.
	tunnels list.List[tunnel]
	flows   flowTable
}

// Options are what the engine of a worker works with.
type Options struct {
	Loop     *loop.Worker
	Upstream *upstream.Worker
	Shard    *observe.Shard
	Live     *snapshot.Live
	// Unix returns Unix nanoseconds, which may be as old as the turn.
	Unix func() int64
	// FlowsMax bounds the UDP flows of this worker; 0 means FlowsMaxDefault.
	FlowsMax int
}

// NewEngine returns the engine of one worker.
func NewEngine(o Options) *Engine {
	if o.FlowsMax <= 0 {
		o.FlowsMax = FlowsMaxDefault
	}
	return &Engine{loop: o.Loop, upstream: o.Upstream, shard: o.Shard, unix: o.Unix, live: o.Live, flowsMax: o.FlowsMax}
}

// Tunnels is the number of connections that are being forwarded.
func (e *Engine) Tunnels() int { return e.tunnels.Len() }

// Flows is the number of UDP flows.
func (e *Engine) Flows() int { return e.flows.len() }

// Cut ends everything at once, for the end of a drain. Tunnels in which nothing is under way see an orderly end, the others
// a reset: what is cut off in the middle must not look complete.
func (e *Engine) Cut() {
	for e.tunnels.Len() > 0 {
		if t := e.tunnels.Back().Item; t.underWay() {
			t.cut(reasonDrained)
		} else {
			t.end(reasonDrained)
		}
	}
	for f := e.flows.oldest(); f != nil; f = e.flows.oldest() {
		f.end(reasonDrained)
	}
}

// Retire forgets the flows to an endpoint that left its set: datagrams know no end, and would go there for ever.
// Connections stay.
func (e *Engine) Retire(gone *upstream.Endpoint) { e.flows.retire(gone) }

// Accepted is a client connection whose route is known.
type Accepted struct {
	Conn   *loop.Conn
	Client netip.Addr
	// Protocol is ProtocolTCP or ProtocolTLS.
	Protocol string
	// Route takes the connection; nil refuses it, with Farewell as the last that the client hears.
	Route    *snapshot.L4Route
	Farewell []byte
	// ServerName is what a TLS client asked for.
	ServerName string
	// Decrypted: what comes is what was inside TLS, and goes on as the back end wants it, in TLS again if it says so.
	Decrypted bool
	// Received are bytes of the client for the back end that were read already. They are copied.
	Received []byte
}

// Serve forwards a connection. The engine closes it.
func (e *Engine) Serve(a Accepted) {
	t := &tunnel{e: e, route: a.Route, client: a.Client, decrypted: a.Decrypted, began: e.loop.Now()}
	t.record.ReceivedAt = e.unix()
	t.record.Protocol, t.record.ServerName = a.Protocol, []byte(a.ServerName)
	t.down, t.up = side{t: t, other: &t.up, conn: a.Conn, chunk: chunkMin}, side{t: t, other: &t.down, chunk: chunkMin}
	t.timer.Fire = t.onTimer
	t.place.Item = t
	e.tunnels.PushFront(&t.place)
	e.shard.ConnOpened()
	if a.Route != nil {
		t.record.Route = a.Route.Stats
	}
	t.counters = e.shard.L4Route(t.record.Route)
	t.counters.Opened()
	if len(a.Received) > 0 {
		t.up.waiting = append(e.loop.GetBuffer(len(a.Received)), a.Received...)
		t.count(&t.down, len(a.Received))
	}
	a.Conn.SetHandler(&t.down)
	if a.Route == nil && a.Farewell != nil {
		a.Conn.Write(a.Farewell)
		t.end(reasonNoRoute)
		return
	}
	t.begin()
}
