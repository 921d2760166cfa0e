// Package lane runs off the loop what blocks or burns CPU: external authorization, password hashing, sub-requests, user
// extensions. Each is a fasthttp.RequestHandler, which is RAUTA's contract for extensions.
//
// It owns a bounded set of goroutines and a bounded queue in front of them, the copy of a request that a handler gets to
// see, and what a handler's outcome means. It does not own the decision to consult a handler, nor the request itself:
// that stays on its worker, which never waits. proxy/server starts and stops the lane; proxy/exchange uses it so:
//
//  1. A rule names a handler. The exchange pauses the request body, makes a Job with Lane.NewJob, which copies the head,
//     and keeps the Job for Cancel. If the rule asks for the body it is read first, into Job.AppendBody, which reports
//     when it is too large (413).
//  2. Lane.Submit with the mailbox of the worker. false means that the lane is full: 503, at once.
//  3. A goroutine of the lane runs the handler on a RequestCtx and posts the outcome to the mailbox; on the worker's
//     thread Submit's done then gets the Verdict. Continue: Verdict.Apply edits the head, and the exchange goes on to
//     pick a back end. Answer: the exchange sends status, fields and body.
//  4. When the exchange ends earlier (client gone, deadline) it calls Job.Cancel, after which done is not called. That is
//     why an Exchange may be reused at once.
//
// A handler that calls neither Continue nor writes anything answers with fasthttp's empty 200: what is not let
// through expressly does not get through. A rule without a handler costs nothing here.
package lane

import (
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/valyala/fasthttp"
)

// Defaults and bounds.
const (
	// GoroutinesDefault fits the processors that are kept free beside the loops on small machines.
	GoroutinesDefault = 8
	// QueueDefault is how many jobs wait per goroutine before the lane is full: at 10 ms a job, 160 ms of waiting.
	QueueDefault = 16
	// BodyBytesDefault bounds the request body that a job carries, in bytes; it is held in memory.
	BodyBytesDefault = 64 << 10
	// AnswerBytesMax bounds the body of an answer, in bytes; it is held in memory. A larger one becomes a 500.
	AnswerBytesMax = 1 << 20
)

// Options of a Lane; zero values take the defaults.
type Options struct {
	// Goroutines is the number of handlers that run at a time.
	Goroutines int
	// Queue is the number of jobs that wait; beyond it Submit reports false.
	Queue int
	// BodyBytesMax bounds the request body of a job.
	BodyBytesMax int
	// OnPanic is told what a handler panicked with, on the goroutine of the lane; nil for nobody.
	OnPanic func(value any, stack []byte)
}

// Lane runs jobs. Its methods are for any goroutine.
type Lane struct {
	// Immutable.
	opt   Options
	queue chan *Job

	mu      sync.Mutex // held while running changes, and while Submit relies on it
	running bool
	workers sync.WaitGroup

	stopping atomic.Bool
	counts   counts
}

type counts struct {
	submitted, full, done, cancelled, panics, invalid atomic.Uint64
	busy                                              atomic.Int64
}

// Stats are counters since the start, and gauges.
type Stats struct {
	// Submitted jobs were accepted, Full ones were not. Of those accepted, Done had a verdict posted, and Cancelled were
	// given up while they waited.
	Submitted, Full, Done, Cancelled uint64
	// Panics of handlers. Invalid outcomes, such as a hijacked connection or a field that can't be sent. Both became
	// a 500.
	Panics, Invalid uint64
	// Busy goroutines and Queued jobs at the moment.
	Busy, Queued int
}

// New returns a lane that does not run yet.
func New(opt Options) *Lane {
	if opt.Goroutines <= 0 {
		opt.Goroutines = GoroutinesDefault
	}
	if opt.Queue <= 0 {
		opt.Queue = QueueDefault * opt.Goroutines
	}
	if opt.BodyBytesMax <= 0 {
		opt.BodyBytesMax = BodyBytesDefault
	}
	return &Lane{opt: opt, queue: make(chan *Job, opt.Queue)}
}

// Start starts the goroutines. A lane is started once.
func (l *Lane) Start() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running || l.stopping.Load() {
		return
	}
	l.running = true
	for range l.opt.Goroutines {
		l.workers.Go(l.work)
	}
}

// Stop ends the lane: Submit reports false from now on, jobs that wait are answered 503, and handlers that run are
// waited for.
func (l *Lane) Stop() {
	l.mu.Lock()
	l.stopping.Store(true)
	if l.running {
		l.running = false
		close(l.queue)
	}
	l.mu.Unlock()
	l.workers.Wait()
}

// Submit has j's handler run. It never waits: false means that too many jobs wait already, or that the lane does not
// run, and that done will not be called. post must run its argument on the thread of the worker that j belongs to; done
// gets the verdict there, unless j was cancelled. The verdict is done's to keep.
func (l *Lane) Submit(j *Job, post func(func()), done func(*Verdict)) bool {
	j.post, j.done = post, done
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running {
		select {
		case l.queue <- j:
			l.counts.submitted.Add(1)
			return true
		default:
		}
	}
	l.counts.full.Add(1)
	return false
}

// Stats reads the counters; each is exact, together they are not of one moment.
func (l *Lane) Stats() Stats {
	c := &l.counts
	return Stats{
		Submitted: c.submitted.Load(), Full: c.full.Load(), Done: c.done.Load(), Cancelled: c.cancelled.Load(),
		Panics: c.panics.Load(), Invalid: c.invalid.Load(), Busy: int(c.busy.Load()), Queued: len(l.queue),
	}
}

func (l *Lane) work() {
	for j := range l.queue {
		switch {
		case j.cancelled.Load():
			l.counts.cancelled.Add(1)
			continue
		case l.stopping.Load():
			l.deliver(j, failed(fasthttp.StatusServiceUnavailable, "lane_stopped"))
			continue
		}
		l.counts.busy.Add(1)
		v := l.run(j)
		l.counts.busy.Add(-1)
		l.deliver(j, v)
	}
}

// run calls the handler and survives its panic.
func (l *Lane) run(j *Job) (v *Verdict) {
	defer func() {
		if value := recover(); value != nil {
			l.counts.panics.Add(1)
			if l.opt.OnPanic != nil {
				l.opt.OnPanic(value, debug.Stack())
			}
			v = failed(fasthttp.StatusInternalServerError, "lane_panic")
		}
	}()
	// A context of its own for each job: handlers may leave a timed out response or a running goroutine behind in it.
	ctx := j.context()
	j.handler(ctx)
	v = verdictOf(ctx)
	if v.invalid {
		l.counts.invalid.Add(1)
	}
	return v
}

// deliver posts the verdict. Whether the job was cancelled is looked at on the worker's thread, where Cancel is called.
func (l *Lane) deliver(j *Job, v *Verdict) {
	l.counts.done.Add(1)
	j.post(func() {
		if !j.cancelled.Load() {
			j.done(v)
		}
	})
}
