//go:build linux && !race && !invariants

package loop

import (
	"testing"

	"golang.org/x/sys/unix"

	"rauta.io/rauta/proxy/clock"
)

// benchConn is a connection of a worker that is driven turn by turn, by the returned function.
func steppedEcho(t testing.TB) (client int, step func()) {
	t.Helper()
	w := newWorker(t, 0, WorkerOptions{})
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	c := &Conn{w: w, fd: pair[0], slot: noSlot}
	if err := w.register(c); err != nil {
		t.Fatal(err)
	}
	timer := &clock.Timer{Fire: func(clock.Time) {}}
	end := turnEndFunc(func() {})
	served := &echo{w: w, conn: c}
	c.SetHandler(handlerFunc(func(ev Events) {
		w.Wheel().Set(timer, w.Now()+100e6)
		w.PutBuffer(append(w.GetBuffer(4096), 1))
		w.AtEndOfTurn(end)
		served.OnEvent(ev)
	}))
	t.Cleanup(func() {
		w.Stop()
		_ = w.Run()
		_ = unix.Close(pair[1])
	})
	return pair[1], func() {
		if err := w.wait(); err != nil {
			t.Fatal(err)
		}
		w.turn()
	}
}

func TestATurnWithAnEventATimerABufferAndAnEchoAllocatesNothing(t *testing.T) {
	client, step := steppedEcho(t)
	buf := make([]byte, 64)
	round := func() {
		if _, err := unix.Write(client, buf); err != nil {
			t.Fatal(err)
		}
		step()
		if n, err := unix.Read(client, buf); n != len(buf) || err != nil {
			t.Fatalf("%d bytes, %v", n, err)
		}
	}
	round()
	if n := testing.AllocsPerRun(1000, round); n != 0 {
		t.Errorf("%v allocations per turn", n)
	}
}

func TestSendingAPreallocatedMessageAllocatesNothing(t *testing.T) {
	w := newWorker(t, 0, WorkerOptions{})
	ran := 0
	m := &Message{To: postedFunc(func() { ran++ })}
	if n := testing.AllocsPerRun(100, func() {
		w.Send(m)
		w.takeMail(nil)
		w.deliverMail()
	}); n != 0 || ran == 0 {
		t.Errorf("%v allocations, %d runs", n, ran)
	}
}

func BenchmarkEchoTurn(b *testing.B) {
	client, step := steppedEcho(b)
	buf := make([]byte, 64)
	for b.Loop() {
		_, _ = unix.Write(client, buf)
		step()
		_, _ = unix.Read(client, buf)
	}
}
