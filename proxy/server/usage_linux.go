package server

import "sync"

// Usage implements metered.
func (p *loopPlane) Usage() Usage {
	var mu sync.Mutex
	var u Usage
	_ = p.onEach(func(w *loopWorker) error {
		mu.Lock()
		defer mu.Unlock()
		u.Clients += w.engine.Conns() + w.http2.Conns() + w.l4.Tunnels() + w.loop.Handshakes()
		u.Exchanges += w.exchange.Active()
		u.Flows += w.l4.Flows()
		u.Buffers += w.loop.BuffersOut()
		u.Upstream += w.exchange.Upstream.Connections()
		return nil
	})
	return u
}
