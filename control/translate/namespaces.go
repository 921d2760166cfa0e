package translate

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// namespaceFilter says from which namespaces objects may attach. The zero value admits none.
type namespaceFilter struct {
	from     gatewayv1.FromNamespaces
	own      string          // of the object that they attach to
	selector labels.Selector // for Selector
}

// newNamespaceFilter admits nobody if the selector can't be read.
func newNamespaceFilter(from gatewayv1.FromNamespaces, selector *metav1.LabelSelector, own string) (namespaceFilter, error) {
	f := namespaceFilter{from: from, own: own}
	if from != gatewayv1.NamespacesFromSelector {
		return f, nil
	}
	var err error
	if f.selector, err = metav1.LabelSelectorAsSelector(selector); err != nil {
		f.selector = labels.Nothing()
	}
	return f, err
}

// admits reports whether an object in a namespace may attach; o is nil if nothing else than its name is known.
func (f namespaceFilter) admits(namespace string, o *corev1.Namespace) bool {
	switch f.from {
	case gatewayv1.NamespacesFromAll:
		return true
	case gatewayv1.NamespacesFromSame:
		return namespace == f.own
	case gatewayv1.NamespacesFromSelector:
		set := labels.Set{corev1.LabelMetadataName: namespace}
		if o != nil {
			for k, v := range o.Labels {
				set[k] = v
			}
		}
		return f.selector.Matches(set)
	}
	return false
}
