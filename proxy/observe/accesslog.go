package observe

import (
	"bytes"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// ringBytesDefault is the default room for lines that wait for the writer, per worker in bytes: about 400 lines,
	// 4 ms of traffic at 100,000 requests per second.
	ringBytesDefault = 256 << 10
	// ringBytesMin fits the longest possible line several times.
	ringBytesMin = 64 << 10
	// flushIntervalDefault is how long a line may wait at low traffic, so that the writer is woken 20 times a second at
	// most whatever the number of requests.
	flushIntervalDefault = 50 * time.Millisecond
	// closeWaitMax bounds how long Close waits for a destination that takes nothing (a stuck pipe).
	closeWaitMax = 2 * time.Second
)

// AccessLogOptions configure an AccessLog. The zero value is usable.
type AccessLogOptions struct {
	// RingBytes is the room for lines that wait for the writer, per worker in bytes, rounded up to a power of two;
	// a line that does not fit is dropped and counted. 0 means 256 KiB, the minimum is 64 KiB.
	RingBytes int
	// FlushInterval is how long a line may wait at low traffic. 0 means 50 ms.
	FlushInterval time.Duration
}

// AccessLog writes one JSON line per exchange. Each worker appends to a ring of its own; one goroutine, started by
// Registry.SetAccessLog, writes the rings out, so that a slow destination costs lines, never latency.
type AccessLog struct {
	// immutable
	w         io.Writer
	ringBytes int
	interval  time.Duration
	wake      chan struct{} // the writer sleeps and a line came
	urgent    chan struct{} // a ring is half full
	closing   chan struct{}
	done      chan struct{}

	// owned by the writer goroutine
	batch []byte

	// atomic
	asleep atomic.Bool // the writer waits for wake
	closed atomic.Bool

	// set once by SetAccessLog, before the writer starts
	rings       []*logRing
	writeFailed *atomic.Uint64 // lines; the registry's, so that it outlives the log

	closeOnce sync.Once
}

// NewAccessLog returns an access log that writes to w, which must only be written to by it. w may block. The log does
// nothing until it is passed to Registry.SetAccessLog.
func NewAccessLog(w io.Writer, opt AccessLogOptions) *AccessLog {
	size := ringBytesMin
	for want := orDefault(opt.RingBytes, ringBytesDefault); size < want; size *= 2 {
	}
	interval := opt.FlushInterval
	if interval <= 0 {
		interval = flushIntervalDefault
	}
	return &AccessLog{
		w: w, ringBytes: size, interval: interval,
		wake: make(chan struct{}, 1), urgent: make(chan struct{}, 1),
		closing: make(chan struct{}), done: make(chan struct{}),
	}
}

// SetAccessLog makes every shard log to l and starts its writer; nil stops logging. It returns the log that was set
// before, which the caller closes. A log can be set once, in one registry; a second time panics.
func (r *Registry) SetAccessLog(l *AccessLog) (previous *AccessLog) {
	return r.setLog(l, &r.log, func(s *Shard) *atomic.Pointer[logRing] { return &s.ring })
}

// SetErrorLog is SetAccessLog for a log of the exchanges that failed only: those with a reason, but for answers of RAUTA with a
// status below 400; and of connections and flows that did not end in good order. Lines are those of the access log; both may be set.
func (r *Registry) SetErrorLog(l *AccessLog) (previous *AccessLog) {
	return r.setLog(l, &r.errorLog, func(s *Shard) *atomic.Pointer[logRing] { return &s.errorRing })
}

func (r *Registry) setLog(l *AccessLog, current *atomic.Pointer[AccessLog], ringOf func(*Shard) *atomic.Pointer[logRing]) *AccessLog {
	if l == nil {
		for _, s := range r.shards {
			ringOf(s).Store(nil)
		}
		return current.Swap(nil)
	}
	if l.rings != nil {
		panic("observe: access log was set before: make a new one")
	}
	previous := current.Swap(l)
	l.writeFailed = &r.logWriteErrors
	for range r.shards {
		l.rings = append(l.rings, newLogRing(l, l.ringBytes, r.sharedShards))
	}
	go l.run()
	for i, s := range r.shards {
		ringOf(s).Store(l.rings[i])
	}
	return previous
}

// Close writes out what is pending and stops the writer. Lines that come later are dropped and counted, so stop the
// workers first. A destination that takes nothing makes Close give up after 2 s. Closing a log that was never set, or
// closing twice, does nothing.
func (l *AccessLog) Close() {
	if l.rings == nil {
		return
	}
	l.closeOnce.Do(func() {
		l.closed.Store(true)
		close(l.closing)
	})
	timeout := time.NewTimer(closeWaitMax)
	defer timeout.Stop()
	select {
	case <-l.done:
	case <-timeout.C:
	}
}

// run is the writer. It writes at most once per interval unless a ring fills up, and sleeps without a timer when
// nothing is logged.
func (l *AccessLog) run() {
	defer close(l.done)
	pause := time.NewTimer(l.interval)
	defer pause.Stop()
	for {
		if l.drain() == 0 {
			l.asleep.Store(true)
			if l.drain() == 0 { // a line that came before the flag was seen by nobody else
				select {
				case <-l.wake:
				case <-l.closing:
					l.drain()
					return
				}
			}
			l.asleep.Store(false)
		}
		pause.Reset(l.interval)
		select {
		case <-pause.C:
		case <-l.urgent:
		case <-l.closing:
			l.drain()
			return
		}
	}
}

// drain writes what all rings hold and returns the number of bytes.
func (l *AccessLog) drain() int {
	total := 0
	for _, ring := range l.rings {
		l.batch = ring.take(l.batch[:0])
		if len(l.batch) == 0 {
			continue
		}
		total += len(l.batch)
		n, err := l.w.Write(l.batch)
		if err != nil {
			lost := l.batch[min(max(n, 0), len(l.batch)):]
			l.writeFailed.Add(uint64(bytes.Count(lost, []byte{'\n'})))
		}
	}
	return total
}

// logRing holds one worker's lines until the writer takes them: a ring of bytes with one producer and one consumer.
type logRing struct {
	// immutable
	log  *AccessLog
	buf  []byte // length is a power of two
	lock *sync.Mutex

	// owned by the producer
	scratch []byte // the line being made
	clock   clockText

	// atomic; both only grow, head <= tail <= head+len(buf)
	head atomic.Uint64 // stored by the consumer
	_    [56]byte      // head and tail are written by different cores
	tail atomic.Uint64 // stored by the producer
}

func newLogRing(l *AccessLog, size int, shared bool) *logRing {
	ring := &logRing{log: l, buf: make([]byte, size), scratch: make([]byte, 0, 2048)}
	if shared {
		ring.lock = new(sync.Mutex)
	}
	return ring
}

// line appends the line of one exchange and tells whether it fitted.
func (r *logRing) line(rec *Record) bool {
	if r.lock != nil {
		r.lock.Lock()
		defer r.lock.Unlock()
	}
	if r.log.closed.Load() {
		return false
	}
	r.scratch = appendLine(r.scratch[:0], rec, &r.clock)
	return r.put(r.scratch)
}

// put publishes one line, or nothing when there is no room for all of it.
func (r *logRing) put(line []byte) bool {
	size := uint64(len(r.buf))
	head, tail := r.head.Load(), r.tail.Load()
	used, n := tail-head, uint64(len(line))
	if n > size-used {
		return false
	}
	at := tail & (size - 1)
	copied := copy(r.buf[at:], line)
	copy(r.buf, line[copied:])
	r.tail.Store(tail + n)
	if used <= size/2 && used+n > size/2 {
		signal(r.log.urgent)
	}
	r.wakeWriter()
	return true
}

// take moves what is published to dst.
func (r *logRing) take(dst []byte) []byte {
	size := uint64(len(r.buf))
	head, tail := r.head.Load(), r.tail.Load()
	if head == tail {
		return dst
	}
	from, to := head&(size-1), tail&(size-1)
	if from < to {
		dst = append(dst, r.buf[from:to]...)
	} else {
		dst = append(append(dst, r.buf[from:]...), r.buf[:to]...)
	}
	r.head.Store(tail)
	return dst
}

// wakeWriter ends the writer's sleep if it sleeps and there is something to write.
func (r *logRing) wakeWriter() {
	if r.log.asleep.Load() && r.head.Load() != r.tail.Load() && r.log.asleep.CompareAndSwap(true, false) {
		signal(r.log.wake)
	}
}

// signal leaves one token in a channel of capacity one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
