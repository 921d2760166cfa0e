package watch

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/validation"

	"rauta.io/rauta/control/fair"
	"rauta.io/rauta/control/translate"
)

// namedMax bounds how many Secrets that are no certificates, and how many ConfigMaps, are followed one by one: each is a
// stream of its own. Namespaces take turns, so that nobody uses up what others need.
const namedMax = 500

// Refer reads the Secrets and ConfigMaps that objects refer to, and no longer those that they don't. It returns false
// while some of them have not been read yet; Changed receives when they have. refs is in order of kind, namespace and name,
// so that what is beyond the limit is always the same.
func (c *Cluster) Refer(refs []translate.ObjectRef) (complete bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	complete = true
	for _, t := range c.tables {
		if t.referred && c.ctx != nil && !c.refer(t, refs) {
			complete = false
		}
	}
	return complete
}

// refer is Refer for one kind; c.mu is held.
func (c *Cluster) refer(t *table, refs []translate.ObjectRef) (complete bool) {
	var candidates []translate.ObjectRef
	for _, ref := range refs {
		if ref.Kind == t.kind && canExist(ref) && c.inNamespaces(ref.Namespace) && !c.inBulk(t, name{ref.Namespace, ref.Name}) {
			candidates = append(candidates, ref)
		}
	}
	fair.Turns(candidates, func(ref translate.ObjectRef) string { return ref.Namespace })
	limit := min(namedMax, len(candidates))
	taken, beyond := candidates[:limit], candidates[limit:]
	if len(beyond) > 0 {
		c.trouble.tooMany(t, namedMax, beyond)
	}
	if !slices.Equal(t.beyond, beyond) { // who refers to them is told in the next translation
		t.beyond = slices.Clone(beyond)
		c.pending.Objects, c.pending.Members = true, true
		c.note()
	}
	complete = true
	wanted := map[scope]bool{}
	for _, ref := range taken {
		fields := "metadata.name=" + ref.Name
		if t.others != "" {
			fields += "," + t.others
		}
		at := scope{namespace: ref.Namespace, name: ref.Name, fields: fields}
		wanted[at] = true
		if t.sources[at] == nil {
			c.start(t, at)
		}
		complete = complete && t.sources[at].synced
	}
	for at, s := range t.sources {
		if at.name != "" && !wanted[at] {
			c.end(t, at, s)
		}
	}
	return complete
}

// unread says why objects that are referred to are not there, although they may exist. c.mu is held.
func (c *Cluster) unread() (out []translate.Unread) {
	for _, t := range c.tables {
		if !t.referred {
			continue
		}
		for at, s := range t.sources {
			if at.name != "" && !s.synced {
				s.awaited = true
				ref := translate.ObjectRef{Kind: t.kind, Namespace: at.namespace, Name: at.name}
				out = append(out, translate.Unread{ObjectRef: ref, Reason: "has not been read yet"})
			}
			for k, m := range s.misfits {
				ref := translate.ObjectRef{Kind: t.kind, Namespace: k.namespace, Name: k.name}
				out = append(out, translate.Unread{ObjectRef: ref, Reason: m.reason})
			}
		}
		for _, ref := range t.beyond {
			out = append(out, translate.Unread{ObjectRef: ref,
				Reason: fmt.Sprintf("is not read, because more than %d of its kind are referred to in this cluster", namedMax)})
		}
	}
	slices.SortFunc(out, func(a, b translate.Unread) int {
		return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	return out
}

// canExist reports whether an object can have this name. The fields of objects that refer to others take any text, and what
// no object can be called must not be asked for: the API server refuses the question, and the publication would wait for
// an answer without end.
func canExist(ref translate.ObjectRef) bool {
	return len(validation.NameIsDNSSubdomain(ref.Name, false)) == 0 && len(validation.ValidateNamespaceName(ref.Namespace, false)) == 0
}

func (c *Cluster) inNamespaces(namespace string) bool {
	for _, one := range c.opt.Namespaces {
		if one == namespace {
			return true
		}
	}
	return len(c.opt.Namespaces) == 0
}

// inBulk reports whether an object is known without being followed by itself; c.mu is held.
func (c *Cluster) inBulk(t *table, k name) bool {
	for at, s := range t.sources {
		if at.name == "" && s.objects[k] != nil {
			return true
		}
	}
	return false
}
