// Package process starts the children of the load test, each on its CPU, and makes sure that none outlives it.
//
// It owns starting, CPU affinity, ending and the children's output files. It does not own what they are told to do.
// The generator's client and the scenarios start everything through one Launcher.
package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// stopTimeMax is how long a child may take to end by itself before it is killed. Nobody waits for its answers any more.
const stopTimeMax = 500 * time.Millisecond

// Launcher starts children from one thread, because the kernel's parent-death signal is tied to the thread that
// forked, and affinity is inherited from it.
type Launcher struct {
	requests chan startRequest

	mu      sync.Mutex
	running []*Process
}

type startRequest struct {
	command *exec.Cmd
	cpu     int
	failed  chan error
}

// Process is a running child.
type Process struct {
	PID     int
	command *exec.Cmd
	done    chan struct{}
	err     error // valid after done
}

// NewLauncher returns a launcher; Run must run for Start to make progress.
func NewLauncher() *Launcher { return &Launcher{requests: make(chan startRequest)} }

// Run serves Start until the context ends, then stops every child that is left. The caller keeps its goroutine for it
// until the program ends: with the thread, the children go too.
func (l *Launcher) Run(ctx context.Context) {
	runtime.LockOSThread()
	for {
		select {
		case <-ctx.Done():
			l.StopAll()
			return
		case request := <-l.requests:
			request.failed <- startOn(request.command, request.cpu)
		}
	}
}

func startOn(command *exec.Cmd, cpu int) error {
	var before, want unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return fmt.Errorf("reading the CPU affinity: %w", err)
	}
	want.Set(cpu)
	if err := unix.SchedSetaffinity(0, &want); err != nil {
		return fmt.Errorf("pinning to CPU %d: %w", cpu, err)
	}
	return errors.Join(command.Start(), unix.SchedSetaffinity(0, &before))
}

// Start runs the command on one CPU. When the load test dies, the child gets the signal: SIGTERM for programs with
// children of their own to take along.
func (l *Launcher) Start(ctx context.Context, command *exec.Cmd, cpu int, onDeath syscall.Signal) (*Process, error) {
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: onDeath, Setpgid: true}
	request := startRequest{command, cpu, make(chan error, 1)}
	select {
	case l.requests <- request:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err := <-request.failed; err != nil {
		return nil, fmt.Errorf("starting %s: %w", command.Path, err)
	}
	p := &Process{PID: command.Process.Pid, command: command, done: make(chan struct{})}
	l.mu.Lock()
	l.running = append(l.running, p)
	l.mu.Unlock()
	go func() {
		p.err = command.Wait()
		close(p.done)
	}()
	return p, nil
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Stop ends the process and whatever it has started, and waits for it.
func (l *Launcher) Stop(p *Process) {
	select {
	case <-p.done:
	default:
		// The process is not reaped before done, so its id cannot belong to another one yet.
		syscall.Kill(p.PID, syscall.SIGTERM)
	}
	select {
	case <-p.done:
	case <-time.After(stopTimeMax):
	}
	// Every child leads a process group; whoever is left in it now, the leader among them, is late.
	syscall.Kill(-p.PID, syscall.SIGKILL)
	<-p.done
	l.mu.Lock()
	l.running = slices.DeleteFunc(l.running, func(other *Process) bool { return other == p })
	l.mu.Unlock()
}

// StopAll ends every child.
func (l *Launcher) StopAll() {
	l.mu.Lock()
	running := slices.Clone(l.running)
	l.mu.Unlock()
	for _, p := range slices.Backward(running) {
		l.Stop(p)
	}
}

// RaiseDescriptorLimit lets this process and its children open as many descriptors as the system permits, up to want,
// and returns the number.
func RaiseDescriptorLimit(want uint64) (uint64, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("reading the descriptor limit: %w", err)
	}
	if limit.Cur >= want {
		return limit.Cur, nil
	}
	for _, try := range []syscall.Rlimit{{Cur: want, Max: max(want, limit.Max)}, {Cur: limit.Max, Max: limit.Max}} {
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &try) == nil {
			return try.Cur, nil
		}
	}
	return limit.Cur, nil
}

// LogFile opens a child's log for writing.
func LogFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
}
