package blackbox

import (
	"testing"

	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/server"
)

// threeToOne has two Services share the clients of a route.
func threeToOne(r *config.L4Route) {
	r.Backends = []config.Backend{
		{Cluster: "default/app:80", Weight: 3}, {Cluster: "default/next:80", Weight: 1}, {Cluster: "default/none:80", Weight: 0},
	}
}

func withClusters(_ *server.Options, c *config.Config) {
	c.Clusters = append(c.Clusters, config.Cluster{Name: "default/next:80"}, config.Cluster{Name: "default/none:80"})
}

// share publishes an endpoint for each Service of threeToOne.
func (r *rig) share(app, next, none string) {
	r.t.Helper()
	eps := config.Endpoints{"default/app:80": {{Address: app}}, "default/next:80": {{Address: next}}, "default/none:80": {{Address: none}}}
	if err := r.server.Publish(r.config, eps); err != nil {
		r.t.Fatal(err)
	}
}

// wantThreeToOne allows for six standard deviations of 400 draws.
func wantThreeToOne(t *testing.T, app, next, none int) {
	t.Helper()
	if app+next != 400 || app < 248 || app > 352 || none != 0 {
		t.Errorf("of 400 clients %d went to one Service, %d to the other and %d to that with weight 0; want about 300, 100 and 0", app, next, none)
	}
}

func TestWeightsOfATCPRouteAreDrawnForEachConnection(t *testing.T) {
	app, next, none := newBackend(t, echoing), newBackend(t, echoing), newBackend(t, echoing)
	r := start(t, nil, overTCP(threeToOne), withClusters)
	r.share(app.addr, next.addr, none.addr)
	for range 400 {
		c := r.dial()
		c.exchange("hello")
		c.Close()
	}
	wantThreeToOne(t, app.connections(), next.connections(), none.connections())
}

func TestWeightsOfAUDPRouteAreDrawnForEachFlow(t *testing.T) {
	app, next, none := newUDPBackend(t, "app:"), newUDPBackend(t, "next:"), newUDPBackend(t, "none:")
	r := start(t, nil, overUDP(threeToOne), withClusters)
	r.share(app.addr, next.addr, none.addr)
	flows := map[string]int{}
	for range 400 {
		c := r.udp() // it stays open, so that the next one has another port
		first := c.ask("a")
		if again := c.ask("a"); again != first {
			t.Fatalf("%q, then %q on the same flow", first, again)
		}
		flows[first]++
	}
	wantThreeToOne(t, flows["app:a"], flows["next:a"], flows["none:a"])
}
