package lead

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// usual are the options of a real replica: these tests run in simulated time.
func usual(identity string) Options {
	return Options{Namespace: "rauta-system", Identity: identity, Log: slog.New(slog.DiscardHandler)}
}

func held(t *testing.T, client *fake.Clientset) *coordinationv1.LeaseSpec {
	t.Helper()
	lease, err := client.CoordinationV1().Leases("rauta-system").Get(t.Context(), DefaultName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return &lease.Spec
}

// hold writes a Lease as its holder would, whose clock shows another time.
func hold(t *testing.T, client *fake.Clientset, identity string, shown time.Time) {
	t.Helper()
	leases, seconds, at := client.CoordinationV1().Leases("rauta-system"), int32(DefaultLease/time.Second), metav1.NewMicroTime(shown)
	lease := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: "rauta-system", Name: DefaultName},
		Spec:       coordinationv1.LeaseSpec{HolderIdentity: &identity, LeaseDurationSeconds: &seconds, RenewTime: &at, AcquireTime: &at},
	}
	_, err := leases.Create(t.Context(), lease, metav1.CreateOptions{})
	if err != nil {
		_, err = leases.Update(t.Context(), lease, metav1.UpdateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestAHolderIsBelievedForAsLongAsItRenewsWhateverItsClockShows(t *testing.T) {
	for _, wrong := range []time.Duration{-24 * time.Hour, 24 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			client, says := fake.NewClientset(), make(chan string, 8)
			e := election(t, client, usual("a"))
			hold(t, client, "b", time.Now().Add(wrong))
			ctx, stop := context.WithCancel(t.Context())
			wait := run(ctx, e, "a", says)
			for range 10 {
				time.Sleep(DefaultLease - 4*time.Second)
				hold(t, client, "b", time.Now().Add(wrong))
				synctest.Wait()
				if e.Terms() != 0 {
					t.Fatalf("clock wrong by %s: it leads beside a holder that renews", wrong)
				}
			}
			vanished := time.Now()
			expect(t, says, "a leads")
			if after := time.Since(vanished); after < DefaultLease || after > 20*time.Second {
				t.Errorf("clock wrong by %s: it leads %s after the last renewal", wrong, after)
			}
			stop()
			expect(t, says, "a stops")
			wait()
		})
	}
}

func TestTheLeaseSaysSinceWhenAndHowOftenItHasChangedHands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, says := fake.NewClientset(), make(chan string, 8)
		begun := time.Now()
		for i, identity := range []string{"a", "b"} {
			ctx, stop := context.WithCancel(t.Context())
			wait := run(ctx, election(t, client, usual(identity)), identity, says)
			expect(t, says, identity+" leads")
			acquired := time.Now()
			time.Sleep(time.Minute)
			s := held(t, client)
			if holder(&coordinationv1.Lease{Spec: *s}) != identity || *s.LeaseDurationSeconds != 15 || *s.LeaseTransitions != int32(i) {
				t.Errorf("the Lease of %s is %+v", identity, s)
			}
			if !s.AcquireTime.Time.Equal(acquired.Truncate(time.Microsecond)) || time.Since(s.RenewTime.Time) > 2*DefaultRetry {
				t.Errorf("%s, %s after the begin: acquired %s, renewed %s", identity, time.Since(begun), s.AcquireTime, s.RenewTime)
			}
			stop()
			expect(t, says, identity+" stops")
			wait()
		}
	})
}

func TestWhoLosesTheLeaseToAnotherReplicaDoesNotGiveItBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, says := fake.NewClientset(), make(chan string, 8)
		// The API server refuses what was read before another replica wrote; the one for tests does not know of it.
		client.PrependReactor("update", "leases", func(a clienttesting.Action) (bool, runtime.Object, error) {
			written := a.(clienttesting.UpdateAction).GetObject().(*coordinationv1.Lease)
			kept, err := client.Tracker().Get(a.GetResource(), a.GetNamespace(), written.Name)
			if err == nil && holder(kept.(*coordinationv1.Lease)) == "b" && holder(written) != "b" {
				return true, nil, conflict()
			}
			return false, nil, err
		})
		ctx, stop := context.WithCancel(t.Context())
		wait := run(ctx, election(t, client, usual("a")), "a", says)
		expect(t, says, "a leads")
		hold(t, client, "b", time.Now())
		expect(t, says, "a stops")
		stop()
		wait()
		if s := held(t, client); *s.HolderIdentity != "b" || *s.LeaseDurationSeconds != 15 {
			t.Errorf("the Lease of the other replica has become %+v", s)
		}
	})
}

func TestARequestThatHangsEndsTheTermInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, says := fake.NewClientset(), make(chan string, 8)
		leases := &hanging{Leases: client.CoordinationV1().Leases("rauta-system")}
		e, err := New(leases, usual("a"))
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		wait := run(ctx, e, "a", says)
		expect(t, says, "a leads")
		synctest.Wait()
		leases.hangs.Store(true)
		begun := time.Now()
		expect(t, says, "a stops")
		if after := time.Since(begun); after > DefaultRetry+DefaultRenew {
			t.Errorf("it works on for %s, while another replica may lead after %s", after, DefaultLease)
		}
		stop()
		wait()
	})
}

// hanging are Leases of an API server that takes requests and does not answer.
type hanging struct {
	Leases
	hangs atomic.Bool
}

func (h *hanging) Get(ctx context.Context, name string, opt metav1.GetOptions) (*coordinationv1.Lease, error) {
	if h.hangs.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return h.Leases.Get(ctx, name, opt)
}

func (h *hanging) Update(ctx context.Context, lease *coordinationv1.Lease, opt metav1.UpdateOptions) (*coordinationv1.Lease, error) {
	if h.hangs.Load() {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return h.Leases.Update(ctx, lease, opt)
}

// Replicas of a version that elects with client-go's own package share the Lease while a DaemonSet is updated.
func TestAReplicaThatElectsWithClientGoIsRespectedAndRespectsUs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, says := fake.NewClientset(), make(chan string, 8)
		library := func(ctx context.Context) (wait func()) {
			ended := make(chan struct{})
			elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
				Lock: &resourcelock.LeaseLock{
					LeaseMeta: metav1.ObjectMeta{Namespace: "rauta-system", Name: DefaultName}, Client: client.CoordinationV1(),
					LockConfig: resourcelock.ResourceLockConfig{Identity: "old"},
				},
				LeaseDuration: DefaultLease, RenewDeadline: DefaultRenew, RetryPeriod: DefaultRetry, ReleaseOnCancel: true,
				Callbacks: leaderelection.LeaderCallbacks{
					OnStartedLeading: func(context.Context) { says <- "old leads" }, OnStoppedLeading: func() { says <- "old stops" },
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			go func() { defer close(ended); elector.Run(ctx) }()
			return func() { <-ended }
		}
		firstOld, stopOld := context.WithCancel(t.Context())
		waitOld := library(firstOld)
		expect(t, says, "old leads")
		ours, stopOurs := context.WithCancel(t.Context())
		var log bytes.Buffer
		opt := usual("new")
		opt.Log = slog.New(slog.NewTextHandler(&lockedWriter{w: &log}, nil))
		e := election(t, client, opt)
		waitOurs := run(ours, e, "new", says)
		time.Sleep(5 * time.Minute)
		if e.Terms() != 0 {
			t.Fatal("it leads beside the old replica")
		}
		if !bytes.Contains(log.Bytes(), []byte("another replica leads")) {
			t.Errorf("the log does not say who leads:\n%s", log.String())
		}
		released := time.Now()
		stopOld()
		expect(t, says, "old stops")
		expect(t, says, "new leads")
		if after := time.Since(released); after > 3*DefaultRetry {
			t.Errorf("a Lease that was given back is taken after %s", after)
		}
		waitOld()
		secondOld, stopOld := context.WithCancel(t.Context())
		waitOld = library(secondOld)
		time.Sleep(5 * time.Minute)
		if len(says) > 0 {
			t.Fatal(<-says)
		}
		released = time.Now()
		stopOurs()
		expect(t, says, "new stops")
		expect(t, says, "old leads")
		if after := time.Since(released); after > 3*DefaultRetry {
			t.Errorf("a Lease that we give back is taken after %s", after)
		}
		waitOurs()
		stopOld()
		expect(t, says, "old stops")
		waitOld()
	})
}

func conflict() error {
	return apierrors.NewConflict(schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}, DefaultName, errors.New("it has changed"))
}
