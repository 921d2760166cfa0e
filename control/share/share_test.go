package share

import (
	"fmt"
	"reflect"
	"testing"
	"time"
	"unsafe"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// fresh makes a text of its own.
func fresh(text string) string { return string([]byte(text)) }

func route(name string, second int64) *gatewayv1.HTTPRoute {
	ref := func() gatewayv1.ParentReference {
		return gatewayv1.ParentReference{Kind: ptr.To(gatewayv1.Kind(fresh("Gateway"))), Name: gatewayv1.ObjectName(fresh("edge")), Port: ptr.To(gatewayv1.PortNumber(80))}
	}
	r := &gatewayv1.HTTPRoute{}
	r.Name, r.Namespace = name, fresh("team")
	r.Spec.ParentRefs = append(make([]gatewayv1.ParentReference, 0, 4), ref())
	r.Spec.Hostnames = []gatewayv1.Hostname{gatewayv1.Hostname(name)}
	r.Spec.Rules = []gatewayv1.HTTPRouteRule{{Matches: []gatewayv1.HTTPRouteMatch{{Path: &gatewayv1.HTTPPathMatch{
		Type: ptr.To(gatewayv1.PathMatchType(fresh("PathPrefix"))), Value: ptr.To(fresh("/"))}}}}}
	r.Status.Parents = []gatewayv1.RouteParentStatus{{ParentRef: ref(), ControllerName: "c", Conditions: []metav1.Condition{
		{Type: fresh("Accepted"), Status: "True", LastTransitionTime: metav1.Time{Time: time.Unix(second, 0)}}}}}
	return r
}

func TestEqualPartsOfObjectsHaveOneMemory(t *testing.T) {
	p := NewPool()
	a, b, later := route("a", 1), route("b", 1), route("c", 2)
	for _, r := range []*gatewayv1.HTTPRoute{a, b, later} {
		before := r.DeepCopy()
		if p.Object(r); !reflect.DeepEqual(r, before) {
			t.Fatalf("%s says something else now", r.Name)
		}
	}
	if &a.Spec.ParentRefs[0] != &b.Spec.ParentRefs[0] || &a.Status.Parents[0] != &b.Status.Parents[0] {
		t.Error("two references, or two statuses, are kept twice")
	}
	if &a.Status.Parents[0] == &later.Status.Parents[0] {
		t.Error("a status with another time is the same")
	}
	if x, y := a.Status.Parents[0].Conditions[0].Type, later.Status.Parents[0].Conditions[0].Type; unsafe.StringData(x) != unsafe.StringData(y) {
		t.Error("a text is kept twice")
	}
	m, n := a.Spec.Rules[0].Matches[0].Path, b.Spec.Rules[0].Matches[0].Path
	if m != n {
		t.Error("a list of matches is kept twice")
	}
	if a.Spec.Rules[0].Matches[0].Path.Type == nil || cap(a.Spec.ParentRefs) != 1 {
		t.Error("a list has more memory than it needs")
	}
}

func TestPointersOfDifferentTypesAreNotOne(t *testing.T) {
	p := NewPool()
	ports := &discoveryv1.EndpointSlice{Ports: []discoveryv1.EndpointPort{{Name: ptr.To("8080"), Port: ptr.To(int32(8080)), AppProtocol: ptr.To("8080")}, {Port: ptr.To(int32(1))}}}
	before := ports.DeepCopy()
	if p.Object(ports); !reflect.DeepEqual(ports, before) || ports.Ports[0].Name != ports.Ports[0].AppProtocol {
		t.Error("a value was exchanged, or kept twice")
	}
}

func TestListsThatSayTheSameAreOne(t *testing.T) {
	p := NewPool()
	service := func(target int32) *corev1.Service {
		return &corev1.Service{Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{
			{Name: fresh("http"), AppProtocol: ptr.To(fresh("h2c")), Port: 80, TargetPort: intstr.FromInt32(target)}}}}
	}
	a, b, other := service(8080), service(8080), service(8081)
	for _, s := range []*corev1.Service{a, b, other} {
		before := s.DeepCopy()
		if p.Object(s); !reflect.DeepEqual(s, before) {
			t.Fatal("a Service says something else now")
		}
	}
	if &a.Spec.Ports[0] != &b.Spec.Ports[0] || &a.Spec.Ports[0] == &other.Spec.Ports[0] {
		t.Error("equal lists of ports are two, or different ones are one")
	}
	plain, method := route("a", 1), route("b", 1)
	method.Spec.Rules[0].Matches[0].Method = ptr.To(gatewayv1.HTTPMethodGet)
	p.Object(plain)
	if p.Object(method); &plain.Spec.Rules[0].Matches[0] == &method.Spec.Rules[0].Matches[0] || method.Spec.Rules[0].Matches[0].Method == nil {
		t.Error("a match has lost its method")
	}
}

// TestMoreThanIsRememberedIsRight: slots are taken over by others all the time.
func TestMoreThanIsRememberedIsRight(t *testing.T) {
	p := NewPool()
	for round := range 2 {
		for i := range 2 * slotCount {
			r := route(fmt.Sprint("r", i), int64(i))
			r.Spec.Rules[0].Matches[0].Path.Value = ptr.To(fmt.Sprint("/", i))
			before := r.DeepCopy()
			if p.Object(r); !reflect.DeepEqual(r, before) {
				t.Fatalf("round %d: %s says something else now", round, r.Name)
			}
		}
	}
}

func BenchmarkObject(b *testing.B) {
	p := NewPool()
	list := make([]*gatewayv1.HTTPRoute, 1000)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%len(list) == 0 {
			b.StopTimer()
			for j := range list {
				list[j] = route(fmt.Sprint("r", j), int64(j/200))
			}
			b.StartTimer()
		}
		p.Object(list[i%len(list)])
	}
}
