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
		r.LeaveEndpoints("a", []string{fmt.Sprint(i - 1), "used"})
	}
	if len(r.endpoints) != 4 { // other, b/1, the last one, used
		t.Errorf("after 1000 changes %d endpoints are known", len(r.endpoints))
	}
	if r.Endpoint("a", "used") != used {
		t.Error("what had series was forgotten before its grace was over")
	}
	r.Retain(nil, []EndpointKey{})
	if len(r.endpoints) != 2 { // other, used
		t.Errorf("of what is gone and has no series there is still something: %v", r.endpoints)
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
		r.LeaveEndpoints("a", []string{"used"})
		r.LeaveEndpoints("b", []string{another.Address()})
		now = now.Add(time.Second)
	}
	r.LeaveEndpoints("b", nil)
	if r.endpoints[used.key] != nil {
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
	r.LeaveEndpoints("a", []string{"1"})
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
		r.Endpoint(name(i), "-10000")
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		cluster := name(i % 10_000)
		r.Endpoint(cluster, fmt.Sprint(i))
		r.LeaveEndpoints(cluster, []string{fmt.Sprint(i - 10_000)})
	}
}
