package snapshot

import (
	"rauta.io/rauta/proxy/config"
	"rauta.io/rauta/proxy/upstream"
)

// Mirror is where copies of requests go.
type Mirror struct {
	// Cluster is nil if it can't be used; then nothing is mirrored, because nobody waits for it.
	Cluster *upstream.Cluster

	name string
	upTo uint64 // of 2^32
}

// Takes reports whether a request is mirrored, for an evenly distributed random number.
func (m *Mirror) Takes(random uint32) bool { return m.Cluster != nil && uint64(random) < m.upTo }

func (c *compiler) mirrors(filters []config.Filter) (out []Mirror) {
	for i := range filters {
		f := filters[i].Mirror
		if f == nil {
			continue
		}
		m := Mirror{Cluster: c.next.Clusters[f.Cluster], name: f.Cluster, upTo: 1 << 32}
		if f.Denominator > 0 {
			m.upTo = uint64(f.Numerator) << 32 / uint64(f.Denominator)
		}
		out = append(out, m)
	}
	return out
}

// sameMirrors reports whether mirrors of a route of the last generation still lead to the right clusters.
func (c *compiler) sameMirrors(list []Mirror) bool {
	for i := range list {
		if c.next.Clusters[list[i].name] != list[i].Cluster {
			return false
		}
	}
	return true
}
