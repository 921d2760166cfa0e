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
}

// datesTime is how exactly the present is part of the surroundings: certificates expire.
const datesTime = time.Hour

func (t *translator) surroundings() *surroundings {
	s := &surroundings{
		options: t.opt, services: t.in.serviceList, secrets: t.in.secretList, configMaps: t.in.configMapList,
		grants: t.in.grantList, policies: t.in.backendPolicies, gateways: t.in.gateways, sets: t.in.listenerSets,
	}
	s.options.Memo, s.options.Now = nil, t.opt.Now.Truncate(datesTime)
	return s
}

func (s *surroundings) equal(other *surroundings) bool {
	return other != nil && reflect.DeepEqual(s.options, other.options) && slices.Equal(s.services, other.services) &&
		slices.Equal(s.secrets, other.secrets) && slices.Equal(s.configMaps, other.configMaps) &&
		slices.EqualFunc(s.grants, other.grants, sameGeneration) && slices.EqualFunc(s.policies, other.policies, sameGeneration) &&
		slices.EqualFunc(s.gateways, other.gateways, sameGeneration) && slices.EqualFunc(s.sets, other.sets, sameGeneration)
}

// sameGeneration reports whether two objects are the same, or states of one object that differ in nothing but what RAUTA
// writes itself: the status. Those of files have no generation.
func sameGeneration[T interface {
	metav1.Object
	comparable
}](a, b T) bool {
	return a == b || a.GetGeneration() != 0 && a.GetGeneration() == b.GetGeneration() && a.GetUID() != "" && a.GetUID() == b.GetUID() &&
		(a.GetDeletionTimestamp() == nil) == (b.GetDeletionTimestamp() == nil) &&
		maps.Equal(a.GetLabels(), b.GetLabels()) && maps.Equal(a.GetAnnotations(), b.GetAnnotations())
}

// routeKey is a state of a route, and how the Gateway that it is compiled for shows itself to back ends.
type routeKey struct {
	object   metav1.Object
	identity string
}

// compilation is what compiling a route has led to.
type compilation struct {
	out      compiledRoute
	problems []Problem
	clusters []string
	asked    []ObjectRef
}

// clusterMemo is a cluster with its endpoints.
type clusterMemo struct {
	config    config.Cluster
	problems  []Problem // of the Service
	service   *corev1.Service
	port      corev1.ServicePort
	slices    []*discoveryv1.EndpointSlice
	endpoints []config.Endpoint
	missing   []Problem // of the slices
}

// routeMemo is the part of a Memo that is about routes.
type routeMemo struct {
	around                    *surroundings
	routes, presentRoutes     map[routeKey]*compilation
	clusters, presentClusters map[string]*clusterMemo
}

// beginRoutes forgets what the last run did not use, and everything if the surroundings have changed.
func (m *Memo) beginRoutes(around *surroundings) {
	if m == nil {
		return
	}
	r := &m.byRoute
	r.routes, r.clusters = r.presentRoutes, r.presentClusters
	if !around.equal(r.around) {
		r.routes, r.clusters = nil, nil
	}
	r.around = around
	r.presentRoutes = make(map[routeKey]*compilation, len(r.routes))
	r.presentClusters = make(map[string]*clusterMemo, len(r.clusters))
}

// compile compiles a route, or does what compiling it has done in the last run.
func (t *translator) compile(o *routeObject, identity string, report reporter) compiledRoute {
	if t.opt.Memo == nil {
		return o.compile(o, report)
	}
	m, k := &t.opt.Memo.byRoute, routeKey{o.Object, identity}
	known := m.routes[k]
	if known == nil {
		known = &compilation{}
		t.recording = known
		before := len(t.problems)
		known.out = o.compile(o, report)
		known.problems = slices.Clone(t.problems[before:])
		t.recording = nil
	} else {
		t.problems = append(t.problems, known.problems...)
		for _, ref := range known.asked {
			t.asked[ref] = true
		}
		for _, name := range known.clusters {
			t.restoreCluster(m.clusters[name])
		}
	}
	m.presentRoutes[k] = known
	out := known.out
	if out.l4 != nil { // it may get another name
		own := *out.l4
		out.l4 = &own
	}
	return out
}

// restoreCluster adds a cluster of the last run.
func (t *translator) restoreCluster(known *clusterMemo) {
	if _, done := t.clusters[known.config.Name]; done {
		return
	}
	t.clusters[known.config.Name] = known.config
	t.clusterProblems = append(t.clusterProblems, known.problems...)
	t.endpointsFor(known)
}

// addCluster adds a cluster for a port of a Service.
func (t *translator) addCluster(c config.Cluster, svc *corev1.Service, port corev1.ServicePort) {
	before := len(t.problems)
	t.clusterAnnotations(svc, &c)
	own := &clusterMemo{config: c, service: svc, port: port, problems: slices.Clone(t.problems[before:])}
	t.problems = t.problems[:before] // they are those of every route that leads there
	t.clusterProblems = append(t.clusterProblems, own.problems...)
	t.clusters[c.Name] = c
	t.endpointsFor(own)
}

// endpointsFor adds the endpoints of a cluster, which are read anew if slices have changed.
func (t *translator) endpointsFor(c *clusterMemo) {
	present := t.in.slices[keyOf(c.service)]
	if c.slices == nil || !slices.Equal(c.slices, present) {
		own := *c
		own.slices = present
		own.endpoints, own.missing = EndpointsOf(c.service, c.port, present, t.opt)
		c = &own
	}
	t.clusterProblems = append(t.clusterProblems, c.missing...)
	if len(c.endpoints) > 0 {
		t.endpoints[c.config.Name] = c.endpoints
	}
	if t.opt.Memo != nil {
		t.opt.Memo.byRoute.presentClusters[c.config.Name] = c
	}
}
