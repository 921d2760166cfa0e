package watch

import (
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"rauta.io/rauta/control/translate"
)

// What is kept of objects decides how much memory a large cluster takes: a Service of 10,000, or an endpoint of 100,000, is
// seldom more than its ports or its address. Stripping what has been stripped changes nothing.

// annotationPrefix is common to all annotations that mean something on Services, Namespaces and slices.
const annotationPrefix = "rauta.io/"

func nothing[P any](P) {}

// stripMeta removes what is known anyway, and the two copies of the object that its metadata may have.
func stripMeta(o object) {
	o.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	o.SetManagedFields(nil)
	o.SetOwnerReferences(nil)
	o.SetFinalizers(nil)
	annotations := o.GetAnnotations()
	if _, has := annotations[corev1.LastAppliedConfigAnnotation]; has {
		delete(annotations, corev1.LastAppliedConfigAnnotation)
		o.SetAnnotations(annotations)
	}
}

// onlyOurs drops the annotations of others, such as those of cloud providers. Nil is kept apart from empty by nobody.
func onlyOurs(o metav1.Object) {
	annotations := o.GetAnnotations()
	for name := range annotations {
		if !strings.HasPrefix(name, annotationPrefix) {
			delete(annotations, name)
		}
	}
	if len(annotations) == 0 {
		o.SetAnnotations(nil)
	}
}

// stripRoute leaves a route its specification and its status: Translate looks at no label of it, and at no annotation of others.
func stripRoute[P metav1.Object](r P) {
	onlyOurs(r)
	r.SetLabels(nil)
}

// stripNamespace keeps the labels, which allowedRoutes select by.
func stripNamespace(n *corev1.Namespace) {
	onlyOurs(n)
	n.Spec, n.Status = corev1.NamespaceSpec{}, corev1.NamespaceStatus{}
}

// stripService keeps what Translate reads of a Service, and the addresses by which a load balancer is known.
func stripService(s *corev1.Service) {
	onlyOurs(s)
	s.Labels = nil
	s.Spec = corev1.ServiceSpec{
		Type: s.Spec.Type, Ports: s.Spec.Ports, IPFamilies: s.Spec.IPFamilies, TrafficDistribution: s.Spec.TrafficDistribution,
		ClusterIPs: s.Spec.ClusterIPs, ExternalIPs: s.Spec.ExternalIPs,
	}
	s.Status = corev1.ServiceStatus{LoadBalancer: s.Status.LoadBalancer}
	for i := range s.Spec.Ports {
		s.Spec.Ports[i].TargetPort.StrVal = ""
		s.Spec.Ports[i].NodePort = 0
	}
}

// stripEndpointSlice keeps addresses and conditions, where they run, and the pod behind.
func stripEndpointSlice(s *discoveryv1.EndpointSlice) {
	onlyOurs(s)
	service, owned := s.Labels[discoveryv1.LabelServiceName]
	s.Labels = nil
	if owned {
		s.Labels = map[string]string{discoveryv1.LabelServiceName: service}
	}
	s.GenerateName = ""
	// Many endpoints of a slice have the same node and zone, and conditions are true or false: they share memory.
	shared := map[string]*string{}
	share := func(p *string) *string {
		if p == nil {
			return nil
		}
		if shared[*p] == nil {
			shared[*p] = p
		}
		return shared[*p]
	}
	truth, falsehood := true, false
	shareBool := func(p *bool) *bool {
		switch {
		case p == nil:
			return nil
		case *p:
			return &truth
		}
		return &falsehood
	}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		e.Hostname, e.DeprecatedTopology = nil, nil
		e.NodeName, e.Zone = share(e.NodeName), share(e.Zone)
		e.Conditions = discoveryv1.EndpointConditions{
			Ready: shareBool(e.Conditions.Ready), Serving: shareBool(e.Conditions.Serving), Terminating: shareBool(e.Conditions.Terminating),
		}
		if e.TargetRef != nil {
			e.TargetRef = &corev1.ObjectReference{Kind: e.TargetRef.Kind, Name: e.TargetRef.Name}
		}
	}
}

// stripSecret keeps of a certificate what belongs to it, not the same in the formats of others. Of other Secrets it is not
// known here which entries are looked at.
func stripSecret(s *corev1.Secret) {
	onlyOurs(s)
	s.Labels = nil
	if s.Type == corev1.SecretTypeTLS {
		maps.DeleteFunc(s.Data, func(entry string, _ []byte) bool { return !translate.InCertificate(entry) })
	}
}

func stripConfigMap(m *corev1.ConfigMap) {
	onlyOurs(m)
	m.Labels = nil
	maps.DeleteFunc(m.Data, func(entry, _ string) bool { return entry != translate.AuthorityEntry })
	maps.DeleteFunc(m.BinaryData, func(entry string, _ []byte) bool { return entry != translate.AuthorityEntry })
}
