package watch

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The kinds of the Gateway API are installed into a cluster and may be removed, without a word to whoever is running.
const (
	// discoveryTime is how often it is looked what there is.
	discoveryTime = 10 * time.Second
	// goneTimes is how often a kind must be missing in a row before its objects are believed to be gone: an API server
	// that is starting may not know of it yet.
	goneTimes = 3
)

// discoverNow asks for a look at what kinds there are.
func (c *Cluster) discoverNow() {
	select {
	case c.look <- struct{}{}:
	default:
	}
}

// discover looks for kinds until ctx is done.
func (c *Cluster) discover(ctx context.Context) {
	for {
		wait := c.opt.DiscoveryTime
		served, err := c.served(ctx)
		if err == nil {
			c.adapt(served)
		} else if ctx.Err() == nil {
			c.trouble.told(&table{resource: &resource{kind: kindOfGroups, plural: gatewayGroup}}, err)
			wait = min(wait, retryTimeMax)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
			continue
		case <-c.look:
		}
		select { // a kind that is missing is asked for again and again
		case <-ctx.Done():
			return
		case <-time.After(min(wait, time.Second)):
		}
	}
}

// served returns the plurals that the Gateway API has on this server, by version.
func (c *Cluster) served(ctx context.Context) (map[string]map[string]bool, error) {
	client := c.clients[gatewayGroup+"/v1"]
	var group metav1.APIGroup
	switch data, err := client.Get().AbsPath("/apis/" + gatewayGroup).DoRaw(ctx); {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, err
	default:
		if err := json.Unmarshal(data, &group); err != nil {
			return nil, fmt.Errorf("read the versions of %s: %w", gatewayGroup, err)
		}
	}
	out := map[string]map[string]bool{}
	for _, v := range group.Versions {
		var list metav1.APIResourceList
		data, err := client.Get().AbsPath("/apis/" + v.GroupVersion).DoRaw(ctx)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err == nil {
			err = json.Unmarshal(data, &list)
		}
		if err != nil {
			return nil, fmt.Errorf("read the kinds of %s: %w", v.GroupVersion, err)
		}
		out[v.Version] = map[string]bool{}
		for _, r := range list.APIResources {
			out[v.Version][r.Name] = true
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
