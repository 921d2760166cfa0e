package watch

import (
	"context"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"

	"rauta.io/rauta/control/kube"
	"rauta.io/rauta/control/pause"
)

// The kinds of the Gateway API are installed into a cluster and may be removed, without a word to whoever is running.
const (
	// discoveryTime is how often it is looked what there is.
	discoveryTime = 10 * time.Second
	// goneTimes is how often a kind must be missing in a row before its objects are believed to be gone: an API server
	// that is starting may not know of it yet.
	goneTimes = 3
	// absentTime is how long to wait between looks as long as a kind that has never been seen is missing, goneTimes in a row,
	// before the rest counts as everything: definitions of kinds reach discovery one by one after a start of the API server.
	absentTime = time.Second
	// reachTime is about how often an API server that has not answered is asked whether it is ready, which is one small request
	// for all kinds: so everything is up to date within seconds after an outage, however long each kind would still wait.
	reachTime = time.Second
	// refusedTime is how long an API server may refuse to say whether it is ready: one that is starting refuses everything for
	// a moment, and one that does so for longer does not let RAUTA ask.
	refusedTime = 20 * time.Second
)

// discoverNow asks for a look at what kinds there are.
func (c *Cluster) discoverNow() {
	select {
	case c.look <- struct{}{}:
	default:
	}
}

// reachPause is how long it is waited before the next question; not all replicas ask at once.
func reachPause() time.Duration { return wait.Jitter(reachTime*3/4, 0.5) }

// discover looks for kinds until ctx is done, and for the API server while that is away.
func (c *Cluster) discover(ctx context.Context) {
	away := false
	for {
		next := c.opt.DiscoveryTime
		err := c.ready(ctx)
		if err != nil {
			away = true
		} else if away {
			away = false
			c.resume()
		}
		var served map[string]map[string]bool
		if err == nil {
			served, err = c.served(ctx)
		}
		if err == nil {
			if c.adapt(served); !c.isDiscovered() {
				next = min(next, absentTime)
			}
		} else if ctx.Err() == nil {
			c.trouble.told(&table{resource: &resource{kind: kindOfGroups, plural: gatewayGroup}}, err)
			if !pause.For(ctx, min(next, reachPause())) {
				return
			}
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(next):
			continue
		case <-c.look:
		}
		if !pause.For(ctx, min(next, time.Second)) { // a kind that is missing is asked for again and again
			return
		}
	}
}

// ready asks the API server whether it has started completely: before that it may not have all kinds, and says of those
// that it lacks the same as of those that were never installed. Only discover calls it.
func (c *Cluster) ready(ctx context.Context) error {
	_, err := c.clients[gatewayGroup+"/v1"].Get().AbsPath("/readyz").DoRaw(ctx)
	switch refused := apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err); {
	case !refused:
		c.refusedSince = time.Time{}
	case c.refusedSince.IsZero():
		c.refusedSince = time.Now()
	case time.Since(c.refusedSince) >= refusedTime:
		return nil
	}
	if err == nil || apierrors.IsNotFound(err) {
		return nil
	}
	return fmt.Errorf("the API server is not ready: %w", err)
}

// isDiscovered reports whether it is known which kinds there are.
func (c *Cluster) isDiscovered() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.discovered
}

// served returns the plurals that the Gateway API has on this server, by version.
func (c *Cluster) served(ctx context.Context) (map[string]map[string]bool, error) {
	versions, err := kube.Versions(ctx, c.clients[gatewayGroup+"/v1"], gatewayGroup)
	if err != nil {
		return nil, err
	}
	out := map[string]map[string]bool{}
	for _, v := range versions {
		out[v.Name] = map[string]bool{}
		for _, r := range v.Kinds {
			out[v.Name][r.Name] = true
		}
	}
	return out, nil
}

// adapt begins and ends reading kinds so that it is those that are served.
func (c *Cluster) adapt(served map[string]map[string]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trouble.reachedGroup()
	var missing, begun, ended []string
	for _, t := range c.tables {
		if !t.optional {
			continue
		}
		at := slices.IndexFunc(t.versions, func(version string) bool { return served[version][t.plural] })
		switch {
		case at >= 0:
			t.gone = 0
			if t.versions[at] != t.version {
				begun = append(begun, t.kind+" "+t.versions[at])
				c.open(t, t.versions[at])
			}
		case t.version == "":
			missing = append(missing, t.kind)
		default:
			if t.gone++; t.gone >= goneTimes {
				ended = append(ended, t.kind)
				c.stop(t)
			}
		}
	}
	if c.looks++; !c.discovered && len(missing) > 0 && c.looks < goneTimes {
		return
	}
	c.tellKinds(missing, begun, ended)
	if !c.discovered {
		c.discovered = true
		c.wake()
	}
}

// tellKinds logs what has changed about kinds; c.mu is held.
func (c *Cluster) tellKinds(missing, begun, ended []string) {
	if len(begun) > 0 && c.discovered {
		c.opt.Log.Info("kinds of the Gateway API have appeared, and are read", "kinds", begun)
	}
	if len(ended) > 0 {
		c.opt.Log.Warn("the API server does not have some kinds of the Gateway API any more; their objects are gone", "kinds", ended)
	}
	if len(missing) > 0 && !c.discovered {
		c.opt.Log.Info("the API server does not have all kinds of the Gateway API; it is looked for them again and again",
			"kinds", missing, "hint", "install the CRDs of the Gateway API if they are to be used")
	}
}
