package observe

import (
	"cmp"
	"io"
	"slices"
	"sort"
	"strings"
	"time"
)

// Label is one label of an info metric.
type Label struct{ Name, Value string }

// hook is a metric whose value is asked for at each scrape.
type hook struct {
	name   string // without labels
	series string // with them
	kind   string // when the table does not have it
	value  func() float64
	labels func() []Label // info metrics
	each   func(emit func(value float64, labels ...Label))
	// distributions are histograms with labels.
	distributions func(emit func(d *Distribution, labels ...Label))
	// histograms are those with bounds of their own.
	histograms func(emit func(h *BoundedHistogram, labels ...Label))
	// durations is a histogram.
	durations *histogram
	ordinal   int // of registration, to keep labels of one name in order
}

// Gauge registers a value that each scrape asks for. name may carry labels in exposition syntax. f must not block.
// A name that is registered again replaces the former function.
func (r *Registry) Gauge(name string, f func() float64) {
	r.register(hook{series: name, kind: "gauge", value: f})
}

// Counter is Gauge for a value that only grows.
func (r *Registry) Counter(name string, f func() float64) {
	r.register(hook{series: name, kind: "counter", value: f})
}

// Info registers a gauge that is always 1 and whose labels each scrape asks for. f must not block.
func (r *Registry) Info(name string, f func() []Label) {
	r.register(hook{series: name, kind: "gauge", labels: f})
}

// Gauges registers a gauge with as many series as each scrape finds: f calls emit once for each of them. f must not block.
func (r *Registry) Gauges(name string, f func(emit func(value float64, labels ...Label))) {
	r.register(hook{series: name, kind: "gauge", each: f})
}

// Durations registers a histogram and returns what adds to it, for any goroutine. name has no labels.
func (r *Registry) Durations(name string) func(time.Duration) {
	h := &histogram{}
	r.register(hook{series: name, kind: "histogram", durations: h})
	return func(d time.Duration) { h.add(int64(d)) }
}

func (r *Registry) register(h hook) {
	h.name, _, _ = strings.Cut(h.series, "{")
	r.hooksMu.Lock()
	defer r.hooksMu.Unlock()
	for i := range r.hooks {
		if r.hooks[i].series == h.series {
			h.ordinal = i
			r.hooks[i] = h
			return
		}
	}
	h.ordinal = len(r.hooks)
	r.hooks = append(r.hooks, h)
}

// WritePrometheus writes all metrics in the Prometheus text format, version 0.0.4. It takes no lock that a worker
// waits for longer than the copy of a slice header. The first error of w ends it silently, as the client is gone then.
// With names it has only these families, or series of histograms, such as "a_seconds" or "a_seconds_sum".
func (r *Registry) WritePrometheus(w io.Writer, names ...string) {
	r.handlesMu.Lock()
	r.sweep(r.now())
	r.handlesMu.Unlock()

	x := newExposition(w, selected(names))
	routes, endpoints := r.activeRoutes(x), r.activeEndpoints()
	r.writeRoutes(x, routes)
	r.writeEndpoints(x, endpoints)
	if x.only.any("rauta_l4_") {
		r.writeL4(x, routes, endpoints)
	}
	r.writeShards(x)
	r.writeHooks(x)
	if x.only.any("go_") {
		writeRuntime(x)
	}
	if x.only.any("process_") {
		writeProcess(x, r.started)
	}
	x.flush()
}

// activeRoute is a route that has series, with its label.
type activeRoute struct {
	*Route
	labels string
}

// activeRoutes returns the routes that have series, sorted so that a page is stable to read and to compress.
func (r *Registry) activeRoutes(x *exposition) []activeRoute {
	r.usedMu.Lock()
	used := r.usedRoutes.list
	r.usedMu.Unlock()
	routes := make([]activeRoute, 0, len(used)+2)
	for _, rt := range append([]*Route{r.none, r.other}, used...) {
		routes = append(routes, activeRoute{rt, x.label("", "route", rt.name)})
	}
	slices.SortFunc(routes, func(a, b activeRoute) int { return strings.Compare(a.name, b.name) })
	return routes
}

// activeEndpoints returns the endpoints that have series, sorted likewise.
func (r *Registry) activeEndpoints() []*Endpoint {
	r.usedMu.Lock()
	endpoints := r.usedEndpoints.list
	r.usedMu.Unlock()
	endpoints = append([]*Endpoint{r.otherEP}, endpoints...)
	slices.SortFunc(endpoints, func(a, b *Endpoint) int {
		return cmp.Or(strings.Compare(a.key.Cluster, b.key.Cluster), strings.Compare(a.key.Address, b.key.Address))
	})
	return endpoints
}

func (r *Registry) writeRoutes(x *exposition, routes []activeRoute) {
	for _, f := range []struct {
		name  string
		write func(*exposition, activeRoute)
	}{
		{"rauta_requests_total", r.writeRouteRequests},
		{"rauta_grpc_requests_total", r.writeRouteGRPC},
		{"rauta_request_duration_seconds", r.writeRouteDuration},
		{"rauta_request_stage_seconds", r.writeRouteStages},
		{"rauta_requests_in_flight", r.writeRouteInFlight},
	} {
		if x.family(f.name) {
			for _, rt := range routes {
				f.write(x, rt)
			}
		}
	}
}

func (r *Registry) writeRouteDuration(x *exposition, rt activeRoute) {
	var sum histogramSum
	c := rt.cells.Load()
	for i := range c.byWorker {
		if cell := c.byWorker[i].Load(); cell != nil {
			sum.include(&cell.duration)
		}
	}
	x.histogram("rauta_request_duration_seconds", rt.labels, &sum, true)
}

// writeRouteRequests writes the counters of one route that are not 0.
func (r *Registry) writeRouteRequests(x *exposition, rt activeRoute) {
	c := rt.cells.Load()
	for m, method := range r.methods {
		var sum [statusClasses]uint64
		for i := range c.byWorker {
			if cell := c.byWorker[i].Load(); cell != nil {
				sumClasses(&sum, cell.methods[m].Load())
			}
		}
		for class, n := range sum {
			if n > 0 {
				x.begin("rauta_requests_total").raw(rt.labels).raw(`,method="`).escape(method).raw(`",code="`)
				x.raw(classLabels[class]).raw(`"`).uint(n)
			}
		}
	}
}

// writeRouteInFlight writes how many exchanges of one route are under way, if it has ever had one.
func (r *Registry) writeRouteInFlight(x *exposition, rt activeRoute) {
	n, used := int64(0), false
	c := rt.cells.Load()
	for i := range c.byWorker {
		if cell := c.byWorker[i].Load(); cell != nil {
			n += cell.inFlight.Load()
			used = true
		}
	}
	if used && rt.Route != r.none {
		x.begin("rauta_requests_in_flight").raw(rt.labels).uint(uint64(max(n, 0)))
	}
}

func (r *Registry) writeEndpoints(x *exposition, endpoints []*Endpoint) {
	if x.family("rauta_backend_requests_total") {
		for _, e := range endpoints {
			writeAnswers(x, e)
		}
	}
	if x.only.any("rauta_backend_") {
		r.writeBackends(x, endpoints)
	}
}

// writeAnswers writes the counters of one endpoint that are not 0.
func writeAnswers(x *exposition, e *Endpoint) {
	var sum [statusClasses]uint64
	c := e.cells.Load()
	for i := range c.byWorker {
		if cell := c.byWorker[i].Load(); cell != nil {
			sumClasses(&sum, &cell.answers)
		}
	}
	for class, n := range sum {
		if n > 0 {
			x.begin("rauta_backend_requests_total").raw(`cluster="`).escape(e.key.Cluster)
			x.raw(`",endpoint="`).escape(e.key.Address).raw(`",code="`).raw(classLabels[class]).raw(`"`).uint(n)
		}
	}
}

func sumClasses(sum *[statusClasses]uint64, c *classCounts) {
	if c == nil {
		return
	}
	for class := range sum {
		sum[class] += c.n[class].Load()
	}
}

// writeShards writes what workers count without a route.
func (r *Registry) writeShards(x *exposition) {
	var opened, closed, retries, in, out, fields, logDropped uint64
	var stall histogramSum
	parse, reasons := map[string]uint64{}, map[string]uint64{}
	for _, s := range r.shards { // all of these first: a connection may end on another shard than it began
		closed += s.connsClosed.Load()
	}
	for _, s := range r.shards {
		opened += s.connsOpened.Load()
		retries += s.retries.Load()
		in += s.bytesIn.Load()
		out += s.bytesOut.Load()
		fields += s.fieldsDropped.Load()
		logDropped += s.logDropped.Load()
		stall.include(&s.stall)
		r.sumParseErrors(parse, s)
		for i := range s.reasons {
			if c := s.reasons[i].Load(); c != nil {
				reasons[c.name] += c.n.Load()
			}
		}
	}
	x.byLabel("rauta_exchange_reasons_total", "reason", reasons)
	x.scalar("rauta_connections", float64(opened-closed))
	x.scalar("rauta_connections_total", float64(opened))
	x.byLabel("rauta_bytes_total", "direction", map[string]uint64{"in": in, "out": out})
	x.scalar("rauta_retries_total", float64(retries))
	x.byLabel("rauta_parse_errors_total", "reason", parse)
	x.scalar("rauta_fields_dropped_total", float64(fields))
	x.byLabel("rauta_http2_resets_total", "way", r.sumResets())
	x.byLabel("rauta_mirrored_requests_total", "result", r.sumMirrors())
	if x.family("rauta_loop_stall_seconds") {
		x.histogram("rauta_loop_stall_seconds", "", &stall, false)
	}
	x.scalar("rauta_access_log_dropped_total", float64(logDropped))
	x.scalar("rauta_access_log_write_errors_total", float64(r.logWriteErrors.Load()))
	r.usedMu.Lock()
	routes, endpoints := len(r.usedRoutes.list), len(r.usedEndpoints.list)
	r.usedMu.Unlock()
	x.scalar("rauta_series_routes", float64(routes))
	x.scalar("rauta_series_endpoints", float64(endpoints))
}

func (r *Registry) sumParseErrors(sum map[string]uint64, s *Shard) {
	var names []string
	if p := r.parseReasons.Load(); p != nil {
		names = *p
	}
	for i := range s.parseErrors {
		if n := s.parseErrors[i].Load(); n > 0 {
			name := nameOther
			if i < len(names) && names[i] != "" {
				name = names[i]
			}
			sum[name] += n
		}
	}
}

// writeHooks writes registered metrics, those of one name together as the format demands.
func (r *Registry) writeHooks(x *exposition) {
	r.hooksMu.Lock()
	hooks := append([]hook(nil), r.hooks...)
	r.hooksMu.Unlock()
	hooks = x.only.keep(hooks)
	sort.SliceStable(hooks, func(i, j int) bool {
		if hooks[i].name != hooks[j].name {
			return hooks[i].name < hooks[j].name
		}
		return hooks[i].ordinal < hooks[j].ordinal
	})
	for i, h := range hooks {
		if i == 0 || hooks[i-1].name != h.name {
			x.familyOf(h.name, h.kind)
		}
		if h.each != nil {
			h.each(func(value float64, labels ...Label) { x.single(x.infoSeries(h.name, labels), value) })
			continue
		}
		if h.distributions != nil {
			x.writeDistributions(&h)
			continue
		}
		if h.histograms != nil {
			x.writeHistograms(&h)
			continue
		}
		if h.durations != nil {
			var sum histogramSum
			sum.include(h.durations)
			x.histogram(h.name, "", &sum, false)
			continue
		}
		series, value := h.series, 1.0
		if h.labels != nil {
			series = x.infoSeries(h.name, h.labels())
		} else {
			value = h.value()
		}
		x.single(series, value)
	}
}
