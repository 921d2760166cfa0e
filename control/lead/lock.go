package lead

import (
	"context"
	"log/slog"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// repeatAfter is how long the same failure is not logged again: replicas try every second.
const repeatAfter = time.Minute

// Leases are those of a namespace.
type Leases interface {
	Get(context.Context, string, metav1.GetOptions) (*coordinationv1.Lease, error)
	Create(context.Context, *coordinationv1.Lease, metav1.CreateOptions) (*coordinationv1.Lease, error)
	Update(context.Context, *coordinationv1.Lease, metav1.UpdateOptions) (*coordinationv1.Lease, error)
}

// watchedLock is the Lease that replicas share. It logs what keeps this replica from taking part in the election.
type watchedLock struct {
	leases Leases
	name   string
	lease  string // with its namespace
	log    *slog.Logger

	mu     sync.Mutex
	last   string // the failure that was logged last; empty once the lock works again
	logged time.Time
}

func (l *watchedLock) get(ctx context.Context) (*coordinationv1.Lease, error) {
	lease, err := l.leases.Get(ctx, l.name, metav1.GetOptions{})
	if !apierrors.IsNotFound(err) { // otherwise creating it says what is wrong
		l.note(ctx, err)
	}
	return lease, err
}

func (l *watchedLock) create(ctx context.Context, lease *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	lease, err := l.leases.Create(ctx, lease, metav1.CreateOptions{})
	if !apierrors.IsAlreadyExists(err) {
		l.note(ctx, err)
	}
	return lease, err
}

func (l *watchedLock) update(ctx context.Context, lease *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	lease, err := l.leases.Update(ctx, lease, metav1.UpdateOptions{})
	if !apierrors.IsConflict(err) { // another replica was faster
		l.note(ctx, err)
	}
	return lease, err
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
