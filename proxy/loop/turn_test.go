//go:build linux

package loop

import (
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rauta.io/rauta/proxy/clock"
)

func TestAPanicClosesItsConnectionAndTheOthersGoOn(t *testing.T) {
	type report struct {
		value any
		stack string
	}
	reports, told := make(chan report, 10), make(chan bool, 10)
	w := startWorker(t, WorkerOptions{OnPanic: func(v any, stack []byte) { reports <- report{v, string(stack)} }})
	l := listen(t, w, ListenerOptions{Addr: loopback}, serveEcho)
	bad := listen(t, w, ListenerOptions{Addr: loopback}, func(_ *Worker, c *Conn) {
		c.SetHandler(handlerFunc(func(ev Events) {
			switch {
			case ev == Error:
				told <- c.Closed()
			case ev&Readable != 0:
				panicOnPurpose()
			}
		}))
	})
	good, evil := dial(t, l.Addr()), dial(t, bad.Addr())
	for range 3 {
		if err := exchange(good); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = evil.Write([]byte{1})
	if _, err := evil.Read(make([]byte, 1)); err == nil {
		t.Error("the connection of the panicking handler stayed open")
	}
	r := receive(t, reports)
	if r.value != onPurpose || !strings.Contains(r.stack, "panicOnPurpose") {
		t.Errorf("reported %v with stack %s", r.value, r.stack)
	}
	if !receive(t, told) {
		t.Error("the handler was told before its connection was closed")
	}
	if err := exchange(good); err != nil {
		t.Errorf("another connection: %v", err)
	}
	if n := w.Stats().Panics.Load(); n != 1 {
		t.Errorf("%d panics counted", n)
	}
}

const onPurpose = "on purpose"

func panicOnPurpose() { panic(onPurpose) }

func TestAPanicInAnyStageLeavesTheRestOfTheTurnIntact(t *testing.T) {
	w := newWorker(t, 0, WorkerOptions{})
	ran := map[string]int{}
	mark := func(name string) func() { return func() { ran[name]++ } }
	w.Post(panicOnPurpose)
	w.Post(mark("message"))
	w.Ready(handlerFunc(func(Events) { panicOnPurpose() }), Readable)
	w.Ready(handlerFunc(func(Events) { ran["ready"]++ }), Readable)
	w.AtEndOfTurn(turnEndFunc(panicOnPurpose))
	w.AtEndOfTurn(turnEndFunc(mark("turn end")))
	w.Wheel().Set(&clock.Timer{Fire: func(clock.Time) { panicOnPurpose() }}, 1)
	w.Wheel().Set(&clock.Timer{Fire: func(clock.Time) { ran["timer"]++; w.Stop() }}, 1)
	w.Wheel().Set(&clock.Timer{Fire: func(clock.Time) { panicOnPurpose() }}, 1)
	if err := w.Run(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"message", "ready", "turn end", "timer"} {
		if ran[name] != 1 {
			t.Errorf("%s ran %d times", name, ran[name])
		}
	}
	if n := w.Stats().Panics.Load(); n != 5 {
		t.Errorf("%d panics counted, want 5", n)
	}
}

type turnEndFunc func()

func (f turnEndFunc) OnTurnEnd() { f() }

func TestBlameClosesTheRightConnection(t *testing.T) {
	w := startWorker(t, WorkerOptions{})
	client, c := connected(t, w)
	w.Post(func() {
		w.Blame(c)
		panicOnPurpose()
	})
	if _, err := client.Read(make([]byte, 1)); err == nil {
		t.Error("the blamed connection stayed open")
	}
}

// TestAnEventForAClosedConnectionNeverReachesItsSuccessor puts two connections in one batch of events; whichever comes
// first closes the other and opens a new one, which gets the slot of the closed one.
func TestAnEventForAClosedConnectionNeverReachesItsSuccessor(t *testing.T) {
	w := startWorker(t, WorkerOptions{})
	l, conns := accepted(t, w)
	dialed := []net.Conn{dial(t, l.Addr()), dial(t, l.Addr())}
	pair := []*Conn{receive(t, conns), receive(t, conns)}
	target, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	type outcome struct {
		sameSlot, sameFD bool
		closed           *Conn
	}
	done := make(chan outcome, 2)
	var strays atomic.Int32
	on(t, w, func() {
		for i, c := range pair {
			other := pair[1-i]
			c.SetHandler(handlerFunc(func(ev Events) {
				if ev&Readable == 0 {
					return
				}
				if other.Closed() {
					t.Error("a closed connection's partner got a second event")
					return
				}
				slot := other.slot
				other.Close()
				fresh := &Conn{w: w, fd: mustSocket(t), slot: noSlot, handler: handlerFunc(func(ev Events) {
					if ev&Readable != 0 {
						strays.Add(1)
					}
				})}
				if err := w.register(fresh); err != nil {
					t.Error(err)
				}
				w.counts.open++
				done <- outcome{fresh.slot == slot, fresh.fd == other.fd, other}
				c.SetHandler(handlerFunc(func(Events) {}))
			}))
		}
	})
	// While the worker is kept busy both bytes arrive, so that their events come in one batch.
	on(t, w, func() {
		for _, c := range dialed {
			if _, err := c.Write([]byte{1}); err != nil {
				t.Error(err)
			}
		}
	})
	got := receive(t, done)
	if !got.sameSlot {
		t.Error("the test did not reuse the slot, so it shows nothing")
	}
	if got.sameFD {
		t.Error("the descriptor was reused within the turn")
	}
	for range 5 {
		on(t, w, func() {})
	}
	if strays.Load() != 0 {
		t.Error("an event of the closed connection reached its successor")
	}
}

func mustSocket(t testing.TB) int {
	fd, err := tcpSocket(loopback.Addr())
	if err != nil {
		t.Error(err)
	}
	return fd
}

func TestADescriptorIsClosedAtTheEndOfTheTurn(t *testing.T) {
	w := startWorker(t, WorkerOptions{})
	_, c := connected(t, w)
	on(t, w, func() {
		c.Close()
		if _, err := unix.FcntlInt(uintptr(c.FD()), unix.F_GETFD, 0); err != nil {
			t.Errorf("closed within the turn: %v", err)
		}
	})
	on(t, w, func() {
		if n := w.counts.open; n != 0 {
			t.Errorf("%d connections are open in the next turn", n)
		}
	})
}

func TestConnectedSocketsGetTheirEventsBeforeAcceptedOnes(t *testing.T) {
	w := startWorker(t, WorkerOptions{})
	var order []string
	var upstream *Conn
	conns := make(chan *Conn, 1)
	l := listen(t, w, ListenerOptions{Addr: loopback}, func(_ *Worker, c *Conn) { conns <- c })
	far, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	on(t, w, func() {
		upstream, err = w.Connect(addrOf(far), handlerFunc(func(Events) {}))
		if err != nil {
			t.Error(err)
		}
	})
	farConn, err := far.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer farConn.Close()
	client := dial(t, l.Addr())
	c := receive(t, conns)
	record := func(name string) Handler {
		return handlerFunc(func(ev Events) {
			if ev&Readable != 0 {
				order = append(order, name)
			}
		})
	}
	on(t, w, func() { upstream.SetHandler(record("upstream")); c.SetHandler(record("client")) })
	on(t, w, func() {
		_, _ = client.Write([]byte{1}) // the client's event is older
		_, _ = farConn.Write([]byte{1})
	})
	var got []string
	for len(got) < 2 {
		on(t, w, func() { got = slices.Clone(order) })
	}
	if !slices.Equal(got, []string{"upstream", "client"}) {
		t.Errorf("order %v", got)
	}
}

func TestReadyWaitsForTheNextTurnAndStarvesNobody(t *testing.T) {
	w := startWorker(t, WorkerOptions{})
	l := listen(t, w, ListenerOptions{Addr: loopback}, serveEcho)
	spins, before := uint64(0), uint64(0)
	stop := false
	var spin Handler
	spin = handlerFunc(func(Events) {
		spins++
		if !stop {
			w.Ready(spin, Readable)
		}
	})
	on(t, w, func() {
		before = w.counts.turns
		w.Ready(spin, Readable)
	})
	c := dial(t, l.Addr())
	for range 100 {
		if err := exchange(c); err != nil {
			t.Fatal(err)
		}
	}
	on(t, w, func() {
		stop = true
		// An exchange may take less than a turn on a busy machine; in each turn it runs once, and each is one more.
		if turns := w.counts.turns - before; spins == 0 || spins+1 < turns || spins > turns {
			t.Errorf("the spinning handler ran %d times in %d turns", spins, turns)
		}
	})
}

func TestConnReadyAddsUpAndIsTakenBackByClose(t *testing.T) {
	w := startWorker(t, WorkerOptions{})
	l, conns := accepted(t, w)
	dial(t, l.Addr())
	dial(t, l.Addr())
	kept, closed := receive(t, conns), receive(t, conns)
	var got []Events
	on(t, w, func() {}) // the first Writable of both has passed without a handler
	on(t, w, func() {
		kept.missed, closed.missed = 0, 0
		kept.SetHandler(handlerFunc(func(ev Events) { got = append(got, ev) }))
		closed.SetHandler(handlerFunc(func(ev Events) { t.Errorf("a closed connection got %b", ev) }))
		kept.Ready(Readable)
		kept.Ready(HangUp)
		closed.Ready(Readable)
		closed.Close()
	})
	on(t, w, func() {})
	on(t, w, func() {
		if !slices.Contains(got, Readable|HangUp) {
			t.Errorf("got %b", got)
		}
	})
}

func TestEndOfTurnHandlersRunOnceAndWhatTheyAddRunsInTheSameTurn(t *testing.T) {
	w := startWorker(t, WorkerOptions{})
	var ran []string
	turn := func() uint64 { return w.counts.turns }
	on(t, w, func() {
		first := turn()
		note := func(name string) { ran = append(ran, fmt.Sprint(name, " +", turn()-first)) }
		w.AtEndOfTurn(turnEndFunc(func() {
			note("first")
			w.AtEndOfTurn(turnEndFunc(func() {
				note("second")
				w.AtEndOfTurn(turnEndFunc(func() { note("third") }))
			}))
		}))
	})
	on(t, w, func() {})
	on(t, w, func() {})
	if want := []string{"first +0", "second +0", "third +1"}; !slices.Equal(ran, want) {
		t.Errorf("ran %v, want %v", ran, want)
	}
}

func TestSendersRunBehindAllHandlersAndWhatTheyAddWaitsForTheNextTurn(t *testing.T) {
	w := startWorker(t, WorkerOptions{})
	var ran []string
	on(t, w, func() {
		first := w.counts.turns
		note := func(name string) { ran = append(ran, fmt.Sprint(name, " +", w.counts.turns-first)) }
		w.SendLast(senderFunc(func() {
			note("send")
			w.SendLast(senderFunc(func() { note("send again") }))
			w.AtEndOfTurn(turnEndFunc(func() { note("next end") }))
		}))
		w.SendLast(senderFunc(panicOnPurpose))
		w.SendLast(senderFunc(func() { note("send, too") }))
		w.AtEndOfTurn(turnEndFunc(func() {
			note("end")
			w.AtEndOfTurn(turnEndFunc(func() { note("second end") }))
		}))
	})
	on(t, w, func() {})
	on(t, w, func() {})
	if want := []string{"end +0", "second end +0", "send +0", "send, too +0", "next end +1", "send again +1"}; !slices.Equal(ran, want) {
		t.Errorf("ran %v, want %v", ran, want)
	}
}

type senderFunc func()

func (f senderFunc) OnSend() { f() }

func TestATimerWakesASleepingWorker(t *testing.T) {
	w := startWorker(t, WorkerOptions{})
	type firing struct{ deadline, now clock.Time }
	fired := make(chan firing, 1)
	on(t, w, func() {
		deadline := w.Now() + 30e6
		timer := &clock.Timer{}
		timer.Fire = func(now clock.Time) { fired <- firing{deadline, now} }
		w.Wheel().Set(timer, deadline)
	})
	if f := receive(t, fired); f.now < f.deadline {
		t.Errorf("it fired %d ns early", f.deadline-f.now)
	}
}

func TestAMessageSeesTheTurnsReadingAlsoAfterASleep(t *testing.T) {
	w := startWorker(t, WorkerOptions{})
	for range 3 {
		time.Sleep(2 * time.Millisecond)
		on(t, w, func() {
			if w.Now() != w.turnBegan {
				t.Errorf("now is %d, the turn began at %d", w.Now(), w.turnBegan)
			}
		})
	}
}

func TestAnIdleWorkerTakesNoTurns(t *testing.T) {
	w := startWorker(t, WorkerOptions{})
	before := uint64(0)
	on(t, w, func() { before = w.counts.turns })
	time.Sleep(50 * time.Millisecond)
	after := uint64(0)
	on(t, w, func() { after = w.counts.turns })
	// One turn for the message, and a few if a signal interrupted the sleep.
	if after-before > 20 {
		t.Errorf("%d turns while idle", after-before)
	}
}

func TestTheDateIsTheWallClock(t *testing.T) {
	w := startWorker(t, WorkerOptions{})
	before := time.Now()
	on(t, w, func() {
		sec, nsec := w.Unix()
		got := time.Unix(sec, nsec)
		if d := got.Sub(before); d < -time.Second || d > giveUp {
			t.Errorf("the turn's wall clock is off by %v", d)
		}
		date, err := time.Parse(time.RFC1123, string(w.HTTPDate()))
		if err != nil || date.Unix() != sec {
			t.Errorf("date %q for second %d: %v", w.HTTPDate(), sec, err)
		}
		if len(w.HTTPDate()) != 29 {
			t.Errorf("IMF-fixdate has 29 bytes, got %q", w.HTTPDate())
		}
	})
}

// TestTheGarbageCollectorStopsTheWorldWhileWorkersSleepAndWork would hang if a worker slept in a raw system call.
// With a slot to spare for everybody else workers sleep without telling the scheduler, so both ways are tried.
func TestTheGarbageCollectorStopsTheWorldWhileWorkersSleepAndWork(t *testing.T) {
	for name, slots := range map[string]int{"through the scheduler": 2, "raw": 2 + sparePs} {
		t.Run(name, func(t *testing.T) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(slots))
			collectWhileWorkersRun(t)
		})
	}
}

func collectWhileWorkersRun(t *testing.T) {
	group := NewGroup(0)
	idle := startWorker(t, WorkerOptions{Group: group})
	busy := startWorker(t, WorkerOptions{Group: group})
	stop := false
	var spin Handler
	spin = handlerFunc(func(Events) {
		if !stop {
			busy.Ready(spin, Readable)
		}
	})
	on(t, busy, func() { busy.Ready(spin, Readable) })
	done := make(chan struct{})
	go func() {
		for range 20 {
			runtime.GC()
		}
		close(done)
	}()
	receive(t, done)
	on(t, busy, func() { stop = true })
	on(t, idle, func() {})
}
