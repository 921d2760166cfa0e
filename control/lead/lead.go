// Package lead chooses one replica among those that share a Lease: only that one writes statuses and Events.
//
// It owns the election: how long a term lasts, what is logged about it, and that work of a term that has ended is over
// before the next one begins. It does not own what the leader does. cmd/rauta calls it; the data plane knows nothing of
// it, because every replica serves.
package lead

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationv1 "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"
)

// Defaults of a term. A leader that vanished is followed by another one after the lease and at most two jittered retries,
// one until its last renewal was seen and one after the lease: 15 s + 2 * 1.2 * 1 s, which is less than the 20 s that are
// promised.
const (
	DefaultLease = 15 * time.Second
	DefaultRenew = 10 * time.Second // a leader that can't renew gives up, well before another one may take over
	DefaultRetry = 1 * time.Second

	// DefaultName is the Lease that replicas share.
	DefaultName = "rauta"
)

// Options say what is campaigned for. The zero value of a duration means its default.
type Options struct {
	// Namespace and Name of the Lease, and the Identity of this replica, which is the name of its pod.
	Namespace, Name, Identity string
	// Lease is how long a leader is believed in, Renew how long it tries to renew before it gives up, Retry how often all
	// look at the Lease. Lease > Renew > 1.2 * Retry.
	Lease, Renew, Retry time.Duration
	Log                 *slog.Logger
}

// Election is one replica's part in an election.
type Election struct {
	// Immutable.
	opt  Options
	lock *watchedLock

	// Atomic.
	leading atomic.Bool
	terms   atomic.Uint64
}

// New prepares a campaign; Run leads it.
func New(leases coordinationv1.LeasesGetter, opt Options) (*Election, error) {
	opt.Lease = cmp.Or(opt.Lease, DefaultLease)
	opt.Renew = cmp.Or(opt.Renew, DefaultRenew)
	opt.Retry = cmp.Or(opt.Retry, DefaultRetry)
	opt.Name = cmp.Or(opt.Name, DefaultName)
	e := &Election{opt: opt, lock: &watchedLock{
		Interface: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: opt.Namespace, Name: opt.Name},
			Client:     leases,
			LockConfig: resourcelock.ResourceLockConfig{Identity: opt.Identity},
		},
		lease: opt.Namespace + "/" + opt.Name, log: opt.Log,
	}}
	// What the elector refuses now it would refuse later, too.
	if _, err := e.elector(nil); err != nil {
		return nil, err
	}
	return e, nil
}

// ForCluster is New for an API server. It asks nobody.
func ForCluster(cfg *rest.Config, opt Options) (*Election, error) {
	client, err := coordinationv1.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("prepare the client for leases: %w", err)
	}
	return New(client, opt)
}

// Leading reports whether this replica has the Lease and works.
func (e *Election) Leading() bool { return e.leading.Load() }

// Terms is how often this replica has become the leader.
func (e *Election) Terms() uint64 { return e.terms.Load() }

// Run calls work whenever this replica leads, until ctx is done. The context of work ends with the term; work must return
// then, and the Lease is given back after it has. Run returns when both has happened.
func (e *Election) Run(ctx context.Context, work func(context.Context)) {
	for ctx.Err() == nil {
		e.term(ctx, work)
	}
}

// term waits for leadership and works until it ends.
func (e *Election) term(ctx context.Context, work func(context.Context)) {
	// The elector outlives ctx: it gives the Lease back when it ends, and that must be after the work.
	electing, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	won := make(chan context.Context, 1)
	elector, err := e.elector(won)
	if err != nil {
		panic("lead: options that New has accepted: " + err.Error())
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		// The library's own lines are dropped: watchedLock says the same in a form that tells what to do.
		elector.Run(klog.NewContext(electing, logr.Discard()))
	}()
	select {
	case <-ctx.Done():
	case term := <-won:
		e.lead(ctx, term, work)
	}
	stop()
	<-ended
}

// lead works until ctx or the term is done.
func (e *Election) lead(ctx, term context.Context, work func(context.Context)) {
	working, end := context.WithCancel(term)
	defer end()
	defer context.AfterFunc(ctx, end)()
	e.leading.Store(true)
	e.terms.Add(1)
	e.opt.Log.Info("this replica leads: it writes statuses and events", "lease", e.lock.lease, "identity", e.opt.Identity)
	work(working)
	e.leading.Store(false)
	if ctx.Err() == nil {
		e.opt.Log.Warn("this replica does not lead any more", "lease", e.lock.lease, "identity", e.opt.Identity)
	}
}

func (e *Election) elector(won chan<- context.Context) (*leaderelection.LeaderElector, error) {
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: e.lock, LeaseDuration: e.opt.Lease, RenewDeadline: e.opt.Renew, RetryPeriod: e.opt.Retry,
		ReleaseOnCancel: true, Name: e.opt.Name,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(term context.Context) { won <- term },
			OnStoppedLeading: func() {},
			OnNewLeader: func(identity string) {
				if identity != e.opt.Identity && identity != "" {
					e.opt.Log.Info("another replica leads", "lease", e.lock.lease, "leader", identity)
				}
			},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("preparing the election: %w", err)
	}
	return elector, nil
}
