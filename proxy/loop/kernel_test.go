//go:build linux

package loop

import (
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"rauta.io/rauta/proxy/observe"
)

// kernelSpy notes in which state it is told of sockets.
type kernelSpy struct {
	mu        sync.Mutex
	listening []int // what SO_ACCEPTCONN says
	connected []bool
	endpoints []*observe.Endpoint
	queued    chan int64
}

func (k *kernelSpy) Listening(fd int) {
	accepts, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.listening = append(k.listening, accepts)
}

func (k *kernelSpy) Connecting(fd int, e *observe.Endpoint) {
	_, err := unix.Getpeername(fd)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.connected, k.endpoints = append(k.connected, err == nil), append(k.endpoints, e)
}

func (k *kernelSpy) Accepted(int) int64 { return 1 }

func (k *kernelSpy) Requests(int) observe.Requests { return nil }

func (k *kernelSpy) WhenThere(func()) {}

func (k *kernelSpy) Found(int, bool, *observe.Endpoint, int64) {}

func (k *kernelSpy) Queued(ns int64) { k.queued <- ns }

func TestTheKernelIsToldOfSocketsBeforeAnythingHappensOnThem(t *testing.T) {
	k := &kernelSpy{queued: make(chan int64, 1)}
	w := startWorker(t, WorkerOptions{Kernel: k})
	l := listen(t, w, ListenerOptions{Addr: loopback}, serveEcho)
	e := observe.NewRegistry(observe.Options{}).Endpoint("c", "e")
	var err error
	on(t, w, func() { _, err = w.ConnectTo(l.Addr(), e, handlerFunc(func(Events) {})) })
	if err != nil {
		t.Fatal(err)
	}
	if ns := receive(t, k.queued); ns <= 0 {
		t.Errorf("a connection whose handshake was over at time 1 has waited for %d ns", ns)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.listening) != 1 || k.listening[0] != 0 {
		t.Errorf("told of listeners: %v", k.listening)
	}
	if len(k.connected) != 1 || k.connected[0] || k.endpoints[0] != e {
		t.Errorf("told of connects: %v to %v", k.connected, k.endpoints)
	}
}
