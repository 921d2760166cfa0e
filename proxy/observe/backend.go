package observe

import "sync/atomic"

// Target is what an endpoint is, as far as the cluster tells. Empty fields have no label.
type Target struct{ Pod, Namespace, Node, Zone string }

// Describe says what the endpoint is; a later call replaces what was said.
func (e *Endpoint) Describe(t Target) { e.target.Store(&t) }

// Target returns what was described, empty if nothing was.
func (e *Endpoint) Target() Target {
	if t := e.target.Load(); t != nil {
		return *t
	}
	return Target{}
}

// connectReasonsMax bounds the reasons for which connections to one endpoint fail; what is beyond counts as "other".
const connectReasonsMax = 16

// connectFailures count reasons.
type connectFailures [connectReasonsMax]atomic.Pointer[reasonCount]

// endpointCell is what one worker counts for one endpoint: 288 bytes.
type endpointCell struct {
	answers  classCounts
	connect  stageHistogram
	ttfb     stageHistogram
	failures atomic.Pointer[connectFailures] // made at the first
	inFlight atomic.Int64
}

// Attempt counts an attempt at an endpoint as under way, until the next one of the exchange or Finish. nil is no endpoint.
func (s *Shard) Attempt(rec *Record, e *Endpoint) {
	rec.endAttempt()
	if e != nil {
		rec.attempt = s.endpointCell(e)
		rec.attempt.inFlight.Add(1)
	}
}

func (r *Record) endAttempt() {
	if r.attempt != nil {
		r.attempt.inFlight.Add(-1)
		r.attempt = nil
	}
}

// waited is how long the last attempt has waited for its response head once the request was sent, or, if the response has
// overtaken the request, once there was a stream.
func (r *Record) waited() int64 {
	from := r.StreamAt
	if r.SentAt >= r.StreamAt && r.SentAt <= r.FirstByteAt {
		from = r.SentAt
	}
	return max(r.FirstByteAt-from, 0)
}

// Connected counts a connection to an endpoint and the nanoseconds until it could take a request. nil is no endpoint.
func (s *Shard) Connected(e *Endpoint, ns int64) {
	if e != nil {
		s.endpointCell(e).connect.add(max(ns, 0))
	}
}

// ConnectFailed counts a connection that could not be opened. reason is a static token. nil is no endpoint.
func (s *Shard) ConnectFailed(e *Endpoint, reason string) {
	if e == nil {
		return
	}
	c := s.endpointCell(e)
	if c.failures.Load() == nil {
		c.failures.CompareAndSwap(nil, new(connectFailures))
	}
	countReason(c.failures.Load()[:], reason, 1)
}

// backendSum is the sum of what all workers count for one endpoint.
type backendSum struct {
	labels        string
	connect, ttfb stageSum
	failures      map[string]uint64
	inFlight      int64
}

// writeBackends writes what is known about the endpoints besides their answers.
func (r *Registry) writeBackends(x *exposition, endpoints []*Endpoint) {
	sums := make([]backendSum, 0, len(endpoints))
	for _, e := range endpoints {
		if sum, ok := sumBackend(e); ok {
			sum.labels = x.labels(e.Labels())
			sums = append(sums, sum)
		}
	}
	if x.family("rauta_backend_requests_in_flight") {
		for i := range sums {
			x.begin("rauta_backend_requests_in_flight").raw(sums[i].labels).uint(uint64(max(sums[i].inFlight, 0)))
		}
	}
	if x.family("rauta_backend_connect_seconds") {
		for i := range sums {
			x.backend("rauta_backend_connect_seconds", sums[i].labels, &sums[i].connect)
		}
	}
	if x.family("rauta_backend_ttfb_seconds") {
		for i := range sums {
			x.backend("rauta_backend_ttfb_seconds", sums[i].labels, &sums[i].ttfb)
		}
	}
	if x.family("rauta_backend_connect_failures_total") {
		for i := range sums {
			x.counters("rauta_backend_connect_failures_total", sums[i].labels+",", "reason", sums[i].failures)
		}
	}
}

// sumBackend adds up what all workers count; ok is false if none of them does.
func sumBackend(e *Endpoint) (sum backendSum, ok bool) {
	c := e.cells.Load()
	for i := range c.byWorker {
		cell := c.byWorker[i].Load()
		if cell == nil {
			continue
		}
		ok = true
		sum.connect.include(&cell.connect)
		sum.ttfb.include(&cell.ttfb)
		sum.inFlight += cell.inFlight.Load()
		sum.addFailures(cell.failures.Load())
	}
	return sum, ok
}

// addFailures adds those of one worker; nil is none.
func (s *backendSum) addFailures(list *connectFailures) {
	if list == nil {
		return
	}
	if s.failures == nil {
		s.failures = map[string]uint64{}
	}
	for i := range list {
		if one := list[i].Load(); one != nil {
			s.failures[one.name] += one.n.Load()
		}
	}
}

// Labels are those of all series of one endpoint: its cluster, its address, and what Describe has said of it.
func (e *Endpoint) Labels() []Label {
	labels := make([]Label, 2, 8)
	labels[0], labels[1] = Label{"cluster", e.key.Cluster}, Label{"endpoint", e.key.Address}
	if t := e.target.Load(); t != nil {
		for _, l := range [...]Label{{"pod", t.Pod}, {"namespace", t.Namespace}, {"node", t.Node}, {"zone", t.Zone}} {
			if l.Value != "" {
				labels = append(labels, l)
			}
		}
	}
	return labels
}

// backend writes a histogram that has counted something.
func (x *exposition) backend(name, labels string, sum *stageSum) {
	if sum.count() > 0 {
		x.stage(name, labels, sum)
	}
}
