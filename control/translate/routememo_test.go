package translate

import (
	"bytes"
	"slices"
	"testing"

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
		Translate(objects, remembering)
		for _, next := range neighbours(objects) {
			want := encode(t, Translate(next, opt))
			if got := encode(t, Translate(next, remembering)); !bytes.Equal(got, want) {
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
	before := memo.byRoute.presentRoutes
	if len(before) != 100 {
		t.Fatalf("%d routes are remembered", len(before))
	}
	next := *objects
	next.Gateways = []*gatewayv1.Gateway{objects.Gateways[0].DeepCopy()} // its status was written
	next.Gateways[0].Status.Listeners = nil
	next.HTTPRoutes = slices.Clone(objects.HTTPRoutes)
	next.HTTPRoutes[7] = objects.HTTPRoutes[7].DeepCopy()
	Translate(&next, opt)
	fresh := 0
	for k, c := range memo.byRoute.presentRoutes {
		if before[k] != c {
			fresh++
		}
	}
	if fresh != 1 {
		t.Errorf("%d routes were compiled again, want 1", fresh)
	}
	next.Gateways[0] = next.Gateways[0].DeepCopy()
	next.Gateways[0].Generation++
	last := memo.byRoute.presentRoutes
	Translate(&next, opt)
	for k, c := range memo.byRoute.presentRoutes {
		if last[k] == c {
			t.Fatal("a route was not compiled again although a Gateway has changed")
		}
	}
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
