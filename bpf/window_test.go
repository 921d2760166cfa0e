//go:build linux && (amd64 || arm64)

package bpf

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rauta.io/rauta/proxy/observe"
)

// reopen closes the window and opens another after what happens in between.
func (w *watch) reopen(between func()) {
	w.t.Helper()
	if err := w.Switch(false); err != nil {
		w.t.Fatal(err)
	}
	between()
	if err := w.Switch(true); err != nil {
		w.t.Fatal(err)
	}
}

// unwatchedExchange is exchange as a worker has it while no window is open.
func (c *watched) unwatchedExchange(request, response int) {
	c.w.t.Helper()
	c.transfer(c.client, c.server, request)
	if c.tap.State == observe.TapAwaiting {
		if wait := c.w.Read(&c.tap, monotonic(c.w.t)); wait != 0 {
			c.w.t.Fatalf("a request between windows has waited for %d ns", wait)
		}
	}
	if c.w.Watching() {
		c.w.t.Fatal("requests are watched between windows")
	}
	c.transfer(c.server, c.client, response)
}

func TestBetweenWindowsNothingIsWatchedAndAfterThemAllIs(t *testing.T) {
	w := newWatch(t, 1)
	rt := w.registry.Route("a")
	c := w.connect()
	for range 3 {
		c.exchange(rt, 10, 20)
	}
	w.reopen(func() {
		for range 4 {
			c.unwatchedExchange(1000, 1000)
		}
	})
	if wait := c.exchange(rt, 3, 3); wait != 0 {
		t.Errorf("a request that nobody awaited has waited for %d ns", wait)
	}
	for range 5 {
		if wait := c.exchange(rt, 30, 40); wait <= 0 {
			t.Error("a request in the next window is not watched")
		}
	}
	c.close()
	w.awaitCounts("a", 3+5, 3*10+5*30, 3*20+5*40)
}

func TestARequestThatEndsBetweenWindowsIsCountedWhole(t *testing.T) {
	w := newWatch(t, 1)
	rt := w.registry.Route("a")
	c := w.connect()
	c.exchange(rt, 1, 1)
	c.transfer(c.client, c.server, 10)
	began := monotonic(t)
	w.Read(&c.tap, began)
	w.reopen(func() {
		c.tap.Route = rt
		const took = 5_000_000_000
		w.Leaves(&c.tap, c.fd, began+took)
		c.transfer(c.server, c.client, 20)
		w.Left(&c.tap, c.fd, began+took, true, false)
		for range 3 {
			c.unwatchedExchange(100, 100)
		}
	})
	c.exchange(rt, 5, 5) // awaited by nobody
	c.close()
	w.awaitCounts("a", 2, 11, 21)
	w.await(`rauta_kernel_request_seconds_bucket{route="a",le="8.589934592"} 2`)
	w.await(`rauta_kernel_request_seconds_bucket{route="a",le="4.294967296"} 1`)
}

// awaiting is a connection of which a request is awaited when the window closes.
func (w *watch) awaiting() *watched {
	w.t.Helper()
	c := w.connect()
	c.exchange(w.registry.Route("a"), 10, 10)
	if c.tap.State != observe.TapAwaiting {
		w.t.Fatal("nothing is awaited")
	}
	return c
}

func TestARequestThatIsAwaitedInOneWindowAndComesInTheNextIsWatchedIfNothingCameBetweenThem(t *testing.T) {
	w := newWatch(t, 1)
	for name, c := range map[string]struct {
		between func(c *watched)
		watched bool
	}{
		"nothing":           {func(*watched) {}, true},
		"a part of it":      {func(c *watched) { c.part(4) }, false},
		"two parts of it":   {func(c *watched) { c.part(4); c.part(4) }, false},
		"whole, and unread": {func(c *watched) { c.part(10) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			conn := w.awaiting()
			w.reopen(func() { c.between(conn) })
			before := monotonic(t)
			rest := 10 - pending(t, conn)
			if rest > 0 {
				conn.part(rest)
			}
			time.Sleep(time.Millisecond)
			conn.receive(10)
			now := monotonic(t)
			wait := w.Read(&conn.tap, now)
			switch {
			case !c.watched && wait != 0:
				t.Errorf("it has waited for %d ns, which nobody can know", wait)
			case c.watched && (wait < int64(time.Millisecond) || wait > now-before):
				t.Errorf("it has waited for %d ns of %d", wait, now-before)
			}
			conn.close()
		})
	}
}

// pending is how much lies unread in the socket.
func pending(t *testing.T, c *watched) int {
	t.Helper()
	n, err := unix.IoctlGetInt(c.fd, unix.SIOCINQ)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A worker has read that a window is open, which closes, and goes on.
func TestARequestAwaitedAsTheWindowClosesIsNotTakenForOneOfTheNext(t *testing.T) {
	w := newWatch(t, 1)
	c := w.connect()
	rt := w.registry.Route("a")
	c.exchange(rt, 10, 10)
	epoch := w.window.open.Load()
	w.reopen(func() {
		w.window.open.Store(epoch) // what the worker has read before
		c.transfer(c.client, c.server, 10)
		c.tap.State = observe.TapIdle
		w.Leaves(&c.tap, c.fd, monotonic(t))
		c.transfer(c.server, c.client, 10)
		w.Left(&c.tap, c.fd, monotonic(t), true, false)
		if c.tap.State != observe.TapAwaiting {
			t.Fatal("the next request is not awaited")
		}
		w.window.open.Store(0)
		c.part(5)
	})
	c.part(5)
	c.receive(10)
	if wait := w.Read(&c.tap, monotonic(t)); wait != 0 {
		t.Fatalf("it has waited for %d ns, which nobody can know", wait)
	}
}

func TestWindowsAreAsMuchOfTheTimeAsTheBudgetAllows(t *testing.T) {
	const took, busy = windowTime, windowBudget * 1e9 // of a process that uses a whole processor
	for _, c := range []struct {
		looks, counted uint64
		perSecond      float64
		whole          bool // the window stays open
	}{
		{0, 0, busy, true}, {1000, 100, busy, true}, {10_000, 2000, busy, false}, {10_000, 2000, 4 * busy, false}, {10_000, 2000, 64 * busy, true},
	} {
		gap := gapFor(took, c.looks, c.counted, c.perSecond)
		if c.whole {
			if gap != 0 {
				t.Errorf("%+v: a gap of %v", c, gap)
			}
			continue
		}
		cost := float64(c.looks*lookCost + c.counted*watchedCost + turnCost)
		if spent := cost / (took + gap).Seconds(); spent > c.perSecond*1.001 || spent < c.perSecond*0.999 {
			t.Errorf("%+v: with a gap of %v it costs %v ns a second", c, gap, spent)
		}
	}
	if gap := gapFor(took, 10_000_000, 0, busy); gap != gapMax {
		t.Errorf("a gap of %v, not of %v at most", gap, gapMax)
	}
}

func TestTheBudgetIsAShareOfWhatTheProcessUsesAndAThousandthOfItsLoops(t *testing.T) {
	for _, c := range []struct {
		used, in time.Duration
		workers  int
		want     float64
	}{
		{time.Second, time.Second, 1, 5_000_000},
		{3 * time.Second, time.Second, 4, 15_000_000},
		{500 * time.Millisecond, 2 * time.Second, 1, 1_250_000},
		{10 * time.Millisecond, time.Second, 1, 1_000_000},
		{0, time.Second, 8, 8_000_000},
	} {
		if got := allowance(c.used, c.in, c.workers); got < c.want*0.999 || got > c.want*1.001 {
			t.Errorf("%+v: %v ns a second", c, got)
		}
	}
	before := processTime()
	for processTime() == before { // it goes on while something is done
	}
}

func TestUnderLoadWindowsOpenAndCloseAndWithoutItOneStaysOpen(t *testing.T) {
	r := newWatch(t, 0)
	w := r.requests.window
	w.length = 5 * time.Millisecond
	w.shared = new(requestsWindow) // of looks at what other processes receive nothing is known
	r.Start()
	time.Sleep(10 * w.length)
	if w.open.Load() != 1 {
		t.Fatal("the first window has closed with nothing to look at")
	}
	load := func() { r.requests.tallies.workers[0].counted.Add(1000) } // as many requests as keep a window shut for long
	opened := map[uint32]bool{}
	until(t, func() bool {
		load()
		opened[w.open.Load()] = true
		return opened[0] && len(opened) > 3
	})
	before := w.seconds()
	until(t, func() bool { return w.open.Load() != 0 && w.seconds() > before })
	last := w.open.Load()
	until(t, func() bool { last = max(last, w.open.Load()); return w.ratio() == 1 })
	time.Sleep(10 * w.length)
	if now := w.open.Load(); now < last || now == 0 {
		t.Errorf("window %d is open, and %d was the last under load", now, last)
	}
}

func TestWithAFixedIntervalTheWindowNeverCloses(t *testing.T) {
	r := newWatch(t, 7)
	w := r.requests.window
	w.length = time.Millisecond
	r.Start()
	for range 20 {
		r.requests.tallies.workers[0].counted.Add(100_000)
		time.Sleep(w.length)
		if w.open.Load() != 1 {
			t.Fatal("it has closed")
		}
	}
}
