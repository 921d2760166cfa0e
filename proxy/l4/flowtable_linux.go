package l4

import "rauta.io/rauta/proxy/upstream"

// FlowsMaxDefault is how many flows a worker keeps: each has a socket, and as many clients behind one address are more
// than UDP services usually have at a time.
const FlowsMaxDefault = 8192

// flowTable is all flows of a worker in the order of their last datagram. Those that a back end has never answered stand
// by themselves and go first, so that datagrams with made-up sources displace each other, not clients.
type flowTable struct {
	silent, answered flowList
}

// flowList has the flow that was used last in front.
type flowList struct {
	front, back *flow
	len         int
}

func (t *flowTable) len() int { return t.silent.len + t.answered.len }

// oldest is the flow to give up first, nil if there is none.
func (t *flowTable) oldest() *flow {
	if t.silent.back != nil {
		return t.silent.back
	}
	return t.answered.back
}

func (t *flowTable) list(f *flow) *flowList {
	if f.answered {
		return &t.answered
	}
	return &t.silent
}

// used moves a flow to the front.
func (t *flowTable) used(f *flow) {
	if l := t.list(f); l.front != f {
		l.remove(f)
		l.push(f)
	}
}

// heard moves a flow to those that were answered.
func (t *flowTable) heard(f *flow) {
	t.silent.remove(f)
	f.answered = true
	t.answered.push(f)
}

func (t *flowTable) retire(gone *upstream.Endpoint) {
	for _, l := range []*flowList{&t.silent, &t.answered} {
		for f := l.front; f != nil; {
			next := f.next
			if f.endpoint == gone {
				f.end(reasonRetired)
			}
			f = next
		}
	}
}

func (l *flowList) push(f *flow) {
	f.prev, f.next = nil, l.front
	if l.front != nil {
		l.front.prev = f
	} else {
		l.back = f
	}
	l.front = f
	l.len++
}

func (l *flowList) remove(f *flow) {
	if f.prev != nil {
		f.prev.next = f.next
	} else {
		l.front = f.next
	}
	if f.next != nil {
		f.next.prev = f.prev
	} else {
		l.back = f.prev
	}
	f.prev, f.next = nil, nil
	l.len--
}
