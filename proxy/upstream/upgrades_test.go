package upstream

import (
	"testing"

	"rauta.io/rauta/proxy/certs"
	"rauta.io/rauta/proxy/config"
)

// negotiating makes a cluster whose endpoints choose the protocol in the handshake.
func negotiating(t *testing.T, protocol config.BackendProtocol) *Cluster {
	t.Helper()
	settings := config.Cluster{Name: "default/web:443", Protocol: protocol, TLS: &config.BackendTLS{Unverified: true}}
	client, err := certs.NewClient(nil, new(certs.Store), settings.TLS)
	if err != nil {
		t.Fatal(err)
	}
	c := NewCluster(settings, nil, 1, nil)
	c.SetTLS(client)
	c.SetEndpoints(addresses(1))
	return c
}

func TestUpgradesHaveConnectionsOfTheirOwnWhereTheHandshakeDecides(t *testing.T) {
	c := negotiating(t, "")
	w := newTestWorker(0)
	w.dialer.atOnce = true
	e := c.Pick(w.Worker, 0, nil)
	plain, upgrade := e.PoolFor(w.Worker, false), e.PoolFor(w.Worker, true)
	if plain == upgrade || plain != e.Pool(w.Worker) || upgrade.Endpoint().Protocol != config.BackendHTTP1 || upgrade.Endpoint().TLS != e.TLS {
		t.Fatalf("upgrades use %+v", upgrade.Endpoint())
	}
	s := acquire(upgrade)
	if acquire(plain).conn == s.conn || e.Connections() != 2 || e.load(w.Worker) != 2 {
		t.Errorf("%d connections, load %d", e.Connections(), e.load(w.Worker))
	}
	upgrade.Release(s.conn)
	w.Retire(e)
	if !s.conn.closed || upgrade.Idle() != 0 {
		t.Error("an idle connection for upgrades outlives its endpoint")
	}
}

func TestAFailedConnectForAnUpgradeCountsForTheEndpoint(t *testing.T) {
	c := negotiating(t, "")
	w := newTestWorker(0)
	w.dialer.failure = &Failure{Stage: StageConnect, Cause: CauseTLS}
	e := c.Pick(w.Worker, 0, nil)
	for range failuresMax {
		acquire(e.PoolFor(w.Worker, true))
	}
	if n := e.health.failures.Load(); n != failuresMax {
		t.Errorf("%d failures", n)
	}
}

func TestWhereTheProtocolIsSetUpgradesShareTheConnections(t *testing.T) {
	for _, protocol := range []config.BackendProtocol{config.BackendHTTP1, config.BackendH2} {
		w := newTestWorker(0)
		e := negotiating(t, protocol).Pick(w.Worker, 0, nil)
		if e.PoolFor(w.Worker, true) != e.Pool(w.Worker) {
			t.Errorf("%s: upgrades have a pool of their own", protocol)
		}
	}
}
