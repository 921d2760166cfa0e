package cluster

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait; nothing is expected to take that long. Other programs may have the machine.
const patience = 120 * time.Second

// logTailBytes of a program that went wrong are worth reading in the output of a test.
const logTailBytes = 4 << 10

// Process is a program that a test started.
type Process struct {
	name    string
	logPath string
	command *exec.Cmd
	exited  chan struct{} // closed when it has ended and err is set
	err     error
}

// start runs a command whose output goes to the log.
func start(name, logPath string, c *exec.Cmd) (*Process, error) {
	if err := os.MkdirAll(filepath.Dir(logPath), 0o755); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the process has its own copy
	c.Stdout, c.Stderr = log, log
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &Process{name: name, logPath: logPath, command: c, exited: make(chan struct{})}
	go func() {
		p.err = c.Wait()
		close(p.exited)
	}()
	return p, nil
}

// Run starts a program that Main has built, and ends it with the test. When the test has failed, the end of its log is part
// of the output.
func Run(t testing.TB, name string, environment []string, arguments ...string) *Process {
	t.Helper()
	c := exec.Command(Path(name), arguments...)
	c.Env = append(os.Environ(), environment...)
	p, err := start(name, filepath.Join(t.TempDir(), name+".log"), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.end()
		if t.Failed() {
			t.Logf("the end of the log of %s:\n%s", name, p.logTail())
		}
	})
	return p
}

// PID returns the process id.
func (p *Process) PID() int { return p.command.Process.Pid }

// Signal sends a signal, if the process is still there.
func (p *Process) Signal(s syscall.Signal) { _ = p.command.Process.Signal(s) }

// Kill ends the process at once and waits for it.
func (p *Process) Kill() {
	_ = p.command.Process.Kill()
	<-p.exited
}

// endTime is how long a process may take to end that is asked to.
const endTime = 3 * time.Second

// end has the process end by itself, so that it gives back what it holds, such as a Lease, for which those of the next test
// would have to wait.
func (p *Process) end() {
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(endTime):
		p.Kill()
	}
}

// Exited is closed when the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// ExitCode returns the exit code of a process that has ended, -1 after a signal.
func (p *Process) ExitCode() int { return p.command.ProcessState.ExitCode() }

// LogPath returns the file that the process writes to.
func (p *Process) LogPath() string { return p.logPath }

// Log returns what the process has written.
func (p *Process) Log() string {
	text, _ := os.ReadFile(p.logPath)
	return string(text)
}

func (p *Process) logTail() string {
	text := []byte(p.Log())
	if len(text) > logTailBytes {
		text = text[len(text)-logTailBytes:]
		text = text[bytes.IndexByte(text, '\n')+1:]
	}
	return string(text)
}

// await waits until ready says so. It gives up when one of the processes ends.
func await(ctx context.Context, what string, p *Process, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
			return fmt.Errorf("%s ended before it was ready: %w\n%s", p.name, p.err, p.logTail())
		case <-ctx.Done():
			return fmt.Errorf("%s: %w\n%s", what, err, p.logTail())
		case <-time.After(pollInterval):
		}
	}
}

// pollInterval is how often something is looked at that nothing announces.
const pollInterval = 25 * time.Millisecond

// Eventually waits until a condition holds, and fails the test with its last error when it never does.
func Eventually(t testing.TB, what string, condition func() error) {
	t.Helper()
	eventually(t, patience, pollInterval, what, condition)
}

// Within is Eventually for what takes long, or is dear to look at: it looks a hundred times.
func Within(t testing.TB, limit time.Duration, what string, condition func() error) {
	t.Helper()
	eventually(t, limit, limit/100, what, condition)
}

func eventually(t testing.TB, limit, interval time.Duration, what string, condition func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(interval)
	}
}
