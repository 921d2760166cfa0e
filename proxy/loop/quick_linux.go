package loop

import "iter"

const (
	// quickPerTurn is how many quick handshakes begin in one turn on the worker's thread, at some 150 µs each: what else
	// the turn has to do waits for them. Further ones compute on goroutines, like those that take longer.
	quickPerTurn = 4
	// coroutinesKept is how many idle coroutines a worker keeps, with stacks that have grown: 32 KiB each.
	coroutinesKept = 64
)

// coroutine computes handshakes on the worker's thread, one after the other. crypto/tls blocks where it needs more from the
// peer; there the coroutine gives the thread back. Handing a handshake over to a goroutine and back twice costs a fifth
// of it in system calls and switches (PERF.md, handshakes).
type coroutine struct {
	h     *handshake
	yield func(struct{}) bool
	next  func() (struct{}, bool)
	stop  func()
}

func (w *Worker) takeCoroutine() *coroutine {
	if n := len(w.coroutines); n > 0 {
		c := w.coroutines[n-1]
		w.coroutines = w.coroutines[:n-1]
		return c
	}
	c := &coroutine{}
	c.next, c.stop = iter.Pull(c.run)
	return c
}

func (w *Worker) keepCoroutine(c *coroutine) {
	if len(w.coroutines) < coroutinesKept {
		w.coroutines = append(w.coroutines, c)
	} else {
		c.stop()
	}
}

// endCoroutines ends those that are idle.
func (w *Worker) endCoroutines() {
	for _, c := range w.coroutines {
		c.stop()
	}
	w.coroutines = nil
}

func (c *coroutine) run(yield func(struct{}) bool) {
	c.yield = yield
	for {
		h := c.h
		h.err = h.compute()
		h.finished = true
		c.h = nil
		if !yield(struct{}{}) {
			return
		}
	}
}

// step computes until more of the peer is needed, or the handshake has ended.
func (h *handshake) step() {
	h.state = handshakeRuns
	h.quick.next()
	if h.finished {
		h.c.w.keepCoroutine(h.quick)
		h.quick = nil
	}
	h.settle()
}
