package h2

import (
	"testing"

	"rauta.io/rauta/proxy/clock"
)

func TestABudgetAllowsItsBurstAndThenItsRate(t *testing.T) {
	var b budget
	now := clock.Time(1e12)
	for i := range 60 {
		if !b.take(now, 60) {
			t.Fatalf("no token %d of 60", i)
		}
	}
	if b.take(now, 60) {
		t.Error("a 61st token at once")
	}
	b = budget{}
	for range 60 {
		b.take(now, 60)
	}
	for i := range 600 {
		now += 1e9
		if !b.take(now, 60) {
			t.Fatalf("no token in second %d", i)
		}
	}
	b.earn(3, 60)
	for i := range 3 {
		if !b.take(now, 60) {
			t.Errorf("no token for earning %d", i)
		}
	}
	if b.take(now, 60) {
		t.Error("more than what was earned")
	}
}

func TestResetsAreTooManyOnlyWhenCloseTogether(t *testing.T) {
	for name, c := range map[string]struct {
		every   clock.Time // nanoseconds between resets
		streams uint32     // opened between resets
		want    bool
	}{
		"one after the other":   {1e6, 1, true},
		"every second stream":   {1e6, 2, true},
		"every third stream":    {1e6, 3, false},
		"spread over time":      {11e6, 1, false},
		"several on one stream": {1e6, 0, true},
	} {
		var l resetLog
		now, opened, got := clock.Time(1e12), uint32(7), false
		for range 1000 {
			got = l.add(now, opened) || got
			now, opened = now+c.every, opened+c.streams
		}
		if got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
