//go:build linux && (amd64 || arm64)

package bpf

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"rauta.io/rauta/proxy/observe"
)

// kernelWithout is this kernel, but as if it did not have some programs' events.
func kernelWithout(programs ...string) attempt {
	return func(names []string, by tagging) (*loaded, error) {
		for _, name := range names {
			if slices.Contains(programs, name) {
				return nil, fmt.Errorf("attach %s: %w", name, fs.ErrNotExist)
			}
		}
		return load(names, by)
	}
}

// kernel510 is this kernel, but as if it was one before 5.11: no storage of sockets for tracing, and not every event.
func kernel510(names []string, by tagging) (*loaded, error) {
	if by == byStorage {
		return nil, errors.New("load program: invalid argument: unknown func bpf_sk_storage_get#107")
	}
	return kernelWithout(kernelProgOnError)(names, by)
}

// counts is what every tier but none tells.
func (r *rig) counts(t *testing.T) {
	t.Helper()
	front, back, stranger := r.listen(true), r.listen(false), r.listen(false)
	address := back.Addr().String()
	e := r.endpoint("e")
	r.mustDial(address, e)
	abort(r.accept(back))
	abort(r.mustDial(address, e))
	r.accept(back)
	back.Close()
	if _, err := r.dial(address, e); err == nil {
		t.Fatal("connected to a closed listener")
	}
	client := r.mustDial(front.Addr().String(), nil)
	ours := r.accept(front)
	if _, err := client.Write(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if _, err := ours.Read(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	abort(client)
	abort(r.mustDial(stranger.Addr().String(), nil))
	for _, line := range []string{
		`rauta_backend_tcp_connect_seconds_count{cluster="c",endpoint="e"} 2`,
		`rauta_backend_tcp_connect_failures_total{cluster="c",endpoint="e",errno="ECONNREFUSED"} 1`,
		`rauta_backend_tcp_resets_total{cluster="c",endpoint="e",direction="received"} 1`,
		`rauta_backend_tcp_resets_total{cluster="c",endpoint="e",direction="sent"} 1`,
		`rauta_client_tcp_resets_total{direction="received"} 1`,
		`rauta_client_tcp_bytes_total{direction="received"} 1000`,
	} {
		r.await(line)
	}
	if n := r.failures.Load(); n > 0 {
		t.Errorf("%d tags failed", n)
	}
}

func TestTierFullIsThatOfTheKernelsThatAreTested(t *testing.T) {
	r := newRig(t)
	if r.tier.Name != TierFull || r.tier.Reason != "" {
		t.Skipf("tier %q here: %s", r.tier.Name, r.tier.Reason)
	}
	r.counts(t)
	r.sweepNow()
}

func TestTierReducedCountsWithoutWhatItSaysIsMissing(t *testing.T) {
	r := newRigOn(t, kernelWithout(kernelProgOnError, kernelProgSweep, kernelProgSweepTcp), observe.Options{})
	if r.tier.Name != TierReduced || !strings.HasPrefix(r.tier.Reason, "without on_error, sweep: ") {
		t.Fatalf("tier %q: %s", r.tier.Name, r.tier.Reason)
	}
	r.counts(t)
	if text := r.metrics(); strings.Contains(text, "rauta_client_tcp_connections") || !strings.Contains(text, "rauta_accept_queue_seconds") {
		t.Errorf("without sweeps the metrics are\n%s", text)
	}
}

func TestOneOfTwoSweepsIsEnoughForTierFull(t *testing.T) {
	r := newRigOn(t, kernelWithout(kernelProgSweep), observe.Options{})
	if r.tier.Name != TierFull {
		t.Fatalf("tier %q: %s", r.tier.Name, r.tier.Reason)
	}
	r.counts(t)
}

// The programs could not be loaded for a map that is a hash if any of them still looked into the storage of a socket.
func TestTierStatesCountsWhatBecomesOfConnections(t *testing.T) {
	r := newRigOn(t, kernel510, observe.Options{})
	for _, part := range []string{"no storage of sockets", "bpf_sk_storage_get", "without on_error"} {
		if r.tier.Name != TierStates || !strings.Contains(r.tier.Reason, part) {
			t.Fatalf("tier %q: %s", r.tier.Name, r.tier.Reason)
		}
	}
	if kind := r.loaded.collection.Maps[kernelMapRautaConns].Type(); kind != ebpf.LRUHash {
		t.Fatalf("the tags are a %s", kind)
	}
	r.counts(t)
	text := r.metrics()
	for _, never := range []string{"rauta_client_tcp_connections", "rauta_accept_queue_seconds"} {
		if strings.Contains(text, never) {
			t.Errorf("%s in\n%s", never, text)
		}
	}
}

func TestTierStatesForgetsConnectionsAtTheirEnd(t *testing.T) {
	r := newRigOn(t, kernel510, observe.Options{})
	l := r.listen(true)
	e := r.endpoint("churned")
	const rounds = 1000
	for range rounds {
		c := r.mustDial(l.Addr().String(), e)
		abort(c, r.accept(l))
	}
	stays := r.mustDial(l.Addr().String(), e)
	r.await(fmt.Sprintf(`rauta_backend_tcp_connect_seconds_count{cluster="c",endpoint="churned"} %d`, rounds+1))
	tags := func() (n int) {
		var key uint64
		var c kernelConn
		for all := r.loaded.collection.Maps[kernelMapRautaConns].Iterate(); all.Next(&key, &c); n++ {
		}
		return n
	}
	until(t, func() bool { return tags() == 1 })
	abort(stays)
	until(t, func() bool { return tags() == 0 })
}

func TestWhereNothingLoadsTheReasonIsThatOfTheLastAttempt(t *testing.T) {
	k, tier := open(observe.NewRegistry(observe.Options{}), func([]string, tagging) (*loaded, error) {
		return nil, fmt.Errorf("find an event: %w", fs.ErrNotExist)
	})
	if k != nil || tier.Name != TierNone || capable() && !strings.Contains(tier.Reason, "lacks an event") {
		t.Fatalf("tier %q: %s", tier.Name, tier.Reason)
	}
}
