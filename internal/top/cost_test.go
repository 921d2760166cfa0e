package top

import (
	"bytes"
	"fmt"
	"testing"

	"rauta.io/rauta/proxy/observe"
)

// tenThousandRoutes is the page of a node with as many active routes, each with a back end of its own.
func tenThousandRoutes(names ...string) []byte {
	const routes, workers = 10_000, 4
	r := observe.NewRegistry(observe.Options{Workers: workers, Methods: []string{"GET"}, SeriesRoutesMax: 2 * routes, SeriesEndpointsMax: 2 * routes})
	r.Gauge(metricGeneration, func() float64 { return 1 })
	for i := range routes {
		rt, ep := r.Route(fmt.Sprint("httproute/namespace/route-", i)), r.Endpoint(fmt.Sprintf("namespace/service-%d:80", i), fmt.Sprintf("10.0.%d.%d:8080", i/256, i%256))
		for w := range workers {
			r.Shard(w).Finish(&observe.Record{Status: 200, BackendStatus: 200, Route: rt, Endpoint: ep, StreamAt: 1e6, SentAt: 1e6, FirstByteAt: 9e6, EndAt: 10e6,
				Stages: [observe.StageCount]int64{observe.StageProxy: 1e5, observe.StageBackendTTFB: 9e6, observe.StageBackendBody: 1e6}})
		}
	}
	var page bytes.Buffer
	r.WritePrometheus(&page, names...)
	return page.Bytes()
}

// BenchmarkAReadingOfTenThousandRoutes is what top does with the page.
func BenchmarkAReadingOfTenThousandRoutes(b *testing.B) {
	page := tenThousandRoutes(asked()...)
	b.ReportAllocs()
	b.SetBytes(int64(len(page)))
	for b.Loop() {
		r, err := Read(bytes.NewReader(page), began)
		if err != nil || len(r.rows[Routes]) < 10_000 {
			b.Fatal(err, len(r.rows[Routes]))
		}
	}
}
