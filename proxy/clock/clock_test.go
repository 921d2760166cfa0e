package clock

import (
	"math/rand/v2"
	"slices"
	"testing"
)

const start = Time(5*Tick + 7)

type recorder struct {
	fired []string
	at    []Time
}

func (r *recorder) timer(name string) *Timer {
	return &Timer{Fire: func(now Time) {
		r.fired = append(r.fired, name)
		r.at = append(r.at, now)
	}}
}

func TestATimerFiresNeverEarlyAndAtMostOneTickLate(t *testing.T) {
	for offset := Time(1); offset < 3*Tick; offset += Time(Tick) / 7 {
		w := NewWheel(start)
		var r recorder
		deadline := start + offset
		w.Set(r.timer("a"), deadline)
		w.Advance(deadline - 1)
		if len(r.fired) != 0 {
			t.Fatalf("fired %d ns early", deadline-r.at[0])
		}
		w.Advance(deadline + Tick)
		if len(r.fired) != 1 {
			t.Fatalf("a timer due in %d ns had not fired one tick after", offset)
		}
		w.Advance(deadline + 10*Tick)
		if len(r.fired) != 1 {
			t.Fatal("it fired twice")
		}
	}
}

func TestADisarmedTimerDoesNotFireAndLeavesTheWheelWhenItsBucketRuns(t *testing.T) {
	w := NewWheel(start)
	var r recorder
	timer := r.timer("a")
	w.Set(timer, start+2*Tick)
	w.Set(timer, 0)
	if timer.Deadline() != 0 {
		t.Error("it still has a deadline")
	}
	if w.Len() != 1 {
		t.Error("disarming did list work")
	}
	w.Advance(start + 5*Tick)
	if len(r.fired) != 0 || w.Len() != 0 {
		t.Errorf("fired %v, %d timers filed", r.fired, w.Len())
	}
}

func TestARemovedTimerIsOutOfTheWheelAtOnce(t *testing.T) {
	w := NewWheel(start)
	var r recorder
	a, b, c := r.timer("a"), r.timer("b"), r.timer("c")
	for _, timer := range []*Timer{a, b, c} {
		w.Set(timer, start+Tick)
	}
	w.Remove(b)
	w.Remove(b)
	if w.Len() != 2 {
		t.Errorf("%d timers filed", w.Len())
	}
	w.Advance(start + 3*Tick)
	slices.Sort(r.fired)
	if !slices.Equal(r.fired, []string{"a", "c"}) {
		t.Errorf("fired %v", r.fired)
	}
}

func TestMovingADeadlineLaterDoesNotMoveTheTimer(t *testing.T) {
	w := NewWheel(start)
	var r recorder
	timer := r.timer("a")
	w.Set(timer, start+Tick)
	filed := timer.filed
	w.Set(timer, start+100*Tick)
	if timer.filed != filed {
		t.Error("it was filed anew")
	}
	w.Advance(start + 99*Tick)
	if len(r.fired) != 0 {
		t.Error("it fired at its old deadline")
	}
	w.Advance(start + 101*Tick)
	if len(r.fired) != 1 {
		t.Error("it did not fire at its new deadline")
	}
}

func TestMovingADeadlineEarlierIsObeyed(t *testing.T) {
	w := NewWheel(start)
	var r recorder
	timer := r.timer("a")
	w.Set(timer, start+100*Tick)
	w.Set(timer, start+2*Tick)
	w.Advance(start + 3*Tick)
	if len(r.fired) != 1 || w.Len() != 0 {
		t.Errorf("fired %v, %d filed", r.fired, w.Len())
	}
}

func TestADeadlineBeyondTheWheelFiresAtItsTime(t *testing.T) {
	w := NewWheel(start)
	var r recorder
	deadline := start + 3*slotsMax*Tick + 5*Tick
	w.Set(r.timer("far"), deadline)
	for now := start; now < deadline; now += 1000 * Tick {
		w.Advance(now)
	}
	w.Advance(deadline - 1)
	if len(r.fired) != 0 {
		t.Fatal("it fired early")
	}
	w.Advance(deadline + Tick)
	if len(r.fired) != 1 {
		t.Fatal("it did not fire")
	}
}

func TestATimerMaySetItselfAgainAlsoForAPastDeadline(t *testing.T) {
	w := NewWheel(start)
	fired := 0
	var timer Timer
	timer.Fire = func(now Time) {
		fired++
		w.Set(&timer, now-Tick)
	}
	w.Set(&timer, start+1)
	for i := range 10 {
		w.Advance(start + Time(i+1)*Tick)
	}
	if fired != 10 {
		t.Errorf("fired %d times in 10 ticks", fired)
	}
}

func TestAReadingFiresNothingUntilAdvance(t *testing.T) {
	w := NewWheel(start)
	var r recorder
	w.Set(r.timer("a"), start+Tick)
	w.SetNow(start + 5*Tick)
	if w.Now() != start+5*Tick || len(r.fired) != 0 {
		t.Errorf("now %d, fired %v", w.Now(), r.fired)
	}
	w.Set(r.timer("b"), w.Now()+Tick)
	w.Advance(start + 5*Tick)
	if !slices.Equal(r.fired, []string{"a"}) {
		t.Errorf("fired %v", r.fired)
	}
	w.Advance(start + 7*Tick)
	if !slices.Equal(r.fired, []string{"a", "b"}) {
		t.Errorf("fired %v", r.fired)
	}
}

func TestTimeThatGoesBackwardsIsIgnored(t *testing.T) {
	w := NewWheel(start)
	var r recorder
	w.Set(r.timer("a"), start+5*Tick)
	w.Advance(start + 3*Tick)
	w.Advance(start)
	if w.Now() != start+3*Tick {
		t.Errorf("now is %d", w.Now())
	}
	w.Advance(start + 6*Tick)
	if len(r.fired) != 1 {
		t.Errorf("fired %v", r.fired)
	}
}

func TestAfterAPanicAdvanceGoesOnWithTheNextTimer(t *testing.T) {
	w := NewWheel(start)
	var r recorder
	w.Set(r.timer("a"), start+Tick)
	w.Set(&Timer{Fire: func(Time) { panic("boom") }}, start+Tick)
	w.Set(r.timer("b"), start+Tick)
	w.Set(r.timer("c"), start+2*Tick)
	now := start + 4*Tick
	panics := 0
	for done := false; !done; {
		func() {
			defer func() {
				if recover() != nil {
					panics++
				}
			}()
			w.Advance(now)
			done = true
		}()
	}
	slices.Sort(r.fired)
	if panics != 1 || !slices.Equal(r.fired, []string{"a", "b", "c"}) || w.Len() != 0 {
		t.Errorf("%d panics, fired %v, %d filed", panics, r.fired, w.Len())
	}
}

func TestNextIsNeverLaterThanTheNextTimerAndNeverInVain(t *testing.T) {
	w := NewWheel(start)
	if w.Next() != -1 {
		t.Errorf("an empty wheel wants to be woken in %d ns", w.Next())
	}
	for _, ticks := range []Time{1, 2, 63, 64, 65, 1000, slotsMax - 2} {
		var r recorder
		w := NewWheel(start)
		w.Set(r.timer("a"), start+ticks*Tick)
		w.Advance(start + Time(w.Next()))
		if len(r.fired) != 1 {
			t.Errorf("a sleep of Next for a timer in %d ticks woke too early", ticks)
		}
		if late := w.Now() - (start + ticks*Tick); late < 0 || late > Tick {
			t.Errorf("a timer in %d ticks was %d ns late", ticks, late)
		}
	}
}

func TestSettingMovingAndFiringAllocatesNothing(t *testing.T) {
	w := NewWheel(start)
	timer := Timer{Fire: func(Time) {}}
	now := start
	if n := testing.AllocsPerRun(1000, func() {
		now += Tick
		w.Set(&timer, now+Tick)
		w.Set(&timer, now+3*Tick)
		w.Set(&timer, now)
		w.Advance(now + Tick)
		w.Next()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestRandomUseAgreesWithAListOfTimers drives the wheel and a plain list by the same random operations: a timer has
// to fire by the first Advance that reaches the tick after its deadline, once, and never before its deadline.
func TestRandomUseAgreesWithAListOfTimers(t *testing.T) {
	for seed := range uint64(60) {
		compareWithList(t, rand.New(rand.NewPCG(seed, 1)))
	}
}

func compareWithList(t *testing.T, rng *rand.Rand) {
	t.Helper()
	const timers = 40
	now := Time(rng.Int64N(int64(100*Tick)) + 1)
	w := NewWheel(now)
	var list [timers]Time // deadlines; 0: not armed
	var wheel [timers]Timer
	var fired []int
	for i := range wheel {
		wheel[i].Fire = func(Time) { fired = append(fired, i) }
	}
	for step := range 3000 {
		i := rng.IntN(timers)
		switch op := rng.IntN(10); {
		case op < 6:
			ahead := []int64{2 * Tick, 50 * Tick, 3 * slotsMax * Tick}[rng.IntN(3)]
			list[i] = now + Time(rng.Int64N(ahead)) - Tick/2
			list[i] = max(list[i], 1)
			w.Set(&wheel[i], list[i])
		case op == 6:
			list[i] = 0
			w.Set(&wheel[i], 0)
		case op == 7:
			list[i] = 0
			w.Remove(&wheel[i])
		default:
			next := w.Next()
			before := now / Tick
			now += Time(rng.Int64N([]int64{Tick / 2, 20 * Tick, 5000 * Tick}[rng.IntN(3)]))
			fired = fired[:0]
			w.Advance(now)
			must := 0
			for k, deadline := range list {
				hasFired := slices.Contains(fired, k)
				// A timer set for the past is due at the first tick that begins after it was set.
				due := deadline != 0 && deadline/Tick+1 <= now/Tick && now/Tick > before
				switch {
				case due && !hasFired:
					t.Fatalf("step %d: timer %d, due at %d, had not fired at %d", step, k, deadline, now)
				case hasFired && (deadline == 0 || deadline > now):
					t.Fatalf("step %d: timer %d, due at %d (0: never), fired at %d", step, k, deadline, now)
				}
				if due {
					must++
				}
				if hasFired {
					list[k] = 0
				}
			}
			if slices.Sort(fired); len(slices.Compact(fired)) != len(fired) {
				t.Fatalf("step %d: a timer fired twice: %v", step, fired)
			}
			if must > 0 && next < 0 {
				t.Fatalf("step %d: Next promised that nothing would fire", step)
			}
		}
		for k := range wheel {
			if wheel[k].Deadline() != list[k] {
				t.Fatalf("step %d: timer %d is armed for %d, want %d", step, k, wheel[k].Deadline(), list[k])
			}
		}
	}
}
