package watch

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

// name identifies an object of one kind.
type name struct{ namespace, name string }

func nameOf(o metav1.Object) name { return name{o.GetNamespace(), o.GetName()} }

// Waiting between attempts to read a kind. It is long enough for some thousand replicas not to be a load. After an outage
// nothing waits for it: discover asks in place of all kinds.
const (
	retryTimeMin = 200 * time.Millisecond
	retryTimeMax = 2500 * time.Millisecond
)

// An API server that has just come back may say that there are no objects of a kind before it knows better. A list that is
// empty where there was something is believed after it has been empty emptyTimes more, emptyTime apart. Objects that are
// deleted while the API server can be reached go at once: there is an event for each.
const (
	emptyTimes = 2
	emptyTime  = 2 * time.Second
)

// scope is which objects of a kind a source reads.
type scope struct {
	namespace string // empty for all
	name      string // one object only
	fields    string
}

// source follows the objects of one kind in one scope. It is the store of a reflector.
type source struct {
	cluster *Cluster
	table   *table
	scope   scope

	lister atomic.Pointer[lister] // of the reflector that runs

	// Protected by cluster.mu.
	objects map[name]object
	synced  bool
	awaited bool               // Objects has been asked before it was synced
	misfits map[name]misfit    // objects that could not be decoded, or are too large
	doubted map[name]bool      // objects that an empty list did not have, until it is known whether they are gone
	cancel  context.CancelFunc // ends the reflector; nil if none is running
	empty   chan struct{}      // told that a list was empty
}

// retries is how long is waited between attempts; jitter is half as much again.
func retries() wait.Backoff {
	return wait.Backoff{Duration: retryTimeMin, Factor: 2, Jitter: 0.5, Steps: 8, Cap: retryTimeMax}
}

// run follows the objects until ctx is done.
func (s *source) run(ctx context.Context, client rest.Interface) {
	lw := &lister{client: client, codec: s.cluster.codec, table: s.table, scope: s.scope, told: s.cluster.trouble.told}
	s.lister.Store(lw)
	retry := s.cluster.opt.Retry
	r := cache.NewReflectorWithOptions(lw, s.table.example, s, cache.ReflectorOptions{
		Name: s.table.plural, TypeDescription: s.table.kind,
		Backoff: &retry,
	})
	go s.doubt(ctx, lw)
	r.RunWithContext(klog.NewContext(ctx, s.cluster.trouble.library))
}

// waits reports whether no changes come at the moment.
func (s *source) waits() bool {
	l := s.lister.Load()
	return l == nil || l.watching.Load() == 0
}

// doubt asks again after an empty list, until ctx is done.
func (s *source) doubt(ctx context.Context, lw *lister) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.empty:
		}
		for seen := 0; seen < emptyTimes; {
			select {
			case <-ctx.Done():
				return
			case <-time.After(s.cluster.opt.EmptyTime):
			}
			list, err := lw.ListWithContext(ctx, metav1.ListOptions{Limit: 1}) // without a version: from the majority of the storage
			if err != nil {
				continue
			}
			if !isEmpty(list) {
				s.cluster.restart(s)
				return
			}
			seen++
		}
		s.believe()
	}
}

// lister lists and watches one resource.
type lister struct {
	client rest.Interface
	codec  runtime.ParameterCodec
	table  *table
	scope  scope
	told   func(*table, error)

	watching atomic.Int32 // watches that are open
}

// stream is a watch that is counted.
type stream struct {
	apiwatch.Interface
	ended func()
}

func (s *stream) Stop() {
	s.Interface.Stop()
	s.ended()
}

func (l *lister) request(opts *metav1.ListOptions) *rest.Request {
	opts.FieldSelector = l.scope.fields
	return l.client.Get().NamespaceIfScoped(l.scope.namespace, l.scope.namespace != "").Resource(l.table.plural).VersionedParams(opts, l.codec)
}

func (l *lister) ListWithContext(ctx context.Context, opts metav1.ListOptions) (runtime.Object, error) {
	list, err := l.request(&opts).Do(ctx).Get()
	l.told(l.table, err)
	return list, err
}

func (l *lister) WatchWithContext(ctx context.Context, opts metav1.ListOptions) (apiwatch.Interface, error) {
	opts.Watch = true
	w, err := l.request(&opts).Watch(ctx)
	l.told(l.table, err)
	if err != nil {
		return nil, err
	}
	l.watching.Add(1)
	return &stream{w, sync.OnceFunc(func() { l.watching.Add(-1) })}, nil
}

// List and Watch are for a reflector that knows no context; it prefers the others.
func (l *lister) List(opts metav1.ListOptions) (runtime.Object, error) {
	return l.ListWithContext(context.Background(), opts)
}

func (l *lister) Watch(opts metav1.ListOptions) (apiwatch.Interface, error) {
	return l.WatchWithContext(context.Background(), opts)
}

// Transformer strips objects while they are still being listed.
func (s *source) Transformer() cache.TransformFunc {
	return func(o any) (any, error) {
		if known, ok := o.(object); ok && !isMisfit(known) {
			s.table.strip(known)
		}
		return o, nil
	}
}

// Add and Update are the same to a store that knows its objects by name.
func (s *source) Add(o any) error { return s.Update(o) }

// Update keeps the newest state of an object.
func (s *source) Update(o any) error {
	fresh, ok := o.(object)
	if !ok {
		return nil
	}
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	s.take(fresh)
	return nil
}

// take keeps an object, or that it is a misfit, which is as if it did not exist; cluster.mu is held.
func (s *source) take(fresh object) (kept bool) {
	k := nameOf(fresh)
	reason := ""
	if isMisfit(fresh) {
		reason = "does not have the form of its kind"
	} else {
		s.table.strip(fresh)
		if s.table.large != nil {
			reason = s.table.large(fresh)
		}
	}
	if reason == "" {
		s.fits(k)
		s.put(fresh)
		return true
	}
	if now := (misfit{fresh.GetResourceVersion(), reason}); s.misfits[k] != now {
		s.misfits[k] = now
		s.cluster.trouble.misfit(s.table, fresh, reason)
		s.unreadChanged()
	}
	s.remove(k)
	return false
}

// fits forgets that an object was a misfit; cluster.mu is held.
func (s *source) fits(k name) {
	if _, was := s.misfits[k]; was {
		delete(s.misfits, k)
		s.unreadChanged()
	}
}

// unreadChanged: messages about references say why an object is not there; cluster.mu is held.
func (s *source) unreadChanged() {
	if s.table.referred {
		s.cluster.pending.Objects, s.cluster.pending.Members = true, true
		s.cluster.note()
	}
}

// put is Update of a stripped object, which has not been put before; cluster.mu is held.
func (s *source) put(fresh object) {
	k := nameOf(fresh)
	before, known := s.objects[k]
	s.cluster.common.Object(fresh)
	s.objects[k] = fresh
	delete(s.doubted, k)
	s.table.replace(before, fresh)
	if known && s.table.equal(before, fresh) {
		if before.GetResourceVersion() != fresh.GetResourceVersion() {
			s.cluster.statusChanged()
		}
		return
	}
	s.cluster.changed(s.table, before, fresh)
}

// Delete forgets an object.
func (s *source) Delete(o any) error {
	if gone, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = gone.Obj
	}
	gone, ok := o.(object)
	if !ok {
		return nil
	}
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	s.fits(nameOf(gone))
	s.remove(nameOf(gone))
	return nil
}

// remove is Delete by name; cluster.mu is held.
func (s *source) remove(k name) {
	before, known := s.objects[k]
	if !known {
		return
	}
	delete(s.objects, k)
	delete(s.doubted, k)
	s.table.replace(before, nil)
	s.cluster.changed(s.table, before, nil)
}

// Replace takes a complete list.
func (s *source) Replace(list []any, _ string) error {
	present, misfits := make(map[name]bool, len(list)), map[name]bool{}
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	s.table.list = nil
	for _, o := range list {
		if fresh, ok := o.(object); ok {
			if s.take(fresh) {
				present[nameOf(fresh)] = true
			} else {
				misfits[nameOf(fresh)] = true
			}
		}
	}
	for k := range s.misfits {
		if !misfits[k] {
			s.fits(k)
		}
	}
	if len(list) == 0 && len(s.objects) > 0 {
		for k := range s.objects {
			s.doubted[k] = true
		}
		s.cluster.trouble.emptied(s.table, len(s.objects))
		select {
		case s.empty <- struct{}{}:
		default: // it is being looked into already
		}
	} else {
		for k := range s.objects {
			if !present[k] {
				s.remove(k)
			}
		}
	}
	if !s.synced {
		s.synced = true
		if s.awaited {
			s.unreadChanged()
		}
		s.cluster.wake()
	}
	return nil
}

// believe forgets what an empty list did not have.
func (s *source) believe() {
	s.cluster.mu.Lock()
	defer s.cluster.mu.Unlock()
	for k := range s.doubted {
		s.remove(k)
	}
}

// forget drops everything, because the kind is gone; cluster.mu is held.
func (s *source) forget() {
	for k := range s.objects {
		s.remove(k)
	}
}

// Resync is never asked for.
func (s *source) Resync() error { return nil }
