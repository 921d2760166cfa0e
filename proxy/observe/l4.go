package observe

import (
	"net/netip"
	"sync/atomic"
)

const (
	// l4ReasonsMax and l4DropsMax are the numbers of different reasons for which connections end and datagrams are dropped;
	// they are constants of the program.
	l4ReasonsMax = 24
	l4DropsMax   = 16
)

// L4Counters are what one worker counts for the forwarded connections and flows of one route, or of one endpoint. The
// worker is the only writer.
type L4Counters struct {
	opened, closed            atomic.Uint64
	bytesIn, bytesOut         atomic.Uint64
	datagramsIn, datagramsOut atomic.Uint64
	reasons                   [l4ReasonsMax]atomic.Pointer[reasonCount]
	drops                     [l4DropsMax]atomic.Pointer[reasonCount]
	_                         [64]byte // the next allocation is not on our last cache line
}

// Opened counts a connection or flow that has begun; Closed that it is over, and why.
func (c *L4Counters) Opened() { c.opened.Add(1) }

// Closed is called once after Opened.
func (c *L4Counters) Closed(reason string) {
	c.closed.Add(1)
	countReason(c.reasons[:], reason, 1)
}

// Refused counts a connection that never came to be.
func (c *L4Counters) Refused(reason string) { countReason(c.reasons[:], reason, 1) }

// Bytes counts what was received from the client and sent to it.
func (c *L4Counters) Bytes(in, out int) {
	if in > 0 {
		c.bytesIn.Add(uint64(in))
	}
	if out > 0 {
		c.bytesOut.Add(uint64(out))
	}
}

// Datagrams likewise.
func (c *L4Counters) Datagrams(in, out int) {
	if in > 0 {
		c.datagramsIn.Add(uint64(in))
	}
	if out > 0 {
		c.datagramsOut.Add(uint64(out))
	}
}

// Dropped counts datagrams that were not forwarded.
func (c *L4Counters) Dropped(reason string, n int) {
	countReason(c.drops[:], reason, uint64(n))
}

// countReason finds the reason's counter by a scan: there are few, and string comparison of equal constants is a length
// and a pointer. The last place is for whatever exceeds the bound.
func countReason(list []atomic.Pointer[reasonCount], name string, n uint64) {
	for i := range list {
		c := list[i].Load()
		if c == nil {
			if i == len(list)-1 {
				name = nameOther
			}
			list[i].CompareAndSwap(nil, &reasonCount{name: name})
			c = list[i].Load()
		}
		if c.name == name || i == len(list)-1 {
			c.n.Add(n)
			return
		}
	}
}

// L4Record is what one forwarded connection or flow leaves behind for the access log.
type L4Record struct {
	// Route is nil when none was found, Endpoint the last one that was tried.
	Route    *Route
	Endpoint *Endpoint
	// Protocol is "TCP", "TLS" or "UDP".
	Protocol string
	// Reason says why it ended; "closed" is the orderly end of a connection.
	Reason string
	// ServerName is what a TLS client asked for.
	ServerName []byte
	// Client is the address of the client, or what the PROXY protocol said.
	Client netip.Addr
	// ReceivedAt is when it began, in nanoseconds since the Unix epoch; ConnectedAt and EndAt are nanoseconds after that.
	// ConnectedAt is 0 if no back end was reached.
	ReceivedAt, ConnectedAt, EndAt int64
	// Attempts is the number of endpoints tried.
	Attempts                  int
	BytesIn, BytesOut         int64
	DatagramsIn, DatagramsOut int64
	// EndpointAddr is logged when there is no Endpoint.
	EndpointAddr string
}

// L4Route returns the counters of a route on this worker; nil stands for connections that no route takes.
func (s *Shard) L4Route(rt *Route) *L4Counters {
	if rt == nil {
		rt = s.registry.none
	}
	c := rt.l4.Load()
	if c == nil {
		c = s.registry.useL4Route(rt)
	}
	return c.of(s.worker)
}

// L4Endpoint returns the counters of an endpoint on this worker; nil stands for one that has no handle.
func (s *Shard) L4Endpoint(e *Endpoint) *L4Counters {
	if e == nil {
		e = s.registry.otherEP
	}
	c := e.l4.Load()
	if c == nil {
		c = s.registry.useL4Endpoint(e)
	}
	return c.of(s.worker)
}

// reasonClosed is the orderly end of a connection.
const reasonClosed = "closed"

// LogL4 logs a connection or flow when there is a log for it.
func (s *Shard) LogL4(rec *L4Record) {
	if ring := s.ring.Load(); ring != nil && !ring.l4Line(rec) {
		s.logDropped.Add(1)
	}
	if rec.Reason != reasonClosed {
		if ring := s.errorRing.Load(); ring != nil && !ring.l4Line(rec) {
			s.logDropped.Add(1)
		}
	}
}

// useL4Route returns the L4 counters of a route that forwards for the first time. Whether it has series of its own is
// decided once for all layers.
func (r *Registry) useL4Route(rt *Route) *cells[L4Counters] {
	if rt.cells.Load() == nil {
		r.useRoute(rt)
	}
	r.usedMu.Lock()
	defer r.usedMu.Unlock()
	if c := rt.l4.Load(); c != nil {
		return c
	}
	c := r.other.l4.Load()
	if rt.cells.Load() != r.other.cells.Load() {
		c = newCells[L4Counters](len(r.shards))
	}
	rt.l4.Store(c)
	return c
}

// useL4Endpoint is useL4Route for endpoints.
func (r *Registry) useL4Endpoint(e *Endpoint) *cells[L4Counters] {
	if e.cells.Load() == nil {
		r.useEndpoint(e)
	}
	r.usedMu.Lock()
	defer r.usedMu.Unlock()
	if c := e.l4.Load(); c != nil {
		return c
	}
	c := r.otherEP.l4.Load()
	if e.cells.Load() != r.otherEP.cells.Load() {
		c = newCells[L4Counters](len(r.shards))
	}
	e.l4.Store(c)
	return c
}

// l4Line appends the line of one connection or flow and tells whether it fitted.
func (r *logRing) l4Line(rec *L4Record) bool {
	if r.log.closed.Load() {
		return false
	}
	r.scratch = appendL4Line(r.scratch[:0], rec, &r.clock)
	return r.put(r.scratch)
}

// appendL4Line appends the access log line of a connection or flow, with all fields in a fixed order and its line feed.
func appendL4Line(dst []byte, rec *L4Record, clock *clockText) []byte {
	dst = append(dst, `{"time":"`...)
	dst = clock.append(dst, rec.ReceivedAt)
	dst = append(dst, `","client":"`...)
	if rec.Client.IsValid() {
		dst = rec.Client.WithZone("").AppendTo(dst)
	}
	dst = appendString(dst, `","protocol":"`, rec.Protocol)
	dst = appendString(dst, `","server_name":"`, rec.ServerName)
	dst = appendPlace(dst, &Record{Route: rec.Route, Endpoint: rec.Endpoint, EndpointAddr: rec.EndpointAddr})
	dst = appendString(dst, `","reason":"`, rec.Reason)
	dst = appendInt(dst, `","attempts":`, int64(rec.Attempts))
	dst = appendInt(dst, `,"bytes_in":`, rec.BytesIn)
	dst = appendInt(dst, `,"bytes_out":`, rec.BytesOut)
	if rec.Protocol == "UDP" {
		dst = appendInt(dst, `,"datagrams_in":`, rec.DatagramsIn)
		dst = appendInt(dst, `,"datagrams_out":`, rec.DatagramsOut)
	}
	dst = appendInt(dst, `,"upstream_connect_us":`, rec.ConnectedAt/1e3)
	dst = appendInt(dst, `,"duration_us":`, rec.EndAt/1e3)
	return append(dst, '}', '\n')
}
