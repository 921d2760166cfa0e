package pack_test

import (
	"math"
	"reflect"
	"testing"
	"unsafe"

	"rauta.io/rauta/control/pack"
)

type inner struct {
	Name string
	Next *inner
}

type secret []byte

type all struct {
	Bool             bool
	Int              int
	Int16            int16
	Uint64           uint64
	Float            float64
	Text, Same       string
	Bytes            []byte
	Secret           secret
	Array            [3]uint16
	Nil, Empty       []string
	NilMap, EmptyMap map[string]int
	NilPointer       *inner
	Inners           []inner
	Pointers         []*inner
	Map              map[string][]inner
	Nested           struct{ List [][]string }
}

func value() all {
	one := &inner{Name: "one", Next: &inner{Name: "two"}}
	return all{
		Bool: true, Int: math.MinInt, Int16: -3, Uint64: math.MaxUint64, Float: -1.5, Text: "same", Same: "same", Bytes: []byte("bytes"),
		Secret: secret{0, 255}, Array: [3]uint16{1, 0, math.MaxUint16}, Empty: []string{}, EmptyMap: map[string]int{}, Inners: []inner{{Name: "in"}, *one},
		Pointers: []*inner{one, nil, one.Next, one}, Map: map[string][]inner{"a": {{Name: "x"}}, "b": nil, "c": {{Name: "y"}, {}}},
		Nested: struct{ List [][]string }{[][]string{{"a", ""}, nil, {}}},
	}
}

func TestAValueIsTheSameAfterwards(t *testing.T) {
	before := value()
	if after := pack.Pack(&before).Unpack(); !reflect.DeepEqual(*after, before) {
		t.Errorf("got  %+v\nwant %+v", *after, before)
	}
}

func TestNothingRefersToTheFormerMemory(t *testing.T) {
	before := value()
	packed := pack.Pack(&before)
	before.Bytes[0], before.Pointers[0].Name, before.Inners[0].Name, before.Map["a"][0].Name = 'X', "X", "X", "X"
	if after := packed.Unpack(); !reflect.DeepEqual(*after, value()) {
		t.Errorf("got  %+v\nwant %+v", *after, value())
	}
	first, second := packed.Unpack(), packed.Unpack()
	if first.Pointers[0] == second.Pointers[0] || &first.Bytes[0] == &second.Bytes[0] {
		t.Error("two values share memory")
	}
}

func TestWhatIsInOneMemoryIsInOneMemoryAgain(t *testing.T) {
	type lists struct {
		A, B, Part  []inner
		Like, Other []inner
		P, Q        *inner
		Maps        [2]map[int]*inner
		Texts       []string
	}
	list := []inner{{Name: "a", Next: &inner{}}, {Name: "b"}}
	p, m := &inner{Name: "p"}, map[int]*inner{1: {Name: "m"}}
	got := pack.Pack(&lists{
		A: list, B: list, Part: list[:1], Like: []inner{{Name: "b"}}, Other: []inner{{Name: "b"}}, P: p, Q: p, Maps: [2]map[int]*inner{m, m},
		Texts: []string{"some text", string([]byte("some text"))},
	}).Unpack()
	if &got.A[0] != &got.B[0] || got.P != got.Q || got.Maps[0][1] != got.Maps[1][1] {
		t.Error("what was shared is not any more")
	}
	if len(got.Part) != 1 || got.Part[0].Name != "a" || got.Part[0].Next != got.A[0].Next {
		t.Errorf("a part was taken for the whole: %+v", got)
	}
	if &got.Like[0] != &got.Other[0] || got.Like[0].Name != "b" {
		t.Errorf("equal lists are in two places: %+v", got)
	}
	if unsafe.StringData(got.Texts[0]) != unsafe.StringData(got.Texts[1]) {
		t.Error("equal strings are in two places")
	}
}

func TestWhatIsNotPlainDataIsAPanic(t *testing.T) {
	panics := func(name string, f func()) {
		defer func() {
			if recover() == nil {
				t.Errorf("no panic for %s", name)
			}
		}()
		f()
	}
	panics("a field that is not exported", func() { pack.Pack(&struct{ a int }{}) })
	panics("a function", func() { pack.Pack(&struct{ F func() }{}) })
	panics("an interface", func() { pack.Pack(&struct{ Any any }{"x"}) })
}
