//go:build linux

package loop

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestAPeerThatVanishesFromASilentConnectionIsNoticed(t *testing.T) {
	w := startWorker(t, WorkerOptions{})
	accepted := make(chan int, 1)
	l := listen(t, w, ListenerOptions{Addr: loopback}, func(_ *Worker, c *Conn) {
		on, _ := unix.GetsockoptInt(c.FD(), unix.SOL_SOCKET, unix.SO_KEEPALIVE)
		idle, _ := unix.GetsockoptInt(c.FD(), unix.IPPROTO_TCP, unix.TCP_KEEPIDLE)
		accepted <- on * idle
		c.Close()
	})
	dial(t, l.Addr())
	if idle := receive(t, accepted); idle != keepAliveIdle {
		t.Errorf("an accepted connection is probed after %d s, want %d", idle, keepAliveIdle)
	}
	on(t, w, func() {
		c, err := w.Connect(l.Addr(), handlerFunc(func(Events) {}))
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		c.KeepAlive()
		if n, err := unix.GetsockoptInt(c.FD(), unix.IPPROTO_TCP, unix.TCP_KEEPCNT); n != keepAliveProbes {
			t.Errorf("a connected one: %d probes, %v", n, err)
		}
	})
}
