package status

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"rauta.io/rauta/control/kube"
	"rauta.io/rauta/control/pause"
	"rauta.io/rauta/control/translate"
)

const (
	// requestsPerSecond and requestsBurst bound what statuses ask of the API server: 10,000 new routes are told within a
	// minute, and other clients of the server do not feel it.
	requestsPerSecond = 200
	requestsBurst     = 400
	// writesAtOnce is the number of statuses that are written in parallel: it hides the time of one request to the server.
	writesAtOnce = 8
	// conflictsMax is how often a write is tried again at once because the object changed; the next round tries on.
	conflictsMax = 5
	// conflictPause is the pause before the second try, which doubles.
	conflictPause = 20 * time.Millisecond
	// roundPause is the time between two looks at all statuses while Updates come one after the other.
	roundPause = 100 * time.Millisecond
	// retryMin and retryMax bound the pause before a write that failed is tried again; it doubles.
	retryMin = time.Second
	retryMax = time.Minute
	// addressPatience is how long a new leader waits for the addresses.
	addressPatience = 15 * time.Second
	// awayMax bounds the pause before an API server that did not answer is asked again.
	awayMax = 5 * time.Second
)

// Options say who writes.
type Options struct {
	// ControllerName is how entries of ours are known in lists that controllers share.
	ControllerName string
	// Identity is the name of this replica; it goes into Events.
	Identity string
	// EventsPerSecond bounds the Events that are written; 0 for EventsPerSecond.
	EventsPerSecond float64
	// Addresses are waited for, for a while, before the first status of a term is written: what is not known yet would take
	// the place of what the last leader has written. Nil to wait for none.
	Addresses *Addresses
	Log       *slog.Logger
}

// Writer writes the statuses and Events of the newest Update while it runs.
type Writer struct {
	// Immutable.
	opt    Options
	api    api
	events *events
	// services is nil where nobody looks after the Services of Gateways: in tests of everything else.
	services *services
	limit    *rate.Limiter
	seed     maphash.Seed
	now      func() time.Time
	poke     chan struct{} // holds one token when there is a new Update

	counters counters

	mu     sync.Mutex
	newest *Update
	left   departed

	// Owned by Run.
	written map[id]written
	failed  map[id]*failure
	settled settledRoutes
	away    int // rounds in a row that have ended because the API server did not answer
}

// written says that of an object of a version a status has been written. It holds until the object is seen in a newer
// version: what an Update has is older than our own writes.
type written struct {
	version     string
	fingerprint uint64
}

// failure is a write that has been refused.
type failure struct {
	version string // of the object; a newer one is tried at once
	tries   int
	until   time.Time
	logged  string
}

// New prepares a Writer for an API server. It asks nobody.
func New(cfg *rest.Config, opt Options) (*Writer, error) {
	own := rest.CopyConfig(cfg)
	own.QPS, own.Burst, own.RateLimiter = -1, 0, nil // limits of our own stand before it
	a, err := newCluster(own)
	if err != nil {
		return nil, err
	}
	client, err := kube.New(own)
	if err != nil {
		return nil, err
	}
	w := newWriter(a, &clusterEvents{client}, opt)
	w.services = newServices(&clusterServices{client: client, controller: w.opt.ControllerName}, opt.Log)
	return w, nil
}

func newWriter(a api, client eventClient, opt Options) *Writer {
	if opt.ControllerName == "" {
		opt.ControllerName = translate.DefaultControllerName
	}
	w := &Writer{
		opt: opt, api: a, limit: rate.NewLimiter(requestsPerSecond, requestsBurst), seed: maphash.MakeSeed(), now: time.Now,
		poke: make(chan struct{}, 1), left: newDeparted(), written: map[id]written{}, failed: map[id]*failure{},
		settled: settledRoutes{},
	}
	w.events = newEvents(client, opt, &w.counters)
	return w
}

// Offer replaces the Update that is to be written. It never waits.
func (w *Writer) Offer(u Update) {
	w.mu.Lock()
	if w.newest != nil {
		w.left.follow(&w.newest.Result.Statuses, &u.Result.Statuses)
	}
	w.newest = &u
	w.mu.Unlock()
	select {
	case w.poke <- struct{}{}:
	default: // one is waiting already
	}
}

// Run writes until ctx is done. It must not run twice at the same time.
func (w *Writer) Run(ctx context.Context) {
	// Another replica may have written since.
	clear(w.written)
	clear(w.failed)
	defer clear(w.settled) // for the memory
	var events sync.WaitGroup
	events.Go(func() { w.events.run(ctx) })
	if w.services != nil {
		events.Go(func() { w.services.run(ctx) })
	}
	defer events.Wait()
	w.awaitAddresses(ctx)
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.poke:
		case <-next.C:
		}
		again := w.round(ctx)
		if !pause.For(ctx, roundPause) {
			return
		}
		next.Reset(again)
	}
}

func (w *Writer) awaitAddresses(ctx context.Context) {
	if w.opt.Addresses == nil {
		return
	}
	for end := time.Now().Add(addressPatience); time.Now().Before(end); {
		if _, known := w.opt.Addresses.Current(); known || !pause.For(ctx, roundPause) {
			pause.For(ctx, roundPause) // they are being translated
			return
		}
	}
	w.opt.Log.Warn("statuses are written without addresses, which are not known",
		"hint", "see the lines before, or use --publish-address or --publish-service")
}

// round makes the statuses of the newest Update right, and returns when to look again at what failed.
func (w *Writer) round(ctx context.Context) time.Duration {
	w.mu.Lock()
	u := w.newest
	left := w.left.clone()
	w.mu.Unlock()
	if u == nil {
		return retryMax
	}
	w.events.offer(u)
	if w.services != nil {
		w.services.offer(u.Result.Statuses.GatewayServices)
	}
	p := planner{controller: w.opt.ControllerName, seed: w.seed, settled: w.settled}
	jobs := w.due(p.plan(u, &left))
	results := make([]error, len(jobs))
	w.parallel(ctx, u, jobs, results)
	return w.note(jobs, results)
}

// due leaves out what has been written or has to wait, and forgets what nobody asks for any more.
func (w *Writer) due(jobs []job) []job {
	now := w.now()
	known, failed := w.written, w.failed
	w.written, w.failed = map[id]written{}, map[id]*failure{}
	out := jobs[:0]
	for _, j := range jobs {
		version := j.object.GetResourceVersion()
		before, seen := known[j.id]
		if seen && before.version == version {
			w.written[j.id] = before
			if before.fingerprint == j.fingerprint {
				continue
			}
			j.cached = unknown // it is older than what we have written
		}
		if f := failed[j.id]; f != nil && f.version == version {
			w.failed[j.id] = f
			if now.Before(f.until) {
				continue
			}
		}
		out = append(out, j)
	}
	return out
}

// errSkipped is what becomes of jobs when an Update is obsolete before they began.
var errSkipped = errors.New("a newer update has come")

// parallel runs jobs until all are done, ctx is, the API server does not answer, or a newer Update has come.
func (w *Writer) parallel(ctx context.Context, u *Update, jobs []job, results []error) {
	next := make(chan int)
	var workers sync.WaitGroup
	var away atomic.Bool
	for range min(writesAtOnce, len(jobs)) {
		workers.Go(func() {
			for i := range next {
				if results[i] = w.write(ctx, &jobs[i]); unanswered(results[i]) {
					away.Store(true)
				}
			}
		})
	}
	for i := range jobs {
		if ctx.Err() != nil || away.Load() || w.obsolete(u) {
			results[i] = errSkipped
			continue
		}
		next <- i
	}
	close(next)
	workers.Wait()
}

// unanswered reports whether a request failed for a reason that the others will meet, too.
func unanswered(err error) bool {
	switch {
	case err == nil, errors.Is(err, errSkipped), errors.Is(err, errStale), errors.Is(err, context.Canceled), meta.IsNoMatchError(err):
		return false
	case apierrors.IsServerTimeout(err), apierrors.IsTooManyRequests(err), apierrors.IsServiceUnavailable(err), apierrors.IsInternalError(err):
		return true
	}
	return apierrors.ReasonForError(err) == metav1.StatusReasonUnknown
}

func (w *Writer) obsolete(u *Update) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.newest != u
}

// write makes one status right.
func (w *Writer) write(ctx context.Context, j *job) error {
	var have live
	if status, err := j.cached(); err != nil {
		return err
	} else if status != nil {
		have = live{uid: j.object.GetUID(), version: j.object.GetResourceVersion(), generation: j.object.GetGeneration(), status: status}
	}
	for try := 0; ; try++ {
		err := w.writeOnce(ctx, j, have)
		if !apierrors.IsConflict(err) || try == conflictsMax {
			return err
		}
		w.counters.of(j.id.Kind).conflicts.Add(1)
		if !pause.For(ctx, conflictPause<<try) {
			return ctx.Err()
		}
		have = live{}
	}
}

// writeOnce writes if have, or what the API server has if have is empty, differs.
func (w *Writer) writeOnce(ctx context.Context, j *job, have live) error {
	if have.version == "" {
		if err := w.limit.Wait(ctx); err != nil {
			return err
		}
		var err error
		have, err = w.api.get(ctx, j.id)
		if apierrors.IsNotFound(err) {
			return nil // there is nothing to write to any more
		}
		if err != nil {
			return fmt.Errorf("read the object: %w", err)
		}
		// Of another object, or of a newer generation, nothing is known yet.
		if have.uid != j.object.GetUID() || have.generation > j.object.GetGeneration() {
			return errStale
		}
	}
	fields, err := j.merge(have.status, w.now())
	if err != nil || fields == nil {
		return err
	}
	if err := w.limit.Wait(ctx); err != nil {
		return err
	}
	w.counters.of(j.id.Kind).writes.Add(1)
	if err := w.api.patch(ctx, j.id, have.version, fields); err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	return nil
}

// note remembers what has come of the jobs, and returns when the first of those that failed is due again.
func (w *Writer) note(jobs []job, results []error) time.Duration {
	now, next := w.now(), retryMax
	var away error
	for i := range jobs {
		j, err := &jobs[i], results[i]
		version := j.object.GetResourceVersion()
		switch {
		case err == nil:
			w.written[j.id] = written{version: version, fingerprint: j.fingerprint}
			if f := w.failed[j.id]; f != nil {
				w.opt.Log.Info("the status could be written at last", "object", name(j.id))
			}
			delete(w.failed, j.id)
			w.mu.Lock()
			w.left.forget(j.id)
			w.mu.Unlock()
		case errors.Is(err, errSkipped), errors.Is(err, errStale), errors.Is(err, context.Canceled):
		case meta.IsNoMatchError(err):
			// The definition of the kind comes or goes. Where it goes, the objects leave the next Update.
			next = min(next, kindsAfter)
		case unanswered(err):
			w.counters.of(j.id.Kind).failures.Add(1)
			away = err
		default:
			next = min(next, w.refused(j, version, err, now))
		}
	}
	w.counters.waiting.Store(int64(len(w.failed)))
	if away == nil {
		w.away = 0
		return next
	}
	if w.away == 0 {
		w.opt.Log.Warn("the API server does not take statuses; it is asked again", "error", away)
	}
	w.away++
	return min(next, retryMin<<min(w.away-1, 10), awayMax)
}

// refused logs a failure, once for each reason, and returns when it is tried again.
func (w *Writer) refused(j *job, version string, err error, now time.Time) time.Duration {
	w.counters.of(j.id.Kind).failures.Add(1)
	f := w.failed[j.id]
	if f == nil {
		f = &failure{version: version}
		w.failed[j.id] = f
	}
	again := min(retryMin<<min(f.tries, 10), retryMax)
	f.tries++
	f.until = now.Add(again)
	// The reason without the object's version and such, which differ each time.
	if reason := string(apierrors.ReasonForError(err)); f.logged != reason || reason == "" && f.tries == 1 {
		f.logged = reason
		w.opt.Log.Warn("a status could not be written; it is tried again", "object", name(j.id), "error", err)
	}
	return again
}

func name(o id) string {
	if o.Namespace == "" {
		return o.Kind + " " + o.Name
	}
	return o.Kind + " " + o.Namespace + "/" + o.Name
}
