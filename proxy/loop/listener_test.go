//go:build linux

package loop

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAForgottenSecondProcessIsAnErrorThatSaysSo(t *testing.T) {
	// A group of its own stands for the other process: it shares nothing with this one but the kernel.
	other := startWorker(t, WorkerOptions{})
	addr := listen(t, other, ListenerOptions{Addr: loopback}, serveEcho).Addr()
	w := startWorker(t, WorkerOptions{})
	on(t, w, func() {
		_, err := w.Listen(ListenerOptions{Addr: addr}, serveEcho)
		if !errors.Is(err, unix.EADDRINUSE) || !strings.Contains(err.Error(), "another process") {
			t.Errorf("got %v", err)
		}
		l, err := w.Listen(ListenerOptions{Addr: addr, Overlap: true}, serveEcho)
		if err != nil {
			t.Errorf("a permitted overlap: %v", err)
			return
		}
		l.Close()
	})
	if err := ProbeBind(addr); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("probe: %v", err)
	}
}

func TestAnAddressThatIsNotOursIsAnErrorThatSaysSo(t *testing.T) {
	w := startWorker(t, WorkerOptions{})
	on(t, w, func() {
		_, err := w.Listen(ListenerOptions{Addr: netip.MustParseAddrPort("192.0.2.1:80")}, serveEcho)
		if err == nil || !strings.Contains(err.Error(), "not one of this host") {
			t.Errorf("got %v", err)
		}
	})
}

func TestTheSocketIsPlainTCP(t *testing.T) {
	w := startWorker(t, WorkerOptions{})
	l := listen(t, w, ListenerOptions{Addr: loopback}, serveEcho)
	if p, err := unix.GetsockoptInt(l.fd, unix.SOL_SOCKET, unix.SO_PROTOCOL); err != nil || p != unix.IPPROTO_TCP {
		t.Errorf("protocol %d, %v", p, err)
	}
}

// storm connects, exchanges a byte and closes, from several goroutines, until stop; it returns what it saw.
type storm struct {
	stop       atomic.Bool
	wg         sync.WaitGroup
	done       atomic.Int64
	retransmit atomic.Int64
	mu         sync.Mutex
	failures   []error
}

func startStorm(addr netip.AddrPort, clients int) *storm {
	s := &storm{}
	for range clients {
		s.wg.Go(func() {
			for !s.stop.Load() {
				if err := s.once(addr); err != nil {
					s.mu.Lock()
					s.failures = append(s.failures, err)
					s.mu.Unlock()
				}
				s.done.Add(1)
			}
		})
	}
	return s
}

func (s *storm) once(addr netip.AddrPort) error {
	c, err := net.DialTimeout("tcp", addr.String(), giveUp)
	if err != nil {
		return err
	}
	defer c.Close()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	_ = raw.Control(func(fd uintptr) {
		if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			s.retransmit.Add(int64(info.Total_retrans))
		}
	})
	if err := exchange(c); err != nil {
		return fmt.Errorf("after connect: %w", err)
	}
	// RST instead of FIN, so that thousands of connects don't use up the ports.
	return c.(*net.TCPConn).SetLinger(0)
}

// await lets n more connections pass.
func (s *storm) await(n int64) {
	for target := s.done.Load() + n; s.done.Load() < target; {
		unixYield()
	}
}

func unixYield() { _, _ = unix.Poll(nil, 1) }

func TestClosingAListenerUnderAConnectStormLosesNoConnection(t *testing.T) {
	_, listeners := startGroup(t, 4, NewGroup(0), serveEcho)
	s := startStorm(listeners[0].Addr(), 8)
	s.await(200)
	// After 1 has left, the kernel's list is 0, 3, 2: steering away from 3 works only if the list is known.
	for _, i := range []int{1, 3, 0} {
		l := listeners[i]
		closed := make(chan struct{})
		on(t, l.w, func() {
			l.opt.OnClosed = func() { close(closed) }
			l.Close()
		})
		s.await(300)
		receive(t, closed)
		s.await(200)
	}
	s.stop.Store(true)
	s.wg.Wait()
	for _, err := range s.failures {
		t.Error(err)
	}
	s.checkSteered(t)
	t.Logf("%d connections", s.done.Load())
}

func TestSeveralListenersCanCloseAtTheSameTimeAndNewOnesJoin(t *testing.T) {
	workers, listeners := startGroup(t, 4, NewGroup(0), serveEcho)
	addr := listeners[0].Addr()
	s := startStorm(addr, 8)
	s.await(100)
	closed := make(chan struct{}, 2)
	for _, l := range listeners[:2] {
		on(t, l.w, func() {
			l.opt.OnClosed = func() { closed <- struct{}{} }
			l.Close()
		})
	}
	listen(t, workers[0], ListenerOptions{Addr: addr}, serveEcho)
	s.await(300)
	receive(t, closed)
	receive(t, closed)
	s.await(300)
	s.stop.Store(true)
	s.wg.Wait()
	for _, err := range s.failures {
		t.Error(err)
	}
	s.checkSteered(t)
}

// checkSteered: SYNs that reach a closing socket have to be sent again. On a machine that has no time for the workers a few
// are dropped for lack of room in a queue; without steering it is a good part of them.
func (s *storm) checkSteered(t *testing.T) {
	t.Helper()
	if n, done := s.retransmit.Load(), s.done.Load(); n*20 > done {
		t.Errorf("%d SYNs of %d connections had to be sent again: they were not steered away from the closing sockets", n, done)
	}
}

// TestTheLastListenerServesWhatIsQueuedBeforeItCloses fills the queue while the worker is busy.
func TestTheLastListenerServesWhatIsQueuedBeforeItCloses(t *testing.T) {
	w := startWorker(t, WorkerOptions{})
	closed := make(chan struct{})
	l := listen(t, w, ListenerOptions{Addr: loopback, CloseGrace: 50e6, OnClosed: func() { close(closed) }}, serveEcho)
	const queued = 3 * acceptsPerTurnMax
	clients := make([]net.Conn, queued)
	on(t, w, func() {
		for i := range clients {
			clients[i] = dial(t, l.Addr())
		}
		l.Close()
		l.Close()
	})
	receive(t, closed)
	for i, c := range clients {
		if err := exchange(c); err != nil {
			t.Fatalf("connection %d of %d: %v", i, queued, err)
		}
	}
	if c, err := net.DialTimeout("tcp", l.Addr().String(), giveUp); err == nil {
		c.Close()
		t.Error("the address still takes connections")
	}
}

func TestAClosingListenerBeginsNoHandshake(t *testing.T) {
	w := startWorker(t, WorkerOptions{})
	l := listen(t, w, ListenerOptions{Addr: loopback}, serveEcho)
	on(t, w, l.Close)
	client := mustSocket(t)
	defer unix.Close(client)
	if err := unix.Connect(client, sockaddrOf(l.Addr())); err != unix.EINPROGRESS {
		t.Fatalf("connect: %v", err)
	}
	info, err := unix.GetsockoptTCPInfo(client, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		t.Fatal(err)
	}
	if info.State != unix.BPF_TCP_SYN_SENT {
		t.Errorf("the client's socket is in state %d, want SYN-SENT", info.State)
	}
}

func TestAtTheConnectionLimitOthersWaitAndPressureIsCalled(t *testing.T) {
	var pressure atomic.Int32
	var open []*Conn
	group := NewGroup(3)
	w := startWorker(t, WorkerOptions{Group: group, OnPressure: func(*Worker) { pressure.Add(1) }})
	l := listen(t, w, ListenerOptions{Addr: loopback}, func(w *Worker, c *Conn) {
		open = append(open, c)
		serveEcho(w, c)
	})
	var clients []net.Conn
	for range 4 {
		clients = append(clients, dial(t, l.Addr()))
	}
	for _, c := range clients[:3] {
		if err := exchange(c); err != nil {
			t.Fatal(err)
		}
	}
	for w.Stats().ListenerPauses.Load() == 0 {
		unixYield()
	}
	on(t, w, func() {
		if len(open) != 3 || group.Connections() != 3 || pressure.Load() == 0 {
			t.Errorf("%d accepted, %d counted, %d pressure calls", len(open), group.Connections(), pressure.Load())
		}
		open[0].Close()
	})
	if err := exchange(clients[3]); err != nil {
		t.Errorf("after room was made: %v", err)
	}
}

func TestPressureThatClosesAConnectionLetsTheNextOneIn(t *testing.T) {
	var open []*Conn
	w := startWorker(t, WorkerOptions{ConnectionsMax: 2, OnPressure: func(*Worker) {
		open[0].Close()
		open = open[1:]
	}})
	l := listen(t, w, ListenerOptions{Addr: loopback}, func(w *Worker, c *Conn) {
		open = append(open, c)
		serveEcho(w, c)
	})
	for i := range 10 {
		if err := exchange(dial(t, l.Addr())); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
	}
}

// TestRoomMadeByAnotherWorkerIsNoticed: the limit is the group's, the held listener another worker's.
func TestRoomMadeByAnotherWorkerIsNoticed(t *testing.T) {
	group := NewGroup(2)
	var mu sync.Mutex
	owners := map[*Worker][]*Conn{}
	_, listeners := startGroup(t, 2, group, func(w *Worker, c *Conn) {
		mu.Lock()
		owners[w] = append(owners[w], c)
		mu.Unlock()
		serveEcho(w, c)
	})
	addr := listeners[0].Addr()
	for range 2 {
		if err := exchange(dial(t, addr)); err != nil {
			t.Fatal(err)
		}
	}
	waiting := dial(t, addr)
	paused := func() *Worker {
		for _, l := range listeners {
			if l.w.Stats().ListenerPauses.Load() > 0 {
				return l.w
			}
		}
		return nil
	}
	for paused() == nil {
		unixYield()
	}
	mu.Lock()
	held := maps.Clone(owners)
	mu.Unlock()
	for w, conns := range held {
		if w != paused() {
			on(t, w, conns[0].Close)
		}
	}
	if err := exchange(waiting); err != nil {
		t.Error(err)
	}
}

// TestIdleConnectionsOfAnotherWorkerMakeRoom: whoever may not accept can have nothing to close itself, and connections that
// were busy when it asked may be idle later.
func TestIdleConnectionsOfAnotherWorkerMakeRoom(t *testing.T) {
	group := NewGroup(2)
	var mu sync.Mutex
	conns, idle := map[*Worker]*Conn{}, map[*Worker]bool{}
	accept := func(w *Worker, c *Conn) {
		mu.Lock()
		conns[w] = c
		mu.Unlock()
		serveEcho(w, c)
	}
	var listeners []*Listener
	for range 2 {
		w := startWorker(t, WorkerOptions{Group: group, OnPressure: func(w *Worker) {
			mu.Lock()
			defer mu.Unlock()
			if idle[w] {
				idle[w] = false
				conns[w].Close()
			}
		}})
		listeners = append(listeners, listen(t, w, ListenerOptions{Addr: loopback}, accept))
	}
	for range 2 {
		if err := exchange(dial(t, listeners[0].Addr())); err != nil {
			t.Fatal(err)
		}
	}
	waiting := dial(t, listeners[0].Addr())
	for listeners[0].w.Stats().ListenerPauses.Load() == 0 {
		unixYield()
	}
	mu.Lock()
	idle[listeners[1].w] = true
	mu.Unlock()
	if err := exchange(waiting); err != nil {
		t.Error(err)
	}
}

func TestRunningOutOfDescriptorsPausesAcceptingInsteadOfSpinning(t *testing.T) {
	w := startWorker(t, WorkerOptions{})
	l := listen(t, w, ListenerOptions{Addr: loopback}, serveEcho)
	if err := exchange(dial(t, l.Addr())); err != nil {
		t.Fatal(err)
	}
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	client := mustSocket(t)
	defer unix.Close(client)
	free, err := unix.Dup(client)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(free)
	// From here on the lowest free number is at the limit.
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(free), Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	restore := func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &before) }
	defer restore()
	if err := unix.Connect(client, sockaddrOf(l.Addr())); err != nil && err != unix.EINPROGRESS {
		t.Fatal(err)
	}
	stats := w.Stats()
	for stats.AcceptErrors.Load() < 3 {
		unixYield()
	}
	on(t, w, func() {
		if w.counts.acceptErrors > w.counts.pauses {
			t.Errorf("%d failures of accept, %d pauses", w.counts.acceptErrors, w.counts.pauses)
		}
	})
	restore()
	for stats.Accepts.Load() < 2 {
		unixYield()
	}
}
