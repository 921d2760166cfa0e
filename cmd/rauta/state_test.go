package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rauta.io/rauta/control/store"
	"rauta.io/rauta/control/translate"
	"rauta.io/rauta/control/watch"
	"rauta.io/rauta/internal/testrig"
)

// deadAPIServer is the kubeconfig of a cluster that does not answer.
const deadAPIServer = `apiVersion: v1
kind: Config
current-context: it
clusters: [{name: it, cluster: {server: "http://127.0.0.1:%d"}}]
contexts: [{name: it, context: {cluster: it, user: it}}]
users: [{name: it, user: {}}]
`

// withoutAPIServer starts rauta serve for a cluster whose API server is away.
func withoutAPIServer(t *testing.T, port uint16, folder string) *instance {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	kubeconfig := filepath.Join(folder, "kubeconfig")
	if err := os.WriteFile(kubeconfig, fmt.Appendf(nil, deadAPIServer, testrig.FreePort(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	i := &instance{t: t, port: port, log: &testrig.Buffer{}, exited: make(chan error, 1)}
	i.metrics = fmt.Sprintf("127.0.0.1:%d", testrig.FreePort(t))
	i.cmd = exec.Command(path, "serve", "--kubeconfig", kubeconfig, "--bind", "127.0.0.1", "--admin", "off", "--metrics", i.metrics,
		"--workers", "1", "--drain-delay", "0s", "--state-dir", filepath.Join(folder, "state"), "--state-key-file", filepath.Join(folder, "key"))
	i.cmd.Stderr, i.cmd.Stdout = i.log, i.log
	if err := i.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { i.exited <- i.cmd.Wait() }()
	t.Cleanup(func() {
		i.cmd.Process.Kill()
		if t.Failed() {
			t.Logf("rauta wrote:\n%s", i.log)
		}
	})
	return i
}

func TestARestartWithoutTheAPIServerServesWhatWasServedLast(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer backend.Close()
	folder, port := t.TempDir(), testrig.FreePort(t)
	files := t.TempDir()
	text := configuration(port, strings.TrimPrefix(backend.URL, "http://"), "stored")
	if err := os.WriteFile(filepath.Join(files, "all.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "key"), []byte(strings.Repeat("k", 48)), 0o600); err != nil {
		t.Fatal(err)
	}
	result := translate.Translate(watch.Load([]string{files}).Objects, translate.Options{AllowLoopback: true})
	state := store.State{Config: result.Config, Endpoints: result.Endpoints, At: time.Now()}
	kept := store.New(filepath.Join(folder, "state"), filepath.Join(folder, "key"))
	if err := kept.Save(state); err != nil {
		t.Fatal(err)
	}

	i := withoutAPIServer(t, port, folder)
	i.until("the stored state to be served", func() bool { return i.state() == "stored" })
	i.until("RAUTA to be ready", func() bool { return !strings.HasPrefix(i.get(i.metrics, "/readyz"), "not ready") })
	if numbers := i.get(i.metrics, "/metrics"); !strings.Contains(numbers, "rauta_state_stored_timestamp_seconds 0\n") {
		t.Error("what was restored was stored again, as if the cluster had said it")
	}
}

func TestWithoutAStateThatCanBeBelievedAStartWithoutTheAPIServerWaitsUnready(t *testing.T) {
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "key"), []byte(strings.Repeat("k", 48)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(folder, "state"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "state", "state"), []byte("rauta state, damaged\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	i := withoutAPIServer(t, testrig.FreePort(t), folder)
	i.until("the log to say why", func() bool { return strings.Contains(i.log.String(), "another version of RAUTA") })
	if got := i.get(i.metrics, "/readyz"); !strings.HasPrefix(got, "not ready: ") {
		t.Errorf("/readyz says %q", got)
	}
}
