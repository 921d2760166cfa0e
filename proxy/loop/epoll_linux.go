package loop

import (
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// eventsMax is the number of events taken from the kernel in one turn: larger batches were measured to gain nothing,
// and a turn's length is what everybody else waits for.
const eventsMax = 256

// connEvents is what a connection is registered for, once: re-arming costs a system call per request. EPOLLOUT adds no
// wake-ups, since TCP reports free space only after a send has found none.
const connEvents = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET

// datagramEvents leaves EPOLLOUT out: UDP reports free space after every datagram that has left, and nobody waits for it.
const datagramEvents = unix.EPOLLIN | unix.EPOLLET

// Epoll data is {Fd: slot, Pad: generation<<1 | priority}. Negative slots are not connections.
const (
	wakeSlot          = -1
	firstListenerSlot = -2 // listener i is registered as firstListenerSlot - i
)

// priorityBit in Pad marks connected sockets, so that the first pass over a batch needs no look at the connections.
const priorityBit = 1

func epollAdd(epfd, fd int, events uint32, slot, pad int32) error {
	ev := unix.EpollEvent{Events: events, Fd: slot, Pad: pad}
	if err := unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return fmt.Errorf("add socket to epoll: %w", err)
	}
	return nil
}

func epollRemove(epfd, fd int) error {
	if err := unix.EpollCtl(epfd, unix.EPOLL_CTL_DEL, fd, nil); err != nil {
		return fmt.Errorf("remove socket from epoll: %w", err)
	}
	return nil
}

// pollNow takes what is ready. It is a raw system call, since it never blocks and the scheduler's bookkeeping would
// cost more than the call.
func (w *Worker) pollNow() (int, syscall.Errno) { return w.pollRaw(0) }

// pollRaw waits up to millis (-1: for ever) without telling the scheduler: see Worker.sleep.
func (w *Worker) pollRaw(millis int) (int, syscall.Errno) {
	w.counts.waits++
	n, _, e := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(w.epfd), uintptr(unsafe.Pointer(&w.events[0])),
		eventsMax, uintptr(millis), 0, 0)
	if e != 0 {
		return 0, e
	}
	return int(n), 0
}

// pollWait sleeps up to millis (-1: for ever). It tells the scheduler, so that a sleeping worker holds up neither the
// garbage collector nor other goroutines.
func (w *Worker) pollWait(millis int) (int, syscall.Errno) {
	w.counts.waits++
	n, _, e := syscall.Syscall6(unix.SYS_EPOLL_PWAIT, uintptr(w.epfd), uintptr(unsafe.Pointer(&w.events[0])),
		eventsMax, uintptr(millis), 0, 0)
	if e != 0 {
		return 0, e
	}
	return int(n), 0
}

func eventsOf(bits uint32) Events {
	var ev Events
	if bits&unix.EPOLLIN != 0 {
		ev |= Readable
	}
	if bits&unix.EPOLLOUT != 0 {
		ev |= Writable
	}
	if bits&(unix.EPOLLRDHUP|unix.EPOLLHUP) != 0 {
		ev |= HangUp
	}
	if bits&unix.EPOLLERR != 0 {
		ev |= Error
	}
	return ev
}
