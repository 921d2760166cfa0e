package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"rauta.io/rauta/control/translate"
	"rauta.io/rauta/control/watch"
	"rauta.io/rauta/proxy/config"
)

// restore serves what was served before the process began, because the API server has not answered in time.
func (c *Cluster) restore() {
	if c.Stored == nil || c.begun || c.working != nil || c.held != nil {
		return
	}
	_, missing := c.Source.Synced()
	cfg, eps, err := c.Stored()
	if err != nil {
		c.Log.Warn("nothing is served yet: the API server has not said what, and there is no state of before", "missing", missing, "error", err)
		return
	}
	c.Log.Warn("the API server has not said what to serve; what was served last is in force until it does", "missing", missing)
	if err := c.To.Publish(cfg, eps); err != nil {
		c.Log.Error("parts of the stored configuration are left out", "error", err)
	}
}

// index finds the clusters of Services, whose endpoints change more often than anything else. Most translations have the
// clusters of the one before. The endpoints of a translation belong to whoever serves it: they go on changing. It returns the
// clusters in a revision that have got others.
func (c *Cluster) index() (changed []string) {
	result := c.current.result
	if result.Revised {
		for name, eps := range result.Endpoints {
			c.keep(name, eps)
			changed = append(changed, name)
		}
	} else {
		c.eps = result.Endpoints
	}
	result.Endpoints = nil
	clusters := result.Config.Clusters
	if c.served != nil && slices.EqualFunc(clusters, c.indexed, func(a, b config.Cluster) bool { return a.Name == b.Name }) {
		return changed
	}
	c.indexed = clusters
	c.served = make(map[watch.ServiceName][]string, len(clusters))
	for i := range clusters {
		name := clusters[i].Name
		service := serviceOf(name)
		c.served[service] = append(c.served[service], name)
	}
	return changed
}

// keep notes the endpoints of a cluster.
func (c *Cluster) keep(cluster string, eps []config.Endpoint) {
	if len(eps) == 0 {
		delete(c.eps, cluster)
	} else {
		c.eps[cluster] = eps
	}
}

// serviceOf is the Service that a cluster is a port of; translate.ClusterName says how they are named.
func serviceOf(cluster string) watch.ServiceName {
	service, _, _ := strings.Cut(cluster, ":")
	namespace, name, _ := strings.Cut(service, "/")
	return watch.ServiceName{Namespace: namespace, Name: name}
}

// setEndpoints brings what the EndpointSlices of a Service say into force at once.
func (c *Cluster) setEndpoints(service watch.ServiceName, since time.Time) {
	clusters := c.refresh(service)
	for _, name := range clusters {
		c.To.SetEndpoints(name, c.eps[name])
	}
	if len(clusters) > 0 {
		c.measure(StageEndpoints, time.Since(since))
		if c.Changed != nil {
			c.Changed()
		}
	}
}

// refresh reads the endpoints of a Service anew and returns the clusters that have them.
func (c *Cluster) refresh(service watch.ServiceName) (clusters []string) {
	if c.current == nil || len(c.served[service]) == 0 {
		return nil
	}
	svc, slices, ok := c.Source.EndpointSlices(service)
	if !ok {
		return nil // it is gone, which the next translation will say
	}
	for _, name := range c.served[service] {
		for _, port := range svc.Spec.Ports {
			if !translate.IsClusterOf(name, svc, port) {
				continue
			}
			eps, problems := translate.EndpointsOf(svc, port, slices, c.Options)
			c.keep(name, eps)
			if len(problems) > 0 { // they are to be reported
				c.touch(time.Now())
			}
			clusters = append(clusters, name)
			break
		}
	}
	return clusters
}

// tell gives the sink what is served now.
func (c *Cluster) tell() {
	if c.Sink == nil {
		return
	}
	result := *c.current.result
	c.Sink.Published(Update{
		Objects: c.current.objects, Result: &result, Unserved: config.Unserved(result.Config, c.err), Err: c.err,
	})
}

// report logs problems of objects.
func (c *Cluster) report(problems []translate.Problem) {
	lines := make([]problem, 0, len(problems))
	for _, p := range problems {
		lines = append(lines, problem{levelOf(p.Severity), problemText(p)})
	}
	c.problems.report(lines)
}

func problemText(p translate.Problem) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: ", p.Object.Kind, strings.TrimPrefix(p.Object.Namespace+"/"+p.Object.Name, "/"))
	if p.Field != "" {
		b.WriteString(p.Field + ": ")
	}
	b.WriteString(p.Message)
	if p.Hint != "" {
		b.WriteString(" (" + p.Hint + ")")
	}
	return b.String()
}

// explain logs when a change took which step. loadtest/changes reads it.
func (c *Cluster) explain(t *translation, published, served time.Time) {
	if !c.Log.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	at := func(name string, at time.Time) slog.Attr { return slog.String(name, at.Format(time.RFC3339Nano)) }
	c.Log.LogAttrs(context.Background(), slog.LevelDebug, "change served",
		at("since", t.since), at("translated", t.begun), at("published", published), at("served", served), slog.Bool("revised", t.result.Revised))
}

func (c *Cluster) measure(s Stage, d time.Duration) {
	if c.Measured != nil {
		c.Measured(s, d)
	}
}

// errNotSynced says what a process that has read nothing yet is waiting for.
var errNotSynced = errors.New("the API server has not been read completely")

// Waiting says what the first publication is waiting for; nil if there was one.
func (c *Cluster) Waiting() error {
	if ok, missing := c.Source.Synced(); !ok {
		return fmt.Errorf("%w: %s", errNotSynced, missing)
	}
	return nil
}
