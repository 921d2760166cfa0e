package translate

import (
	"maps"
	"reflect"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"rauta.io/rauta/control/share"
	"rauta.io/rauta/proxy/config"
)

// What a route means depends on the route itself, and on everything that its references may lead to: its surroundings. As
// long as these are the same, only routes that have changed are compiled again. Endpoints change much more often than that,
// and are no part of it: they are read anew for Services whose slices have changed.

// surroundings are all that compiling a route looks at beside the route and the endpoints.
type surroundings struct {
	options    Options
	services   []*corev1.Service
	secrets    []*corev1.Secret
	configMaps []*corev1.ConfigMap
	grants     []*gatewayv1.ReferenceGrant
	policies   []*gatewayv1.BackendTLSPolicy
	gateways   []*gatewayv1.Gateway
	sets       []*gatewayv1.ListenerSet
	unread     []Unread
}

// datesTime is how exactly the present is part of the surroundings: certificates expire.
const datesTime = time.Hour

func (t *translator) surroundings() *surroundings {
	s := &surroundings{
		options: t.opt, services: t.in.serviceList, secrets: t.in.secretList, configMaps: t.in.configMapList,
		grants: t.in.grantList, policies: t.in.backendPolicies, gateways: t.in.gateways, sets: t.in.listenerSets,
		unread: t.in.unreadList,
	}
	s.options.Memo, s.options.Now = nil, t.opt.Now.Truncate(datesTime)
	return s
}

func (s *surroundings) equal(other *surroundings) bool {
	return other != nil && reflect.DeepEqual(s.options, other.options) && slices.Equal(s.services, other.services) &&
		slices.Equal(s.secrets, other.secrets) && slices.Equal(s.configMaps, other.configMaps) &&
		slices.EqualFunc(s.grants, other.grants, sameGeneration) && slices.EqualFunc(s.policies, other.policies, sameGeneration) &&
		slices.EqualFunc(s.gateways, other.gateways, sameGeneration) && slices.EqualFunc(s.sets, other.sets, sameGeneration) &&
		slices.Equal(s.unread, other.unread)
}

// sameGeneration reports whether two objects are the same, or states of one object that differ in nothing but what RAUTA
// writes itself: the status. Those of files have no generation.
func sameGeneration[T interface {
	metav1.Object
	comparable
}](a, b T) bool {
	return a == b || onlyStatusDiffers(a, b)
}

// compilation is what compiling a route has led to.
type compilation struct {
	identity string // of the Gateway, as it shows itself to back ends
	out      compiledRoute
	problems []Problem
	clusters []*clusterMemo
	asked    []ObjectRef
}

// own returns the result for the caller to rename.
func (c *compilation) own() compiledRoute {
	out := c.out
	if out.l4 != nil {
		own := *out.l4
		out.l4 = &own
	}
	return out
}

// routeKnowledge is what is known of one state of a route.
type routeKnowledge struct {
	around       *surroundings // in which compilations hold
	compilations []*compilation
	placement    *placement
}

// clusterMemo is a cluster with its endpoints.
type clusterMemo struct {
	config    config.Cluster
	problems  []Problem // of the Service
	service   *corev1.Service
	port      *corev1.ServicePort // of service
	slices    []*discoveryv1.EndpointSlice
	endpoints []config.Endpoint
	missing   []Problem // of the slices

	run, used uint64 // the last run that had it, and the last that published it
}

// routeMemo is the part of a Memo that is about routes. The zero value is empty.
type routeMemo struct {
	run      uint64
	around   *surroundings
	placing  *placing
	list     routeList
	served   int // how many routes the last run had in its configuration
	clusters map[string]*clusterMemo
	names    []string                                  // of clusters, in order; nil if it has to be made anew
	parents  share.Recent[gatewayv1.RouteParentStatus] // thousands of routes have the same status
}

// routes returns what is known of routes, for a run to add to.
func (m *Memo) routes() *routeMemo {
	out := &routeMemo{}
	if m != nil {
		out = &m.byRoute
	}
	out.parents.Equal = share.SameParent
	return out
}

// begin forgets everything that rests on other surroundings.
func (m *routeMemo) begin(around *surroundings, placing *placing) {
	m.run++
	if !around.equal(m.around) {
		m.around, m.placing = around, nil
		m.clusters, m.names = map[string]*clusterMemo{}, nil
	}
	if !placing.equal(m.placing) {
		m.placing = placing
	}
}

// end forgets the clusters that this run had no use for, and returns the others in order of their names.
func (m *routeMemo) end() []*clusterMemo {
	for name, c := range m.clusters {
		if c.run != m.run {
			delete(m.clusters, name)
			m.names = nil
		}
	}
	if m.names == nil {
		m.names = slices.Sorted(maps.Keys(m.clusters))
	}
	out := make([]*clusterMemo, len(m.names))
	for i, name := range m.names {
		out[i] = m.clusters[name]
	}
	return out
}

// present returns a cluster of this run; nil if there is none.
func (m *routeMemo) present(name string) *clusterMemo {
	if c := m.clusters[name]; c != nil && c.run == m.run {
		return c
	}
	return nil
}

// clusterConfig returns the settings of a cluster of this run; the zero value if there is none.
func (t *translator) clusterConfig(name string) config.Cluster {
	if c := t.routesKnown.present(name); c != nil {
		return c.config
	}
	return config.Cluster{}
}

// compile compiles a route, or does what compiling it has done in the last run.
func (t *translator) compile(o *routeObject, identity string, report reporter) *compilation {
	known, m := &o.known, t.routesKnown
	if known.around != m.around {
		known.around, known.compilations = m.around, nil
	}
	for _, c := range known.compilations {
		if c.identity == identity {
			t.problems = append(t.problems, c.problems...)
			t.restore(c)
			return c
		}
	}
	fresh := &compilation{identity: identity}
	t.recording = fresh
	before := len(t.problems)
	fresh.out = o.compile(t, o, report)
	fresh.problems = slices.Clone(t.problems[before:])
	t.recording = nil
	known.compilations = append(known.compilations, fresh)
	return fresh
}

// restore does what compiling a route has done beside its result.
func (t *translator) restore(c *compilation) {
	for _, ref := range c.asked {
		t.asked[ref] = true
	}
	for _, cluster := range c.clusters {
		t.restoreCluster(cluster)
	}
}

// restoreCluster adds a cluster of an earlier run. If that was not the last one another may have taken its place.
func (t *translator) restoreCluster(known *clusterMemo) {
	m := t.routesKnown
	if known.run == m.run {
		return
	}
	switch present := m.clusters[known.config.Name]; {
	case present == nil:
		m.clusters[known.config.Name], m.names = known, nil
	case present.run == m.run:
		return
	default:
		known = present
	}
	known.run = m.run
	t.clusterProblems = append(t.clusterProblems, known.problems...)
	t.endpointsFor(known)
}

// addCluster adds a cluster for a port of a Service.
func (t *translator) addCluster(c config.Cluster, svc *corev1.Service, port *corev1.ServicePort) *clusterMemo {
	if known := t.routesKnown.clusters[c.Name]; known != nil {
		t.restoreCluster(known)
		return known
	}
	before := len(t.problems)
	t.clusterAnnotations(svc, &c)
	own := &clusterMemo{config: c, service: svc, port: port, problems: slices.Clone(t.problems[before:]), run: t.routesKnown.run}
	t.problems = t.problems[:before] // they are those of every route that leads there
	t.clusterProblems = append(t.clusterProblems, own.problems...)
	t.routesKnown.clusters[c.Name], t.routesKnown.names = own, nil
	t.endpointsFor(own)
	return own
}

// endpointsFor adds the endpoints of a cluster, which are read anew if slices have changed.
func (t *translator) endpointsFor(c *clusterMemo) {
	present := t.in.slices[keyOf(c.service)]
	if c.slices == nil || !slices.Equal(c.slices, present) {
		c.slices = present
		c.endpoints, c.missing = EndpointsOf(c.service, *c.port, present, t.opt)
	}
	t.clusterProblems = append(t.clusterProblems, c.missing...)
	if len(c.endpoints) > 0 {
		t.endpoints[c.config.Name] = c.endpoints
	}
}
