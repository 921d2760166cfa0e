package upstream

import (
	"rauta.io/rauta/proxy/clock"
	"rauta.io/rauta/proxy/list"
)

// connState is where a connection is in its pool's books.
type connState uint8

const (
	connGone connState = iota // not in the books: never Ready, or closed
	connIdle                  // in the list of those without a stream
	connOpen                  // in the list of those with streams and room for more
	connFull                  // in no list
)

// Slot is a pool's bookkeeping for one connection, embedded in it. The pool owns it from Ready until the connection is
// closed; after that the connection may be used for something else.
type Slot struct {
	conn      Conn
	pool      *Pool
	listed    list.Node[Slot] // in the list of its state
	created   clock.Time
	idleSince clock.Time
	streams   int // started and not released
	capacity  int // streams that it may carry at a time; 0: it takes no more
	state     connState
	yields    bool // it is given up for another worker as soon as its streams have ended
}

// Pool returns the pool of the connection, or nil before it was Ready.
func (s *Slot) Pool() *Pool { return s.pool }

// Created is when the connection became usable.
func (s *Slot) Created() clock.Time { return s.created }

// Idle reports whether the connection waits for a request.
func (s *Slot) Idle() bool { return s.state == connIdle }

// Streams is the number of streams that were started and not released.
func (s *Slot) Streams() int { return s.streams }

// Waiter is a request that asks for a stream, embedded in the exchange. Set Sink before Acquire; it must stay as it is
// until the sink has been called or the request was forgotten.
type Waiter struct {
	Sink Sink

	pool   *Pool // where it is queued; nil: nowhere
	queued list.Node[Waiter]
	ticket uint64 // counts the waiters of the pool
}

// Queued reports whether the request waits for a connection.
func (wt *Waiter) Queued() bool { return wt.pool != nil }
