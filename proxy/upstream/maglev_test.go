package upstream

import (
	"fmt"
	"testing"

	"rauta.io/rauta/proxy/config"
)

func maglevCluster(n int) *Cluster {
	return newTestCluster(config.Cluster{Policy: config.PolicyMaglev}, 1, n)
}

func TestAMaglevKeyStaysWithItsEndpoint(t *testing.T) {
	c, w := maglevCluster(20), newTestWorker(0).Worker
	again, other := maglevCluster(20), newTestWorker(0).Worker
	for i := range 1000 {
		key := HashKey(fmt.Appendf(nil, "user-%d", i))
		e := c.Pick(w, key, nil)
		if c.Pick(w, key, nil) != e || again.Pick(other, key, nil).Name != e.Name {
			t.Fatalf("key %d moved from %s", i, e.Name)
		}
	}
}

func TestARequestWithoutAKeyIsSpreadAtRandom(t *testing.T) {
	c, w := maglevCluster(5), newTestWorker(0).Worker
	seen := map[*Endpoint]bool{}
	for range 1000 {
		seen[c.Pick(w, 0, nil)] = true
	}
	if len(seen) != 5 {
		t.Fatalf("%d endpoints, want 5", len(seen))
	}
}

func TestRemovingOneEndpointMovesHardlyAnyKeyOfTheOthers(t *testing.T) {
	const keys = 50_000
	for _, n := range []int{2, 3, 10, 50, 100, 300} {
		c, w := maglevCluster(n), newTestWorker(0).Worker
		before := make([]*Endpoint, keys)
		for i := range keys {
			before[i] = c.Pick(w, HashKey(fmt.Append(nil, i)), nil)
		}
		eps := addresses(n)
		gone := c.SetEndpoints(append(eps[:n/2], eps[n/2+1:]...))[0]
		moved, lost := 0, 0
		for i := range keys {
			e := c.Pick(w, HashKey(fmt.Append(nil, i)), nil)
			switch {
			case before[i] == gone:
				lost++
			case e != before[i]:
				moved++
			}
		}
		if bound := 0.01 * keys; float64(moved) > bound {
			t.Errorf("%d endpoints: %d of %d keys of the others moved, want at most %.0f", n, moved, keys, bound)
		}
		if total, bound := moved+lost, (1.1/float64(n)+0.01)*keys; float64(total) > bound {
			t.Errorf("%d endpoints: %d of %d keys moved in all, want at most %.0f", n, total, keys, bound)
		}
	}
}

func TestMaglevSharesAreEqualWithinTwoPercentOfTheTable(t *testing.T) {
	for _, n := range []int{2, 7, 100, 101, 655, 656} {
		list := maglevCluster(n).Set().Endpoints()
		m := newMaglev(list)
		shares := make([]int, n)
		for _, i := range m.entries {
			shares[i]++
		}
		mean := float64(len(m.entries)) / float64(n)
		for i, s := range shares {
			if d := float64(s) - mean; d > max(1, 0.02*mean) || d < -max(1, 0.02*mean) {
				t.Fatalf("%d endpoints: number %d has %d entries, the mean is %.1f", n, i, s, mean)
			}
		}
		if len(m.entries) < 100*n {
			t.Errorf("%d endpoints: %d entries", n, len(m.entries))
		}
	}
}

func TestTheMaglevTableIsBounded(t *testing.T) {
	list := maglevCluster(7000).Set().Endpoints()
	if n := len(newMaglev(list).entries); n != 655373 {
		t.Fatalf("%d entries", n)
	}
}

func TestTheOrderInWhichEndpointsAreGivenDoesNotMatter(t *testing.T) {
	c, w := maglevCluster(30), newTestWorker(0).Worker
	eps := addresses(30)
	for i := range 15 {
		eps[i], eps[29-i] = eps[29-i], eps[i]
	}
	d := NewCluster(c.Config(), nil, 1, nil)
	d.SetEndpoints(eps)
	for i := range 1000 {
		if a, b := c.Pick(w, mix(uint64(i)), nil), d.Pick(w, mix(uint64(i)), nil); i > 0 && a.Name != b.Name {
			t.Fatalf("key %d: %s and %s", i, a.Name, b.Name)
		}
	}
}

func TestTheKeysOfAnEjectedEndpointAreSpreadAndComeBack(t *testing.T) {
	c, w := maglevCluster(10), newTestWorker(0)
	before := make([]*Endpoint, 10_000)
	for i := range before {
		before[i] = c.Pick(w.Worker, mix(uint64(i)+1), nil)
	}
	sick := c.Set().Endpoints()[4]
	ejectNow(sick, w.Worker)
	heirs := map[*Endpoint]int{}
	for i := range before {
		e := c.Pick(w.Worker, mix(uint64(i)+1), nil)
		if before[i] == sick {
			heirs[e]++
		} else if e != before[i] {
			t.Fatal("a key of a healthy endpoint moved")
		}
	}
	if heirs[sick] != 0 || len(heirs) != 9 {
		t.Fatalf("the ejected endpoint kept %d keys, %d endpoints took over", heirs[sick], len(heirs))
	}
	w.Clock.Advance(w.Clock.Now() + ejectionBase)
	for i := range before {
		if c.Pick(w.Worker, mix(uint64(i)+1), nil) != before[i] {
			t.Fatal("a key did not come back")
		}
	}
}

func TestHashKeyIsStableAndSpreads(t *testing.T) {
	// Nodes of different versions must agree: these values never change.
	for key, want := range map[string]uint64{
		"":                              0xb97bc25bb48184e9,
		"user-1":                        0x6052045288c429a5,
		"a longer key than eight bytes": 0x3a8c7b2c619a59c1,
	} {
		if got := HashKey([]byte(key)); got != want {
			t.Errorf("hash of %q is %#x, want %#x", key, got, want)
		}
	}
	seen := map[uint64]string{}
	for n := range 40 {
		for _, b := range []byte{0, 1, 'a'} {
			key := make([]byte, n)
			for i := range key {
				key[i] = b
			}
			h := HashKey(key)
			if other, twice := seen[h]; twice && other != string(key) {
				t.Errorf("%q and %q have the same hash", other, key)
			}
			seen[h] = string(key)
		}
	}
	if n := testing.AllocsPerRun(100, func() { HashKey([]byte("10.0.0.1")) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
