package translate

import (
	"cmp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// references are the Secrets and ConfigMaps that a run asked for, whether they exist or not. Whoever reads objects from a
// cluster need not read all of these kinds, which hold much that is not RAUTA's business.
type references map[ObjectRef]bool

func (t *translator) ask(ref ObjectRef) {
	t.asked[ref] = true
	if t.recording != nil {
		t.recording.asked = append(t.recording.asked, ref)
	}
}

// secret returns nil if there is none.
func (t *translator) secret(k key) *corev1.Secret {
	t.ask(ObjectRef{Kind: kindSecret, Namespace: k.namespace, Name: k.name})
	return t.in.secretsByKey[k]
}

// configMap returns nil if there is none.
func (t *translator) configMap(k key) *corev1.ConfigMap {
	t.ask(ObjectRef{Kind: kindConfigMap, Namespace: k.namespace, Name: k.name})
	return t.in.configMapsByKey[k]
}

// missing says of a Secret or ConfigMap that is not there why it is not, as the end of a sentence about it.
func (t *translator) missing(kind string, k key) string {
	if reason := t.in.unread[ObjectRef{Kind: kind, Namespace: k.namespace, Name: k.name}]; reason != "" {
		return reason
	}
	return "does not exist"
}

// list returns them in order of kind, namespace and name.
func (r references) list() []ObjectRef {
	out := make([]ObjectRef, 0, len(r))
	for ref := range r {
		out = append(out, ref)
	}
	slices.SortFunc(out, func(a, b ObjectRef) int {
		return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	return out
}
