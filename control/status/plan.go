package status

import (
	"encoding/json"
	"hash/maphash"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"rauta.io/rauta/control/translate"
)

// id names an object.
type id = translate.ObjectRef

// job is one status that differs from what the objects of an Update have.
type job struct {
	id     id
	object metav1.Object // as it was translated
	// fingerprint is that of what is wanted.
	fingerprint uint64
	// cached returns the status that the object has; nil if it is not complete, and the API server must be asked.
	cached func() (json.RawMessage, error)
	// merge returns the fields to write into a status, or nil if it is right.
	merge func(status json.RawMessage, now time.Time) (map[string]any, error)
}

// planner collects the jobs of an Update.
type planner struct {
	controller string
	seed       maphash.Seed
	settled    settledRoutes // of the last plan, which this one brings up to date
	jobs       []job
}

func (p *planner) add(kind string, o metav1.Object, want any, cached func() (json.RawMessage, error), merge func(json.RawMessage, time.Time) (map[string]any, error)) {
	text, err := json.Marshal(want)
	if err != nil {
		panic("status: a status that can't be written as JSON: " + err.Error()) // they are plain data
	}
	p.jobs = append(p.jobs, job{
		id: refOf(kind, o), object: o, fingerprint: maphash.Bytes(p.seed, text), cached: cached, merge: merge,
	})
}

func refOf(kind string, o metav1.Object) id {
	return id{Kind: kind, Namespace: o.GetNamespace(), Name: o.GetName()}
}

// Names of kinds.
const (
	kindGatewayClass     = "GatewayClass"
	kindGateway          = "Gateway"
	kindListenerSet      = "ListenerSet"
	kindHTTPRoute        = "HTTPRoute"
	kindGRPCRoute        = "GRPCRoute"
	kindTLSRoute         = "TLSRoute"
	kindTCPRoute         = "TCPRoute"
	kindUDPRoute         = "UDPRoute"
	kindBackendTLSPolicy = "BackendTLSPolicy"
	kindIngress          = "Ingress"
)

func groupOf(kind string) string {
	if kind == kindIngress {
		return networkingv1.GroupName
	}
	return gatewayv1.GroupName
}

// plan returns the jobs of an Update. What is comparable as it is costs no encoding: most of 10,000 routes are right, and most
// of them were so the last time.
func (p *planner) plan(u *Update, left *departed) []job {
	s := u.statuses()
	classes := ordered[translate.GatewayClassStatus]{list: s.GatewayClasses, of: func(w *translate.GatewayClassStatus) id { return id{Name: w.Name} }}
	for _, o := range u.Objects.GatewayClasses {
		if w := classes.find(o); w != nil && !classSettled(&o.Status, &w.Status) {
			p.add(kindGatewayClass, o, w.Status, encoded(&o.Status), func(status json.RawMessage, now time.Time) (map[string]any, error) {
				return mergeClass(status, &w.Status, now)
			})
		}
	}
	p.gateways(u, s, left)
	p.ingresses(u, s, left)
	planRoutes(p, kindHTTPRoute, u.Objects.HTTPRoutes, s.HTTPRoutes, func(o *gatewayv1.HTTPRoute) *gatewayv1.RouteStatus { return &o.Status.RouteStatus })
	planRoutes(p, kindGRPCRoute, u.Objects.GRPCRoutes, s.GRPCRoutes, func(o *gatewayv1.GRPCRoute) *gatewayv1.RouteStatus { return &o.Status.RouteStatus })
	planRoutes(p, kindTLSRoute, u.Objects.TLSRoutes, s.TLSRoutes, func(o *gatewayv1.TLSRoute) *gatewayv1.RouteStatus { return &o.Status.RouteStatus })
	planRoutes(p, kindTCPRoute, u.Objects.TCPRoutes, s.TCPRoutes, func(o *gatewayv1.TCPRoute) *gatewayv1.RouteStatus { return &o.Status.RouteStatus })
	planRoutes(p, kindUDPRoute, u.Objects.UDPRoutes, s.UDPRoutes, func(o *gatewayv1.UDPRoute) *gatewayv1.RouteStatus { return &o.Status.RouteStatus })
	p.policies(u, s)
	return p.jobs
}

func (p *planner) gateways(u *Update, s *translate.Statuses, left *departed) {
	wanted := ordered[translate.GatewayStatus]{list: s.Gateways, of: func(w *translate.GatewayStatus) id { return id{Namespace: w.Namespace, Name: w.Name} }}
	for _, o := range u.Objects.Gateways {
		var want *gatewayv1.GatewayStatus
		if w := wanted.find(o); w != nil {
			want = &w.Status
		}
		p.listeners(kindGateway, o, &o.Status, want, encoded(&o.Status), left)
	}
	sets := ordered[translate.ListenerSetStatus]{list: s.ListenerSets, of: func(w *translate.ListenerSetStatus) id { return id{Namespace: w.Namespace, Name: w.Name} }}
	for _, o := range u.Objects.ListenerSets {
		var want *gatewayv1.GatewayStatus
		if w := sets.find(o); w != nil {
			want = asGateway(&w.Status)
		}
		p.listeners(kindListenerSet, o, asGateway(&o.Status), want, encoded(&o.Status), left)
	}
}

// listeners plans the status of a Gateway or a ListenerSet.
func (p *planner) listeners(kind string, o metav1.Object, have, want *gatewayv1.GatewayStatus, cached func() (json.RawMessage, error), left *departed) {
	if want != nil {
		if !gatewaySettled(have, want) {
			p.add(kind, o, want, cached, func(status json.RawMessage, now time.Time) (map[string]any, error) {
				return mergeGateway(kind, status, want, now)
			})
		}
	} else if last := left.gateways[refOf(kind, o)]; last != nil {
		p.add(kind, o, "departed", unknown, func(status json.RawMessage, now time.Time) (map[string]any, error) {
			return takeBackGateway(kind, status, last, now)
		})
	}
}

func (p *planner) ingresses(u *Update, s *translate.Statuses, left *departed) {
	wanted := ordered[translate.IngressStatus]{list: s.Ingresses, of: func(w *translate.IngressStatus) id { return id{Namespace: w.Namespace, Name: w.Name} }}
	for _, o := range u.Objects.Ingresses {
		if w := wanted.find(o); w != nil {
			if !ingressSettled(&o.Status, &w.Status) {
				p.add(kindIngress, o, w.Status, encoded(&o.Status), func(status json.RawMessage, now time.Time) (map[string]any, error) {
					return mergeIngress(status, &w.Status, now)
				})
			}
		} else if last := left.ingresses[refOf(kindIngress, o)]; last != nil {
			p.add(kindIngress, o, "departed", unknown, func(status json.RawMessage, now time.Time) (map[string]any, error) {
				return takeBackIngress(status, last, now)
			})
		}
	}
}

func planRoutes[T metav1.Object](p *planner, kind string, objects []T, statuses []*translate.RouteStatus, statusOf func(T) *gatewayv1.RouteStatus) {
	wanted := ordered[*translate.RouteStatus]{list: statuses, of: func(w **translate.RouteStatus) id { return id{Namespace: (*w).Namespace, Name: (*w).Name} }}
	list, settled := parentEntries(), p.settled.resize(kind, len(objects))
	for i, o := range objects {
		before := settled[i]
		if next := wanted.next; next < len(statuses) { // the usual case, in which no name is read
			if now := settledAs(o, statuses[next].Parents); now.want != nil && now == before {
				wanted.next++
				continue
			}
		}
		var want []gatewayv1.RouteParentStatus
		if w := wanted.find(o); w != nil {
			want = (*w).Parents
		}
		if settled[i] = settledAs(o, want); settled[i] == before {
			continue
		}
		status := statusOf(o)
		if list.settled(status.Parents, want, p.controller) {
			continue
		}
		settled[i] = settledRoute{}
		planEntries(p, list, kind, o, status.Parents, want, encoded(status))
	}
}

func (p *planner) policies(u *Update, s *translate.Statuses) {
	wanted := ordered[translate.PolicyStatus]{list: s.BackendTLSPolicies, of: func(w *translate.PolicyStatus) id { return id{Namespace: w.Namespace, Name: w.Name} }}
	list := ancestorEntries()
	for _, o := range u.Objects.BackendTLSPolicies {
		var want []gatewayv1.PolicyAncestorStatus
		if w := wanted.find(o); w != nil {
			want = w.Ancestors
		}
		if !list.settled(o.Status.Ancestors, want, p.controller) {
			planEntries(p, list, kindBackendTLSPolicy, o, o.Status.Ancestors, want, encoded(&o.Status))
		}
	}
}

// planEntries plans a list of entries that is not settled.
func planEntries[T any](p *planner, list entries[T], kind string, o metav1.Object, have, want []T, cached func() (json.RawMessage, error)) {
	if list.shared(have, p.controller) {
		cached = unknown // what others have written may have fields that this program does not know
	}
	controller := p.controller
	p.add(kind, o, want, cached, func(status json.RawMessage, now time.Time) (map[string]any, error) {
		return list.merge(status, want, controller, now)
	})
}

// encoded returns a status as the API server would show it.
func encoded(status any) func() (json.RawMessage, error) {
	return func() (json.RawMessage, error) { return json.Marshal(status) }
}

// unknown makes a job ask the API server first.
func unknown() (json.RawMessage, error) { return nil, nil }
