// Package lead chooses one replica among those that share a Lease: only that one writes statuses and Events.
//
// It owns the election: how long a term lasts, what is logged about it, and that work of a term that has ended is over
// before the next one begins. It does not own what the leader does. cmd/rauta calls it; the data plane knows nothing of
// it, because every replica serves.
package lead

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"k8s.io/client-go/rest"

	"rauta.io/rauta/control/kube"
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

// New prepares a campaign for one of the Leases, which are those of the namespace; Run leads it.
func New(leases Leases, opt Options) (*Election, error) {
	opt.Lease = cmp.Or(opt.Lease, DefaultLease)
	opt.Renew = cmp.Or(opt.Renew, DefaultRenew)
	opt.Retry = cmp.Or(opt.Retry, DefaultRetry)
	opt.Name = cmp.Or(opt.Name, DefaultName)
	switch {
	case opt.Identity == "":
		return nil, errors.New("preparing the election: this replica has no identity")
	case opt.Retry <= 0:
		return nil, errors.New("preparing the election: the time between two tries must be positive")
	case opt.Lease < time.Second:
		return nil, errors.New("preparing the election: a lease must last a second or longer")
	case opt.Lease <= opt.Renew:
		return nil, errors.New("preparing the election: a lease must last longer than it is tried to renew it")
	case float64(opt.Renew) <= jitterMax*float64(opt.Retry):
		return nil, errors.New("preparing the election: renewing must be tried for longer than 1.2 times the time between two tries")
	}
	return &Election{opt: opt, lock: &watchedLock{leases: leases, name: opt.Name, lease: opt.Namespace + "/" + opt.Name, log: opt.Log}}, nil
}

// ForCluster is New for an API server. It asks nobody.
func ForCluster(cfg *rest.Config, opt Options) (*Election, error) {
	client, err := kube.New(cfg)
	if err != nil {
		return nil, err
	}
	return New(client.Leases(opt.Namespace), opt)
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
	c := &candidate{opt: &e.opt, lock: e.lock, now: time.Now}
	if !c.campaign(ctx) {
		return
	}
	// The Lease is renewed for as long as the work takes, also when ctx is done, and given back after it.
	renewing, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	term, end := context.WithCancel(ctx)
	defer end()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer end()
		c.renew(renewing)
	}()
	e.lead(ctx, term, work)
	stop()
	<-ended
	c.release()
}

// lead works until the term is done, which ends with ctx.
func (e *Election) lead(ctx, term context.Context, work func(context.Context)) {
	e.leading.Store(true)
	e.terms.Add(1)
	e.opt.Log.Info("this replica leads: it writes statuses and events", "lease", e.lock.lease, "identity", e.opt.Identity)
	work(term)
	e.leading.Store(false)
	if ctx.Err() == nil {
		e.opt.Log.Warn("this replica does not lead any more", "lease", e.lock.lease, "identity", e.opt.Identity)
	}
}
