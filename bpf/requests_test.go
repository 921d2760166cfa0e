//go:build linux && (amd64 || arm64)

package bpf

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"rauta.io/rauta/proxy/observe"
)

// watch is a rig whose requests are watched, as one worker would have it.
type watch struct {
	*rig
	*sampler
	l *net.TCPListener
}

func newWatch(t *testing.T, every Sampling) *watch {
	t.Helper()
	return newWatchWith(t, every, observe.Options{})
}

func newWatchWith(t *testing.T, every Sampling, opt observe.Options) *watch {
	t.Helper()
	r := newRigOn(t, load, opt)
	tier := r.WatchRequests(1, every, Tier{Name: TierFull})
	if tier.Name != TierFull {
		t.Skipf("the kernel does not watch requests here: %s", tier.Reason)
	}
	return &watch{rig: r, sampler: r.Requests(0).(*sampler), l: r.listen(false)}
}

// watched is a connection with both ends; a test plays the part of a worker.
type watched struct {
	w              *watch
	client, server *net.TCPConn
	tap            observe.RequestTap
	fd             int
	buffer         []byte
}

// connect makes a connection that is watched from before its first request.
func (w *watch) connect() *watched {
	w.t.Helper()
	c := &watched{w: w, client: w.mustDial(w.l.Addr().String(), nil), server: w.rig.accept(w.l), buffer: make([]byte, 1<<16)}
	c.fd = fdOf(w.t, c.server)
	now := monotonic(w.t)
	w.Open(&c.tap, c.fd, now, now)
	return c
}

// exchange sends a request and its answer of so many bytes; it returns how long the request has waited.
func (c *watched) exchange(rt *observe.Route, request, response int) int64 {
	c.w.t.Helper()
	c.transfer(c.client, c.server, request)
	wait := int64(0)
	if c.tap.State == observe.TapAwaiting {
		wait = c.w.Read(&c.tap, monotonic(c.w.t))
	}
	c.tap.Route = rt
	c.w.Leaves(&c.tap, c.fd, monotonic(c.w.t))
	c.tap.Sent += uint64(response)
	if _, err := c.server.Write(c.buffer[:response]); err != nil {
		c.w.t.Fatal(err)
	}
	c.w.Left(&c.tap, c.fd, monotonic(c.w.t), true, false)
	if _, err := io.ReadFull(c.client, c.buffer[:response]); err != nil {
		c.w.t.Fatal(err)
	}
	return wait
}

func (c *watched) transfer(from, to *net.TCPConn, n int) {
	c.w.t.Helper()
	if from == c.server {
		c.tap.Sent += uint64(n)
	} else {
		c.tap.Received += uint64(n)
	}
	if _, err := from.Write(c.buffer[:n]); err != nil {
		c.w.t.Fatal(err)
	}
	if _, err := io.ReadFull(to, c.buffer[:n]); err != nil {
		c.w.t.Fatal(err)
	}
}

// part sends a part of a request, which stays unread.
func (c *watched) part(n int) {
	c.w.t.Helper()
	before, err := unix.IoctlGetInt(c.fd, unix.SIOCINQ)
	if err != nil {
		c.w.t.Fatal(err)
	}
	if _, err := c.client.Write(c.buffer[:n]); err != nil {
		c.w.t.Fatal(err)
	}
	until(c.w.t, func() bool { now, err := unix.IoctlGetInt(c.fd, unix.SIOCINQ); return err == nil && now == before+n })
}

// receive reads what parts have brought.
func (c *watched) receive(n int) {
	c.w.t.Helper()
	if _, err := io.ReadFull(c.server, c.buffer[:n]); err != nil {
		c.w.t.Fatal(err)
	}
	c.tap.Received += uint64(n)
}

// close ends the connection as a worker does.
func (c *watched) close() {
	c.server.Close()
	c.w.Release(&c.tap)
	c.client.Close()
}

func (w *watch) awaitCounts(route string, requests, in, out int) {
	w.t.Helper()
	w.await(fmt.Sprintf(`rauta_kernel_request_seconds_count{route="%s"} %d`, route, requests))
	w.await(fmt.Sprintf(`rauta_kernel_request_bytes_total{route="%s",direction="received"} %d`, route, in))
	w.await(fmt.Sprintf(`rauta_kernel_request_bytes_total{route="%s",direction="sent"} %d`, route, out))
}

func TestEveryRequestIsCountedWithItsBytes(t *testing.T) {
	w := newWatch(t, 1)
	a, b := w.registry.Route("a"), w.registry.Route("b")
	const conns, each = 20, 500
	for range conns {
		c := w.connect()
		for i := range each {
			rt := a
			if i%2 == 1 {
				rt = b
			}
			if wait := c.exchange(rt, 100+i%7, 1000+i%11); wait <= 0 {
				t.Fatalf("request %d has no wait", i)
			}
		}
		c.close()
	}
	in, out := [2]int{}, [2]int{}
	for i := range each {
		in[i%2] += conns * (100 + i%7)
		out[i%2] += conns * (1000 + i%11)
	}
	w.awaitCounts("a", conns*each/2, in[0], out[0])
	w.awaitCounts("b", conns*each/2, in[1], out[1])
	if n := w.rig.failures.Load(); n > 0 {
		t.Errorf("%d calls failed", n)
	}
}

func TestSocketsThatAreNotWatchedLeaveTheTalliesAlone(t *testing.T) {
	w := newWatch(t, 1)
	for range 20 {
		c := &watched{w: w, client: w.mustDial(w.l.Addr().String(), nil), server: w.rig.accept(w.l), buffer: make([]byte, 1<<16)}
		c.transfer(c.client, c.server, 10)
		c.transfer(c.server, c.client, 10)
		c.client.Close()
		c.server.Close()
	}
	if text := w.metrics(); strings.Contains(text, "\nrauta_kernel_request_seconds_count") {
		t.Fatalf("something was counted:\n%s", text)
	}
	for i, s := range w.r.slots.all[:w.r.slots.mapped.Load()] {
		if s.Arrived != 0 || s.Generation != 0 {
			t.Fatalf("slot %d: %+v", i, s)
		}
	}
}

func TestASlotIsGivenBackAndItsNextConnectionIsAnother(t *testing.T) {
	w := newWatch(t, 1)
	rt := w.registry.Route("a")
	first := w.connect()
	first.exchange(rt, 10, 10)
	slot := first.tap.Slot
	stays := first.server // its socket outlives its slot, as one does whose connection goes on as HTTP/2
	w.Release(&first.tap)
	if len(w.free) != 1 || first.tap != (observe.RequestTap{}) {
		t.Fatalf("%d slots were given back, the connection has %+v", len(w.free), first.tap)
	}
	second := w.connect()
	if second.tap.Slot != slot {
		t.Fatalf("slot %d instead of %d", second.tap.Slot, slot)
	}
	stamped := w.r.slots.all[slot].Stamped
	first.transfer(first.client, stays, 1000)
	if s := &w.r.slots.all[slot]; s.Stamped != stamped {
		t.Fatal("bytes of the former connection were taken for the present one's")
	}
	for range 10 {
		second.exchange(rt, 20, 30)
	}
	second.close()
	w.awaitCounts("a", 11, 210, 310)
}

// onDescriptor makes a connection that is watched under another descriptor of its socket: the lowest that is free from so
// many on, of which nothing else in the process has one.
func (w *watch) onDescriptor(from int) *watched {
	w.t.Helper()
	c := &watched{w: w, client: w.mustDial(w.l.Addr().String(), nil), server: w.rig.accept(w.l), buffer: make([]byte, 1<<16)}
	var err error
	if c.fd, err = unix.FcntlInt(uintptr(fdOf(w.t, c.server)), unix.F_DUPFD_CLOEXEC, from); err != nil {
		w.t.Fatal(err)
	}
	now := monotonic(w.t)
	w.Open(&c.tap, c.fd, now, now)
	return c
}

func TestADescriptorThatIsUsedAgainIsAnotherConnection(t *testing.T) {
	w := newWatch(t, 1)
	const high = 700
	first := w.onDescriptor(high)
	for range 5 {
		first.exchange(w.registry.Route("a"), 10, 20)
	}
	unix.Close(first.fd)
	first.close()
	second := w.onDescriptor(high)
	if second.fd != first.fd {
		t.Fatalf("the second connection has descriptor %d, not %d", second.fd, first.fd)
	}
	for range 7 {
		if wait := second.exchange(w.registry.Route("b"), 30, 40); wait <= 0 {
			t.Error("a request is not watched")
		}
	}
	unix.Close(second.fd)
	second.close()
	w.awaitCounts("a", 5, 50, 100)
	w.awaitCounts("b", 7, 210, 280)
}

func TestWatchedConnectionsThatComeAndGoLeaveNothingBehind(t *testing.T) {
	w := newWatch(t, 1)
	rounds := 100_000 // more than there are slots
	if testing.Short() {
		rounds = 500
	}
	rt := w.registry.Route("a")
	buffer := make([]byte, 1<<10)
	for range rounds {
		client, err := net.Dial("tcp", w.l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		server, err := w.l.AcceptTCP()
		if err != nil {
			t.Fatal(err)
		}
		c := &watched{w: w, client: client.(*net.TCPConn), server: server, fd: fdOf(t, server), buffer: buffer}
		now := monotonic(t)
		w.Open(&c.tap, c.fd, now, now)
		c.exchange(rt, 10, 20)
		_ = c.client.SetLinger(0) // no TIME_WAIT, so that ports do not run out
		c.client.Close()
		_, _ = c.server.Read(buffer) // the reset, by which the kernel has counted
		c.server.Close()
		w.Release(&c.tap)
	}
	w.awaitCounts("a", rounds, 10*rounds, 20*rounds)
	if n := w.rig.failures.Load(); n > 0 || len(w.free) != 1 || w.fresh != 2 {
		t.Errorf("%d calls failed, %d slots were given back and those from %d on are fresh", n, len(w.free), w.fresh)
	}
	for i, s := range w.r.slots.all[:w.r.slots.mapped.Load()] {
		if s.Awaited-s.Stamped > 1 { // the one after the last was awaited, too
			t.Fatalf("slot %d: %+v", i, s)
		}
	}
	stamps := w.stamps()
	until(t, func() bool { return stamps() == 0 })
}

func TestARequestThatCameWithItsConnectionIsCountedFromThere(t *testing.T) {
	w := newWatch(t, 1)
	c := &watched{w: w, client: w.mustDial(w.l.Addr().String(), nil), server: w.rig.accept(w.l), buffer: make([]byte, 1<<16)}
	c.fd = fdOf(t, c.server)
	c.part(50) // before it is watched
	const waited = 7_000_000
	now := monotonic(t)
	w.Open(&c.tap, c.fd, now, now-waited)
	c.receive(50)
	if wait := w.Read(&c.tap, now); wait != waited {
		t.Fatalf("it has waited for %d ns, not %d", wait, waited)
	}
	c.tap.Route = w.registry.Route("a")
	w.Leaves(&c.tap, c.fd, now)
	c.transfer(c.server, c.client, 70)
	w.Left(&c.tap, c.fd, now, true, false)
	c.close()
	w.awaitCounts("a", 1, 50, 70)
	w.await(`rauta_kernel_request_seconds_sum{route="a"} 0.007`)
}

func TestAResponseThatLeavesInPartsIsCountedWhenTheLastHasLeft(t *testing.T) {
	w := newWatch(t, 1)
	c := w.connect()
	c.transfer(c.client, c.server, 10)
	start := monotonic(t)
	w.Read(&c.tap, start)
	c.tap.Route = w.registry.Route("a")
	for i := range 3 {
		w.Leaves(&c.tap, c.fd, start+int64(i)*1e9)
		c.transfer(c.server, c.client, 100)
		w.Left(&c.tap, c.fd, start+int64(i)*1e9, i == 2, false)
	}
	c.exchange(w.registry.Route("b"), 10, 10)
	c.close()
	w.awaitCounts("a", 1, 10, 300)
	w.awaitCounts("b", 1, 10, 10)
	w.await(`rauta_kernel_request_seconds_bucket{route="a",le="2.147483648"} 1`)
	w.await(`rauta_kernel_request_seconds_bucket{route="a",le="1.073741824"} 0`)
}

func TestARequestThatIsAheadOfTheResponseSpoilsNoCount(t *testing.T) {
	for _, c := range []struct {
		name string
		read bool // before the response has left
		// The first request is counted where its bytes are not mixed with those of the next.
		requests, in, out int
	}{{"read", true, 1, 50, 60}, {"unread", false, 2, 60, 90}} {
		t.Run(c.name, func(t *testing.T) {
			w := newWatch(t, 1)
			rt := w.registry.Route("a")
			conn := w.connect()
			conn.transfer(conn.client, conn.server, 10)
			w.Read(&conn.tap, monotonic(t))
			if _, err := conn.client.Write(make([]byte, 20)); err != nil { // the next one
				t.Fatal(err)
			}
			until(t, func() bool { return unread(conn.fd) })
			if c.read {
				conn.receive(20)
			}
			conn.tap.Route = rt
			conn.transfer(conn.server, conn.client, 30)
			w.Left(&conn.tap, conn.fd, monotonic(t), true, c.read) // a response that was not announced
			if !c.read {
				if conn.tap.State != observe.TapAwaiting {
					t.Fatal("the next one is not awaited, although nobody knows yet that it is there")
				}
				conn.receive(20)
				if wait := w.Read(&conn.tap, monotonic(t)); wait != 0 {
					t.Fatalf("it has waited for %d ns, which nobody can know", wait)
				}
			}
			conn.tap.Route = rt
			w.Leaves(&conn.tap, conn.fd, monotonic(t))
			conn.transfer(conn.server, conn.client, 40)
			w.Left(&conn.tap, conn.fd, monotonic(t), true, false)
			conn.exchange(rt, 50, 60)
			conn.close()
			w.awaitCounts("a", c.requests, c.in, c.out)
		})
	}
}

// TestARequestOfWhichAPartIsOlderIsNotWatched: the kernel sees the rest of it arrive when it is awaited.
func TestARequestOfWhichAPartIsOlderIsNotWatched(t *testing.T) {
	w := newWatch(t, 1)
	c := w.connect()
	c.exchange(w.registry.Route("a"), 10, 10)
	c.transfer(c.client, c.server, 10)
	w.Read(&c.tap, monotonic(t))
	c.part(5)
	c.tap.Route = w.registry.Route("a")
	w.Leaves(&c.tap, c.fd, monotonic(t))
	c.transfer(c.server, c.client, 10)
	w.Left(&c.tap, c.fd, monotonic(t), true, false)
	c.part(5)
	c.receive(10)
	if wait := w.Read(&c.tap, monotonic(t)); wait != 0 {
		t.Fatalf("it has waited for %d ns, which nobody can know", wait)
	}
}

func TestOneInSoManyRequestsIsWatchedFirstOnesAsOftenAsOthers(t *testing.T) {
	const every, conns, each = 5, 20, 3
	w := newWatch(t, every)
	firsts := 0
	for range conns {
		c := w.connect()
		for i := range each {
			if wait := c.exchange(w.registry.Route("a"), 10, 10); wait > 0 && i == 0 {
				firsts++
			}
		}
		c.close()
	}
	if firsts != conns/every {
		t.Errorf("%d first requests are watched of %d", firsts, conns)
	}
	w.awaitCounts("a", conns*each/every, 10*conns*each/every, 10*conns*each/every)
}

func TestTheTallyOfAForgottenRouteGoesToAnotherWithoutItsRequests(t *testing.T) {
	now := time.Unix(0, 0)
	w := newWatchWith(t, 1, observe.Options{Now: func() time.Time { return now }})
	old := w.registry.Route("old")
	c := w.connect()
	c.exchange(old, 10, 20)
	w.registry.Retain(nil, nil)
	now = now.Add(time.Hour)
	w.metrics() // forgets it
	w.r.tallies.reclaim()
	w.registry.Retain(nil, nil)
	c.exchange(old, 30, 40)
	w.r.tallies.reclaim()
	next := w.registry.Route("new")
	c2 := w.connect()
	c2.exchange(next, 1, 2)
	if number := w.r.tallies.of(next); number != tallyFirst {
		t.Fatalf("the new route has tally %d", number)
	}
	c.close()
	c2.close()
	w.awaitCounts("new", 1, 1, 2)
	w.awaitCounts("other", 1, 30, 40)
}

func TestATallyIsGivenAwayOnlyAfterWhoMayStillCountThere(t *testing.T) {
	now := time.Unix(0, 0)
	registry := observe.NewRegistry(observe.Options{Now: func() time.Time { return now }})
	tallies := newTallies(registry, 1)
	old := registry.Route("old")
	number := tallies.of(old)
	registry.Retain(nil, nil)
	now = now.Add(time.Hour)
	registry.WritePrometheus(io.Discard) // forgets it
	tallies.reclaim()
	if got := tallies.of(registry.Route("next")); got == number {
		t.Fatal("its number is that of another route at once")
	}
	tallies.workers[0].add(number, 1, 2, 3) // by one that has looked for it before
	tallies.reclaim()
	last := registry.Route("last")
	if got := tallies.of(last); got != number {
		t.Fatalf("number %d, not %d", got, number)
	}
	tallies.fold()
	if got := tallies.totals[number]; got.any() || got.received != 0 {
		t.Errorf("the next route has what was counted for the former: %+v", got)
	}
}

func TestWhoReadsTheMetricsSlowlyHoldsUpNoWorker(t *testing.T) {
	registry := observe.NewRegistry(observe.Options{})
	tallies := newTallies(registry, 1)
	const routes = 3 * talliesInChunk
	for i := range routes {
		tallies.workers[0].add(tallies.of(registry.Route(fmt.Sprint("r", i))), 1, 2, 3)
	}
	seen := 0
	tallies.each(func(c *counts, _ observe.Label) { // as one that waits for its client
		if !tallies.mu.TryLock() {
			t.Fatal("a worker that meets a new route would wait")
		}
		tallies.mu.Unlock()
		if seen++; c.received != 2 {
			t.Errorf("%d bytes received", c.received)
		}
	})
	if seen != routes {
		t.Errorf("%d routes of %d", seen, routes)
	}
}

func TestEveryRouteHasATallyOfItsOwnAndChunksComeAsTheyAreNeeded(t *testing.T) {
	w := newWatch(t, 1)
	c := w.connect()
	const routes = 300 // more than two chunks
	for i := range routes {
		c.exchange(w.registry.Route(fmt.Sprint("r", i)), 5, 6)
	}
	c.close()
	for _, i := range []int{0, 125, 126, 254, 299} {
		w.awaitCounts(fmt.Sprint("r", i), 1, 5, 6)
	}
	chunks := 0
	for i := range w.counted.chunks {
		if w.counted.chunks[i].Load() != nil {
			chunks++
		}
	}
	if chunks != 3 {
		t.Errorf("%d chunks for %d routes", chunks, routes)
	}
}

// TestTenThousandRoutesOnSixtyFourLoopsTakeWhatIsSaid: docs/operations.md says 78 MiB.
func TestTenThousandRoutesOnSixtyFourLoopsTakeWhatIsSaid(t *testing.T) {
	const routes, loops, said = 10_000, 64, 79 << 20
	registry := observe.NewRegistry(observe.Options{SeriesRoutesMax: 2 * routes})
	tallies := newTallies(registry, 1)
	for i := range routes {
		tallies.workers[0].add(tallies.of(registry.Route(fmt.Sprint("r", i))), 1, 0, 0)
	}
	bytes := uintptr(0)
	for i := range tallies.workers[0].chunks {
		if chunk := tallies.workers[0].chunks[i].Load(); chunk != nil {
			bytes += unsafe.Sizeof(*chunk)
		}
	}
	if bytes *= loops; bytes > said || bytes < said/2 {
		t.Errorf("they take %d bytes", bytes)
	}
}

func TestRoutesBeyondTheTalliesAreCountedTogether(t *testing.T) {
	const routes = talliesInChunk * chunksMax
	registry := observe.NewRegistry(observe.Options{SeriesRoutesMax: 2 * routes})
	tallies := newTallies(registry, 1)
	for i := range routes + 10 {
		number := tallies.of(registry.Route(fmt.Sprint("r", i)))
		tallies.workers[0].add(number, 1, 0, 0)
		if other := number == tallyOther; other != (i >= routes-tallyFirst) {
			t.Fatalf("route %d has tally %d", i, number)
		}
	}
	tallies.fold()
	if n := tallies.totals[tallyOther].buckets[0]; n != 10+tallyFirst {
		t.Errorf("%d requests are counted for others", n)
	}
}

func TestSlotsAreMappedWhenTheyAreNeeded(t *testing.T) {
	w := newWatch(t, 1)
	rt := w.registry.Route("a")
	for _, slot := range []uint32{slotsPerMapping - 1, slotsPerMapping, uint32(len(w.r.slots.all)) - 1} {
		w.fresh = slot
		c := w.connect()
		c.exchange(rt, 10, 20)
		if n := w.r.slots.mapped.Load(); c.tap.Slot != slot || n != (slot/slotsPerMapping+1)*slotsPerMapping {
			t.Fatalf("slot %d of %d that are mapped, want slot %d", c.tap.Slot, n, slot)
		}
		c.client.Close()
		c.server.Close()
	}
	w.awaitCounts("a", 3, 30, 60)
}

func TestBeyondTheSlotsRequestsAreServedWithoutBeingWatched(t *testing.T) {
	w := newWatch(t, 1)
	w.fresh = uint32(len(w.r.slots.all))
	c := w.connect()
	if wait := c.exchange(w.registry.Route("a"), 10, 10); wait != 0 || c.tap.Slot != 0 {
		t.Fatalf("it has waited for %d ns, in slot %d", wait, c.tap.Slot)
	}
	c.close()
}

func TestAWatchedRequestAllocatesNothing(t *testing.T) {
	w := newWatch(t, 1)
	c := w.connect()
	rt := w.registry.Route("a")
	c.exchange(rt, 10, 10)
	now := monotonic(t)
	if n := testing.AllocsPerRun(100, func() {
		w.Read(&c.tap, now)
		c.tap.State, c.tap.Route = observe.TapUnderWay, rt // nothing has come
		w.Leaves(&c.tap, c.fd, now)
		w.Left(&c.tap, c.fd, now, true, false)
	}); n > 0 {
		t.Fatalf("%v allocations", n)
	}
}
