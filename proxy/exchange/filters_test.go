package exchange

import (
	"testing"

	"rauta.io/rauta/proxy/config"
)

func TestFiltersOfABackEndMayRedirectItsShareOrRewriteIt(t *testing.T) {
	prefix := &config.PathModifier{Kind: config.PathPrefix, Value: "/new"}
	for want, filter := range map[string]config.Filter{
		"http://b.example/path": {Redirect: &config.Redirect{Hostname: "b.example", Status: 307}},
		"/new/path":             {Rewrite: &config.Rewrite{Path: prefix}},
	} {
		s := newSim(t, 1, rule(func(r *config.Rule) { r.Backends[0].Filters = []config.Filter{filter} }))
		c := s.request("GET /path").start()
		if filter.Redirect != nil {
			if c.status != 307 || c.fields["location"] != want {
				t.Errorf("redirected with %d to %q, want %s", c.status, c.fields["location"], want)
			}
			continue
		}
		b := s.dialer.connect()
		if b.answer(200, ""); b.path != want {
			t.Errorf("the back end saw %s, want %s", b.path, want)
		}
	}
}
