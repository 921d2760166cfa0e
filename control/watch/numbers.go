package watch

import (
	"maps"
	"slices"
	"time"
)

// Numbers are what an operator wants to know about reading.
type Numbers struct {
	// Objects by kind.
	Objects map[string]int
	// Misfits by kind are objects that could not be decoded, or are too large.
	Misfits map[string]int
	// Errors counts requests to the API server that failed.
	Errors uint64
	// Behind is for how long a kind could not be read, the longest of them; 0 if all can.
	Behind time.Duration
	Synced bool
}

// Numbers returns the present ones.
func (c *Cluster) Numbers() Numbers {
	n := Numbers{Objects: map[string]int{}, Misfits: map[string]int{}}
	n.Synced, _ = c.Synced()
	c.mu.Lock()
	for _, t := range c.tables {
		n.Objects[t.kind] = t.count()
		for _, s := range t.sources {
			n.Misfits[t.kind] += len(s.misfits)
		}
	}
	c.mu.Unlock()
	c.trouble.mu.Lock()
	defer c.trouble.mu.Unlock()
	n.Errors = c.trouble.errors
	for _, since := range c.trouble.away {
		n.Behind = max(n.Behind, time.Since(since))
	}
	return n
}

// Kinds are those of Objects, in order.
func (n *Numbers) Kinds() []string { return slices.Sorted(maps.Keys(n.Objects)) }
