package main

import (
	"cmp"
	"context"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/pflag"

	"rauta.io/rauta/control"
	"rauta.io/rauta/control/lead"
	"rauta.io/rauta/control/status"
	"rauta.io/rauta/proxy/observe"
)

// reportOptions are the flags of serve about what the users of a cluster are told.
type reportOptions struct {
	write     bool
	addresses []string
	service   string
	hostIPs   []string
	lease     lead.Options

	// Filled in by validate.
	serviceNamespace, serviceName string
}

// Environment of a pod, where a flag is not given.
const (
	envPodName      = "POD_NAME"
	envPodNamespace = "POD_NAMESPACE"
	envHostIPs      = "HOST_IPS"
	envNodeName     = "NODE_NAME"
	// namespaceDefault is where the Leases are if nothing says another namespace: that of the manifests.
	namespaceDefault = "rauta-system"
)

func (o *reportOptions) flags(f *pflag.FlagSet) {
	f.BoolVar(&o.write, "write-statuses", true, "take part in the election of the replica that writes statuses and Events")
	f.StringArrayVar(&o.addresses, "publish-address", nil, "address or host name that statuses show; may be repeated (default: addresses of the nodes of all replicas)")
	f.StringVar(&o.service, "publish-service", "", "NAMESPACE/NAME of the Service whose addresses statuses show")
	f.StringSliceVar(&o.hostIPs, "host-ips", nil, "addresses of the node for statuses, if the node has no external ones (default: $HOST_IPS)")
	f.StringVar(&o.lease.Namespace, "leader-election-namespace", "", "namespace of the Leases (default: $POD_NAMESPACE, or "+namespaceDefault+")")
	f.StringVar(&o.lease.Name, "leader-election-name", lead.DefaultName, "name of the Lease that replicas share")
	f.StringVar(&o.lease.Identity, "leader-election-id", "", "name of this replica (default: $POD_NAME, or the name of the host)")
}

// validate checks the flags, and fills in from the environment what is not given.
func (o *reportOptions) validate(files bool) error {
	if files {
		if len(o.addresses) > 0 || o.service != "" {
			return usagef("--publish-address and --publish-service are about a cluster: use either them or --config")
		}
		return nil
	}
	if len(o.addresses) > 0 && o.service != "" {
		return usagef("--publish-address and --publish-service exclude each other")
	}
	for _, a := range o.addresses {
		if !isAddress(a) {
			return usagef("--publish-address %q: must be an IP address or a host name", a)
		}
	}
	if o.service != "" {
		var found bool
		if o.serviceNamespace, o.serviceName, found = strings.Cut(o.service, "/"); !found || o.serviceNamespace == "" || o.serviceName == "" {
			return usagef("--publish-service %q: must be NAMESPACE/NAME", o.service)
		}
	}
	if len(o.hostIPs) == 0 && os.Getenv(envHostIPs) != "" {
		o.hostIPs = strings.Split(os.Getenv(envHostIPs), ",")
	}
	for _, ip := range o.hostIPs {
		if _, err := netip.ParseAddr(ip); err != nil {
			return usagef("--host-ips %q: must be IP addresses", ip)
		}
	}
	o.lease.Namespace = cmp.Or(o.lease.Namespace, os.Getenv(envPodNamespace), namespaceDefault)
	o.lease.Identity = cmp.Or(o.lease.Identity, os.Getenv(envPodName))
	if o.lease.Identity == "" {
		host, err := os.Hostname()
		if err != nil {
			return usagef("--leader-election-id is missing, and the name of the host is not known: %v", err)
		}
		o.lease.Identity = strings.ToLower(host)
	}
	return nil
}

// isAddress reports whether a text is an IP address or a DNS name in lower case.
func isAddress(s string) bool {
	if ip, err := netip.ParseAddr(s); err == nil {
		return ip.Zone() == ""
	}
	return len(s) <= 253 && !slices.ContainsFunc(strings.Split(s, "."), func(label string) bool {
		return label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || label[0] == '-' || label[len(label)-1] == '-'
	})
}

// reports tells the users of a cluster what has become of their objects. It is the sink of the live loop.
type reports struct {
	writer    *status.Writer
	election  *lead.Election
	addresses *status.Addresses
	follow    func(context.Context) // the addresses; nil if they are fixed
	published chan []string         // for the live loop
}

// openReports prepares everything; nobody is asked before run.
func (p *process) openReports() (*reports, error) {
	o := &p.opt.reports
	access, err := p.opt.cluster.access.Config()
	if err != nil {
		return nil, err
	}
	r := &reports{addresses: status.NewAddresses(), published: make(chan []string)}
	o.lease.Log = p.log
	if r.election, err = lead.ForCluster(access, o.lease); err != nil {
		return nil, err
	}
	r.writer, err = status.New(access, status.Options{
		ControllerName: p.opt.translate.ControllerName, Identity: o.lease.Identity, Addresses: r.addresses, Log: p.log,
		EventsPerSecond: p.opt.cluster.eventsPerSecond,
	})
	if err != nil {
		return nil, err
	}
	switch {
	case len(o.addresses) > 0:
		r.addresses.Set(o.addresses)
	case o.service != "":
		service, err := status.NewService(access, o.serviceNamespace, o.serviceName, r.addresses, p.log)
		if err != nil {
			return nil, err
		}
		r.follow = service.Run
	default:
		replicas, err := status.NewReplicas(access, r.addresses, status.ReplicaOptions{
			Namespace: o.lease.Namespace, Group: o.lease.Name, Identity: o.lease.Identity, Node: p.opt.translate.Node, HostIPs: o.hostIPs,
			Ready: func() bool { ok, _ := p.server.Ready(); return ok }, Leading: r.election.Leading, Log: p.log,
		})
		if err != nil {
			return nil, err
		}
		r.follow = replicas.Run
	}
	r.register(p.registry)
	return r, nil
}

// Published hands an Update to the writer, whether this replica leads or not: it may any moment.
func (r *reports) Published(u control.Update) {
	r.writer.Offer(status.Update{Objects: u.Objects, Result: u.Result, Unserved: u.Unserved})
}

// run follows the addresses, and writes while this replica leads, until ctx is done.
func (r *reports) run(ctx context.Context) {
	var running sync.WaitGroup
	if r.follow != nil {
		running.Go(func() { r.follow(ctx) })
	}
	running.Go(func() { r.forward(ctx) })
	running.Go(func() { r.election.Run(ctx, r.writer.Run) })
	running.Wait()
}

// forward passes new addresses to the live loop, which makes statuses of them.
func (r *reports) forward(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.addresses.Changed():
		}
		list, _ := r.addresses.Current()
		select {
		case <-ctx.Done():
			return
		case r.published <- list:
		}
	}
}

func (r *reports) register(m *observe.Registry) {
	kinds := func(value func(status.KindStats) uint64) func(func(float64, ...observe.Label)) {
		return func(emit func(float64, ...observe.Label)) {
			for _, kind := range status.Kinds() {
				emit(float64(value(r.writer.Stats(kind))), observe.Label{Name: "kind", Value: kind})
			}
		}
	}
	m.Gauges("rauta_status_writes_total", kinds(func(s status.KindStats) uint64 { return s.Writes }))
	m.Gauges("rauta_status_conflicts_total", kinds(func(s status.KindStats) uint64 { return s.Conflicts }))
	m.Gauges("rauta_status_failures_total", kinds(func(s status.KindStats) uint64 { return s.Failures }))
	m.Gauge("rauta_status_waiting", func() float64 { return float64(r.writer.Waiting()) })
	m.Gauges("rauta_events_total", func(emit func(float64, ...observe.Label)) {
		e := r.writer.Events()
		for result, n := range map[string]uint64{"sent": e.Sent, "failed": e.Failed, "dropped": e.Dropped} {
			emit(float64(n), observe.Label{Name: "result", Value: result})
		}
	})
	m.Gauge("rauta_leader", func() float64 {
		if r.election.Leading() {
			return 1
		}
		return 0
	})
	m.Counter("rauta_leader_terms_total", func() float64 { return float64(r.election.Terms()) })
}
