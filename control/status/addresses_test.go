package status

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestAddressesAreInOrderAndTellOfChangesOnly(t *testing.T) {
	a := NewAddresses()
	if _, known := a.Current(); known {
		t.Error("addresses are known before anybody said them")
	}
	a.Set([]string{"lb.example.com", "2001:db8::1", "10.0.0.10", "10.0.0.9", "10.0.0.9"})
	list, known := a.Current()
	if want := []string{"10.0.0.9", "10.0.0.10", "2001:db8::1", "lb.example.com"}; !known || !slices.Equal(list, want) {
		t.Errorf("Current() = %v, %v, want %v", list, known, want)
	}
	<-a.Changed()
	a.Set([]string{"10.0.0.9", "10.0.0.10", "2001:db8::1", "lb.example.com"})
	select {
	case <-a.Changed():
		t.Error("the same addresses are a change")
	default:
	}
	a.Set(nil)
	<-a.Changed()
}

func TestTheAddressesOfAServiceDependOnItsType(t *testing.T) {
	service := func(kind corev1.ServiceType, change func(*corev1.Service)) *corev1.Service {
		s := &corev1.Service{Spec: corev1.ServiceSpec{Type: kind, ClusterIPs: []string{"10.96.0.1"}}}
		change(s)
		return s
	}
	balanced := func(s *corev1.Service) {
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.1"}, {Hostname: "lb.example.com"}}
	}
	external := func(s *corev1.Service) { s.Spec.ExternalIPs = []string{"192.0.2.7"} }
	for name, c := range map[string]struct {
		service *corev1.Service
		want    []string
	}{
		"a load balancer":                   {service(corev1.ServiceTypeLoadBalancer, balanced), []string{"203.0.113.1", "lb.example.com"}},
		"a load balancer that is not ready": {service(corev1.ServiceTypeLoadBalancer, func(*corev1.Service) {}), nil},
		"within the cluster":                {service(corev1.ServiceTypeClusterIP, func(*corev1.Service) {}), []string{"10.96.0.1"}},
		"with external addresses":           {service(corev1.ServiceTypeNodePort, external), []string{"192.0.2.7"}},
		"without an address":                {service(corev1.ServiceTypeClusterIP, func(s *corev1.Service) { s.Spec.ClusterIPs = []string{corev1.ClusterIPNone} }), nil},
		"a name": {service(corev1.ServiceTypeExternalName, func(s *corev1.Service) { s.Spec.ExternalName = "www.example.com" }),
			[]string{"www.example.com"}},
	} {
		if got := serviceAddresses(c.service); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// until waits for addresses.
func until(t *testing.T, a *Addresses, want ...string) {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		if list, known := a.Current(); known && slices.Equal(list, want) {
			return
		}
		select {
		case <-a.Changed():
		case <-time.After(10 * time.Millisecond):
		case <-deadline:
			list, known := a.Current()
			t.Fatalf("Current() = %v, %v, want %v", list, known, want)
		}
	}
}

func TestTheAddressesOfAServiceAreFollowed(t *testing.T) {
	client := fake.NewClientset()
	services := client.CoreV1().Services("edge")
	a := NewAddresses()
	s := &Service{namespace: "edge", name: "lb", addresses: a, log: quiet(), lister: cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, opt metav1.ListOptions) (runtime.Object, error) {
			return services.List(ctx, opt)
		},
		WatchFuncWithContext: services.Watch,
	}, client)}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); s.Run(ctx) }()
	until(t, a)
	object := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "edge", Name: "lb"}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer}}
	object.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.1"}}
	if _, err := services.Create(ctx, object, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, a, "203.0.113.1")
	object.Status.LoadBalancer.Ingress[0].IP = "203.0.113.2"
	if _, err := services.Update(ctx, object, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, a, "203.0.113.2")
	if err := services.Delete(ctx, "lb", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, a)
	stop()
	<-ended
}

// replica is one of several, whose steps a test takes one by one.
func replica(client *fake.Clientset, identity string, hostIPs ...string) (*Replicas, *bool) {
	ready := true
	r := newReplicas(client.CoordinationV1().Leases("rauta-system"), client.CoreV1().Nodes(), NewAddresses(), ReplicaOptions{
		Namespace: "rauta-system", Group: "rauta", Identity: identity, HostIPs: hostIPs, Log: quiet(),
		Ready: func() bool { return ready }, Leading: func() bool { return identity == "a" },
	})
	tick := time.Date(2026, 8, 1, 12, 0, 0, 0, time.UTC)
	r.now = func() time.Time { tick = tick.Add(time.Second); return tick }
	return r, &ready
}

func current(r *Replicas) []string {
	list, _ := r.addresses.Current()
	return list
}

func TestTheLeaderKnowsTheAddressesOfAllReplicas(t *testing.T) {
	client := fake.NewClientset()
	a, _ := replica(client, "a", "10.0.0.1")
	b, ready := replica(client, "b", "10.0.0.2", "2001:db8::2")
	gather := func(want ...string) {
		t.Helper()
		a.gather(t.Context())
		if got := current(a); !slices.Equal(got, want) {
			t.Errorf("addresses = %v, want %v", got, want)
		}
	}
	a.announce(t.Context())
	b.announce(t.Context())
	gather("10.0.0.1", "10.0.0.2", "2001:db8::2")
	*ready = false // it drains
	b.announce(t.Context())
	gather("10.0.0.1")
	*ready = true
	b.announce(t.Context())
	b.announce(t.Context())
	gather("10.0.0.1", "10.0.0.2", "2001:db8::2")
	b.leave()
	gather("10.0.0.1")
}

func TestAReplicaThatVanishedExpiresAndItsLeaseIsDeleted(t *testing.T) {
	client := fake.NewClientset()
	a, _ := replica(client, "a", "10.0.0.1")
	b, _ := replica(client, "b", "10.0.0.2")
	b.announce(t.Context())
	for i := range leftoverTimes + 1 {
		a.announce(t.Context())
		a.gather(t.Context())
		if has := slices.Contains(current(a), "10.0.0.2"); has != (i < expiredTimes) {
			t.Fatalf("look %d: addresses = %v", i+1, current(a))
		}
	}
	if !slices.Equal(current(a), []string{"10.0.0.1"}) {
		t.Errorf("addresses = %v", current(a))
	}
	list, err := client.CoordinationV1().Leases("rauta-system").List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 1 {
		t.Errorf("%d leases, %v; want one", len(list.Items), err)
	}
}

func TestWhileTheAPIServerIsAwayNoReplicaExpires(t *testing.T) {
	client := fake.NewClientset()
	a, _ := replica(client, "a", "10.0.0.1")
	b, _ := replica(client, "b", "10.0.0.2")
	a.announce(t.Context())
	b.announce(t.Context())
	a.gather(t.Context())
	away := true
	client.PrependReactor("*", "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
		return away, nil, errors.New("connection refused")
	})
	for range leftoverTimes {
		a.announce(t.Context())
		a.gather(t.Context())
	}
	away = false
	a.gather(t.Context())
	if got := current(a); !slices.Equal(got, []string{"10.0.0.1", "10.0.0.2"}) {
		t.Errorf("addresses = %v", got)
	}
}

func TestANodeWithExternalAddressesIsReachedByThose(t *testing.T) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}, Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
		{Type: corev1.NodeInternalIP, Address: "10.0.0.1"}, {Type: corev1.NodeExternalIP, Address: "203.0.113.1"}, {Type: corev1.NodeHostName, Address: "n"}}}}
	client := fake.NewClientset(node)
	r, _ := replica(client, "a", "10.0.0.1")
	r.opt.Node = "n"
	if got := r.ownAddresses(t.Context()); !slices.Equal(got, []string{"203.0.113.1"}) {
		t.Errorf("addresses = %v", got)
	}
	client.PrependReactor("get", "nodes", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "nodes"}, "n", nil)
	})
	if got := r.ownAddresses(t.Context()); !slices.Equal(got, []string{"10.0.0.1"}) {
		t.Errorf("without permission: addresses = %v", got)
	}
}

func TestOnlyAddressesAreTakenFromALease(t *testing.T) {
	client := fake.NewClientset()
	a, _ := replica(client, "a", "10.0.0.1", "", "not an address", "fe80::1%eth0", "$(id)")
	a.announce(t.Context())
	a.gather(t.Context())
	if got := current(a); !slices.Equal(got, []string{"10.0.0.1"}) {
		t.Errorf("addresses = %v", got)
	}
}

func TestReplicasAnnounceThemselvesUntilTheyAreToldToStop(t *testing.T) {
	client := fake.NewClientset()
	r, _ := replica(client, "a", "10.0.0.1")
	r.now = time.Now
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); r.Run(ctx) }()
	until(t, r.addresses, "10.0.0.1")
	stop()
	<-ended
	list, err := client.CoordinationV1().Leases("rauta-system").List(t.Context(), metav1.ListOptions{})
	if err != nil || len(list.Items) != 0 {
		t.Errorf("%d leases, %v; want none", len(list.Items), err)
	}
}

func TestWithoutPermissionForLeasesTheLogSaysItOnce(t *testing.T) {
	client := fake.NewClientset()
	client.PrependReactor("*", "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewForbidden(schema.GroupResource{Resource: "leases"}, "", nil)
	})
	r, _ := replica(client, "a", "10.0.0.1")
	var log bytes.Buffer
	r.opt.Log = slog.New(slog.NewTextHandler(&log, nil))
	for range 3 {
		r.gather(t.Context())
	}
	if n := bytes.Count(log.Bytes(), []byte("--publish-address")); n != 1 {
		t.Errorf("it is said %d times:\n%s", n, log.String())
	}
}
