package l4

import (
	"rauta.io/rauta/proxy/list"
	"rauta.io/rauta/proxy/upstream"
)

// FlowsMaxDefault is how many flows a worker keeps: each has a socket, and as many clients behind one address are more
// than UDP services usually have at a time.
const FlowsMaxDefault = 8192

// flowTable is all flows of a worker in the order of their last datagram. Those that a back end has never answered stand
// by themselves and go first, so that datagrams with made-up sources displace each other, not clients.
type flowTable struct {
	silent, answered list.List[flow]
}

func (t *flowTable) len() int { return t.silent.Len() + t.answered.Len() }

// oldest is the flow to give up first, nil if there is none.
func (t *flowTable) oldest() *flow {
	for _, l := range [...]*list.List[flow]{&t.silent, &t.answered} {
		if l.Len() > 0 {
			return l.Back().Item
		}
	}
	return nil
}

func (t *flowTable) list(f *flow) *list.List[flow] {
	if f.answered {
		return &t.answered
	}
	return &t.silent
}

// used moves a flow to the front.
func (t *flowTable) used(f *flow) {
	if l := t.list(f); l.Front() != &f.place {
		l.Remove(&f.place)
		l.PushFront(&f.place)
	}
}

// heard moves a flow to those that were answered.
func (t *flowTable) heard(f *flow) {
	t.silent.Remove(&f.place)
	f.answered = true
	t.answered.PushFront(&f.place)
}

func (t *flowTable) retire(gone *upstream.Endpoint) {
	for _, l := range [...]*list.List[flow]{&t.silent, &t.answered} {
		for n := l.Front(); n != nil; {
			f := n.Item
			n = n.Next()
			if f.endpoint == gone {
				f.end(reasonRetired)
			}
		}
	}
}
