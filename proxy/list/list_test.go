package list

import (
	"math/rand/v2"
	"slices"
	"testing"
)

type item struct {
	number int
	place  Node[item]
}

func TestTheOrderIsThatOfASlice(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	items := make([]*item, 8)
	for i := range items {
		items[i] = &item{number: i}
		items[i].place.Item = items[i]
	}
	var l, other List[item]
	var want []*item
	for range 5000 {
		one := items[random.IntN(len(items))]
		known := slices.Contains(want, one)
		switch random.IntN(4) {
		case 0:
			if l.PushFront(&one.place); !known {
				want = slices.Insert(want, 0, one)
			}
		case 1:
			if l.PushBack(&one.place); !known {
				want = append(want, one)
			}
		case 2:
			l.Remove(&one.place)
			want = slices.DeleteFunc(want, func(i *item) bool { return i == one })
		case 3:
			other.Remove(&one.place) // is not in there
		}
		var got []*item
		for n := l.Front(); n != nil; n = n.Next() {
			got = append(got, n.Item)
		}
		if !slices.Equal(got, want) || l.Len() != len(want) || other.Len() != 0 {
			t.Fatalf("%d items: %v, want %v", l.Len(), got, want)
		}
		if len(want) > 0 && (l.Front().Item != want[0] || l.Back().Item != want[len(want)-1]) {
			t.Fatal("the ends are others")
		}
		for _, i := range items {
			if i.place.In() != slices.Contains(want, i) {
				t.Fatalf("item %d: In is %v", i.number, i.place.In())
			}
		}
	}
}
