package watch

import (
	"cmp"
	"slices"

	"k8s.io/apimachinery/pkg/api/validation"

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
	taken, beyond := inTurn(candidates, namedMax)
	if len(beyond) > 0 {
		c.trouble.tooMany(t, namedMax, beyond)
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

// inTurn takes as many references as the limit permits: the first of each namespace, then the second of each, and so on. refs
// is in order of namespace and name.
func inTurn(refs []translate.ObjectRef, limit int) (taken, beyond []translate.ObjectRef) {
	turn := make(map[translate.ObjectRef]int, len(refs)) // how many of its namespace are before it
	for i, ref := range refs {
		if i > 0 && refs[i-1].Namespace == ref.Namespace {
			turn[ref] = turn[refs[i-1]] + 1
		}
	}
	slices.SortStableFunc(refs, func(a, b translate.ObjectRef) int { return cmp.Compare(turn[a], turn[b]) })
	limit = min(limit, len(refs))
	return refs[:limit], refs[limit:]
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
