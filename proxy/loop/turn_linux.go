package loop

import (
	"runtime/debug"
)

// stage is a part of a turn. Every stage keeps its position in the worker, so that a turn goes on after a panic: one
// deferred recover per turn costs nothing measurable, one per event would.
type stage uint8

const (
	stageScan     stage = iota // what kinds of events are there
	stagePriority              // events of connected sockets
	stageEvents                // events of accepted sockets
	stageAccept
	stageMail
	stageTimers
	stageReady
	stageTurnEnd
	stageSend
	stageDone
)

func (w *Worker) turn() {
	w.wheel.SetNow(w.turnBegan)
	w.time.advance(w.turnBegan)
	w.counts.turns++
	w.quickLeft = quickPerTurn
	w.stage, w.cursor = stageScan, 0
	for !w.attempt() {
	}
	w.closeDescriptors()
	if w.heldCount > 0 {
		w.releaseHeld()
	}
	w.publish()
}

// attempt runs the stages that are left and says whether it got to the end.
func (w *Worker) attempt() (done bool) {
	defer func() {
		if !done {
			if v := recover(); v != nil {
				w.panicked(v)
			}
		}
	}()
	for ; w.stage < stageDone; w.stage++ {
		w.runStage()
		w.cursor = 0
		w.current = nil
	}
	return true
}

func (w *Worker) panicked(v any) {
	w.counts.panics++
	w.countsChanged = true
	switch c := w.current; {
	case c == nil:
	case c.lasting:
		c.Ready(Readable) // what it has not received yet
	default:
		w.current = nil
		c.Close()
		if c.handler != nil { // what belongs to the connection has to be given up, too
			w.Ready(c.handler, Error)
		}
	}
	if w.opt.OnPanic != nil {
		w.opt.OnPanic(v, debug.Stack())
	}
}

func (w *Worker) runStage() {
	switch w.stage {
	case stageScan:
		w.scan()
	case stagePriority:
		if w.prioritySeen {
			w.dispatch(priorityBit)
		}
	case stageEvents:
		w.dispatch(0)
	case stageAccept:
		if w.acceptSeen {
			w.acceptDue()
		}
	case stageMail:
		if w.inbox == nil && w.mailbox.head.Load() != nil && !w.closedMailbox() {
			w.takeMail(nil)
		}
		w.deliverMail()
	case stageTimers:
		w.wheel.Advance(w.turnBegan)
	case stageReady:
		w.deliverReady()
	case stageTurnEnd:
		w.endTurn()
	case stageSend:
		w.send()
	}
}

func (w *Worker) closedMailbox() bool { return w.mailbox.head.Load() == &w.mailbox.closed }

// scan sorts out what is not a connection.
func (w *Worker) scan() {
	w.prioritySeen, w.acceptSeen, w.pressured = false, false, false
	w.counts.events += uint64(w.batch)
	for i := range w.batch {
		ev := &w.events[i]
		switch {
		case ev.Fd >= 0:
			w.prioritySeen = w.prioritySeen || ev.Pad&priorityBit != 0
		case ev.Fd <= firstListenerSlot:
			if l := w.listeners[firstListenerSlot-ev.Fd]; l != nil {
				l.due = acceptsPerTurnMax
				w.acceptSeen = true
			}
		}
	}
}

// dispatch runs the events of connected (priorityBit) or accepted (0) sockets.
func (w *Worker) dispatch(kind int32) {
	if w.cursor == 0 {
		w.aheadUntil = 0
	}
	for w.cursor < w.batch {
		if w.cursor >= w.aheadUntil {
			w.receiveAhead(kind)
		}
		ev := &w.events[w.cursor]
		w.cursor++
		if ev.Fd < 0 || ev.Pad&priorityBit != kind {
			continue
		}
		s := &w.slots[ev.Fd]
		if s.conn == nil || s.generation != uint32(ev.Pad)>>1 {
			continue // closed earlier in this turn
		}
		c := s.conn
		w.deliver(c, eventsOf(ev.Events))
		if c.ahead.bytes != nil {
			c.keepAhead()
		}
	}
}

func (w *Worker) deliver(c *Conn, ev Events) {
	if c.tls != nil && !c.tls.onEvents(ev) {
		return
	}
	if c.handler == nil {
		c.missed |= ev
		return
	}
	w.current = c
	c.handler.OnEvent(ev)
	w.poisonReadBuffer()
}

// deliverReady runs what was asked for before this stage began; what handlers ask for now waits for the next turn, so
// that the sockets get their share.
func (w *Worker) deliverReady() {
	if w.cursor == 0 {
		w.ready, w.readyRun = w.readyRun[:0], w.ready
	}
	for w.cursor < len(w.readyRun) {
		entry := w.readyRun[w.cursor]
		w.readyRun[w.cursor] = readyEntry{}
		w.cursor++
		w.current = nil
		switch c := entry.conn; {
		case c == nil:
			entry.handler.OnEvent(entry.events)
		case !c.closed:
			ev := c.readyEv
			c.readyEv = 0
			w.deliver(c, ev)
		}
	}
}

// endTurn runs the end-of-turn handlers, and once more what they have added.
func (w *Worker) endTurn() {
	for {
		if w.cursor == 0 {
			w.turnEnd, w.turnEndRun = w.turnEndRun[:0], w.turnEnd
		}
		for w.cursor < len(w.turnEndRun) {
			h := w.turnEndRun[w.cursor]
			w.turnEndRun[w.cursor] = nil
			w.cursor++
			w.current = nil
			h.OnTurnEnd()
		}
		if w.turnEndMore || len(w.turnEnd) == 0 {
			w.turnEndMore = false
			return
		}
		w.turnEndMore, w.cursor = true, 0
	}
}

// send runs the senders. What they add waits for the next turn.
func (w *Worker) send() {
	if w.cursor == 0 {
		w.senders, w.sendersRun = w.sendersRun[:0], w.senders
	}
	for w.cursor < len(w.sendersRun) {
		h := w.sendersRun[w.cursor]
		w.sendersRun[w.cursor] = nil
		w.cursor++
		w.current = nil
		h.OnSend()
	}
}
