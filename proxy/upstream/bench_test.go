package upstream

import (
	"testing"

	"rauta.io/rauta/proxy/config"
)

func BenchmarkPick(b *testing.B) {
	for _, policy := range policies {
		b.Run(string(policy), func(b *testing.B) {
			c := newTestCluster(config.Cluster{Policy: policy}, 1, 50)
			w := newTestWorker(0).Worker
			for _, e := range c.Set().Endpoints() {
				e.Pool(w)
			}
			key := uint64(1)
			for b.Loop() {
				key += 0x9e3779b97f4a7c15
				c.Pick(w, key, nil)
			}
		})
	}
}

func BenchmarkAcquireRelease(b *testing.B) {
	p, w, _ := newTestPool(config.Cluster{})
	w.dialer.atOnce = true
	s := newSink()
	for b.Loop() {
		p.Acquire(&s.Waiter)
		p.Release(s.conn)
	}
}

func BenchmarkHashKey(b *testing.B) {
	key := []byte("2001:db8::1234:5678")
	for b.Loop() {
		HashKey(key)
	}
}

func BenchmarkSetEndpointsMaglev(b *testing.B) {
	c := maglevCluster(100)
	for i := 0; b.Loop(); i++ {
		c.SetEndpoints(addresses(100 + i%2))
	}
}
