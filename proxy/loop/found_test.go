//go:build linux

package loop

import (
	"sync"
	"sync/atomic"
	"testing"

	"rauta.io/rauta/proxy/observe"
)

// lateKernel comes when there is called.
type lateKernel struct {
	kernelSpy
	there chan func()
	told  chan struct{} // for each call of Found
	come  atomic.Bool
	joins joins

	mu    sync.Mutex
	found map[int]foundSocket // by descriptor
	twice bool
}

type foundSocket struct {
	accepted bool
	endpoint *observe.Endpoint
	since    int64
}

func (k *lateKernel) Accepted(int) int64 { return 0 }

func (k *lateKernel) WhenThere(f func()) { k.there <- f }

func (k *lateKernel) Found(fd int, accepted bool, e *observe.Endpoint, since int64) {
	if !k.come.Load() {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	_, known := k.found[fd]
	k.twice = k.twice || known
	k.found[fd] = foundSocket{accepted, e, since}
	k.told <- struct{}{}
}

func (k *lateKernel) Requests(int) observe.Requests {
	if k.come.Load() {
		return &k.joins
	}
	return nil
}

// joins counts connections whose requests are watched from their middle on.
type joins struct {
	observe.Requests
	n atomic.Int64
}

func (j *joins) Join(t *observe.RequestTap) {
	t.State = observe.TapIdle
	j.n.Add(1)
}

func (j *joins) Release(t *observe.RequestTap) { *t = observe.RequestTap{} }

func TestAKernelThatComesLateIsToldOfEverySocketOnceByWorkers(t *testing.T) {
	const clients = 2*foundPerTurn + 10
	k := &lateKernel{there: make(chan func(), 1), told: make(chan struct{}, clients+2), found: map[int]foundSocket{}}
	w := startWorker(t, WorkerOptions{Kernel: k})
	accepted, carryRequests := 0, 0
	all := make(chan struct{}, clients+1)
	l := listen(t, w, ListenerOptions{Addr: loopback}, func(w *Worker, c *Conn) {
		serveEcho(w, c)
		accepted++
		switch accepted % 3 {
		case 0:
			c.OpenRequests()
			carryRequests++
		case 1:
			c.OpenRequests()
			c.EndRequests() // it goes on as something else
		}
		all <- struct{}{} // at last: from the last of them on the kernel is there
	})
	for range clients {
		dial(t, l.Addr())
	}
	e := observe.NewRegistry(observe.Options{}).Endpoint("c", "e")
	var err error
	on(t, w, func() { _, err = w.ConnectTo(l.Addr(), e, handlerFunc(func(Events) {})) })
	if err != nil {
		t.Fatal(err)
	}
	for range clients + 1 {
		receive(t, all)
	}
	k.come.Store(true)
	receive(t, k.there)()
	for range clients + 2 {
		receive(t, k.told)
	}
	on(t, w, func() {
		if n := int(k.joins.n.Load()); n != carryRequests {
			t.Errorf("requests are watched on %d connections, and %d carry them", n, carryRequests)
		}
	})
	k.mu.Lock()
	defer k.mu.Unlock()
	connected := 0
	for fd, s := range k.found {
		if s.since <= 0 || s.accepted && s.endpoint != nil || !s.accepted && s.endpoint != e {
			t.Errorf("descriptor %d: %+v", fd, s)
		}
		if !s.accepted {
			connected++
		}
	}
	if connected != 1 || k.twice {
		t.Errorf("%d sockets are connected; it was told twice of some: %t", connected, k.twice)
	}
}
