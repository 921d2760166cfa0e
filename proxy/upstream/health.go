package upstream

import (
	"sync/atomic"

	"rauta.io/rauta/proxy/clock"
)

const (
	// failuresMax consecutive failures, over all workers, eject an endpoint.
	failuresMax = 5
	// ejectionBase is how long the first ejection lasts; each further one doubles it up to ejectionMax.
	ejectionBase = clock.Time(10e9)
	ejectionMax  = clock.Time(300e9)
	// ejectionForgotten after the end of the last ejection, a success makes the next ejection start at the base again.
	ejectionForgotten = clock.Time(60e9)
)

// health is the passive health of an endpoint. Workers write it when something failed, and when the first success
// after a failure is seen; otherwise they only read.
type health struct {
	marked    atomic.Bool  // there may be something to reset
	failures  atomic.Int32 // consecutive
	ejections atomic.Int32 // since the last time all was well
	until     atomic.Int64 // clock.Time at which the ejection ends; 0 or past: not ejected
}

func (e *Endpoint) ejected(now clock.Time) bool { return clock.Time(e.health.until.Load()) > now }

// Ejected reports whether passive health keeps e out at the time now. Any goroutine may call it.
func (e *Endpoint) Ejected(now clock.Time) bool { return e.ejected(now) }

// Report notes the result of an attempt. A failure is one of the transport: a reset or EOF after something was sent, a
// protocol error, no response in time; or one of the statuses that say that the back end can't serve at all (502, 503,
// 504). Not a 500: that is the application's answer, and every endpoint would give it. Not StageUnsent: a peer may close a connection that idles. Not StageConnect: the pool reports failed dials itself.
// And not StageQueue, which says nothing about the endpoint.
//
// After failuresMax failures in a row the endpoint is ejected, for a time that doubles with each ejection, unless half
// of its set is ejected already. The first failure after an ejection ejects again; a success clears the count.
func (e *Endpoint) Report(w *Worker, ok bool) {
	if e.main != nil {
		e = e.main
	}
	h := &e.health
	if ok {
		if h.marked.Load() {
			e.recovered(w.Clock.Now())
		}
		return
	}
	h.marked.Store(true)
	now := w.Clock.Now()
	if h.failures.Add(1) >= failuresMax && !e.ejected(now) {
		e.eject(now)
	}
}

// recovered handles a success of an endpoint that had failed before.
func (e *Endpoint) recovered(now clock.Time) {
	h := &e.health
	if e.ejected(now) {
		return // the answer to a request from before the ejection proves nothing
	}
	h.failures.Store(0)
	if h.ejections.Load() == 0 || now > clock.Time(h.until.Load())+ejectionForgotten {
		h.ejections.Store(0)
		h.marked.Store(false)
	}
}

func (e *Endpoint) eject(now clock.Time) {
	c := e.cluster.Load()
	if !c.Set().mayEject(now) {
		return
	}
	h := &e.health
	until := h.until.Load()
	length := min(ejectionBase<<min(h.ejections.Load(), 16), ejectionMax)
	if !h.until.CompareAndSwap(until, int64(now+length)) {
		return // another worker did it
	}
	h.ejections.Add(1)
	c.shared.ejections.Add(1)
}

// view is the part of a set's candidates that is not ejected, with distant endpoints where most are. It is made anew after each ejection and after the end of
// one, so that picking costs the same whether or not something is ejected.
type view struct {
	endpoints []*Endpoint
	filtered  bool       // something is left out
	until     clock.Time // the first end of an ejection; 0: never
	ejections uint64     // shared.ejections when the view was made
}

// spares are the distant endpoints that stand in for candidates that fail.
func (s *Set) spares() []*Endpoint {
	return s.endpoints[len(s.candidates):max(s.ready, len(s.candidates))]
}

// mayEject reports whether one more candidate may be ejected without leaving less than half, or others can stand in.
func (s *Set) mayEject(now clock.Time) bool {
	if len(s.spares()) > 0 {
		return true
	}
	ejected := 1
	for _, e := range s.candidates {
		if e.ejected(now) {
			ejected++
		}
	}
	return ejected*2 <= len(s.candidates)
}

func (s *Set) view(sh *shared, now clock.Time) *view {
	v := s.current.Load()
	if v.ejections == sh.ejections.Load() && (v.until == 0 || now < v.until) {
		return v
	}
	return s.refresh(sh, now)
}

// refresh makes a new view. Several workers may do so at once: a view that another one stored over a newer one has an
// older count of ejections and is replaced at the next pick.
func (s *Set) refresh(sh *shared, now clock.Time) *view {
	v := &view{endpoints: s.candidates, ejections: sh.ejections.Load()}
	live := v.live(now)
	// The few near ones that are left could not carry the load of all: distant ones help.
	if spares := s.spares(); len(live)*2 < len(s.candidates) && len(spares) > 0 {
		v.endpoints = s.endpoints[:len(s.candidates)+len(spares)]
		live = v.live(now)
	}
	// Panic threshold: when most of the set is ejected (it shrank, or workers ejected at the same time), the fault is
	// more likely on the way there, and the few that are left could not carry the load.
	if len(live) < len(v.endpoints) && len(live)*2 >= len(v.endpoints) {
		v.endpoints, v.filtered = live, true
	}
	s.current.Store(v)
	return v
}

// live returns those of v.endpoints that are not ejected, and notes in v.until when the first of the others comes back.
func (v *view) live(now clock.Time) []*Endpoint {
	live := make([]*Endpoint, 0, len(v.endpoints))
	for _, e := range v.endpoints {
		until := clock.Time(e.health.until.Load())
		if until <= now {
			live = append(live, e)
		} else if v.until == 0 || until < v.until {
			v.until = until
		}
	}
	return live
}
