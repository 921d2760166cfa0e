package config

import "slices"

// Succession relates a configuration to the one that was in force before. Most changes concern a single object: what the
// two have in common has been hashed and checked already, and is known without looking at more than its place in memory.
type Succession struct {
	// Before and After are immutable.
	Before, After *Config
	// Routes has for each of After.Routes the index of the route of the same name in Before.Routes, -1 if it was not found
	// near the place where it should be.
	Routes []int32
	// SameNames: both have the same routes, clusters, certificates and ticket key sets by name, in the same order.
	SameNames bool
	// SameListeners: both have one list of listeners, in one memory, with everything that is attached to them.
	SameListeners bool
	// SameClusters: the same of clusters.
	SameClusters bool
	// SameSecrets: the same of certificates, ticket keys and ticket key sets.
	SameSecrets bool
}

// aheadMax is how many elements that are gone may come before one that is still there. What is further away is not found.
const aheadMax = 8

// Follow compares two configurations.
func Follow(before, after *Config) *Succession {
	s := &Succession{Before: before, After: after, Routes: make([]int32, len(after.Routes))}
	next, inPlace := 0, len(before.Routes) == len(after.Routes)
	for i := range after.Routes {
		s.Routes[i] = -1
		for j := next; j < min(next+aheadMax, len(before.Routes)); j++ {
			if before.Routes[j] == after.Routes[i] || before.Routes[j].Name == after.Routes[i].Name {
				s.Routes[i], next = int32(j), j+1
				break
			}
		}
		inPlace = inPlace && int(s.Routes[i]) == i
	}
	s.SameListeners = sameMemory(before.Listeners, after.Listeners)
	s.SameClusters = sameMemory(before.Clusters, after.Clusters)
	s.SameSecrets = sameMemory(before.Certificates, after.Certificates) && sameMemory(before.TicketKeys, after.TicketKeys) &&
		sameMemory(before.TicketKeySets, after.TicketKeySets)
	s.SameNames = inPlace && sameNames(before.Clusters, after.Clusters, func(c *Cluster) string { return c.Name }) &&
		sameNames(before.L4Routes, after.L4Routes, func(r *L4Route) string { return r.Name }) &&
		sameNames(before.Certificates, after.Certificates, func(c *Certificate) string { return c.Name }) &&
		sameNames(before.TicketKeySets, after.TicketKeySets, func(s *TicketKeySet) string { return s.Name })
	return s
}

func sameNames[T any](a, b []T, name func(*T) string) bool {
	if len(a) != len(b) {
		return false
	}
	if sameMemory(a, b) {
		return true
	}
	for i := range a {
		if name(&a[i]) != name(&b[i]) {
			return false
		}
	}
	return true
}

// SameRoute reports whether a route of After is one of Before, memory of its rules included. It may be equal even if it
// is not the same.
func (s *Succession) SameRoute(i int) bool {
	if s.Routes[i] < 0 {
		return false
	}
	a, b := s.Before.Routes[s.Routes[i]], s.After.Routes[i]
	return a == b || a.Source == b.Source && a.Created == b.Created && sameMemory(a.Rules, b.Rules)
}

// sameListener reports whether a listener of After is the one at the same place of Before. It may be equal even if it is not
// the same.
func (s *Succession) sameListener(i int) bool {
	if s.SameListeners {
		return true
	}
	if i >= len(s.Before.Listeners) {
		return false
	}
	a, b := &s.Before.Listeners[i], &s.After.Listeners[i]
	return a.Name == b.Name && a.Address == b.Address && a.Port == b.Port && a.Turn == b.Turn && a.Protocol == b.Protocol &&
		a.Hostname == b.Hostname && a.ProxyProtocol == b.ProxyProtocol && a.TLS == b.TLS && a.Passthrough == b.Passthrough && SameAttached(a.Attached, b.Attached)
}

// sameClusters reports whether the clusters of After are those of Before.
func (s *Succession) sameClusters() bool {
	return s.SameClusters || slices.Equal(s.Before.Clusters, s.After.Clusters)
}

// SameAttached reports whether two lists of attachments are equal.
func SameAttached(a, b []Attachment) bool {
	if sameMemory(a, b) {
		return true
	}
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !a[i].Equal(&b[i]) {
			return false
		}
	}
	return true
}

// sameMemory reports whether two slices are one.
func sameMemory[T any](a, b []T) bool {
	return len(a) == len(b) && (len(a) == 0 || &a[0] == &b[0])
}

// Equal reports whether two attachments are.
func (a *Attachment) Equal(b *Attachment) bool {
	if a.Route != b.Route || a.OneLabel != b.OneLabel || len(a.Hostnames) != len(b.Hostnames) {
		return false
	}
	if sameMemory(a.Hostnames, b.Hostnames) {
		return true
	}
	for i := range a.Hostnames {
		if a.Hostnames[i] != b.Hostnames[i] {
			return false
		}
	}
	return true
}
