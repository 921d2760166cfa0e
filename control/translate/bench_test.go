package translate

import (
	"fmt"
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
