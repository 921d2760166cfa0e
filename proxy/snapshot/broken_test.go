package snapshot

import (
	"strings"
	"testing"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/filter"
)

// outcomeOf runs a rule's filters and picks a back end: "answer reason", "no back end", "invalid", or the cluster's name.
func outcomeOf(t *testing.T, s *Snapshot, port uint16, target string) string {
	t.Helper()
	host, req := request(target)
	rule, _, _ := at(s, port).Match(host, req)
	if rule == nil {
		return "no rule"
	}
	if a := rule.Filters.Request(req, &filter.Context{}); a != nil {
		return "answer " + a.Reason
	}
	b := rule.Pick(0)
	switch {
	case b == nil:
		return "no back end"
	case b.Cluster == nil:
		return "invalid"
	}
	return b.Cluster.Name()
}

func TestOneBadObjectNeverHurtsAnother(t *testing.T) {
	for _, c := range []struct {
		name    string
		breakIt func(*config.Config)
		bad     string // what becomes of GET h/r0 on port 8001
		problem string
	}{
		{"a path regex", func(c *config.Config) {
			c.Routes[0].Rules[0].Matches[0].Path = config.PathMatch{Kind: config.PathRegex, Value: "/("}
		}, "no rule", `routes["r0"].rules[0].matches[0]`},
		{"a header regex", func(c *config.Config) {
			c.Routes[0].Rules[0].Matches[0].Headers = []config.ValueMatch{{Name: "a", Value: "[", Regex: true}}
		}, "no rule", `routes["r0"].rules[0].matches[0]`},
		{"a path", func(c *config.Config) { c.Routes[0].Rules[0].Matches[0].Path.Value = "r0" }, "no rule", `routes["r0"].rules[0].matches[0].path.value`},
		{"a rule's filter", func(c *config.Config) {
			c.Routes[0].Rules[0].Filters = []config.Filter{{RequestHeaders: &config.HeaderEdit{Remove: []string{"Host"}}}}
		}, "answer invalid_filter", `routes["r0"].rules[0].filters[0]`},
		{"a back end's filter", func(c *config.Config) {
			c.Routes[0].Rules[0].Backends[0].Filters = []config.Filter{{}}
		}, "invalid", `routes["r0"].rules[0].backends[0].filters[0]`},
		{"a reference to a cluster", func(c *config.Config) { c.Routes[0].Rules[0].Backends[0].Cluster = "x" }, "invalid", `cluster "x" does not exist`},
		{"a cluster", func(c *config.Config) { c.Clusters[0].Policy = "best" }, "invalid", `clusters["c0"].policy`},
		{"a duplicate route", func(c *config.Config) { c.Routes = append(c.Routes, c.Routes[0]) }, "c0", `routes[3].name`},
		{"a duplicate cluster", func(c *config.Config) { c.Clusters = append(c.Clusters, c.Clusters[0]) }, "c0", `clusters[3].name`},
		{"an attachment", func(c *config.Config) { c.Listeners[0].Attached[0].Hostnames = []string{"-"} }, "no rule", `listeners["a"].attached[0]`},
		{"a missing route", func(c *config.Config) { c.Listeners[0].Attached[0].Route = "x" }, "no rule", `route "x" does not exist`},
		{"weights", func(c *config.Config) {
			c.Routes[0].Rules[0].Backends = []config.Backend{{Cluster: "c0", Weight: 1 << 31}, {Cluster: "c1", Weight: 1<<32 - 1}}
		}, "c0", `backends[1].weight`},
		{"another listener", func(c *config.Config) {
			c.Listeners = append(c.Listeners, config.Listener{Name: "z", Address: "x", Port: 1, Protocol: config.ProtocolHTTP})
		}, "c0", `listeners["z"].address`},
		{"another PROXY protocol setting on a port", func(c *config.Config) {
			c.Listeners = append(c.Listeners, config.Listener{
				Name: "z", Address: "::", Port: 8001, Protocol: config.ProtocolHTTP, Hostname: "z",
				ProxyProtocol: &config.ProxyProtocol{From: []string{"::/0"}},
			})
		}, "c0", `listeners["z"].proxyProtocol`},
	} {
		cfg := two()
		c.breakIt(cfg)
		l := newLive()
		for _, generation := range []string{"first", "shared"} { // what is carried over must stay reported
			s, changed, _, err := l.Publish(cfg, nil)
			if err == nil || !changed || strings.Count(err.Error(), "\n") != 0 || !strings.Contains(err.Error(), c.problem) {
				t.Errorf("%s, %s generation: problem %v, want one line with %s", c.name, generation, err, c.problem)
			}
			if got := outcomeOf(t, s, 8001, "GET h/r0"); got != c.bad {
				t.Errorf("%s, %s generation: %s, want %s", c.name, generation, got, c.bad)
			}
			if r1, r2 := outcomeOf(t, s, 8001, "GET h/r1"), outcomeOf(t, s, 8002, "GET h/r2"); r1 != "c1" || r2 != "c2" {
				t.Errorf("%s, %s generation: other routes give %s, %s", c.name, generation, r1, r2)
			}
			cfg = two()
			c.breakIt(cfg)
			cfg.Routes[1].Created++
		}
	}
}

func TestAnUnchangedConfigurationKeepsItsProblems(t *testing.T) {
	cfg := two()
	cfg.Clusters[0].Policy = "best"
	l := newLive()
	_, _, _, first := l.Publish(cfg, nil)
	_, changed, _, again := l.Publish(cfg, nil)
	if changed || again == nil || first.Error() != again.Error() {
		t.Fatal(changed, first, again)
	}
}

func TestARuleIsRestoredOnceItsClusterExists(t *testing.T) {
	l := newLive()
	cfg := two()
	cfg.Clusters = cfg.Clusters[1:]
	s, _, _, err := l.Publish(cfg, nil)
	if err == nil || outcomeOf(t, s, 8001, "GET h/r0") != "invalid" {
		t.Fatal(err)
	}
	if s = publish(t, l, two()); outcomeOf(t, s, 8001, "GET h/r0") != "c0" {
		t.Fatal(outcomeOf(t, s, 8001, "GET h/r0"))
	}
}
