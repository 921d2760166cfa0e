package translate

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"rauta.io/rauta/proxy/config"
)

// town is routes that lead to Services with endpoints, one of them in another namespace, which a grant permits.
func town(tb testing.TB, routes int) (*Objects, Options) {
	o, opt := manyRoutes(tb, routes)
	ns := o.HTTPRoutes[0].Namespace
	o.Services, o.EndpointSlices = nil, nil
	add := func(namespace, name string) {
		o.Services = append(o.Services, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
			Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}}})
		o.EndpointSlices = append(o.EndpointSlices, slice(namespace, name, "10.0.0.1"))
	}
	for i := range 4 {
		add(ns, fmt.Sprint("s", i))
	}
	add("zone", "s0")
	o.ReferenceGrants = []*gatewayv1.ReferenceGrant{{ObjectMeta: metav1.ObjectMeta{Namespace: "zone", Name: "g"},
		Spec: gatewayv1.ReferenceGrantSpec{
			From: []gatewayv1.ReferenceGrantFrom{{Group: gatewayv1.GroupName, Kind: kindHTTPRoute, Namespace: gatewayv1.Namespace(ns)}},
			To:   []gatewayv1.ReferenceGrantTo{{Kind: kindService}}}}}
	for i, r := range o.HTTPRoutes {
		r.Generation, r.ResourceVersion, r.UID = 1, "1", types.UID(r.Name)
		r.Spec.Rules = []gatewayv1.HTTPRouteRule{{BackendRefs: []gatewayv1.HTTPBackendRef{leadsTo("", fmt.Sprint("s", i%4), 1)}}}
	}
	return o, opt
}

func leadsTo(namespace, service string, weight int32) gatewayv1.HTTPBackendRef {
	port := gatewayv1.PortNumber(80)
	ref := gatewayv1.HTTPBackendRef{BackendRef: gatewayv1.BackendRef{Weight: &weight,
		BackendObjectReference: gatewayv1.BackendObjectReference{Name: gatewayv1.ObjectName(service), Port: &port}}}
	if namespace != "" {
		of := gatewayv1.Namespace(namespace)
		ref.Namespace = &of
	}
	return ref
}

func slice(namespace, service string, addresses ...string) *discoveryv1.EndpointSlice {
	name, port := "http", int32(8080)
	s := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: service, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port}}}
	for _, a := range addresses {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{a}})
	}
	return s
}

// live changes something of a town, mostly of a single route or slice.
func live(random *rand.Rand, o *Objects) *Objects {
	next := *o
	next.HTTPRoutes, next.EndpointSlices = slices.Clone(o.HTTPRoutes), slices.Clone(o.EndpointSlices)
	what := random.IntN(40)
	if what < 8 {
		i := random.IntN(len(next.EndpointSlices))
		s := next.EndpointSlices[i]
		var addresses []string
		for range random.IntN(3) {
			addresses = append(addresses, []string{"10.0.0.1", "10.0.0.2", "10.0.0.3", "127.0.0.1"}[random.IntN(20)*3/19%4])
		}
		next.EndpointSlices[i] = slice(s.Namespace, s.Name, addresses...)
		return &next
	}
	if len(next.HTTPRoutes) == 0 {
		return &next
	}
	i := random.IntN(len(next.HTTPRoutes))
	r := next.HTTPRoutes[i].DeepCopy()
	next.HTTPRoutes[i] = r
	r.Generation++
	r.ResourceVersion = fmt.Sprint(random.Uint64())
	refs := &r.Spec.Rules[0].BackendRefs
	switch what {
	case 8: // the status was written
		r.Generation--
	case 9:
		r.Spec.Hostnames = []gatewayv1.Hostname{gatewayv1.Hostname(fmt.Sprintf("h%d.example.com", random.IntN(30)))}
	case 10:
		r.Spec.Hostnames = []gatewayv1.Hostname{"none.example.org"}
	case 11:
		r.Annotations = map[string]string{annotationPrefix + "request-timeout": []string{"3s", "x"}[random.IntN(2)]}
	case 12:
		*refs = []gatewayv1.HTTPBackendRef{leadsTo("zone", "s0", 1)}
	case 13:
		*refs = []gatewayv1.HTTPBackendRef{leadsTo("", "gone", 1)}
	case 14:
		*refs = []gatewayv1.HTTPBackendRef{leadsTo("", fmt.Sprint("s", random.IntN(4)), 1), leadsTo("", fmt.Sprint("s", random.IntN(4)), 2)}
	case 15:
		next.HTTPRoutes = slices.Delete(next.HTTPRoutes, i, i+1)
	case 16:
		r.CreationTimestamp = metav1.Unix(random.Int64N(3), 0)
	case 17:
		r.Spec.ParentRefs = append(r.Spec.ParentRefs, r.Spec.ParentRefs[0])
	case 18:
		r.Spec.ParentRefs = nil
	case 19:
		next.ReferenceGrants = nil
	case 20:
		next.Services = without(o.Services, random.IntN(len(o.Services)))
	case 21:
		r.Spec.Rules[0].Filters = []gatewayv1.HTTPRouteFilter{{Type: "Nothing"}}
	case 22:
		r.Spec.Rules = append(r.Spec.Rules, r.Spec.Rules[0])
	case 23:
		r.Spec.Rules = r.Spec.Rules[:1]
		r.Spec.Rules[0].Filters = nil
	default:
		for j := range *refs {
			weight := random.Int32N(5)
			(*refs)[j].Weight = &weight
		}
	}
	return &next
}

func TestARunThatGoesOnWithTheLastOneGivesWhatAWholeRunGives(t *testing.T) {
	chains, steps := 12, 150
	if raceEnabled {
		chains = 2
	}
	revised, whole := 0, 0
	for n := range chains {
		original, opt := town(t, 12)
		random := rand.New(rand.NewPCG(uint64(n), 9))
		memo := &Memo{}
		remembering := opt
		remembering.Memo = memo
		present := original
		var before *Result
		var text []byte
		var served owner
		for step := range steps {
			for range 1 + random.IntN(2) {
				present = live(random, present)
			}
			if step%25 == 24 {
				present = original
			}
			run := memo.byRoute.run
			got := Translate(present, remembering)
			if memo.byRoute.run == run {
				revised++
			} else {
				whole++
			}
			if a, b := encode(t, served.whole(got)), encode(t, Translate(present, opt)); !bytes.Equal(a, b) {
				t.Fatalf("chain %d, step %d: with a memory\n%s\nwithout\n%s", n, step, a, b)
			}
			if before != nil && !bytes.Equal(text, encode(t, before)) {
				t.Fatalf("chain %d, step %d: the result of the run before was changed", n, step)
			}
			before, text = got, encode(t, got)
		}
	}
	if revised < whole/3 || whole < revised/3 {
		t.Errorf("%d runs went on with the last one, %d did not: the test tries too little", revised, whole)
	}
}

// owner has the results of runs with one memory, one after the other, as whoever serves them does.
type owner struct{ endpoints config.Endpoints }

// whole is a result with all endpoints.
func (o *owner) whole(r *Result) *Result {
	if !r.Revised {
		o.endpoints = config.Endpoints{}
	}
	maps.Copy(o.endpoints, r.Endpoints)
	maps.DeleteFunc(o.endpoints, func(_ string, eps []config.Endpoint) bool { return len(eps) == 0 })
	out := *r
	out.Endpoints, out.Revised = maps.Clone(o.endpoints), false
	return &out
}

func TestTheOwnerOfAResultMayChangeItsEndpoints(t *testing.T) {
	o, opt := town(t, 5)
	opt.Memo = &Memo{}
	for i := range 4 {
		next := *o
		next.EndpointSlices = slices.Clone(o.EndpointSlices)
		s := next.EndpointSlices[i]
		next.EndpointSlices[i] = slice(s.Namespace, s.Name, "10.0.0.9")
		r := Translate(&next, opt)
		if r.Revised != (i > 0) {
			t.Errorf("run %d goes on with the last one: %v", i, r.Revised)
		}
		if want := []int{4, 2, 2, 2}[i]; len(r.Endpoints) != want { // the new ones, and those that were changed before
			t.Fatalf("run %d: %d clusters have endpoints, want %d: %v", i, len(r.Endpoints), want, r.Endpoints)
		}
		clear(r.Endpoints)
	}
}

// TestAChangeAfterManyStatusesWereWrittenGoesOnWithTheLastRun: RAUTA writes the statuses of all routes after its start, and the
// first change after that is not to take the time of all.
func TestAChangeAfterManyStatusesWereWrittenGoesOnWithTheLastRun(t *testing.T) {
	o, opt := town(t, revisionsMax+10)
	opt.Memo = &Memo{}
	class, gateway := o.GatewayClasses[0].DeepCopy(), o.Gateways[0].DeepCopy()
	class.UID, class.Generation, class.ResourceVersion = "c", 1, "1"
	gateway.UID, gateway.Generation, gateway.ResourceVersion = "g", 1, "1"
	o.GatewayClasses, o.Gateways = []*gatewayv1.GatewayClass{class}, []*gatewayv1.Gateway{gateway}
	Translate(o, opt)
	change := func(generations int) *Result {
		next := *o
		next.HTTPRoutes = slices.Clone(o.HTTPRoutes)
		for i, r := range next.HTTPRoutes {
			next.HTTPRoutes[i] = r.DeepCopy()
			next.HTTPRoutes[i].ResourceVersion += "1"
			if i < generations {
				next.HTTPRoutes[i].Generation++
			}
		}
		class, gateway := o.GatewayClasses[0].DeepCopy(), o.Gateways[0].DeepCopy()
		class.ResourceVersion, class.Status.SupportedFeatures = class.ResourceVersion+"1", []gatewayv1.SupportedFeature{{Name: "x"}}
		gateway.ResourceVersion += "1"
		gateway.Status.Listeners = append(gateway.Status.Listeners, gatewayv1.ListenerStatus{AttachedRoutes: 1})
		next.GatewayClasses, next.Gateways = []*gatewayv1.GatewayClass{class}, []*gatewayv1.Gateway{gateway}
		o = &next
		return Translate(o, opt)
	}
	if !change(1).Revised {
		t.Error("one change among many statuses that were written is a run of its own")
	}
	o.Gateways = []*gatewayv1.Gateway{o.Gateways[0].DeepCopy()}
	o.Gateways[0].ResourceVersion, o.Gateways[0].Status.Addresses = "2", []gatewayv1.GatewayStatusAddress{{Value: "192.0.2.1"}}
	if change(1).Revised {
		t.Error("an address that a Gateway has been given is passed over")
	}
	if change(revisionsMax + 1).Revised {
		t.Error("more changes than permitted go on with the last run")
	}
}

func TestWhatARouteDoesNotConcernStaysInItsMemory(t *testing.T) {
	o, opt := town(t, 20)
	opt.Memo = &Memo{}
	a := Translate(o, opt)
	next := *o
	next.HTTPRoutes = slices.Clone(o.HTTPRoutes)
	next.HTTPRoutes[2] = next.HTTPRoutes[2].DeepCopy()
	next.HTTPRoutes[2].Generation++
	b := Translate(&next, opt)
	if &a.Config.Listeners[0] != &b.Config.Listeners[0] || &a.Config.Clusters[0] != &b.Config.Clusters[0] {
		t.Error("listeners or clusters are in memory of their own, and will be hashed, checked and compiled again")
	}
}
