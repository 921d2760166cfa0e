package lead

import (
	"context"
	"math/rand/v2"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"rauta.io/rauta/control/pause"
)

// jitterMax is how much longer than Options.Retry a replica waits at most before it looks again, as a part of it: replicas
// that were started together do not ask together for ever.
const jitterMax = 1.2

// candidate is this replica's side of the Lease. The rules are those of client-go's package leaderelection, so that replicas
// that follow either respect each other:
//   - Who holds the Lease renews it every Options.Retry.
//   - Clocks of nodes differ, so times in the Lease are for people to read. A candidate notes by its own clock when it has
//     seen the Lease change, and believes in its holder for as long after that as the Lease says.
//   - A holder that has not renewed for Options.Renew, which is less, gives up.
//   - Who stops holds it no more: an empty holder may be followed at once.
//
// Two who write at the same moment have the same version before them, and the API server refuses one of them.
type candidate struct {
	opt  *Options
	lock *watchedLock
	now  func() time.Time // with a monotonic reading

	seen    *coordinationv1.Lease // as it was read or written last; nil before
	changed time.Time             // when seen was first known as it is
	leader  string                // who was last said to lead
}

// holder is who holds a Lease; nobody holds one that is not there.
func holder(lease *coordinationv1.Lease) string {
	if lease == nil {
		return ""
	}
	return ptr.Deref(lease.Spec.HolderIdentity, "")
}

// holds reports whether this replica is the holder as far as it knows.
func (c *candidate) holds() bool { return c.seen != nil && holder(c.seen) == c.opt.Identity }

// believed reports whether the holder is still to be believed in.
func (c *candidate) believed(now time.Time) bool {
	if c.seen == nil || c.seen.Spec.LeaseDurationSeconds == nil {
		return false
	}
	return now.Before(c.changed.Add(time.Duration(*c.seen.Spec.LeaseDurationSeconds) * time.Second))
}

// see notes what the Lease is like.
func (c *candidate) see(lease *coordinationv1.Lease, now time.Time) {
	if c.seen == nil || !sameTerm(&c.seen.Spec, &lease.Spec) {
		c.changed = now
	}
	c.seen = lease
	if who := holder(lease); who != c.leader {
		c.leader = who
		if who != "" && who != c.opt.Identity {
			c.opt.Log.Info("another replica leads", "lease", c.lock.lease, "leader", who)
		}
	}
}

// sameTerm reports whether nothing has happened between two states of the Lease: its holder has not renewed it.
func sameTerm(a, b *coordinationv1.LeaseSpec) bool {
	return ptr.Deref(a.HolderIdentity, "") == ptr.Deref(b.HolderIdentity, "") && ptr.Deref(a.LeaseDurationSeconds, 0) == ptr.Deref(b.LeaseDurationSeconds, 0) &&
		ptr.Deref(a.LeaseTransitions, 0) == ptr.Deref(b.LeaseTransitions, 0) && a.RenewTime.Equal(b.RenewTime) && a.AcquireTime.Equal(b.AcquireTime)
}

// campaign looks at the Lease again and again until this replica holds it; false if ctx is done before.
func (c *candidate) campaign(ctx context.Context) bool {
	for ctx.Err() == nil {
		if c.try(ctx) {
			return true
		}
		if !pause.For(ctx, c.opt.Retry+time.Duration(rand.Float64()*jitterMax*float64(c.opt.Retry))) {
			break
		}
	}
	return false
}

// renew keeps the Lease until ctx is done, or until it could not be renewed for Options.Renew.
func (c *candidate) renew(ctx context.Context) {
	for pause.For(ctx, c.opt.Retry) {
		if !c.renewOnce(ctx) {
			return
		}
	}
}

// renewOnce tries for Options.Renew; a request that hangs is given up then, too.
func (c *candidate) renewOnce(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, c.opt.Renew)
	defer cancel()
	for ctx.Err() == nil {
		if c.try(ctx) {
			return true
		}
		if !pause.For(ctx, c.opt.Retry) {
			break
		}
	}
	return false
}

// try takes or renews the Lease if that is allowed, and reports whether this replica holds it now.
func (c *candidate) try(ctx context.Context) bool {
	now := c.now()
	if c.holds() && c.believed(now) {
		// Nobody else may have written: one request is enough.
		if c.write(ctx, c.seen, now) {
			return true
		}
	}
	lease, err := c.lock.get(ctx)
	if apierrors.IsNotFound(err) {
		return c.write(ctx, nil, now)
	}
	if err != nil {
		return false
	}
	c.see(lease, c.now()) // the answer may have taken its time, and the holder may have renewed just before it came
	if who := holder(lease); who != "" && who != c.opt.Identity && c.believed(now) {
		return false
	}
	return c.write(ctx, lease, now)
}

// write makes this replica the holder of a Lease, which is created if it is nil.
func (c *candidate) write(ctx context.Context, old *coordinationv1.Lease, now time.Time) bool {
	at, seconds, transitions := metav1.NewMicroTime(now), int32(c.opt.Lease/time.Second), int32(0)
	fresh := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: c.opt.Namespace, Name: c.opt.Name}}
	acquired := &at
	if old != nil {
		fresh, transitions = old.DeepCopy(), ptr.Deref(old.Spec.LeaseTransitions, 0)
		if holder(old) != c.opt.Identity {
			transitions++
		} else if old.Spec.AcquireTime != nil {
			acquired = old.Spec.AcquireTime
		}
	}
	fresh.Spec.HolderIdentity, fresh.Spec.LeaseDurationSeconds, fresh.Spec.LeaseTransitions = &c.opt.Identity, &seconds, &transitions
	fresh.Spec.AcquireTime, fresh.Spec.RenewTime = acquired, &at
	return c.store(ctx, old == nil, fresh)
}

// store writes a Lease and notes what has come of it.
func (c *candidate) store(ctx context.Context, isNew bool, lease *coordinationv1.Lease) bool {
	write := c.lock.update
	if isNew {
		write = c.lock.create
	}
	written, err := write(ctx, lease)
	if err != nil {
		return false
	}
	c.see(written, c.now())
	return true
}

// release gives the Lease back, if this replica has it still.
func (c *candidate) release() {
	ctx, cancel := context.WithTimeout(context.Background(), c.opt.Renew)
	defer cancel()
	lease, err := c.lock.get(ctx)
	if err != nil || holder(lease) != c.opt.Identity {
		return
	}
	at, seconds, nobody := metav1.NewMicroTime(c.now()), int32(1), ""
	lease = lease.DeepCopy()
	lease.Spec.HolderIdentity, lease.Spec.LeaseDurationSeconds = &nobody, &seconds
	lease.Spec.AcquireTime, lease.Spec.RenewTime = &at, &at
	c.store(ctx, false, lease)
}
