package h2

import (
	"math/rand"
	"testing"
)

func TestStreamsAreFoundHoweverLongTheyLive(t *testing.T) {
	random := rand.New(rand.NewSource(1))
	var c link
	open := map[uint32]*stream{}
	for id := uint32(1); id < 20_000; id += 2 {
		s := &stream{id: id}
		c.enlist(s)
		open[id] = s
		for id, s := range open { // in random order; some live on for very long
			if len(open) < 5+random.Intn(60) {
				break
			}
			c.delist(s)
			delete(open, id)
			if c.find(id) != nil {
				t.Fatalf("stream %d is there after its end", id)
			}
		}
		for id, s := range open {
			if c.find(id) != s {
				t.Fatalf("stream %d is not found", id)
			}
		}
		if len(c.streams) != len(open) || c.find(id+2) != nil {
			t.Fatalf("%d streams, want %d", len(c.streams), len(open))
		}
	}
}
