package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"rauta.io/rauta/internal/testrig"
)

func TestProbeSaysWhatIsWrong(t *testing.T) {
	absent := filepath.Join(t.TempDir(), "socket")
	for args, want := range map[string]string{
		"probe ready":                              "--socket is missing",
		"probe --socket " + absent + " well":       "invalid argument",
		"probe --socket " + absent + " ready":      absent,
		"probe --socket " + absent + " alive":      absent,
		"probe --socket " + absent + " alive both": "accepts 1 arg",
	} {
		if code, _, stderr := command(strings.Fields(args)...); code == 0 || !strings.Contains(stderr, want) {
			t.Errorf("rauta %s: exit code %d, %q; want %q", args, code, stderr, want)
		}
	}
}

// TestAProcessTakesOverFromAnotherOnTheSamePortsWithoutARefusedRequest is what a DaemonSet with a surge does.
func TestAProcessTakesOverFromAnotherOnTheSamePortsWithoutARefusedRequest(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer backend.Close()
	sockets := [2]string{filepath.Join(t.TempDir(), "old"), filepath.Join(t.TempDir(), "new")}
	old := start(t, strings.TrimPrefix(backend.URL, "http://"), "--overlap", "--probe-socket", sockets[0], "--drain-delay", "1s")
	asked := func(socket, what string) bool {
		code, _, _ := command("probe", "--socket", socket, what)
		return code == 0
	}
	if !asked(sockets[0], "ready") || !asked(sockets[0], "alive") {
		t.Fatal("the first process is not ready")
	}

	stop, failed := make(chan struct{}), make(chan error, 1)
	go func() {
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: waitMax}
		for {
			select {
			case <-stop:
				failed <- nil
				return
			default:
			}
			response, err := client.Get(old.url("/"))
			if err == nil {
				err = response.Body.Close()
				if response.StatusCode != http.StatusOK {
					err = fmt.Errorf("status %d", response.StatusCode)
				}
			}
			if err != nil {
				failed <- err
				return
			}
		}
	}()

	// Everything as the first one has it, but for the socket. The ports are taken, and it can begin all the same.
	if err := os.MkdirAll(filepath.Dir(sockets[1]), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mknod(sockets[1], syscall.S_IFSOCK|0o600, 0); err != nil { // what a killed process leaves
		t.Fatal(err)
	}
	args := append([]string(nil), old.cmd.Args[1:]...)
	for i, a := range args {
		if a == sockets[0] {
			args[i] = sockets[1]
		}
	}
	next := exec.Command(old.cmd.Path, args...)
	log := &testrig.Buffer{}
	next.Stdout, next.Stderr = log, log
	if err := next.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- next.Wait() }()
	t.Cleanup(func() {
		next.Process.Kill()
		if t.Failed() {
			t.Logf("the second process wrote:\n%s", log)
		}
	})
	old.until("the second process to be ready", func() bool { return asked(sockets[1], "ready") })

	if err := old.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	old.until("the first process to be unready", func() bool { return !asked(sockets[0], "ready") })
	if !asked(sockets[1], "ready") {
		t.Error("that the first process drains makes the second one unready")
	}
	select {
	case err := <-old.exited:
		if err != nil {
			t.Errorf("the first process: %v", err)
		}
	case <-time.After(waitMax):
		t.Fatal("the first process does not end")
	}
	old.until("an answer of the second process alone", func() bool { return old.state() == "first" })
	close(stop)
	if err := <-failed; err != nil {
		t.Errorf("a request in between failed: %v", err)
	}
	if err := next.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-exited:
		if err != nil {
			t.Errorf("the second process: %v", err)
		}
	case <-time.After(waitMax):
		t.Fatal("the second process does not end")
	}
}
