package status

import (
	"context"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"

	"rauta.io/rauta/control/kube"
)

// Each replica says in a Lease of its own where it is reached. This needs no more permission than the election, leaves no
// list of pods to anybody, and does not depend on how the pods are labelled.
const (
	// announceEvery is how often a replica renews its Lease, announceLease how long it counts after that: a node that dies
	// stays in statuses that long, and 1,000 replicas make 33 writes a second.
	announceEvery = 30 * time.Second
	announceLease = 90 * time.Second
	// gatherEvery is how often the leader looks at the Leases, gatherSeldom how often the others do, so that they know the
	// addresses when they take over.
	gatherEvery  = 5 * time.Second
	gatherSeldom = 5 * time.Minute
	// leftoverTime is how long a Lease that is not renewed is kept before the leader deletes it.
	leftoverTime = 10 * time.Minute
	// addressesMax bounds what one replica may say.
	addressesMax = 16

	labelReplicas       = "rauta.io/replicas"
	annotationAddresses = "rauta.io/addresses"
)

// ReplicaOptions say who this replica is.
type ReplicaOptions struct {
	// Namespace has the Leases. Group is the name of the Lease that the replicas elect their leader with.
	Namespace, Group string
	// Identity is the name of the pod.
	Identity string
	// Node is the name of its node, HostIPs are the node's addresses; both are known from the downward API. If the node can
	// be read and has external addresses, those are announced.
	Node    string
	HostIPs []string
	// Ready reports whether this replica serves: only then it is announced.
	Ready func() bool
	// Leading reports whether this replica leads.
	Leading func() bool
	Log     *slog.Logger
}

// leases are those of the namespace.
type leases interface {
	Get(context.Context, string, metav1.GetOptions) (*coordinationv1.Lease, error)
	List(context.Context, metav1.ListOptions) (*coordinationv1.LeaseList, error)
	Create(context.Context, *coordinationv1.Lease, metav1.CreateOptions) (*coordinationv1.Lease, error)
	Update(context.Context, *coordinationv1.Lease, metav1.UpdateOptions) (*coordinationv1.Lease, error)
	Delete(context.Context, string, metav1.DeleteOptions) error
}

// nodes are those of the cluster.
type nodes interface {
	Get(context.Context, string, metav1.GetOptions) (*corev1.Node, error)
}

// Replicas keeps Addresses those of the nodes of all replicas.
type Replicas struct {
	// Immutable.
	opt       ReplicaOptions
	leases    leases
	nodes     nodes
	addresses *Addresses
	now       func() time.Time

	// Owned by Run.
	own    []string
	lease  *coordinationv1.Lease // as it was written last; nil while this replica is not announced
	seen   map[string]sighting   // by name of Lease
	logged string                // the failure that was logged last
}

// sighting is how often a Lease has been found as it was before. Times are compared with nothing: clocks of nodes differ, and
// while the API server is away nobody renews anything.
type sighting struct {
	renewed metav1.MicroTime
	times   int
}

// A Lease found unchanged expiredTimes does not count any more, found so leftoverTimes it is deleted.
const (
	expiredTimes  = int(announceLease / gatherEvery)
	leftoverTimes = int(leftoverTime / gatherEvery)
)

// NewReplicas prepares to announce this replica and to gather all; Run does it.
func NewReplicas(cfg *rest.Config, addresses *Addresses, opt ReplicaOptions) (*Replicas, error) {
	client, err := kube.New(cfg)
	if err != nil {
		return nil, err
	}
	return newReplicas(client.Leases(opt.Namespace), client.Nodes(), addresses, opt), nil
}

func newReplicas(leases leases, nodes nodes, addresses *Addresses, opt ReplicaOptions) *Replicas {
	return &Replicas{opt: opt, leases: leases, nodes: nodes, addresses: addresses, now: time.Now, seen: map[string]sighting{}}
}

// Run announces and gathers until ctx is done, and takes the announcement back then.
func (r *Replicas) Run(ctx context.Context) {
	defer r.leave()
	var announced, gathered time.Time
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		now := r.now()
		if now.Sub(announced) >= announceEvery || r.opt.Ready() != (r.lease != nil) {
			if r.announce(ctx) {
				announced = now
			}
		}
		every := gatherSeldom
		if _, known := r.addresses.Current(); r.opt.Leading() || !known {
			every = gatherEvery
		}
		if now.Sub(gathered) >= every {
			gathered = now
			r.gather(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (r *Replicas) leaseName() string { return r.opt.Group + "-replica-" + r.opt.Identity }

// announce renews the Lease of this replica, or takes it back while it is not ready.
func (r *Replicas) announce(ctx context.Context) (ok bool) {
	if !r.opt.Ready() {
		r.leave()
		return true
	}
	if r.own == nil {
		r.own = r.ownAddresses(ctx)
	}
	err := r.renew(ctx)
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		r.lease = nil // it is not what was written last
	}
	r.note(ctx, "announce this replica", err)
	return err == nil
}

func (r *Replicas) renew(ctx context.Context) error {
	lease := r.lease
	if lease == nil {
		var err error
		lease, err = r.leases.Get(ctx, r.leaseName(), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			r.lease, err = r.leases.Create(ctx, r.filled(&coordinationv1.Lease{}), metav1.CreateOptions{FieldManager: fieldManager})
			return err
		}
		if err != nil {
			return err
		}
	}
	renewed, err := r.leases.Update(ctx, r.filled(lease.DeepCopy()), metav1.UpdateOptions{FieldManager: fieldManager})
	if err == nil {
		r.lease = renewed
	}
	return err
}

func (r *Replicas) filled(lease *coordinationv1.Lease) *coordinationv1.Lease {
	now, seconds := metav1.NewMicroTime(r.now()), int32(announceLease/time.Second)
	lease.Namespace, lease.Name = r.opt.Namespace, r.leaseName()
	lease.Labels = map[string]string{labelReplicas: r.opt.Group}
	lease.Annotations = map[string]string{annotationAddresses: strings.Join(r.own, ",")}
	lease.Spec = coordinationv1.LeaseSpec{HolderIdentity: &r.opt.Identity, LeaseDurationSeconds: &seconds, RenewTime: &now}
	return lease
}

// leave takes the announcement back, so that no client is sent here any more.
func (r *Replicas) leave() {
	if r.lease == nil {
		return
	}
	r.lease = nil
	ctx, cancel := context.WithTimeout(context.Background(), gatherEvery)
	defer cancel()
	err := r.leases.Delete(ctx, r.leaseName(), metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		r.opt.Log.Warn("this replica could not be taken out of the addresses; it expires there", "error", err)
	}
}

// ownAddresses are those of the node: external ones, or what the downward API says.
func (r *Replicas) ownAddresses(ctx context.Context) []string {
	if r.opt.Node == "" {
		return r.opt.HostIPs
	}
	node, err := r.nodes.Get(ctx, r.opt.Node, metav1.GetOptions{})
	if err != nil && len(r.opt.HostIPs) == 0 {
		r.opt.Log.Warn("the node can't be read, and its addresses are not known", "node", r.opt.Node, "error", err,
			"hint", "set HOST_IPS from status.hostIPs, allow get of nodes, or use --publish-address or --publish-service")
	}
	if err != nil {
		return r.opt.HostIPs
	}
	external, internal := nodeAddresses(node, corev1.NodeExternalIP), nodeAddresses(node, corev1.NodeInternalIP)
	switch {
	case len(external) > 0:
		return external
	case len(r.opt.HostIPs) > 0:
		return r.opt.HostIPs
	}
	return internal
}

func nodeAddresses(n *corev1.Node, kind corev1.NodeAddressType) []string {
	var out []string
	for _, a := range n.Status.Addresses {
		if a.Type == kind {
			out = append(out, a.Address)
		}
	}
	return out
}

// gather reads the Leases of all replicas. What is not renewed any more does not count, and the leader clears it away.
func (r *Replicas) gather(ctx context.Context) {
	// From the cache of the API server: what is some moments old is good enough.
	list, err := r.leases.List(ctx, metav1.ListOptions{LabelSelector: labelReplicas + "=" + r.opt.Group, ResourceVersion: "0"})
	r.note(ctx, "read the leases of the replicas", err)
	if err != nil {
		return
	}
	seen := map[string]sighting{}
	var all []string
	for i := range list.Items {
		lease := &list.Items[i]
		s := r.seen[lease.Name]
		if renewed := ptr.Deref(lease.Spec.RenewTime, metav1.MicroTime{}); !s.renewed.Equal(&renewed) {
			s = sighting{renewed: renewed}
		}
		s.times++
		seen[lease.Name] = s
		switch {
		case s.times <= expiredTimes:
			all = append(all, announcedBy(lease)...)
		case s.times > leftoverTimes && r.opt.Leading():
			// One that has been renewed in this moment comes again with the next renewal.
			_ = r.leases.Delete(ctx, lease.Name, metav1.DeleteOptions{})
		}
	}
	r.seen = seen
	r.addresses.Set(all)
}

// announcedBy reads the addresses of one replica. Whoever may write Leases in the namespace decides about them; what is no
// address is left out all the same.
func announcedBy(lease *coordinationv1.Lease) []string {
	var out []string
	for _, text := range strings.Split(lease.Annotations[annotationAddresses], ",") {
		if ip, err := netip.ParseAddr(text); err == nil && ip.Zone() == "" && len(out) < addressesMax {
			out = append(out, ip.String())
		}
	}
	return out
}

// note logs a failure when it is another one than before.
func (r *Replicas) note(ctx context.Context, step string, err error) {
	switch {
	case ctx.Err() != nil:
	case err == nil:
		if strings.HasPrefix(r.logged, step) {
			r.logged = ""
		}
	case r.logged != step+string(apierrors.ReasonForError(err)):
		r.logged = step + string(apierrors.ReasonForError(err))
		r.opt.Log.Warn("addresses for statuses: a step failed; it is tried again", "step", step, "error", err,
			"hint", "allow get, list, create, update and delete of leases in namespace "+r.opt.Namespace+", or use --publish-address")
	}
}
