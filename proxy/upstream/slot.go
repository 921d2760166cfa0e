package upstream

import "rauta.io/rauta/proxy/clock"

// connState is where a connection is in its pool's books.
type connState uint8

const (
	connGone connState = iota // not in the books: never Ready, or closed
	connIdle
	connBusy
)

// Slot is a pool's bookkeeping for one connection, embedded in it. The pool owns it from Ready until the connection is
// closed; after that the connection may be used for something else.
type Slot struct {
	conn       Conn
	pool       *Pool
	prev, next *Slot // in the idle list
	created    clock.Time
	idleSince  clock.Time
	state      connState
}

// Pool returns the pool of the connection, or nil before it was Ready.
func (s *Slot) Pool() *Pool { return s.pool }

// Created is when the connection became usable.
func (s *Slot) Created() clock.Time { return s.created }

// Idle reports whether the connection waits for a request.
func (s *Slot) Idle() bool { return s.state == connIdle }

// idleList holds idle connections, the one used last in front.
type idleList struct {
	front, back *Slot
	count       int
}

func (l *idleList) push(s *Slot) {
	s.prev, s.next = nil, l.front
	if l.front != nil {
		l.front.prev = s
	} else {
		l.back = s
	}
	l.front = s
	l.count++
}

func (l *idleList) remove(s *Slot) {
	if s.prev != nil {
		s.prev.next = s.next
	} else {
		l.front = s.next
	}
	if s.next != nil {
		s.next.prev = s.prev
	} else {
		l.back = s.prev
	}
	s.prev, s.next = nil, nil
	l.count--
}

// Waiter is a request that asks for a stream, embedded in the exchange. Set Sink before Acquire; it must stay as it is
// until the sink has been called or the request was forgotten.
type Waiter struct {
	Sink Sink

	pool       *Pool // where it is queued; nil: nowhere
	prev, next *Waiter
}

// Queued reports whether the request waits for a connection.
func (wt *Waiter) Queued() bool { return wt.pool != nil }

// waitList is a queue of requests, the oldest in front.
type waitList struct{ front, back *Waiter }

func (l *waitList) push(wt *Waiter) {
	wt.prev, wt.next = l.back, nil
	if l.back != nil {
		l.back.next = wt
	} else {
		l.front = wt
	}
	l.back = wt
}

func (l *waitList) remove(wt *Waiter) {
	if wt.prev != nil {
		wt.prev.next = wt.next
	} else {
		l.front = wt.next
	}
	if wt.next != nil {
		wt.next.prev = wt.prev
	} else {
		l.back = wt.prev
	}
	wt.prev, wt.next = nil, nil
}
