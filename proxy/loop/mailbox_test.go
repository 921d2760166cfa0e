//go:build linux

package loop

import (
	"runtime"
	"sync"
	"testing"
)

func TestMessagesOfOneSenderKeepTheirOrderAndNoneIsLost(t *testing.T) {
	w := startWorker(t, WorkerOptions{})
	const senders, each = 8, 5000
	var got [senders][]int
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for i := range each {
				if !w.Post(func() { got[s] = append(got[s], i) }) {
					t.Error("refused")
				}
			}
		})
	}
	wg.Wait()
	on(t, w, func() {
		for s := range got {
			if len(got[s]) != each {
				t.Fatalf("%d of %d messages came", len(got[s]), each)
			}
			for i, v := range got[s] {
				if v != i {
					t.Fatalf("sender %d: message %d came as number %d", s, v, i)
				}
			}
		}
	})
}

// TestEveryPostWakesASleepingWorker goes to and fro, so that each post meets a worker that is about to sleep, sleeps or
// has just woken; one lost wake-up hangs it.
func TestEveryPostWakesASleepingWorker(t *testing.T) {
	w := startWorker(t, WorkerOptions{})
	back := make(chan int, 1)
	for i := range 20000 {
		w.Post(func() { back <- i })
		if i%3 == 0 {
			runtime.Gosched()
		}
		if got := receive(t, back); got != i {
			t.Fatalf("got %d, want %d", got, i)
		}
	}
}

func TestWorkersThatPostToEachOtherDoNotHang(t *testing.T) {
	a, b := startWorker(t, WorkerOptions{}), startWorker(t, WorkerOptions{})
	const rounds = 10000
	done := make(chan struct{})
	var bounce func(n int, from, to *Worker)
	bounce = func(n int, from, to *Worker) {
		if n == rounds {
			close(done)
			return
		}
		to.Post(func() { bounce(n+1, to, from) })
	}
	a.Post(func() { bounce(0, a, b) })
	receive(t, done)
}

func TestAWorkerThatHasEndedRefusesMessagesAndRunsThoseItHad(t *testing.T) {
	w := newWorker(t, 0, WorkerOptions{})
	ran := 0
	ended := make(chan error, 1)
	w.Post(func() { w.Stop(); w.Post(func() { ran++ }) })
	go func() { ended <- w.Run() }()
	if err := receive(t, ended); err != nil {
		t.Fatal(err)
	}
	if ran != 1 {
		t.Errorf("the message sent before the end ran %d times", ran)
	}
	if w.Post(func() { ran++ }) || ran != 1 {
		t.Error("a message was taken after the end")
	}
}

// TestPostsRaceWithTheEndOfAWorker: every accepted message runs, every refused one does not, however they meet.
func TestPostsRaceWithTheEndOfAWorker(t *testing.T) {
	for range 50 {
		w := newWorker(t, 0, WorkerOptions{})
		ended := make(chan error, 1)
		go func() { ended <- w.Run() }()
		ran := 0
		taken := make(chan int, 1)
		go func() {
			n := 0
			for w.Post(func() { ran++ }) {
				n++
				if n == 100 {
					w.Stop()
				}
			}
			taken <- n
		}()
		n := receive(t, taken)
		if err := receive(t, ended); err != nil {
			t.Fatal(err)
		}
		if n != ran {
			t.Fatalf("%d messages were taken, %d ran", n, ran)
		}
	}
}
