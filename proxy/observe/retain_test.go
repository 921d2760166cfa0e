package observe

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// counting registries have a clock that tests set.
func registryAt(now *time.Time) *Registry {
	return NewRegistry(Options{Workers: 1, Methods: methods, Now: func() time.Time { return *now }})
}

func attempt(r *Registry, e *Endpoint) {
	rec := record(r.Route("r"))
	r.Shard(0).Attempt(rec, e)
	rec.endAttempt()
}

func TestEndpointsThatComeAndGoLeaveNothingBehindUnlessTheyHaveSeries(t *testing.T) {
	now := time.Unix(1e9, 0)
	r := registryAt(&now)
	r.Endpoint("b", "1")
	used := r.Endpoint("a", "used")
	attempt(r, used)
	for i := range 1000 {
		address := fmt.Sprint(i)
		r.Endpoint("a", address)
		r.RetainEndpoints("a", []string{address})
	}
	if len(r.endpoints) != 4 || len(r.byCluster["a"]) != 2 || len(r.byCluster["b"]) != 1 { // other, b/1, the last one, used
		t.Errorf("after 1000 changes %d endpoints are known, %d of the cluster, %d of another", len(r.endpoints), len(r.byCluster["a"]), len(r.byCluster["b"]))
	}
	if r.Endpoint("a", "used") != used {
		t.Error("what had series was forgotten before its grace was over")
	}
	r.Retain(nil, []EndpointKey{})
	if len(r.byCluster) != 1 || len(r.byCluster["a"]) != 1 {
		t.Errorf("of what is gone and has no series there is still %v", r.byCluster)
	}
}

func TestAnEndpointWithSeriesIsForgottenSoonAfterItsGraceWhateverElseChanges(t *testing.T) {
	now := time.Unix(1e9, 0)
	r := registryAt(&now)
	used := r.Endpoint("a", "used")
	attempt(r, used)
	begun := now
	for now.Before(begun.Add(retainGrace + sweepPause)) { // others go all the time
		if now.Before(begun.Add(retainGrace)) && r.endpoints[used.key] != used {
			t.Fatal("it was forgotten before its grace was over")
		}
		another := r.Endpoint("b", fmt.Sprint(now.Unix()))
		attempt(r, another)
		r.RetainEndpoints("a", nil)
		r.RetainEndpoints("b", nil)
		now = now.Add(time.Second)
	}
	r.RetainEndpoints("b", nil)
	if r.endpoints[used.key] != nil || len(r.byCluster["a"]) != 0 {
		t.Error("it is still known")
	}
	if text := exposed(r); strings.Contains(text, `cluster="a"`) || !strings.Contains(text, `cluster="b"`) {
		t.Error("its series are still there, or others are gone")
	}
}

func TestARequestToAnEndpointThatWasForgottenCountsAsOther(t *testing.T) {
	now := time.Unix(1e9, 0)
	r := registryAt(&now)
	gone := r.Endpoint("a", "1")
	r.RetainEndpoints("a", nil)
	attempt(r, gone) // a request had picked it
	if text := exposed(r); strings.Contains(text, `cluster="a"`) || len(r.usedEndpoints.list) != 0 {
		t.Errorf("it has series of its own")
	}
	if r.Endpoint("a", "1") == gone {
		t.Error("an endpoint that comes back has the handle that counts as other")
	}
}

// BenchmarkOneOfTenThousandClustersChangesItsEndpoint is what every EndpointSlice that changes costs the registry.
func BenchmarkOneOfTenThousandClustersChangesItsEndpoint(b *testing.B) {
	r := NewRegistry(Options{Workers: 1})
	name := func(i int) string { return fmt.Sprint("default/c", i) }
	for i := range 10_000 {
		r.Endpoint(name(i), "first")
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		cluster, address := name(i%10_000), fmt.Sprint(i)
		r.Endpoint(cluster, address)
		r.RetainEndpoints(cluster, []string{address})
	}
}
