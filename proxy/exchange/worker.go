package exchange

import (
	"net/netip"

	"rauta.io/rauta/proxy/certs"
	"rauta.io/rauta/proxy/clock"
	"rauta.io/rauta/proxy/filter"
	"rauta.io/rauta/proxy/list"
	"rauta.io/rauta/proxy/message"
	"rauta.io/rauta/proxy/observe"
	"rauta.io/rauta/proxy/snapshot"
	"rauta.io/rauta/proxy/trace"
	"rauta.io/rauta/proxy/upstream"
)

// freeMax bounds the exchanges that a worker keeps for reuse; more than that many at once are garbage collected after.
const freeMax = 1024

// headKeepMax is the largest copy of a head, in bytes, that an exchange keeps for its next request: usual heads fit, and
// clients that send large ones can't make a worker hold on to freeMax of those.
const headKeepMax = 4 << 10

// Settings are the process-wide settings of the pipeline.
type Settings struct {
	// TrustedProxies are the peers whose X-Forwarded-*, Forwarded and X-Request-Id fields are kept and extended.
	TrustedProxies []netip.Prefix
	// Propagation makes requests part of traces; nil for not at all, then what clients say about traces passes as it is.
	Propagation *trace.Propagation
	// TracesOfTrusted: only what TrustedProxies say about traces is believed.
	TracesOfTrusted bool
}

// Trusts reports whether a peer may speak for the client.
func (s *Settings) Trusts(a netip.Addr) bool {
	for _, p := range s.TrustedProxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// Worker is what the exchanges of one event loop share. Fields are set once, before the first New.
type Worker struct {
	Settings *Settings
	Live     *snapshot.Live
	Clock    *clock.Wheel
	Upstream *upstream.Worker
	Shard    *observe.Shard
	// WallClock returns Unix nanoseconds, HTTPDate the Date field's value (RFC 9110 section 5.6.7); both may be as old
	// as the current turn.
	WallClock func() int64
	HTTPDate  func() []byte

	// Draining asks every response to close its connection; set on the worker's thread.
	Draining bool
	// Shed is what to save on while memory is short; set on the worker's thread.
	Shed Shed

	tunnels        list.List[tunnel] // that are open, in no order
	closingTunnels bool              // CloseTunnels was called

	replays replays
	mirrors mirrors

	scratch []byte // room for body filters; it grows with the largest piece that an engine reads
	random  uint64 // xorshift state
	active  int
	ended   uint64
	free    *Exchange
	frees   int

	freeSpans      *spans
	freeSpansCount int

	host [hostBytesMax]byte
}

// Shed says how much load to shed.
type Shed uint8

// Levels of shedding.
const (
	ShedNothing   Shed = iota
	ShedKeepAlive      // connections close after their response
	ShedRequests       // requests are answered 503, too
)

// closes reports whether responses have to close their connection.
func (w *Worker) closes() bool { return w.Draining || w.Shed >= ShedKeepAlive }

// hostBytesMax is the longest host name that can match (RFC 1035 section 2.3.4: 255 octets).
const hostBytesMax = 256

// Active is the number of exchanges under way.
func (w *Worker) Active() int { return w.active }

// Finished is the number of exchanges that have come to an end.
func (w *Worker) Finished() uint64 { return w.ended }

// New returns an exchange whose Req is empty.
func (w *Worker) New(down Downstream, peer *Peer) *Exchange {
	x := w.free
	if x != nil {
		w.free, x.next = x.next, nil
		w.frees--
	} else {
		x = &Exchange{w: w}
		x.limits.timer.Fire = x.onDeadline
		x.attempt.waiter.Sink = x
		x.Req.Fields = make([]message.Field, 0, 32)
	}
	x.down, x.peer = down, peer
	w.active++
	return x
}

// Discard returns an exchange that was never started.
func (x *Exchange) Discard() { x.w.put(x) }

func (w *Worker) put(x *Exchange) {
	w.active--
	w.ended++
	x.Req.Reset()
	if x.own.Status != 0 {
		x.own.Reset()
	}
	x.down, x.peer, x.rule, x.backend = nil, nil, nil, nil
	if x.body != nil {
		x.body = nil
	}
	if x.crossOrigin.Applies() {
		x.crossOrigin = filter.CrossOrigin{}
	}
	x.attempt.endpoint, x.attempt.pool, x.attempt.stream, x.attempt.waiting = nil, nil, nil, false
	x.attempt.retired = false
	x.unsent, x.ended = 0, ""
	x.phase, x.requestEnded, x.continueSent, x.grpc = phaseHead, false, false, message.NotGRPC
	if x.tunnel != nil {
		x.tunnel = nil
	}
	if x.trailers != nil {
		x.trailers = nil
	}
	if x.spans != nil {
		w.putSpans(x.spans)
		x.spans = nil
	}
	x.dropReplay()
	x.replay.gone = false
	x.limits.reset()
	x.resetRecord()
	if cap(x.head) > headKeepMax {
		x.head = nil
	}
	if w.frees < freeMax {
		x.next, w.free = w.free, x
		w.frees++
		return
	}
	w.Clock.Remove(&x.limits.timer)
}

// rand is xorshift64*: enough to spread load and to tell requests apart, not for secrets.
func (w *Worker) rand() uint64 {
	if w.random == 0 {
		w.random = uint64(w.WallClock())*2 + 1 + uint64(w.Upstream.ID)<<32
	}
	w.random ^= w.random >> 12
	w.random ^= w.random << 25
	w.random ^= w.random >> 27
	return w.random * 0x2545f4914f6cdd1d
}

// hostOf returns the host of an authority in lower case, without port and without a trailing dot. The result is valid
// until the next call.
func (w *Worker) hostOf(authority []byte) []byte {
	host := authority
	for i := len(host) - 1; i >= 0; i-- {
		c := host[i]
		if c == ':' {
			host = host[:i]
			break
		}
		if c < '0' || c > '9' {
			break
		}
	}
	if n := len(host); n > 1 && host[n-1] == '.' {
		host = host[:n-1]
	}
	if len(host) > hostBytesMax {
		return nil
	}
	for i, c := range host {
		if 'A' <= c && c <= 'Z' {
			lowered := w.host[:copy(w.host[:], host)]
			for ; i < len(lowered); i++ {
				if c := lowered[i]; 'A' <= c && c <= 'Z' {
					lowered[i] = c | 0x20
				}
			}
			return lowered
		}
	}
	return host
}

// Peer is what an engine knows about a client connection; it lives as long as the connection.
type Peer struct {
	// Client is the address of the client: of the TCP peer, or what the PROXY protocol said.
	Client netip.Addr
	// ClientText is Client as text.
	ClientText string
	// Trusted: Client is one of Settings.TrustedProxies.
	Trusted bool
	Scheme  message.Scheme
	// ServerName is what the client asked for in the TLS handshake, in lower case; empty without TLS, or if it named none.
	// Requests for hosts of other listeners are answered 421 (RFC 9110 section 15.5.20).
	ServerName string
	Port       *PortRef
	// Protocol is what the access log calls the protocol, such as "HTTP/1.1".
	Protocol string
	// Identity is what the TLS handshake has shown; nil without TLS.
	Identity *certs.Identity
	// Queued is for how many nanoseconds the connection has waited to be accepted; its first request takes it over.
	Queued int64

	fixed *fixedFields // of an untrusted peer
	// admitted is the last generation of the port where requests for ServerName may come over this connection: its number, because
	// a connection that rests would keep the whole in memory. 0 for none.
	admitted uint64
	// outdated: clients of ServerName are asked for something else by now. The client has to come back on another connection.
	outdated bool
}

// Outdated reports whether the client should come back on another connection, because this one was made before clients were
// asked for what they are asked for now.
func (p *Peer) Outdated() bool { return p.outdated }

// misdirected reports whether a request for host belongs on another connection: see snapshot.Port.Misdirected. It is asked
// once for a generation while requests are for the name that the handshake was for.
func (p *Peer) misdirected(port *snapshot.Port, host []byte) bool {
	own := string(host) == p.ServerName
	if own && p.admitted == port.Generation {
		return false
	}
	var realm *certs.Realm
	if p.Identity != nil {
		realm = p.Identity.Realm
	}
	if port.Misdirected(realm, p.ServerName, host) {
		p.outdated = p.outdated || own
		return true
	}
	if own {
		p.admitted = port.Generation
	}
	return false
}

// NewPeer describes a connection.
func (w *Worker) NewPeer(client netip.Addr, scheme message.Scheme, port *PortRef) Peer {
	client = client.Unmap()
	p := Peer{
		Client: client, ClientText: client.String(), Trusted: w.Settings.Trusts(client), Scheme: scheme, Port: port,
		Protocol: "HTTP/1.1",
	}
	if !p.Trusted {
		p.fixed = fixedOf(&p)
	}
	return p
}

// PortRef resolves a bound address to the current generation's Port, one look-up per generation and worker.
type PortRef struct {
	addr     netip.AddrPort
	snapshot *snapshot.Snapshot
	port     *snapshot.Port
}

// NewPortRef returns a reference for connections that were accepted on addr, a snapshot.Port's Addr. It belongs to one
// worker.
func NewPortRef(addr netip.AddrPort) *PortRef { return &PortRef{addr: addr} }

// Current returns the port as s has it, nil if s has none at the address.
func (r *PortRef) Current(s *snapshot.Snapshot) *snapshot.Port {
	if r.snapshot != s {
		r.snapshot, r.port = s, nil
		for _, p := range s.Ports {
			if p.Addr == r.addr {
				r.port = p
			}
		}
	}
	return r.port
}
