//go:build invariants

package loop

import (
	"bytes"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// The checks panic: a broken ownership rule is a bug of the caller, and going on would corrupt memory.

// poison fills released memory: 0xDB is no valid byte of a head in any position, so a stale view is seen at once.
const poison = 0xDB

// threadOwner is the thread that runs a worker; 0: not running, anybody may prepare it.
type threadOwner struct{ tid atomic.Int64 }

func (o *threadOwner) take()    { o.tid.Store(int64(unix.Gettid())) }
func (o *threadOwner) release() { o.tid.Store(0) }

func (o *threadOwner) check() {
	if tid := o.tid.Load(); tid != 0 && tid != int64(unix.Gettid()) {
		panic("loop: a worker-owned method was called from another thread; use Post")
	}
}

// queueMark says that a message is in a mailbox.
type queueMark struct{ queued atomic.Bool }

func (m *queueMark) set() {
	if m.queued.Swap(true) {
		panic("loop: a message was sent twice before its delivery")
	}
}

func (m *queueMark) clear() { m.queued.Store(false) }

// bufferLedger knows which buffers are out.
type bufferLedger struct{ out map[*byte]bool }

func (l *bufferLedger) got(b []byte) {
	if l.out == nil {
		l.out = map[*byte]bool{}
	}
	l.out[&b[:1][0]] = true
}

func (l *bufferLedger) put(b []byte) {
	first := &b[:1][0]
	if !l.out[first] {
		panic("loop: a buffer was put back twice, or never came from this worker")
	}
	delete(l.out, first)
	fillPoison(b[:cap(b)])
}

func (w *Worker) poisonReadBuffer() { fillPoison(w.readBuffer[:poisonedBytes]) }

func (w *Worker) poisonAhead() { fillPoison(w.ahead) }

// poisonedBytes of the shared read buffer are overwritten after each event: enough to catch a kept view of a head.
const poisonedBytes = 4096

func fillPoison(b []byte) {
	for i := range b {
		b[i] = poison
	}
}

// owedCheck knows which bytes are encrypted but not yet reported as written.
type owedCheck struct{ owed []byte }

func (o *owedCheck) set(p []byte) { o.owed = bytes.Clone(p) }

func (o *owedCheck) check(p []byte, reported int) {
	owed := o.owed[reported:]
	n := min(len(owed), len(p))
	if !bytes.Equal(owed[:n], p[:n]) {
		panic("loop: a Write after Again does not begin with the bytes that were not taken")
	}
}
