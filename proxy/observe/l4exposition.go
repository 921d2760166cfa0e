package observe

// l4Sum is the sum of several workers' counters, as read by a scrape.
type l4Sum struct {
	open                      float64
	bytesIn, bytesOut         uint64
	datagramsIn, datagramsOut uint64
	reasons, drops            map[string]uint64
}

// sumL4 adds up what all workers count; ok is false if none of them does.
func sumL4(c *cells[L4Counters]) (sum l4Sum, ok bool) {
	if c == nil {
		return sum, false
	}
	sum.reasons, sum.drops = map[string]uint64{}, map[string]uint64{}
	for i := range c.byWorker {
		n := c.byWorker[i].Load()
		if n == nil {
			continue
		}
		ok = true
		closed := n.closed.Load() // before opened: what ends meanwhile must not make the difference negative
		sum.open += float64(n.opened.Load() - closed)
		sum.bytesIn += n.bytesIn.Load()
		sum.bytesOut += n.bytesOut.Load()
		sum.datagramsIn += n.datagramsIn.Load()
		sum.datagramsOut += n.datagramsOut.Load()
		for j := range n.reasons {
			if one := n.reasons[j].Load(); one != nil {
				sum.reasons[one.name] += one.n.Load()
			}
		}
		for j := range n.drops {
			if one := n.drops[j].Load(); one != nil {
				sum.drops[one.name] += one.n.Load()
			}
		}
	}
	return sum, ok
}

// l4Series are the series of one route or endpoint.
type l4Series struct {
	labels string
	sum    l4Sum
}

// writeL4 writes what is counted for forwarded connections and flows.
func (r *Registry) writeL4(x *exposition, routes []activeRoute, endpoints []*Endpoint) {
	var of, to []l4Series
	for _, rt := range routes {
		if sum, ok := sumL4(rt.l4.Load()); ok {
			of = append(of, l4Series{rt.labels, sum})
		}
	}
	for _, e := range endpoints {
		if sum, ok := sumL4(e.l4.Load()); ok {
			to = append(to, l4Series{x.label("", "cluster", e.key.Cluster) + "," + x.label("", "endpoint", e.key.Address), sum})
		}
	}
	x.l4Gauge("rauta_l4_connections", of)
	x.l4Counters("rauta_l4_connections_total", "reason", of, func(s *l4Sum) map[string]uint64 { return s.reasons })
	x.l4Counters("rauta_l4_bytes_total", "direction", of, (*l4Sum).bytes)
	x.l4Counters("rauta_l4_datagrams_total", "direction", of, (*l4Sum).datagrams)
	x.l4Counters("rauta_l4_datagrams_dropped_total", "reason", of, func(s *l4Sum) map[string]uint64 { return s.drops })
	x.l4Gauge("rauta_l4_backend_connections", to)
	x.l4Counters("rauta_l4_backend_connections_total", "reason", to, func(s *l4Sum) map[string]uint64 { return s.reasons })
	x.l4Counters("rauta_l4_backend_bytes_total", "direction", to, (*l4Sum).bytes)
}

func (s *l4Sum) bytes() map[string]uint64 {
	return map[string]uint64{"in": s.bytesIn, "out": s.bytesOut}
}

func (s *l4Sum) datagrams() map[string]uint64 {
	if s.datagramsIn+s.datagramsOut == 0 {
		return nil
	}
	return map[string]uint64{"in": s.datagramsIn, "out": s.datagramsOut}
}

func (x *exposition) l4Gauge(name string, list []l4Series) {
	if !x.family(name) {
		return
	}
	for i := range list {
		x.single(name+"{"+list[i].labels+"}", list[i].sum.open)
	}
}

func (x *exposition) l4Counters(name, label string, list []l4Series, values func(*l4Sum) map[string]uint64) {
	if !x.family(name) {
		return
	}
	for i := range list {
		x.counters(name, list[i].labels+",", label, values(&list[i].sum))
	}
}
