//go:build linux && (amd64 || arm64)

package bpf

import (
	"os"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
)

// requestsWithout are the programs that watch requests, on a kernel that lacks the event of one of them.
func requestsWithout(program string) specified {
	return func() (*ebpf.CollectionSpec, error) {
		spec, err := loadRequests()
		if err == nil {
			spec.Programs[program].AttachTo = "no_such_event"
		}
		return spec, err
	}
}

// heldOfKernel are the maps, programs and links that this process has open.
func heldOfKernel(t *testing.T) (n int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && strings.Contains(to, "bpf") {
			n++
		}
	}
	return n
}

func TestWithoutAProgramThatWatchesRequestsEverythingElseCounts(t *testing.T) {
	r := newRig(t)
	held := heldOfKernel(t)
	tier := r.watchRequests(requestsWithout(requestsProgOnBytes), 1, 1, Tier{Name: TierFull})
	if tier.Name != TierReduced || !strings.HasPrefix(tier.Reason, "without on_bytes: ") || !strings.Contains(tier.Reason, "event") {
		t.Errorf("tier %q: %s", tier.Name, tier.Reason)
	}
	tier = r.watchRequests(requestsWithout(requestsProgOnBytes), 1, 1, Tier{Name: TierReduced, Reason: "without on_error: the kernel lacks an event"})
	if tier.Name != TierReduced || !strings.HasPrefix(tier.Reason, "without on_error: the kernel lacks an event; without on_bytes: ") {
		t.Errorf("tier %q: %s", tier.Name, tier.Reason)
	}
	if now := heldOfKernel(t); now > held { // what tests before this one have left is closed in its own time
		t.Errorf("%d maps, programs and links are open, %d were", now, held)
	}
	if r.Requests(0) != nil {
		t.Error("a worker has requests watched")
	}
	r.counts(t)
	if text := r.metrics(); strings.Contains(text, "rauta_kernel_request") {
		t.Errorf("there are metrics of watched requests:\n%s", text)
	}
}
