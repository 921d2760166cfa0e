package watch

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// TestAnAPIServerThatIsBackIsFoundWithinTwoSeconds, however long it was away: that is what the wait before a question may be.
// How long it takes from there on is seen in test/cluster.
func TestAnAPIServerThatIsBackIsFoundWithinTwoSeconds(t *testing.T) {
	longest, shortest := time.Duration(0), time.Hour
	for range 1000 {
		longest, shortest = max(longest, reachPause()), min(shortest, reachPause())
	}
	if longest > 2*time.Second || shortest < time.Second/2 || longest == shortest {
		t.Errorf("it is asked every %s to %s, want once a second or so, and not in step with others", shortest, longest)
	}
}

func TestAKindThatCannotBeReadIsNoLoad(t *testing.T) {
	backoff, shortest := retries(), time.Hour
	for range 20 {
		backoff.Step()
	}
	for range 1000 {
		shortest = min(shortest, backoff.Step())
	}
	if shortest < retryTimeMax {
		t.Errorf("in the end it is asked for every %s, want %s", shortest, retryTimeMax)
	}
}

// TestWhatWaitsIsReadAsSoonAsTheAPIServerIsReadyAgain: here, waiting would take longer than any test.
func TestWhatWaitsIsReadAsSoonAsTheAPIServerIsReadyAgain(t *testing.T) {
	s, c := followRoute(t, ClusterOptions{Retry: wait.Backoff{Duration: time.Hour}})
	waiting := func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, t := range c.tables {
			for _, s := range t.sources {
				if !s.waits() {
					return false
				}
			}
		}
		return true
	}
	s.interrupt(true, false)
	eventually(t, "every kind waits", waiting)
	ready := s.asked("/readyz")
	eventually(t, "the API server is asked again", func() bool { return s.asked("/readyz") > ready+1 })
	s.put(routes, route("b", "b.test", 1))
	s.interrupt(false, false)
	eventually(t, "what has changed meanwhile is read", func() bool { return len(hostnames(c.Objects())) == 2 })
}
