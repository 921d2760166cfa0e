package translate

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// without returns a list without one of its elements.
func without[T any](list []T, i int) []T { return slices.Delete(slices.Clone(list), i, i+1) }

// neighbours are objects that differ from those of a case in one of them.
func neighbours(o *Objects) (out []*Objects) {
	vary := func(count int, change func(*Objects, int)) {
		for i := range count {
			next := *o
			change(&next, i)
			out = append(out, &next)
		}
	}
	vary(len(o.HTTPRoutes), func(n *Objects, i int) { n.HTTPRoutes = without(o.HTTPRoutes, i) })
	vary(len(o.HTTPRoutes), func(n *Objects, i int) {
		n.HTTPRoutes = slices.Clone(o.HTTPRoutes)
		n.HTTPRoutes[i] = o.HTTPRoutes[i].DeepCopy()
		n.HTTPRoutes[i].Spec.Hostnames = []gatewayv1.Hostname{"changed.example.com"}
	})
	vary(len(o.GRPCRoutes), func(n *Objects, i int) { n.GRPCRoutes = without(o.GRPCRoutes, i) })
	vary(len(o.TLSRoutes), func(n *Objects, i int) { n.TLSRoutes = without(o.TLSRoutes, i) })
	vary(len(o.TCPRoutes), func(n *Objects, i int) { n.TCPRoutes = without(o.TCPRoutes, i) })
	vary(len(o.EndpointSlices), func(n *Objects, i int) { n.EndpointSlices = without(o.EndpointSlices, i) })
	vary(len(o.EndpointSlices), func(n *Objects, i int) {
		n.EndpointSlices = slices.Clone(o.EndpointSlices)
		n.EndpointSlices[i] = o.EndpointSlices[i].DeepCopy()
		n.EndpointSlices[i].Endpoints = nil
	})
	vary(len(o.Services), func(n *Objects, i int) { n.Services = without(o.Services, i) })
	vary(len(o.Gateways), func(n *Objects, i int) { n.Gateways = without(o.Gateways, i) })
	vary(len(o.ReferenceGrants), func(n *Objects, i int) { n.ReferenceGrants = without(o.ReferenceGrants, i) })
	vary(len(o.Secrets), func(n *Objects, i int) { n.Secrets = without(o.Secrets, i) })
	vary(len(o.ConfigMaps), func(n *Objects, i int) { n.ConfigMaps = without(o.ConfigMaps, i) })
	vary(len(o.BackendTLSPolicies), func(n *Objects, i int) { n.BackendTLSPolicies = without(o.BackendTLSPolicies, i) })
	return out
}

func TestWhatIsRememberedOfRoutesNeverOutlivesWhatItRestsOn(t *testing.T) {
	for _, dir := range caseDirs(t) {
		objects, opt := loadCase(t, dir)
		remembering := opt
		remembering.Memo = &Memo{}
		var served owner
		served.whole(Translate(objects, remembering))
		for i, next := range neighbours(objects) {
			if !sampled(i) {
				continue
			}
			want := encode(t, Translate(next, opt))
			if got := encode(t, served.whole(Translate(next, remembering))); !bytes.Equal(got, want) {
				t.Fatalf("%s: with a memory\n%s\nwithout\n%s", dir, got, want)
			}
		}
	}
}

func TestOnlyARouteThatHasChangedIsCompiledAgain(t *testing.T) {
	objects, opt := manyRoutes(t, 100)
	for i, g := range objects.Gateways {
		g.UID, g.Generation = "gateway", int64(i+1)
	}
	memo := &Memo{}
	opt.Memo = memo
	Translate(objects, opt)
	before := compilations(memo)
	if len(before) != 100 {
		t.Fatalf("%d routes are remembered", len(before))
	}
	next := *objects
	next.Gateways = []*gatewayv1.Gateway{objects.Gateways[0].DeepCopy()} // its status was written
	next.Gateways[0].Status.Listeners = nil
	next.HTTPRoutes = slices.Clone(objects.HTTPRoutes)
	next.HTTPRoutes[7] = objects.HTTPRoutes[7].DeepCopy()
	Translate(&next, opt)
	after := compilations(memo)
	maps.DeleteFunc(after, func(c *compilation, _ *placement) bool { return before[c] != nil })
	if len(after) != 1 {
		t.Errorf("%d routes were compiled again, want 1", len(after))
	}
	next.Gateways[0] = next.Gateways[0].DeepCopy()
	next.Gateways[0].Generation++
	last := compilations(memo)
	Translate(&next, opt)
	for c := range compilations(memo) {
		if last[c] != nil {
			t.Fatal("a route was not compiled again although a Gateway has changed")
		}
	}
}

// compilations are those of the last run, with where they led.
func compilations(m *Memo) map[*compilation]*placement {
	out := map[*compilation]*placement{}
	for _, o := range m.byRoute.list.byName {
		for _, c := range o.known.compilations {
			out[c] = o.known.placement
		}
	}
	return out
}

func TestOnlyWhatHasChangedIsAttachedAgain(t *testing.T) {
	objects, opt := manyRoutes(t, 100)
	memo := &Memo{}
	opt.Memo = memo
	Translate(objects, opt)
	before := compilations(memo)
	next := *objects
	next.HTTPRoutes = append(slices.Clone(objects.HTTPRoutes[:40]), objects.HTTPRoutes[60:]...) // twenty are gone
	next.HTTPRoutes[7] = next.HTTPRoutes[7].DeepCopy()
	Translate(&next, opt)
	fresh := 0
	for c, p := range compilations(memo) {
		if before[c] != p {
			fresh++
		}
	}
	if fresh != 1 {
		t.Errorf("%d routes were attached again, want 1", fresh)
	}
	before = compilations(memo)
	next.Namespaces = nil // Routes.namespaces may select by what these say
	next.Namespaces = append(next.Namespaces, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "another"}})
	Translate(&next, opt)
	for c, p := range compilations(memo) {
		if before[c] == nil || before[c] == p {
			t.Fatal("a route was compiled again, or not attached again, although only a namespace has changed")
		}
	}
}

// TestAnySequenceOfChangesLeadsToWhatTheLastObjectsSay changes objects of all cases at random, many states one after the
// other, and compares what comes of it with what comes without a memory.
func TestAnySequenceOfChangesLeadsToWhatTheLastObjectsSay(t *testing.T) {
	steps := 25
	if raceEnabled {
		steps = 4
	}
	for seed, dir := range caseDirs(t) {
		random := rand.New(rand.NewPCG(uint64(seed), 1))
		original, opt := loadCase(t, dir)
		remembering := opt
		remembering.Memo = &Memo{}
		var served owner
		present := *original
		for step := range steps {
			for range 1 + random.IntN(3) {
				present = vary(random, original, present)
			}
			want := encode(t, Translate(&present, opt))
			if got := encode(t, served.whole(Translate(&present, remembering))); !bytes.Equal(got, want) {
				t.Fatalf("%s, step %d: with a memory\n%s\nwithout\n%s", dir, step, got, want)
			}
		}
	}
}

// vary changes one list of objects.
func vary(random *rand.Rand, original *Objects, present Objects) Objects {
	to, from := reflect.ValueOf(&present).Elem(), reflect.ValueOf(original).Elem()
	i := random.IntN(to.NumField())
	if all := from.Field(i); all.Len() > 0 {
		to.Field(i).Set(varied(random, all, to.Field(i)))
	}
	return present
}

// varied removes an object, brings one back, or gives one a new state: other labels, annotations, age or host names, all
// fields of another object of its kind, or nothing new.
func varied(random *rand.Rand, all, present reflect.Value) reflect.Value {
	out := reflect.AppendSlice(reflect.MakeSlice(present.Type(), 0, present.Len()), present)
	n := random.IntN(all.Len())
	one := all.Index(n)
	name := one.Interface().(metav1.Object)
	at := -1
	for i := range out.Len() {
		if o := out.Index(i).Interface().(metav1.Object); keyOf(o) == keyOf(name) {
			at = i
		}
	}
	if at < 0 {
		return reflect.Append(out, one)
	}
	if random.IntN(4) == 0 {
		return reflect.AppendSlice(out.Slice(0, at), out.Slice(at+1, out.Len()))
	}
	fresh := reflect.New(one.Type().Elem())
	from := all.Index(random.IntN(all.Len()))
	fresh.Elem().Set(from.MethodByName("DeepCopy").Call(nil)[0].Elem())
	o := fresh.Interface().(metav1.Object)
	o.SetNamespace(name.GetNamespace())
	o.SetName(name.GetName())
	if o.GetUID() == "" {
		o.SetUID("uid")
	}
	o.SetGeneration(random.Int64N(1 << 62)) // whatever changes below has another one, as the API server sees to
	switch random.IntN(4) {
	case 0:
		o.SetLabels(map[string]string{"team": fmt.Sprint(random.IntN(2))})
	case 1:
		o.SetAnnotations(map[string]string{annotationPrefix + "request-timeout": fmt.Sprint(random.IntN(3), "s")})
	case 2:
		o.SetCreationTimestamp(metav1.Unix(int64(random.IntN(1000)), 0))
	case 3:
		if r, ok := o.(*gatewayv1.HTTPRoute); ok {
			r.Spec.Hostnames = []gatewayv1.Hostname{gatewayv1.Hostname(fmt.Sprintf("h%d.example.com", random.IntN(3)))}
		} else if r, ok := o.(*gatewayv1.GRPCRoute); ok {
			r.Spec.Hostnames = []gatewayv1.Hostname{gatewayv1.Hostname(fmt.Sprintf("h%d.example.com", random.IntN(3)))}
		}
	}
	out.Index(at).Set(fresh)
	return out
}

func BenchmarkTranslateOneChangeOfTenThousandRoutes(b *testing.B) {
	objects, opt := manyRoutes(b, 10_000)
	opt.Memo = &Memo{}
	Translate(objects, opt)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		next := *objects
		next.HTTPRoutes = slices.Clone(objects.HTTPRoutes)
		next.HTTPRoutes[i%len(next.HTTPRoutes)] = next.HTTPRoutes[i%len(next.HTTPRoutes)].DeepCopy()
		Translate(&next, opt)
	}
}

func TestARouteWhoseStatusWasWrittenIsNotCompiledAgain(t *testing.T) {
	objects, opt := manyRoutes(t, 100)
	for i, r := range objects.HTTPRoutes {
		r.UID, r.Generation = types.UID(r.Name), int64(i+1)
	}
	memo := &Memo{}
	opt.Memo = memo
	var served owner
	served.whole(Translate(objects, opt))
	before := compilations(memo)
	next := *objects
	next.HTTPRoutes = slices.Clone(objects.HTTPRoutes)
	for i := range next.HTTPRoutes {
		next.HTTPRoutes[i] = next.HTTPRoutes[i].DeepCopy()
		next.HTTPRoutes[i].ResourceVersion = "2"
		next.HTTPRoutes[i].Status.Parents = []gatewayv1.RouteParentStatus{{ControllerName: "x"}}
	}
	next.HTTPRoutes[7].Generation++
	changed := next.HTTPRoutes[8] // as admission does, or a clock: without a new generation
	changed.Annotations = map[string]string{annotationPrefix + "request-timeout": "7s"}
	result := Translate(&next, opt)
	after := compilations(memo)
	if len(after) != 100 {
		t.Fatalf("%d routes are remembered", len(after))
	}
	fresh := 0
	for c, p := range after {
		if before[c] == nil || before[c] != p {
			fresh++
		}
	}
	if fresh != 2 {
		t.Errorf("%d routes were compiled or attached again, want those with another generation and with other annotations", fresh)
	}
	for _, o := range memo.byRoute.list.byName {
		if o.Object.GetResourceVersion() != "2" {
			t.Fatal("the old state of a route is kept")
		}
	}
	opt.Memo = nil
	if got, want := encode(t, served.whole(result)), encode(t, Translate(&next, opt)); !bytes.Equal(got, want) {
		t.Errorf("with a memory\n%s\nwithout\n%s", got, want)
	}
}
