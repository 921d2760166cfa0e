package loop

import (
	"runtime"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Receiver is what a Message runs, on the worker's thread.
type Receiver interface {
	OnMessage()
}

// Message is one entry of a mailbox. Embed it in what travels, so that sending allocates nothing. It must not be sent
// again before its receiver has been called.
type Message struct {
	To   Receiver
	next *Message
	mark queueMark
}

type postedFunc func()

func (f postedFunc) OnMessage() { f() }

// mailbox is a stack that anybody pushes with compare-and-swap; its worker swaps it empty and reverses it, so that
// messages of one sender keep their order. closed takes the place of the head when the worker has ended.
type mailbox struct {
	head     atomic.Pointer[Message]
	sleeping atomic.Bool  // the worker is about to sleep, or sleeps: the pusher who clears it writes the eventfd
	wakers   atomic.Int32 // senders who may be writing to the eventfd
	_        [48]byte
	closed   Message
	eventFD  int
}

// Post runs fn on the worker's thread in one of its next turns, in the order of posting of one goroutine. It returns
// false, and fn never runs, when the worker has ended. From any goroutine.
func (w *Worker) Post(fn func()) bool { return w.Send(&Message{To: postedFunc(fn)}) }

// Send is Post for a message that the caller has allocated. From any goroutine.
func (w *Worker) Send(m *Message) bool {
	b := &w.mailbox
	m.mark.set()
	for {
		head := b.head.Load()
		if head == &b.closed {
			m.mark.clear()
			return false
		}
		m.next = head
		if b.head.CompareAndSwap(head, m) {
			break
		}
	}
	w.wake()
	return true
}

// wake ends a sleep. The worker sets sleeping before it looks at the mailbox a last time, and the sender looks at
// sleeping after the push: one of the two sees the other.
func (w *Worker) wake() {
	b := &w.mailbox
	if !b.sleeping.Load() {
		return
	}
	b.wakers.Add(1)
	defer b.wakers.Add(-1)
	if b.sleeping.CompareAndSwap(true, false) {
		one := [8]byte{1}
		// The descriptor is registered edge-triggered and never read: every write is an edge, and 2^64 don't come.
		_, _ = unix.Write(b.eventFD, one[:])
	}
}

// closeEventFD waits for senders that saw the worker asleep: their write must not hit a descriptor that has got the
// same number. Who comes after that finds sleeping false.
func (b *mailbox) closeEventFD() {
	b.sleeping.Store(false)
	for b.wakers.Load() != 0 {
		runtime.Gosched()
	}
	_ = unix.Close(b.eventFD)
}

// takeMail swaps the mailbox empty and puts its messages, oldest first, behind those not yet delivered.
func (w *Worker) takeMail(leave *Message) {
	m := w.mailbox.head.Swap(leave)
	var first, last *Message
	for m != nil {
		next := m.next
		m.next = first
		first = m
		if last == nil {
			last = m
		}
		m = next
	}
	switch {
	case first == nil:
	case w.inbox == nil:
		w.inbox, w.inboxLast = first, last
	default:
		w.inboxLast.next, w.inboxLast = first, last
	}
}

// deliverMail runs what takeMail took. It can be called again after a panic of a receiver.
func (w *Worker) deliverMail() {
	for w.inbox != nil {
		m := w.inbox
		w.inbox = m.next
		w.current = nil
		m.next = nil
		m.mark.clear()
		m.To.OnMessage()
	}
}
