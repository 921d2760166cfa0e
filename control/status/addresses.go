package status

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
)

// Addresses are what clients use to reach RAUTA, as statuses say: fixed ones, those of a Service, or those of the nodes of
// all replicas. Its methods may be called from any goroutine.
type Addresses struct {
	changed chan struct{} // holds a token when they have changed since it was taken

	mu      sync.Mutex
	current []string
	known   bool
}

// NewAddresses returns addresses that are not known yet.
func NewAddresses() *Addresses { return &Addresses{changed: make(chan struct{}, 1)} }

// Current returns the addresses in order, and whether they are known: until then no status should be made of them.
func (a *Addresses) Current() (list []string, known bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.current), a.known
}

// Changed receives after every change.
func (a *Addresses) Changed() <-chan struct{} { return a.changed }

// Set replaces them.
func (a *Addresses) Set(list []string) {
	list = slices.Clone(list)
	slices.SortFunc(list, compareAddresses)
	list = slices.Compact(list)
	a.mu.Lock()
	same := a.known && slices.Equal(a.current, list)
	a.current, a.known = list, true
	a.mu.Unlock()
	if same {
		return
	}
	select {
	case a.changed <- struct{}{}:
	default: // one is waiting already
	}
}

// compareAddresses puts IP addresses in their order first, then names in theirs.
func compareAddresses(a, b string) int {
	x, notX := netip.ParseAddr(a)
	y, notY := netip.ParseAddr(b)
	switch {
	case notX == nil && notY == nil:
		return cmp.Or(x.Compare(y), strings.Compare(a, b))
	case notX == nil:
		return -1
	case notY == nil:
		return 1
	}
	return strings.Compare(a, b)
}

// serviceAddresses are those by which a Service is reached from outside, or from the cluster if that is all it is for. A
// load balancer that has not been set up yet has none.
func serviceAddresses(s *corev1.Service) []string {
	out := slices.Clone(s.Spec.ExternalIPs)
	switch s.Spec.Type {
	case corev1.ServiceTypeLoadBalancer:
		for _, i := range s.Status.LoadBalancer.Ingress {
			if address := cmp.Or(i.IP, i.Hostname); address != "" {
				out = append(out, address)
			}
		}
	case corev1.ServiceTypeExternalName:
		out = append(out, s.Spec.ExternalName)
	default:
		if len(out) > 0 {
			break
		}
		for _, ip := range s.Spec.ClusterIPs {
			if ip != corev1.ClusterIPNone && ip != "" {
				out = append(out, ip)
			}
		}
	}
	return out
}
