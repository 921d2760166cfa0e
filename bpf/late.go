//go:build linux && (amd64 || arm64)

package bpf

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"rauta.io/rauta/proxy/observe"
)

// Late implements observe.Kernel with a Kernel that comes while connections are served already, or never: to load programs
// takes most of a second, and seconds on a busy machine. Whoever has sockets is told then (WhenThere).
type Late struct {
	kernel atomic.Pointer[Kernel] // nil: not yet

	mu        sync.Mutex
	listening []listening // that the Kernel is to be told of
	waiting   []func()    // to be called when it is there
	over      bool        // nothing more comes
}

// listening is a socket that listens, as long as the descriptor is that of the socket.
type listening struct {
	fd     int
	cookie uint64
}

// Later has load called and returns at once. load returns nil where the kernel tells nothing, and what is to be called once
// the Kernel is in use or never will be.
func Later(load func() (k *Kernel, then func())) *Late {
	l := new(Late)
	go func() {
		k, then := load()
		if !l.take(k) && k != nil {
			k.Close()
		}
		then()
	}()
	return l
}

// take reports whether the Kernel is used.
func (l *Late) take(k *Kernel) bool {
	use, waiting := l.use(k)
	for _, f := range waiting {
		f()
	}
	return use
}

// use begins with the Kernel, if it is wanted, and returns who waits for it.
func (l *Late) use(k *Kernel) (use bool, waiting []func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	use = k != nil && !l.over
	if use {
		waiting = l.waiting
		for _, s := range l.listening {
			if cookie, err := cookieOf(s.fd); err == nil && cookie == s.cookie {
				k.Listening(s.fd)
			}
		}
		k.Start()
		l.kernel.Store(k)
	}
	l.listening, l.waiting, l.over = nil, nil, true
	return use, waiting
}

// cookieOf returns the number of a socket that no other has.
func cookieOf(fd int) (uint64, error) {
	return unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
}

// Close detaches the programs, or has them detached when they come: it does not wait for them. The data plane must have
// stopped.
func (l *Late) Close() {
	l.mu.Lock()
	l.listening, l.waiting, l.over = nil, nil, true
	l.mu.Unlock()
	if k := l.kernel.Load(); k != nil {
		k.Close()
	}
}

// Listening implements observe.Kernel.
func (l *Late) Listening(fd int) {
	if k := l.kernel.Load(); k != nil {
		k.Listening(fd)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if k := l.kernel.Load(); k != nil {
		k.Listening(fd)
		return
	}
	if cookie, err := cookieOf(fd); err == nil && !l.over {
		l.listening = append(l.listening, listening{fd, cookie})
	}
}

// WhenThere implements observe.Kernel.
func (l *Late) WhenThere(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.over {
		l.waiting = append(l.waiting, f)
	}
}

// Found implements observe.Kernel.
func (l *Late) Found(fd int, accepted bool, e *observe.Endpoint, since int64) {
	if k := l.kernel.Load(); k != nil {
		k.Found(fd, accepted, e, since)
	}
}

// Accepted implements observe.Kernel.
func (l *Late) Accepted(fd int) int64 {
	if k := l.kernel.Load(); k != nil {
		return k.Accepted(fd)
	}
	return 0
}

// Connecting implements observe.Kernel.
func (l *Late) Connecting(fd int, e *observe.Endpoint) {
	if k := l.kernel.Load(); k != nil {
		k.Connecting(fd, e)
	}
}

// Queued implements observe.Kernel.
func (l *Late) Queued(ns int64) {
	if k := l.kernel.Load(); k != nil {
		k.Queued(ns)
	}
}

// Requests implements observe.Kernel.
func (l *Late) Requests(worker int) observe.Requests {
	if k := l.kernel.Load(); k != nil {
		return k.Requests(worker)
	}
	return nil
}
