//go:build linux && (amd64 || arm64)

package bpf

import (
	"testing"
)

// lateRig is a rig whose Kernel comes when released is closed; settled is closed when that is in use, or not wanted any more.
func lateRig(t *testing.T) (r *rig, l *Late, released, settled chan struct{}) {
	t.Helper()
	registry := newRig(t).registry // skips the test where there are no programs
	k, tier := Open(registry)
	if k == nil {
		t.Skipf("the kernel takes no programs here: %s", tier.Reason)
	}
	released, settled = make(chan struct{}), make(chan struct{})
	l = Later(func() (*Kernel, func()) {
		<-released
		k.WatchRequests(1, 1, tier)
		return k, func() { close(settled) }
	})
	return &rig{Kernel: k, t: t, registry: registry}, l, released, settled
}

func TestWhileTheProgramsAreNotThereNobodyWaitsForThem(t *testing.T) {
	r, l, released, settled := lateRig(t)
	socket := r.listen(false)
	l.Listening(fdOf(t, socket)) // and the test would hang here
	r.mustDial(socket.Addr().String(), nil)
	if since := l.Accepted(fdOf(t, r.accept(socket))); since != 0 || l.Requests(0) != nil {
		t.Errorf("accepted %d, requests are watched: %t", since, l.Requests(0) != nil)
	}
	l.Connecting(fdOf(t, socket), nil)
	l.Queued(1)
	l.Close()
	close(released)
	<-settled
	select {
	case <-r.stop:
	default:
		t.Error("what nobody wants any more is not closed")
	}
	if l.Requests(0) != nil {
		t.Error("requests are watched after the end")
	}
}

func TestSocketsThatListenedBeforeTheProgramsCameAreTagged(t *testing.T) {
	r, l, released, settled := lateRig(t)
	gone, stays := r.listen(false), r.listen(false)
	l.Listening(fdOf(t, gone))
	l.Listening(fdOf(t, stays))
	fd := fdOf(t, gone)
	gone.Close()
	stranger := r.listen(false)
	for range 100 {
		if fdOf(t, stranger) == fd {
			break
		}
		stranger = r.listen(false)
	}
	early := r.mustDial(stays.Addr().String(), nil)
	r.accept(stays)
	close(released)
	<-settled // and it is in use
	t.Cleanup(l.Close)
	r.mustDial(stays.Addr().String(), nil)
	if l.Accepted(fdOf(t, r.accept(stays))) == 0 {
		t.Error("a socket that listens has no tag")
	}
	r.mustDial(stranger.Addr().String(), nil)
	if fdOf(t, stranger) == fd && l.Accepted(fdOf(t, r.accept(stranger))) != 0 {
		t.Error("another socket with the descriptor of one that is closed has its tag")
	}
	abort(early)
	later := r.listen(false)
	l.Listening(fdOf(t, later))
	r.mustDial(later.Addr().String(), nil)
	if l.Accepted(fdOf(t, r.accept(later))) == 0 {
		t.Error("a socket that listens after the programs came has no tag")
	}
}
