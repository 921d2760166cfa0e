package snapshot

import (
	"testing"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/message"
)

func TestAPublishedRouteIsMatched(t *testing.T) {
	l := NewLive(Options{Workers: 1})
	cfg := &config.Config{
		Listeners: []config.Listener{{Name: "a", Port: 80, Protocol: config.ProtocolHTTP, Attached: []config.Attachment{{Route: "r", Hostnames: []string{""}}}}},
		Routes: []config.Route{{Name: "r", Rules: []config.Rule{{Name: "0", Matches: []config.Match{{Path: config.PathMatch{Kind: config.PathPrefix, Value: "/"}}},
			Backends: []config.Backend{{Cluster: "c", Weight: 1}}}}}},
		Clusters: []config.Cluster{{Name: "c"}},
	}
	s, changed, _, err := l.Publish(cfg, config.Endpoints{"c": {{Address: "127.0.0.1:1"}}})
	if err != nil || !changed {
		t.Fatal(changed, err)
	}
	req := new(message.Request)
	req.Path = req.StoreString("/x")
	rule, _, _ := s.Ports[0].Match([]byte("h"), req)
	if rule == nil || rule.Pick(5).Cluster != s.Clusters["c"] {
		t.Fatal(rule)
	}
	rule, _, _ = s.Ports[0].Match(nil, req)
	if rule == nil {
		t.Fatal("no host")
	}
}
