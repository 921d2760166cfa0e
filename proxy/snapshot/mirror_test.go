package snapshot

import (
	"testing"

	"rauta.io/rauta/proxy/config"
)

func TestAMirrorTakesItsShare(t *testing.T) {
	for _, c := range []struct {
		n, of uint32
		takes uint64 // of 2^32
	}{{0, 0, 1 << 32}, {0, 100, 0}, {1, 2, 1 << 31}, {1, 1, 1 << 32}, {1 << 31, 1 << 31, 1 << 32}, {1, 1 << 31, 2}} {
		cfg := two()
		cfg.Routes[0].Rules[0].Filters = []config.Filter{{Mirror: &config.Mirror{Cluster: "c1", Numerator: c.n, Denominator: c.of}}}
		m := &publish(t, newLive(), cfg).Routes[0].Rules[0].Mirrors[0]
		if c.takes > 0 && !m.Takes(uint32(c.takes-1)) || c.takes < 1<<32 && m.Takes(uint32(c.takes)) {
			t.Errorf("%d of %d: %d of 2^32", c.n, c.of, m.upTo)
		}
	}
}

func TestAMirrorFollowsItsClusterAndIsAloneWithoutIt(t *testing.T) {
	for _, backend := range []bool{false, true} {
		with := func(policy config.Policy) *config.Config {
			cfg := two()
			rule := &cfg.Routes[0].Rules[0]
			filters := []config.Filter{{Mirror: &config.Mirror{Cluster: "c1"}}}
			if backend {
				rule.Backends[0].Filters = filters
			} else {
				rule.Filters = filters
			}
			for i := range cfg.Clusters {
				if cfg.Clusters[i].Name == "c1" {
					cfg.Clusters[i].Policy = policy
				}
			}
			return cfg
		}
		mirror := func(s *Snapshot) *Mirror {
			if r := &s.Routes[0].Rules[0]; !backend {
				return &r.Mirrors[0]
			}
			return &s.Routes[0].Rules[0].Backends[0].Mirrors[0]
		}
		l := newLive()
		s := publish(t, l, with(config.PolicyRandom))
		if m := mirror(s); m.Cluster != s.Clusters["c1"] || m.Cluster == nil {
			t.Fatal("another cluster")
		}
		s = publish(t, l, with(config.PolicyRoundRobin))
		if mirror(s).Cluster != s.Clusters["c1"] {
			t.Error("the mirror still leads to the cluster as it was")
		}
		l.Publish(with("nonsense"), nil) // a cluster that can't be used, which is reported
		s = l.Current()
		if m := mirror(s); m.Cluster != nil || m.Takes(0) {
			t.Error("a mirror without a cluster takes requests")
		}
		if r := &s.Routes[0].Rules[0]; r.Backends[0].Cluster == nil || r.Filters.EditsResponse() {
			t.Error("the requests suffer from it")
		}
	}
}
