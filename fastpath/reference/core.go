package reference

import (
	"net/netip"
	"sync"
	"time"

	"rauta.io/rauta/proxy/clock"
	"rauta.io/rauta/proxy/exchange"
	"rauta.io/rauta/proxy/upstream"
)

// core stands for one event loop: everything of proxy/exchange and proxy/upstream that belongs to one worker, and the
// lock that makes the goroutine which holds it that worker's thread.
type core struct {
	// Immutable.
	e        *Engine
	exchange *exchange.Worker

	mu sync.Mutex

	// Guarded by mu.
	wheel    *clock.Wheel
	ports    map[netip.AddrPort]*exchange.PortRef
	backends map[*backendConn]struct{}
	stopped  bool
	date     []byte
	dateAt   int64 // Unix seconds
}

func newCore(e *Engine, id int) *core {
	c := &core{
		e: e, wheel: clock.NewWheel(e.now()), ports: map[netip.AddrPort]*exchange.PortRef{},
		backends: map[*backendConn]struct{}{},
	}
	c.exchange = &exchange.Worker{
		Settings: e.opt.Settings, Live: e.opt.Live, Clock: c.wheel, Shard: e.opt.Registry.Shard(id),
		WallClock: func() int64 { return time.Now().UnixNano() },
		HTTPDate:  c.httpDate,
	}
	c.exchange.Upstream = upstream.NewWorker(id, c.wheel, c, uint64(time.Now().UnixNano())+uint64(id)<<56)
	c.exchange.Upstream.Shard = c.exchange.Shard
	return c
}

// do runs f as the worker's thread; f must not block.
func (c *core) do(f func()) {
	c.lock()
	defer c.mu.Unlock()
	f()
}

// lock makes the caller the worker's thread. The clock is read once per turn of it, as on a loop.
func (c *core) lock() {
	c.mu.Lock()
	c.wheel.SetNow(c.e.now())
}

// tick runs the timers that are due.
func (c *core) tick() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wheel.Advance(c.e.now())
}

// port returns the reference to the port that connections were accepted on.
func (c *core) port(addr netip.AddrPort) *exchange.PortRef {
	ref := c.ports[addr]
	if ref == nil {
		ref = exchange.NewPortRef(addr)
		c.ports[addr] = ref
	}
	return ref
}

// httpDateLayout is IMF-fixdate (RFC 9110 section 5.6.7).
const httpDateLayout = "Mon, 02 Jan 2006 15:04:05 GMT"

func (c *core) httpDate() []byte {
	now := time.Now()
	if sec := now.Unix(); sec != c.dateAt || c.date == nil {
		c.dateAt, c.date = sec, now.UTC().AppendFormat(c.date[:0], httpDateLayout)
	}
	return c.date
}
