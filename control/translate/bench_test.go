package translate

import (
	"fmt"
	"runtime"
	"slices"
	"testing"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// manyRoutes is the simplest case with its HTTPRoute many times over.
func manyRoutes(tb testing.TB, count int) (*Objects, Options) {
	objects, opt := loadCase(tb, "testdata/gateway/http-listener")
	one := objects.HTTPRoutes[0]
	objects.HTTPRoutes = nil
	for i := range count {
		r := one.DeepCopy()
		r.Name = fmt.Sprintf("r%d", i)
		r.Spec.Hostnames = []gatewayv1.Hostname{gatewayv1.Hostname(fmt.Sprintf("h%d.example.com", i))}
		objects.HTTPRoutes = append(objects.HTTPRoutes, r)
	}
	slices.SortFunc(objects.HTTPRoutes, func(a, b *gatewayv1.HTTPRoute) int { return compareKeys(a, b) }) // as readers have them
	return objects, opt
}

func BenchmarkTranslateTenThousandRoutes(b *testing.B) {
	objects, opt := manyRoutes(b, 10_000)
	b.ReportAllocs()
	for b.Loop() {
		Translate(objects, opt)
	}
}

func TestAllocationsGrowWithTheRoutesAndNotWithTheirSquare(t *testing.T) {
	allocations := func(count int) float64 {
		objects, opt := manyRoutes(t, count)
		return testing.AllocsPerRun(1, func() { Translate(objects, opt) }) / float64(count)
	}
	if few, many := allocations(100), allocations(2000); many > 2*few {
		t.Errorf("%v allocations for each of 2000 routes, %v for each of 100", many, few)
	}
}

func TestAChangeOfOneRouteAllocatesForThatRouteAlone(t *testing.T) {
	allocations := func(count int) float64 {
		objects, opt := manyRoutes(t, count)
		opt.Memo = &Memo{}
		next := *objects
		return testing.AllocsPerRun(2, func() {
			next.HTTPRoutes = slices.Clone(next.HTTPRoutes)
			next.HTTPRoutes[count/2] = next.HTTPRoutes[count/2].DeepCopy()
			Translate(&next, opt)
		})
	}
	if few, many := allocations(100), allocations(2000); many > few+100 {
		t.Errorf("%v allocations for a change of one of 2000 routes, %v for one of 100", many, few)
	}
}

// TestAMemoKeepsNothingOfEarlierRuns counts live bytes after a collection, which doesn't depend on timing.
func TestAMemoKeepsNothingOfEarlierRuns(t *testing.T) {
	const routes, growthBytesMax = 300, 2 << 20
	objects, opt := manyRoutes(t, routes)
	opt.Memo = &Memo{}
	live := func() int64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	Translate(objects, opt)
	before, next := live(), *objects
	for i := range routes {
		next.HTTPRoutes = slices.Clone(next.HTTPRoutes)
		next.HTTPRoutes[i] = next.HTTPRoutes[i].DeepCopy()
		Translate(&next, opt)
	}
	if grown := live() - before; grown > growthBytesMax {
		t.Errorf("after a change of each route %d bytes more are live", grown)
	}
	runtime.KeepAlive(opt.Memo)
	runtime.KeepAlive(objects)
}
