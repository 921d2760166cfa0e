package lead

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// bound is how long anything may take on a busy machine.
const bound = 60 * time.Second

// quick are options for terms that end within a test. Leases are counted in whole seconds.
func quick(identity string, log *bytes.Buffer) Options {
	return Options{
		Namespace: "rauta-system", Identity: identity, Lease: 2 * time.Second, Renew: time.Second, Retry: 50 * time.Millisecond,
		Log: slog.New(slog.NewTextHandler(&lockedWriter{w: log}, nil)),
	}
}

// lockedWriter makes a buffer one that several goroutines may write to.
type lockedWriter struct {
	mu sync.Mutex
	w  *bytes.Buffer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

func election(t *testing.T, client *fake.Clientset, opt Options) *Election {
	t.Helper()
	e, err := New(client.CoordinationV1().Leases(opt.Namespace), opt)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// run campaigns in the background; what work says comes through the channel, and the returned function waits for the end.
func run(ctx context.Context, e *Election, name string, says chan<- string) (wait func()) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		e.Run(ctx, func(ctx context.Context) {
			says <- name + " leads"
			<-ctx.Done()
			says <- name + " stops"
		})
	}()
	return func() { <-ended }
}

func expect(t *testing.T, says <-chan string, want string) {
	t.Helper()
	select {
	case got := <-says:
		if got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	case <-time.After(bound):
		t.Fatalf("nothing happens, want %s", want)
	}
}

func TestOneReplicaLeadsAndGivesTheLeaseBackWhenItsWorkIsOver(t *testing.T) {
	client, says := fake.NewClientset(), make(chan string, 8)
	first, stopFirst := context.WithCancel(t.Context())
	second, stopSecond := context.WithCancel(t.Context())
	defer stopSecond()
	a, b := election(t, client, quick("a", &bytes.Buffer{})), election(t, client, quick("b", &bytes.Buffer{}))

	waitA := run(first, a, "a", says)
	expect(t, says, "a leads")
	if !a.Leading() || a.Terms() != 1 {
		t.Errorf("Leading() = %v, Terms() = %d", a.Leading(), a.Terms())
	}
	waitB := run(second, b, "b", says)
	stopFirst()
	expect(t, says, "a stops") // before anybody else begins
	waitA()
	expect(t, says, "b leads")
	if a.Leading() {
		t.Error("a still says that it leads")
	}
	stopSecond()
	expect(t, says, "b stops")
	waitB()
	lease, err := client.CoordinationV1().Leases("rauta-system").Get(t.Context(), DefaultName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if holder := lease.Spec.HolderIdentity; holder != nil && *holder != "" {
		t.Errorf("the lease is still held by %q", *holder)
	}
}

func TestALeaderThatVanishesIsFollowedWithinTwentySeconds(t *testing.T) {
	if worst := DefaultLease + 2*DefaultRetry*22/10; worst > 20*time.Second {
		t.Errorf("with the defaults it takes up to %s", worst)
	}
	// The same with a short lease: nobody gives it back.
	now, seconds, holder := metav1.NowMicro(), int32(2), "gone"
	client := fake.NewClientset(&coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: "rauta-system", Name: DefaultName},
		Spec:       coordinationv1.LeaseSpec{HolderIdentity: &holder, LeaseDurationSeconds: &seconds, AcquireTime: &now, RenewTime: &now},
	})
	says := make(chan string, 8)
	ctx, stop := context.WithCancel(t.Context())
	wait := run(ctx, election(t, client, quick("a", &bytes.Buffer{})), "a", says)
	expect(t, says, "a leads")
	stop()
	expect(t, says, "a stops")
	wait()
}

func TestALeaderThatCanNotRenewStopsItsWorkAndCampaignsAgain(t *testing.T) {
	client, says := fake.NewClientset(), make(chan string, 8)
	var mu sync.Mutex
	away := false
	client.PrependReactor("*", "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
		mu.Lock()
		defer mu.Unlock()
		if away {
			return true, nil, errors.New("connection refused")
		}
		return false, nil, nil
	})
	set := func(v bool) { mu.Lock(); away = v; mu.Unlock() }
	var log bytes.Buffer
	opt := quick("a", &log)
	e := election(t, client, opt)
	ctx, stop := context.WithCancel(t.Context())
	wait := run(ctx, e, "a", says)
	expect(t, says, "a leads")
	set(true)
	expect(t, says, "a stops")
	set(false)
	expect(t, says, "a leads")
	stop()
	expect(t, says, "a stops")
	wait()
	if e.Terms() != 2 {
		t.Errorf("Terms() = %d, want 2", e.Terms())
	}
	for _, line := range []string{"connection refused", "can be used again", "does not lead any more"} {
		if !strings.Contains(log.String(), line) {
			t.Errorf("the log does not say %q:\n%s", line, log.String())
		}
	}
}

func TestWithoutPermissionTheLogSaysWhatToAllowAndOnlyOnce(t *testing.T) {
	client, says := fake.NewClientset(), make(chan string, 8)
	tries := make(chan struct{}, 1000)
	client.PrependReactor("*", "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
		select {
		case tries <- struct{}{}:
		default:
		}
		return true, nil, apierrors.NewForbidden(schema.GroupResource{Group: "coordination.k8s.io", Resource: "leases"}, DefaultName, nil)
	})
	var log bytes.Buffer
	ctx, stop := context.WithCancel(t.Context())
	wait := run(ctx, election(t, client, quick("a", &log)), "a", says)
	for range 3 {
		select {
		case <-tries:
		case <-time.After(bound):
			t.Fatal("it does not try again")
		}
	}
	stop()
	wait()
	if n := strings.Count(log.String(), "allow get, create and update of leases"); n != 1 {
		t.Errorf("the hint is logged %d times:\n%s", n, log.String())
	}
}

func TestOptionsThatCanNotWorkAreRefused(t *testing.T) {
	opt := quick("", &bytes.Buffer{})
	if _, err := New(fake.NewClientset().CoordinationV1().Leases(opt.Namespace), opt); err == nil {
		t.Error("an election without identity is accepted")
	}
	opt = quick("a", &bytes.Buffer{})
	opt.Lease = opt.Renew
	if _, err := New(fake.NewClientset().CoordinationV1().Leases(opt.Namespace), opt); err == nil {
		t.Error("a lease that is not longer than its renewal is accepted")
	}
}
