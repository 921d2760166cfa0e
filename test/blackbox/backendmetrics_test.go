package blackbox

import (
	"fmt"
	"runtime/pprof"
	"strings"
	"testing"

	"rauta.io/rauta/internal/testrig"
	"rauta.io/rauta/proxy/config"
)

func TestConnectionsToABackEndAreCountedForThePodTheyGoTo(t *testing.T) {
	onEveryEngine(t, func(t *testing.T) {
		b := newBackend(t, answering(ok))
		r := start(t, nil)
		ask := func(address, pod string, status int) string {
			t.Helper()
			eps := config.Endpoints{"default/app:80": {{Address: address, Pod: pod, Node: "n1", Zone: "z1"}}}
			if err := r.server.Publish(r.config, eps); err != nil {
				t.Fatal(err)
			}
			if got := r.dial().do("GET / HTTP/1.1\r\nHost: a\r\n\r\n"); got.StatusCode != status {
				t.Errorf("%d from %s, want %d", got.StatusCode, pod, status)
			}
			return `cluster="default/app:80",endpoint="` + address + `",pod="` + pod + `",namespace="default",node="n1",zone="z1"`
		}
		labels := ask(b.addr, "well", 200)
		until(t, "the response to be counted", func() bool {
			return r.exposes(`rauta_backend_ttfb_seconds_count{`+labels+`} 1`) &&
				r.exposes(`rauta_backend_requests_in_flight{`+labels+`} 0`)
		})
		labels = ask(testrig.DeadAddress(t), "ill", 503)
		until(t, "both attempts to be counted", func() bool {
			return r.exposes(`rauta_backend_connect_failures_total{` + labels + `,reason="ECONNREFUSED"} 2`)
		})
		if r.exposes(`rauta_backend_connect_seconds_count{` + labels + `} 1`) {
			t.Error("a connection that failed is counted as open")
		}
	})
}

func TestProfilesTellTheWorkersApart(t *testing.T) {
	start(t, nil)
	for worker := range 2 {
		want := fmt.Sprintf(`labels: {"worker":"%d"}`, worker)
		until(t, want, func() bool {
			var b strings.Builder
			return pprof.Lookup("goroutine").WriteTo(&b, 1) == nil && strings.Contains(b.String(), want)
		})
	}
}
