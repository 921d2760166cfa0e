package watch

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"

	"rauta.io/rauta/control/share"
	"rauta.io/rauta/control/translate"
)

// ClusterOptions say what is read from an API server.
type ClusterOptions struct {
	// Namespaces limits reading to some; empty for all.
	Namespaces []string
	// Selector limits it to namespaces with these labels; nil for all.
	Selector labels.Selector
	// DiscoveryTime is how often it is looked for kinds that appear or disappear; 0 for the default.
	DiscoveryTime time.Duration
	// Retry is how long a kind that can't be read waits before it is tried again; zero for the default.
	Retry wait.Backoff
	// EmptyTime is how long an empty list is doubted, twice; 0 for the default.
	EmptyTime time.Duration
	Log       *slog.Logger
}

// Cluster reads the objects of an API server and says when they have changed. Its methods are for any goroutine.
type Cluster struct {
	// Immutable.
	opt     ClusterOptions
	clients map[string]rest.Interface // by group/version
	codec   runtime.ParameterCodec
	trouble *trouble
	changes chan struct{} // has room for one
	look    chan struct{} // asks for a discovery now
	tables  []*table
	// refusedSince is since when the API server does not let RAUTA ask whether it is ready; of discover alone.
	refusedSince time.Time

	mu         sync.Mutex
	ctx        context.Context // of Run; nil before
	discovered bool
	looks      int // at what kinds there are, that the API server has answered
	pending    Change
	// services are those of pending.
	services map[ServiceName]struct{}
	// slices are the EndpointSlices of each Service, in no order. Most have one.
	slices map[name][]*discoveryv1.EndpointSlice
	// common is what objects have in common.
	common *share.Pool
}

// table is everything that is known of one kind.
type table struct {
	*resource
	// Protected by Cluster.mu.
	version string // that is read; empty while the API server has none
	gone    int    // how often discovery has not found it in a row
	sources map[scope]*source
	beyond  []translate.ObjectRef // that are not read because there are too many
	// list is everything in sources in order of namespace and name, nil if it has to be made anew.
	list []object
	// typed is the same as Objects has it, which all have that ask until something changes; nil if it has to be made.
	typed any
}

// Change is what has happened since the last Take.
type Change struct {
	// Since is when the first of it was seen.
	Since time.Time
	// Objects: something that Translate looks at has changed, beside the EndpointSlices of Services.
	Objects bool
	// Members: among that are objects that have appeared or vanished, which others of the same moment may belong to.
	Members bool
	// Services whose EndpointSlices have changed.
	Services []ServiceName
	// Statuses: the status of an object was written, by RAUTA or somebody else.
	Statuses bool
}

// ServiceName names a Service.
type ServiceName struct{ Namespace, Name string }

// NewCluster returns a reader for the API server that cfg leads to. It asks nothing yet.
func NewCluster(cfg *rest.Config, opt ClusterOptions) (*Cluster, error) {
	if opt.DiscoveryTime == 0 {
		opt.DiscoveryTime = discoveryTime
	}
	if opt.Retry == (wait.Backoff{}) {
		opt.Retry = retries()
	}
	if opt.EmptyTime == 0 {
		opt.EmptyTime = emptyTime
	}
	c := &Cluster{
		opt: opt, changes: make(chan struct{}, 1), look: make(chan struct{}, 1),
		services: map[ServiceName]struct{}{}, slices: map[name][]*discoveryv1.EndpointSlice{}, common: share.NewPool(),
	}
	c.trouble = newTrouble(opt.Log, c.discoverNow)
	var err error
	if c.clients, c.codec, err = newClients(cfg); err != nil {
		return nil, err
	}
	for _, r := range resources() {
		c.tables = append(c.tables, &table{resource: r, sources: map[scope]*source{}})
	}
	return c, nil
}

// Run reads until ctx is done.
func (c *Cluster) Run(ctx context.Context) {
	c.mu.Lock()
	c.ctx = ctx
	for _, t := range c.tables {
		if !t.optional {
			c.open(t, t.versions[0])
		}
	}
	c.mu.Unlock()
	c.discover(ctx)
}

// open reads a kind in a version, in all scopes that it is read in from the start; c.mu is held.
func (c *Cluster) open(t *table, version string) {
	t.version = version
	if t.referred && t.fields == "" {
		for s := range t.sources {
			c.start(t, s)
		}
		return
	}
	switch {
	case len(c.opt.Namespaces) == 0:
		c.start(t, scope{fields: t.fields})
	case t.namespaced:
		for _, ns := range c.opt.Namespaces {
			c.start(t, scope{namespace: ns, fields: t.fields})
		}
	case t.kind == "Namespace":
		for _, ns := range c.opt.Namespaces {
			c.start(t, scope{name: ns, fields: "metadata.name=" + ns})
		}
	default:
		c.start(t, scope{fields: t.fields})
	}
}

// start reads one scope of a kind, keeping what is known of it; c.mu is held.
func (c *Cluster) start(t *table, at scope) {
	s := t.sources[at]
	if s == nil {
		s = &source{cluster: c, table: t, scope: at, objects: map[name]object{}, doubted: map[name]bool{},
			misfits: map[name]misfit{}, empty: make(chan struct{}, 1)}
		t.sources[at] = s
	}
	if s.cancel != nil {
		s.cancel()
	}
	ctx, cancel := context.WithCancel(c.ctx)
	s.cancel = cancel
	go s.run(ctx, c.clients[t.group+"/"+t.version])
}

// restart lists a source again.
func (c *Cluster) restart(s *source) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.table.sources[s.scope] == s {
		c.start(s.table, s.scope)
	}
}

// resume tries again at once what waits for its next attempt, because the API server is back.
func (c *Cluster) resume() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.tables {
		for at, s := range t.sources {
			if s.waits() {
				c.start(t, at)
			}
		}
	}
}

// stop ends reading a kind and forgets its objects; c.mu is held.
func (c *Cluster) stop(t *table) {
	for at, s := range t.sources {
		c.end(t, at, s)
	}
	t.version = ""
}

// end stops one source; c.mu is held.
func (c *Cluster) end(t *table, at scope, s *source) {
	s.cancel()
	s.forget()
	delete(t.sources, at)
}

// Changed receives when there is something to Take, or when Synced has become true.
func (c *Cluster) Changed() <-chan struct{} { return c.changes }

// Take returns what has happened since it was called last.
func (c *Cluster) Take() Change {
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := c.pending
	taken.Services = slices.Collect(maps.Keys(c.services))
	c.pending = Change{}
	clear(c.services)
	return taken
}

// wake tells Changed; c.mu is held.
func (c *Cluster) wake() {
	select {
	case c.changes <- struct{}{}:
	default: // told already
	}
}

// note is wake for something that is in pending; c.mu is held.
func (c *Cluster) note() {
	if c.pending.Since.IsZero() {
		c.pending.Since = time.Now()
	}
	c.wake()
}

// changed takes a change of meaning of one object, of which before or after may be nil; c.mu is held.
func (c *Cluster) changed(t *table, before, after object) {
	old, _ := before.(*discoveryv1.EndpointSlice)
	fresh, _ := after.(*discoveryv1.EndpointSlice)
	if old == nil && fresh == nil {
		c.pending.Objects = true
		c.pending.Members = c.pending.Members || before == nil || after == nil
		c.note()
		return
	}
	if old != nil {
		service := serviceOf(old)
		left := slices.DeleteFunc(c.slices[service], func(s *discoveryv1.EndpointSlice) bool { return nameOf(s) == nameOf(old) })
		if c.slices[service] = left; len(left) == 0 {
			delete(c.slices, service)
		}
		c.services[ServiceName{service.namespace, service.name}] = struct{}{}
	}
	if fresh != nil {
		service := serviceOf(fresh)
		c.slices[service] = append(c.slices[service], fresh)
		c.services[ServiceName{service.namespace, service.name}] = struct{}{}
	}
	c.note()
}

func serviceOf(s *discoveryv1.EndpointSlice) name {
	return name{s.Namespace, s.Labels[discoveryv1.LabelServiceName]}
}

// statusChanged takes a change that means nothing to Translate; c.mu is held.
func (c *Cluster) statusChanged() {
	c.pending.Statuses = true
	c.note()
}

// Synced reports whether everything has been read once, and if not, what is missing.
func (c *Cluster) Synced() (bool, string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.discovered {
		return false, "which kinds the API server has is not known yet"
	}
	for _, t := range c.tables {
		for at, s := range t.sources {
			if !s.synced && !(t.referred && at.name != "") {
				return false, fmt.Sprintf("objects of kind %s have not been read yet", t.kind)
			}
		}
	}
	return true, ""
}

// Objects returns everything that is known. Nobody may change it.
func (c *Cluster) Objects() *translate.Objects {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := &translate.Objects{}
	admitted := c.admitted()
	for _, t := range c.tables {
		t.put(out, t.objects(admitted))
	}
	out.Unread = c.unread()
	return out
}

// admitted says of namespaces whether they are selected; nil if all are. c.mu is held.
func (c *Cluster) admitted() map[string]bool {
	if c.opt.Selector == nil {
		return nil
	}
	out := map[string]bool{}
	for _, t := range c.tables {
		if t.kind != "Namespace" {
			continue
		}
		for _, s := range t.sources {
			for k, o := range s.objects {
				out[k.name] = c.opt.Selector.Matches(labels.Set(o.GetLabels()))
			}
		}
	}
	return out
}

// objects is all for translate.Objects; Cluster.mu is held.
func (t *table) objects(admitted map[string]bool) any {
	if admitted != nil {
		return t.resource.typed(t.all(admitted))
	}
	if t.list == nil || t.typed == nil {
		t.typed = t.resource.typed(t.all(nil))
	}
	return t.typed
}

// all returns the objects of a kind in namespaces that are admitted; Cluster.mu is held.
func (t *table) all(admitted map[string]bool) []object {
	if t.list == nil {
		t.list = make([]object, 0, t.count())
		for _, s := range t.sources {
			for _, o := range s.objects {
				t.list = append(t.list, o)
			}
		}
		slices.SortFunc(t.list, byName)
	}
	if admitted == nil || !t.namespaced {
		return t.list
	}
	out := make([]object, 0, len(t.list))
	for _, o := range t.list {
		if admitted[o.GetNamespace()] {
			out = append(out, o)
		}
	}
	return out
}

func byName(a, b object) int {
	return cmp.Or(strings.Compare(a.GetNamespace(), b.GetNamespace()), strings.Compare(a.GetName(), b.GetName()))
}

// replace brings one object of the list up to date, of which before or after may be nil; Cluster.mu is held. Sorting
// thousands of objects for each that changes would cost more than translating them.
func (t *table) replace(before, after object) {
	t.typed = nil
	if t.list == nil {
		return
	}
	if before != nil {
		at, found := slices.BinarySearchFunc(t.list, before, byName)
		switch {
		case !found: // another source had it too
			t.list = nil
			return
		case after != nil && byName(before, after) == 0:
			t.list[at] = after
			return
		}
		t.list = slices.Delete(t.list, at, at+1)
	}
	if after != nil {
		at, _ := slices.BinarySearchFunc(t.list, after, byName)
		t.list = slices.Insert(t.list, at, after)
	}
}

func (t *table) count() int {
	n := 0
	for _, s := range t.sources {
		n += len(s.objects)
	}
	return n
}

// EndpointSlices returns a Service with its slices; false if there is no such Service.
func (c *Cluster) EndpointSlices(of ServiceName) (*corev1.Service, []*discoveryv1.EndpointSlice, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := name{of.Namespace, of.Name}
	svc, ok := c.find("Service", k).(*corev1.Service)
	if !ok {
		return nil, nil, false
	}
	if admitted := c.admitted(); admitted != nil && !admitted[of.Namespace] {
		return nil, nil, false
	}
	return svc, slices.Clone(c.slices[k]), true
}

// find returns an object of a kind, or nil; c.mu is held.
func (c *Cluster) find(kind string, k name) object {
	for _, t := range c.tables {
		if t.kind != kind {
			continue
		}
		for _, s := range t.sources {
			if o := s.objects[k]; o != nil {
				return o
			}
		}
	}
	return nil
}
