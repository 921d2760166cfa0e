package upstream

import (
	"testing"

	"rauta.io/rauta/proxy/config"
)

func TestDirectConnectionsCountAsLoadAndTowardsTheLimit(t *testing.T) {
	p, w, _ := newTestPool(config.Cluster{ConnectionsMax: 2})
	for i := range 2 {
		if !p.Reserve() {
			t.Fatalf("no room for connection %d of two", i+1)
		}
	}
	if p.Reserve() {
		t.Error("a third connection, where two are the limit")
	}
	expect(t, p, 2, 0, 0, 2)
	waiting := acquire(p)
	if len(w.dialer.pending) > 0 || waiting.conn != nil {
		t.Error("a request found room where there is none")
	}
	p.Unreserve()
	if len(w.dialer.pending) != 1 {
		t.Fatal("the room that a direct connection left is not used")
	}
	w.dialer.connect()
	if waiting.conn == nil {
		t.Error("the request that waited got no connection")
	}
	p.Unreserve()
	expect(t, p, 1, 0, 0, 1)
}

func TestThePickerAvoidsTheEndpointWithMoreDirectConnections(t *testing.T) {
	c := newTestCluster(config.Cluster{Name: "c"}, 1, 2)
	w := newTestWorker(0)
	busy := c.Pick(w.Worker, 0, nil)
	for range 3 {
		if !busy.Pool(w.Worker).Reserve() {
			t.Fatal("no room without a limit")
		}
	}
	for range 20 {
		if c.Pick(w.Worker, 0, nil) == busy {
			t.Fatal("the endpoint with three connections was picked over one without any")
		}
	}
}
