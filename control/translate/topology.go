package translate

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/utils/ptr"

	"rauta.io/rauta/proxy/config"
)

// located is an endpoint with the nodes and zones that it is for.
type located struct {
	config.Endpoint
	forNodes, forZones []string
}

func locate(e *discoveryv1.Endpoint) located {
	out := located{Endpoint: config.Endpoint{Node: ptr.Deref(e.NodeName, ""), Zone: ptr.Deref(e.Zone, "")}}
	if e.Hints != nil {
		for _, n := range e.Hints.ForNodes {
			out.forNodes = append(out.forNodes, n.Name)
		}
		for _, z := range e.Hints.ForZones {
			out.forZones = append(out.forZones, z.Name)
		}
	}
	return out
}

// byDistance marks the endpoints that are not for our node, or zone, as distant. It follows kube-proxy, so that requests
// through RAUTA take the same ways as those within the cluster (KEP-2433, KEP-3015, KEP-4444):
//
//   - Hints count only if every ready endpoint has them: with some of them missing they are out of date, and following them
//     would overload the others.
//   - Those for nodes come before those for zones. What has none for ours has no effect, and so has a zone that is unknown.
//
// A Service with a trafficDistribution whose slices were written without hints, by hand or by another controller, gets the
// ones that Kubernetes would give it: endpoints are for their own node and zone.
func byDistance(svc *corev1.Service, all []located, opt Options) []config.Endpoint {
	distribution := ptr.Deref(svc.Spec.TrafficDistribution, "")
	hinted := slices.ContainsFunc(all, func(e located) bool { return !e.Terminating && len(e.forNodes)+len(e.forZones) > 0 })
	forNodes := func(e *located) []string {
		if !hinted && distribution == corev1.ServiceTrafficDistributionPreferSameNode && e.Node != "" {
			return []string{e.Node}
		}
		return e.forNodes
	}
	forZones := func(e *located) []string {
		if !hinted && prefersZone(distribution) && e.Zone != "" {
			return []string{e.Zone}
		}
		return e.forZones
	}
	if !markDistant(all, opt.Node, forNodes) {
		markDistant(all, opt.Zone, forZones)
	}
	if len(all) == 0 {
		return nil
	}
	out := make([]config.Endpoint, len(all))
	for i := range all {
		out[i] = all[i].Endpoint
	}
	return out
}

// prefersZone: who prefers the node prefers the zone next.
func prefersZone(distribution string) bool {
	switch distribution {
	case corev1.ServiceTrafficDistributionPreferClose, corev1.ServiceTrafficDistributionPreferSameZone,
		corev1.ServiceTrafficDistributionPreferSameNode:
		return true
	}
	return false
}

// markDistant marks the ready endpoints that are not for here, and reports whether that is possible.
func markDistant(all []located, here string, isFor func(*located) []string) bool {
	if here == "" {
		return false
	}
	near := 0
	for i := range all {
		e := &all[i]
		if e.Terminating {
			continue
		}
		places := isFor(e)
		if len(places) == 0 {
			return false
		}
		if slices.Contains(places, here) {
			near++
		}
	}
	if near == 0 {
		return false
	}
	for i := range all {
		e := &all[i]
		e.Distant = !e.Terminating && !slices.Contains(isFor(e), here)
	}
	return true
}
