package process

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"rauta.io/rauta/loadtest/procfs"
)

// alive is false for a process that is gone or waits for its new parent to take note.
func alive(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !bytes.Contains(text, []byte(") Z "))
}

// startShell runs a script on the first CPU that this process may use and waits for its first line.
func startShell(t *testing.T, l *Launcher, script string) *Process {
	t.Helper()
	command := exec.Command("sh", "-c", script)
	output, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p, err := l.Start(t.Context(), command, firstCPU(t, 0), syscall.SIGTERM)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := output.Read(make([]byte, 64)); err != nil {
		t.Fatal(err)
	}
	return p
}

func firstCPU(t *testing.T, pid int) int {
	t.Helper()
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(pid, &set); err != nil {
		t.Fatal(err)
	}
	for cpu := range 1024 {
		if set.IsSet(cpu) {
			return cpu
		}
	}
	t.Fatal("no CPU")
	return -1
}

func runLauncher(t *testing.T) (l *Launcher, end func()) {
	l = NewLauncher()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.Run(ctx)
	}()
	return l, func() { cancel(); <-done }
}

func TestAChildIsPinnedAndTheRestOfTheProgramIsNot(t *testing.T) {
	l, end := runLauncher(t)
	defer end()
	var before, after, child unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		t.Fatal(err)
	}
	p := startShell(t, l, "echo; sleep 1000")
	if err := unix.SchedGetaffinity(p.PID, &child); err != nil {
		t.Fatal(err)
	}
	if child.Count() != 1 || !child.IsSet(firstCPU(t, 0)) {
		t.Errorf("the child may use %d CPUs, want the first only", child.Count())
	}
	second := startShell(t, l, "echo; sleep 1000")
	if err := unix.SchedGetaffinity(0, &after); err != nil || after != before {
		t.Errorf("this thread's CPUs changed from %v to %v, %v", before, after, err)
	}
	l.Stop(p)
	l.Stop(second)
}

func TestTheEndOfTheRunStopsChildrenAndTheirChildrenEvenStubbornOnes(t *testing.T) {
	l, end := runLauncher(t)
	polite := startShell(t, l, "sleep 1000 & echo; read x; sleep 1000")
	stubborn := startShell(t, l, "trap '' TERM; sleep 1000 & echo; while :; do sleep 1000; done")
	var all []int
	for _, p := range []*Process{polite, stubborn} {
		tree, err := procfs.Tree(p.PID)
		if err != nil || len(tree) < 2 {
			t.Fatalf("the tree is %v, %v; want the shell and its child", tree, err)
		}
		all = append(all, tree...)
	}
	end()
	for _, pid := range all {
		for alive(pid) { // a killed process may need a moment; one that was forgotten sleeps on and the test times out
			time.Sleep(time.Millisecond)
		}
	}
	for _, p := range []*Process{polite, stubborn} {
		select {
		case <-p.Done():
		default:
			t.Errorf("process %d still runs", p.PID)
		}
	}
}
