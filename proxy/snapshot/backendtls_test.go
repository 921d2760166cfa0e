package snapshot

import (
	"strings"
	"testing"

	"rauta.io/rauta/proxy/config"
)

// toSecured is two whose c0 is spoken to with TLS, and its endpoint.
func toSecured(authority, own config.Certificate) (*config.Config, config.Endpoints) {
	c := two()
	c.Clusters[0].TLS = &config.BackendTLS{CA: authority.Chain, ServerName: "a.test", ClientCertificate: own.Name}
	c.Certificates = []config.Certificate{own}
	return c, config.Endpoints{"c0": {{Address: "127.0.0.1:1"}}}
}

// TestConnectionsAreNotCarriedOverToAnotherTLSPolicy: an endpoint is what has the connections and the sessions.
func TestConnectionsAreNotCarriedOverToAnotherTLSPolicy(t *testing.T) {
	ca, otherCA := newCertificate(t, "ca"), newCertificate(t, "ca")
	own, renewed := newCertificate(t, "own"), newCertificate(t, "own")
	for what, c := range map[string]struct {
		change func(*config.Config)
		kept   bool
	}{
		"nothing of it":       {func(c *config.Config) { c.Clusters[0].ConnectionsMax = 10 }, true},
		"authorities":         {func(c *config.Config) { c.Clusters[0].TLS.CA = otherCA.Chain }, false},
		"server name":         {func(c *config.Config) { c.Clusters[0].TLS.ServerName = "b.test" }, false},
		"client certificate":  {func(c *config.Config) { c.Certificates[0] = renewed }, false},
		"protocol":            {func(c *config.Config) { c.Clusters[0].Protocol = config.BackendH2 }, false},
		"TLS to plain text":   {func(c *config.Config) { c.Clusters[0].TLS = nil }, false},
		"verification to off": {func(c *config.Config) { c.Clusters[0].TLS = &config.BackendTLS{Unverified: true} }, false},
	} {
		l := newLive()
		cfg, eps := toSecured(ca, own)
		before, _, _, err := l.Publish(cfg, eps)
		if err != nil {
			t.Fatal(err)
		}
		old := before.Clusters["c0"].Set().Endpoints()[0]
		if old.TLS == nil || old.TLS != before.Clusters["c0"].TLS() {
			t.Fatal("an endpoint of a cluster with TLS has none")
		}
		cfg, eps = toSecured(ca, own)
		c.change(cfg)
		after, _, removed, err := l.Publish(cfg, eps)
		if err != nil {
			t.Fatal(err)
		}
		now := after.Clusters["c0"].Set().Endpoints()[0]
		if now == old != c.kept || now.TLS != after.Clusters["c0"].TLS() || (len(removed) == 0) != c.kept {
			t.Errorf("%s changed: the endpoint is kept: %v, %d removed", what, now == old, len(removed))
		}
	}
}

func TestAnUnchangedTLSPolicyIsSharedBetweenGenerations(t *testing.T) {
	ca, own := newCertificate(t, "ca"), newCertificate(t, "own")
	l := newLive()
	cfg, eps := toSecured(ca, own)
	before, _, _, _ := l.Publish(cfg, eps)
	cfg, eps = toSecured(ca, own)
	cfg.Routes[1].Created = 7
	after, changed, _, err := l.Publish(cfg, eps)
	if err != nil || !changed || before.Clusters["c0"] != after.Clusters["c0"] {
		t.Errorf("the cluster is new (%v)", err)
	}
}

func TestAClusterWhoseProtocolTheEngineDoesNotSpeakAnswers500(t *testing.T) {
	cfg, eps := toSecured(newCertificate(t, "ca"), newCertificate(t, "own"))
	cfg.Clusters[0].TLS, cfg.Clusters[0].Protocol = nil, config.BackendH2
	for without, want := range map[bool]string{true: "invalid", false: "c0"} {
		s, _, _, err := NewLive(Options{WithoutBackendHTTP2: without}).Publish(cfg, eps)
		if reported := err != nil && strings.Contains(err.Error(), `clusters["c0"].protocol: this engine`); reported != without {
			t.Errorf("%v", err)
		}
		if got := outcomeOf(t, s, 8001, "GET a/r0"); got != want {
			t.Errorf("a request for it: %s, want %s", got, want)
		}
	}
}

// TestAClusterWhoseTLSCannotBeUsedIsNotSpokenToInPlainText: its requests are answered 500.
func TestAClusterWhoseTLSCannotBeUsedIsNotSpokenToInPlainText(t *testing.T) {
	ca, own := newCertificate(t, "ca"), newCertificate(t, "own")
	broken := own
	broken.Key = ca.Key
	for what, c := range map[string]struct {
		change func(*config.Config)
		want   string
	}{
		"authorities":         {func(c *config.Config) { c.Clusters[0].TLS.CA = "nonsense" }, `clusters["c0"].tls.ca`},
		"unreadable":          {func(c *config.Config) { c.Clusters[0].TLS.CA = strings.Replace(ca.Chain, "MII", "MIC", 1) }, `clusters["c0"].tls: read certificate 1`},
		"client certificate":  {func(c *config.Config) { c.Certificates[0] = broken }, `clusters["c0"].tls: the client certificate "own"`},
		"missing certificate": {func(c *config.Config) { c.Certificates = nil }, `clusters["c0"].tls.clientCertificate`},
	} {
		cfg, eps := toSecured(ca, own)
		c.change(cfg)
		s, _, _, err := NewLive(Options{}).Publish(cfg, eps)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
		if got := outcomeOf(t, s, 8001, "GET a/r0"); got != "invalid" {
			t.Errorf("%s: a request for it: %s", what, got)
		}
		if got := outcomeOf(t, s, 8001, "GET a/r1"); got != "c1" {
			t.Errorf("%s: a request for another: %s", what, got)
		}
	}
}
