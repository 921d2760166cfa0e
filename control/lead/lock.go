package lead

import (
	"context"
	"log/slog"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// repeatAfter is how long the same failure is not logged again: replicas try every second.
const repeatAfter = time.Minute

// watchedLock logs what keeps a replica from taking part in the election.
type watchedLock struct {
	resourcelock.Interface
	lease string
	log   *slog.Logger

	mu     sync.Mutex
	last   string // the failure that was logged last; empty once the lock works again
	logged time.Time
}

func (l *watchedLock) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	record, raw, err := l.Interface.Get(ctx)
	if apierrors.IsNotFound(err) {
		return record, raw, err // Create says what is wrong
	}
	l.note(ctx, err)
	return record, raw, err
}

func (l *watchedLock) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	err := l.Interface.Create(ctx, record)
	if !apierrors.IsAlreadyExists(err) {
		l.note(ctx, err)
	}
	return err
}

func (l *watchedLock) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	err := l.Interface.Update(ctx, record)
	if !apierrors.IsConflict(err) { // another replica was faster
		l.note(ctx, err)
	}
	return err
}

func (l *watchedLock) note(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		if l.last != "" {
			l.log.Info("the lease can be used again", "lease", l.lease)
		}
		l.last = ""
		return
	}
	text := err.Error()
	if text == l.last && time.Since(l.logged) < repeatAfter {
		return
	}
	l.last, l.logged = text, time.Now()
	l.log.Warn("taking part in the election failed; it goes on, and no statuses are written meanwhile",
		"lease", l.lease, "error", err, "hint", hint(err))
}

func hint(err error) string {
	switch {
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		return "allow get, create and update of leases in group coordination.k8s.io in this namespace"
	case apierrors.IsNotFound(err):
		return "create the namespace, or name another one"
	}
	return "see whether the API server can be reached"
}
