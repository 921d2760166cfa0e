package generator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"

	"rauta.io/rauta/loadtest/rawio"
)

const (
	// readBytes is the one read buffer of all connections.
	readBytes = 256 << 10
	// eventsPerTurn is the number of events taken per epoll_wait.
	eventsPerTurn = 512
	// commandBytesMax bounds one command line: 64 heads of a few hundred bytes fit many times.
	commandBytesMax = 4 << 20
	// memoryMax bounds the heap while collection is off; a run needs a few megabytes.
	memoryMax = 1 << 30
)

// handler is a socket's owner. It is told about readiness and reads or writes until the kernel says EAGAIN.
type handler interface {
	ready(l *loop, events uint32)
}

type slot struct {
	owner      handler
	generation int32
}

type loop struct {
	epoll      int
	events     []unix.EpollEvent
	slots      []slot // by descriptor
	generation int32
	in         []byte
	started    time.Time
	backend    backend
	backendH2  backendH2
	backendUDP backendUDP
	dirty      []*link // have frames to send at the end of the turn
	load       load
	input      commandInput
	random     *rand.Rand
}

// Run answers commands from descriptor 0 on descriptor 1 until the end of input. Its first line of output tells the
// back end's port.
func Run() error {
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(memoryMax)
	l, err := newLoop()
	if err != nil {
		return err
	}
	if err := unix.SetNonblock(0, true); err != nil {
		return fmt.Errorf("preparing the command input: %w", err)
	}
	// Level-triggered, and possibly a file, which epoll refuses: then commands can't arrive.
	if err := l.watch(0, &l.input, unix.EPOLLIN); err != nil {
		return fmt.Errorf("watching the command input: %w", err)
	}
	if err := reply(&Reply{BackendPort: l.backend.port, BackendH2Port: l.backendH2.port, BackendTLS: l.backend.secure.port,
		BackendH2TLS: l.backendH2.secure.port, BackendUDP: l.backendUDP.port}); err != nil {
		return err
	}
	for !l.input.ended {
		if err := l.turn(-1); err != nil {
			return err
		}
		for line := l.input.line(); line != nil; line = l.input.line() {
			if err := reply(l.execute(line)); err != nil {
				return err
			}
			runtime.GC()
		}
	}
	return l.input.err
}

func newLoop() (*loop, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("creating the epoll set: %w", err)
	}
	l := &loop{epoll: epoll, events: make([]unix.EpollEvent, eventsPerTurn), in: make([]byte, readBytes), started: time.Now()}
	if err := errors.Join(l.backend.open(l), l.backendH2.open(l), l.backendUDP.open(l)); err != nil {
		return nil, err
	}
	return l, nil
}

func reply(r *Reply) error {
	text, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("writing a reply: %w", err)
	}
	text = append(text, '\n')
	for len(text) > 0 {
		n, err := unix.Write(1, text)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("writing a reply: %w", err)
		}
		text = text[n:]
	}
	return nil
}

func (l *loop) execute(line []byte) *Reply {
	var command Command
	err := json.Unmarshal(line, &command)
	if err == nil {
		err = command.validate()
	}
	var results []*Result
	if err == nil {
		l.backend.prepare(command.BodyBytes, command.UploadBytes)
		l.backendH2.prepare(&command)
		l.backendUDP.prepare(command.BodyBytes, command.UploadBytes)
		results, err = l.run(&command)
	}
	if err != nil {
		return &Reply{Error: err.Error()}
	}
	return &Reply{Results: results}
}

// now is monotonic and in nanoseconds.
func (l *loop) now() int64 { return int64(time.Since(l.started)) }

func (l *loop) watch(fd int, owner handler, mask uint32) error {
	l.generation++
	for fd >= len(l.slots) {
		l.slots = append(l.slots, slot{})
	}
	l.slots[fd] = slot{owner, l.generation}
	return rawio.Register(l.epoll, fd, l.generation, mask)
}

// watchSocket watches a connected socket, or closes it.
func (l *loop) watchSocket(s *socket, owner handler) bool {
	if err := l.watch(s.fd, owner, rawio.EventMask); err != nil {
		l.closeWatched(s)
		return false
	}
	return true
}

func (l *loop) closeWatched(s *socket) {
	if s.fd >= 0 {
		l.slots[s.fd].owner = nil
		s.close()
	}
}

func (l *loop) closeSocket(fd int) {
	l.slots[fd].owner = nil
	unix.Close(fd)
}

// flush sends what the last turn, or whoever starts requests between turns, has left to send.
func (l *loop) flush() {
	for _, k := range l.dirty {
		k.flush()
	}
	l.dirty = l.dirty[:0]
}

// turn handles what is ready. It polls first; with nothing ready it waits up to the given milliseconds, -1 for ever.
func (l *loop) turn(waitMillis int) error {
	l.flush()
	n, errno := rawio.Poll(l.epoll, l.events)
	if (n == 0 || errno != 0) && waitMillis != 0 {
		var err error
		if n, err = unix.EpollWait(l.epoll, l.events, waitMillis); err != nil && err != unix.EINTR {
			return fmt.Errorf("waiting for events: %w", err)
		}
		n = max(n, 0)
	}
	for i := range l.events[:n] {
		event := &l.events[i]
		s := &l.slots[event.Fd]
		if s.owner != nil && s.generation == event.Pad {
			s.owner.ready(l, event.Events)
		}
	}
	l.flush()
	return nil
}

// commandInput collects lines from descriptor 0.
type commandInput struct {
	text  []byte
	ended bool
	err   error
}

func (c *commandInput) ready(l *loop, _ uint32) {
	n, err := unix.Read(0, l.in)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
	case err != nil:
		c.ended, c.err = true, fmt.Errorf("reading a command: %w", err)
	case n == 0:
		c.ended = true
	case len(c.text)+n > commandBytesMax:
		c.ended, c.err = true, errors.New("reading a command: the line is too long")
	default:
		c.text = append(c.text, l.in[:n]...)
	}
}

// line is the next whole line, or nil.
func (c *commandInput) line() []byte {
	end := bytes.IndexByte(c.text, '\n')
	if end < 0 {
		return nil
	}
	line := c.text[:end]
	c.text = c.text[end+1:]
	return line
}
