//go:build linux

package loop

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// echoUDP sends datagrams back from where they came, unless they say panic.
type echoUDP struct {
	w *Worker
	s *UDPSocket
}

func (e *echoUDP) OnEvent(Events) {
	for {
		n, st := e.s.Receive()
		if st != OK {
			return
		}
		for i := range n {
			if string(e.w.Datagram(i)) == "panic" {
				panic("as asked for")
			}
			remote, local := e.s.Route(i)
			e.s.ForwardTo(i, i+1, remote, local)
		}
	}
}

func listenUDP(t *testing.T, w *Worker, addr netip.AddrPort) netip.AddrPort {
	t.Helper()
	var bound netip.AddrPort
	on(t, w, func() {
		e := &echoUDP{w: w}
		s, err := w.ListenUDP(addr, e)
		if err != nil {
			t.Error(err)
			return
		}
		e.s = s
		bound, err = localAddr(s.conn.fd)
		if err != nil {
			t.Error(err)
		}
	})
	if t.Failed() {
		t.FailNow()
	}
	return bound
}

func dialUDP(t *testing.T, addr netip.AddrPort) *net.UDPConn {
	t.Helper()
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(addr))
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(giveUp))
	t.Cleanup(func() { c.Close() })
	return c
}

// TestADatagramIsAnsweredFromTheAddressThatItWasSentTo: a connected client does not even see an answer from another one.
func TestADatagramIsAnsweredFromTheAddressThatItWasSentTo(t *testing.T) {
	for listen, targets := range map[string][]string{
		"127.0.0.1:0": {"127.0.0.1"}, "0.0.0.0:0": {"127.0.0.1", "127.0.0.2"}, "[::]:0": {"127.0.0.1", "127.0.0.3", "::1"},
	} {
		w := startWorker(t, WorkerOptions{})
		bound := listenUDP(t, w, netip.MustParseAddrPort(listen))
		for _, target := range targets {
			c := dialUDP(t, netip.AddrPortFrom(netip.MustParseAddr(target), bound.Port()))
			for _, message := range [][]byte{[]byte("x"), {}, bytes.Repeat([]byte("y"), 60_000)} {
				if _, err := c.Write(message); err != nil {
					t.Fatal(err)
				}
				got := make([]byte, 64<<10)
				n, err := c.Read(got)
				if err != nil || !bytes.Equal(got[:n], message) {
					t.Errorf("%s by way of %s: %d of %d bytes, %v", listen, target, n, len(message), err)
				}
			}
		}
	}
}

func TestManyDatagramsAtOnceAllArrive(t *testing.T) {
	w := startWorker(t, WorkerOptions{})
	bound := listenUDP(t, w, loopback)
	var wait sync.WaitGroup
	for i := range 20 {
		c := dialUDP(t, bound)
		wait.Go(func() {
			const burst = 10
			for j := range burst {
				fmt.Fprintf(c, "%d-%d", i, j)
			}
			buf := make([]byte, 100)
			for j := range burst {
				if n, err := c.Read(buf); err != nil || string(buf[:n]) != fmt.Sprintf("%d-%d", i, j) {
					t.Errorf("%q, %v, want %d-%d", buf[:n], err, i, j)
					return
				}
			}
		})
	}
	wait.Wait()
}

// TestWhatTheKernelDropsIsCounted: more comes than the receive buffer holds while the worker does something else.
func TestWhatTheKernelDropsIsCounted(t *testing.T) {
	w := startWorker(t, WorkerOptions{})
	received, overflows := 0, uint32(0)
	var s *UDPSocket
	var bound netip.AddrPort
	on(t, w, func() {
		var err error
		s, err = w.ListenUDP(loopback, handlerFunc(func(Events) {
			for {
				n, st := s.Receive()
				if st != OK {
					return
				}
				received, overflows = received+n, s.Overflows()
			}
		}))
		if err != nil {
			t.Error(err)
			return
		}
		_ = unix.SetsockoptInt(s.conn.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 64<<10)
		bound, _ = localAddr(s.conn.fd)
	})
	c := dialUDP(t, bound)
	const sent = 2000
	on(t, w, func() { // nothing is received meanwhile
		for range sent {
			c.Write(make([]byte, 1000))
		}
	})
	for deadline := time.Now().Add(giveUp); ; {
		c.Write([]byte("one more, which tells"))
		told := uint32(0)
		on(t, w, func() { told = overflows })
		if told > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no overflow was told")
		}
	}
	on(t, w, func() {
		if received+int(overflows) < sent {
			t.Errorf("%d received and %d dropped of %d", received, overflows, sent)
		}
	})
}

func TestASocketThatManyShareOutlivesAPanic(t *testing.T) {
	panics := make(chan any, 10)
	w := startWorker(t, WorkerOptions{OnPanic: func(v any, _ []byte) { panics <- v }})
	bound := listenUDP(t, w, loopback)
	c := dialUDP(t, bound)
	for range 3 {
		fmt.Fprint(c, "panic")
		<-panics
		fmt.Fprint(c, "x")
		if _, err := c.Read(make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestThatNobodyListensIsToldByTheNextCall(t *testing.T) {
	w := startWorker(t, WorkerOptions{})
	bound := listenUDP(t, w, loopback)
	gone := dialUDP(t, bound)
	addr := gone.LocalAddr().(*net.UDPAddr).AddrPort()
	gone.Close()
	failed := make(chan error, 1)
	on(t, w, func() {
		var s *UDPSocket
		s, err := w.ConnectUDP(addr, handlerFunc(func(Events) {
			if _, st := s.Receive(); st == Failed {
				failed <- s.Conn().Err()
				s.Close()
			}
		}))
		if err != nil {
			t.Error(err)
			return
		}
		w.datagrams.data[0] = w.datagrams.buffers[:1]
		if n, st := s.Forward(0, 1); n != 1 || st != OK {
			t.Errorf("sent %d, %v", n, st)
		}
	})
	select {
	case err := <-failed:
		if err != unix.ECONNREFUSED {
			t.Errorf("%v", err)
		}
	case <-time.After(giveUp):
		t.Error("nothing was told")
	}
}

func TestAUDPPortThatSomebodyHasIsFoundTaken(t *testing.T) {
	w := startWorker(t, WorkerOptions{})
	bound := listenUDP(t, w, loopback)
	if err := ProbeBindUDP(bound); err == nil {
		t.Error("the port seems to be free")
	}
	for range 50 { // a connection of somebody else may have the number
		other, err := net.Listen("tcp", bound.String())
		if err == nil {
			other.Close()
			return
		}
		bound = listenUDP(t, w, loopback)
	}
	t.Error("TCP never has the port that UDP has")
}
