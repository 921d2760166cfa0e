package blackbox

import (
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"rauta.io/rauta/internal/testrig"
	"rauta.io/rauta/proxy/config"
)

// TestConfigurationChangesUnderLoadLoseNoRequest changes routes, endpoints and listeners all the time while clients
// keep asking; every request must be answered, and by a back end that some generation named.
func TestConfigurationChangesUnderLoadLoseNoRequest(t *testing.T) {
	const clients, changes = 8, 150
	var backends []string
	for i := range 3 {
		b := newBackend(t, answering(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nb%d", i)))
		backends = append(backends, b.addr)
	}
	r := start(t, backends)
	extra := testrig.FreePort(t)
	var stop atomic.Bool
	var served atomic.Int64
	var wait sync.WaitGroup
	for range clients {
		wait.Go(func() {
			transport := &http.Transport{}
			defer transport.CloseIdleConnections()
			c := &http.Client{Transport: transport, Timeout: patience}
			for !stop.Load() {
				resp, err := c.Get("http://" + r.addr + "/")
				if err != nil {
					t.Errorf("after %d requests: %v", served.Load(), err)
					return
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || resp.StatusCode != 200 || len(body) != 2 {
					t.Errorf("%d %q %v", resp.StatusCode, body, err)
					return
				}
				served.Add(1)
			}
		})
	}
	base := *r.config
	for i := range changes {
		target := served.Load() + clients
		next := base
		route := *base.Routes[0]
		next.Routes = append([]*config.Route{&route}, base.Routes[1:]...)
		rule := route.Rules[0]
		rule.Matches = append([]config.Match{{Path: config.PathMatch{Kind: config.PathExact, Value: fmt.Sprintf("/%d", i)}}}, rule.Matches...)
		route.Rules = []config.Rule{rule}
		if i%2 == 0 { // a second listener comes and goes
			l := base.Listeners[0]
			l.Name, l.Port = "default/gw/extra", extra
			next.Listeners = append([]config.Listener{l}, base.Listeners...)
		}
		r.config = &next
		r.publish(backends[i%3], backends[(i+1)%3])
		until(t, "traffic to go on", func() bool { return t.Failed() || served.Load() >= target })
		if t.Failed() {
			break
		}
	}
	stop.Store(true)
	wait.Wait()
	t.Logf("%d requests over %d changes", served.Load(), changes)
}
