package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rauta.io/rauta/loadtest/generator"
	"rauta.io/rauta/loadtest/peers"
)

func TestWhatAContenderThatFailedRequestsSaysIsKept(t *testing.T) {
	pages := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.URL.String()) }))
	defer pages.Close()
	var output bytes.Buffer
	l := &lab{options: &options{folder: t.TempDir()}, output: &output}
	e := &entered{entrant: entrant{label: "rauta loop", contender: &peers.Contender{Routes: true}}}
	e.environment.Folder = t.TempDir()
	e.environment.AdminPort = pages.Listener.Addr().(*net.TCPAddr).Port
	e.environment.MetricsPort = e.environment.AdminPort
	for name, text := range map[string]string{"output.log": "a warning", "nginx.conf": "no log"} {
		if err := os.WriteFile(filepath.Join(e.environment.Folder, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	l.keepFailed(context.Background(), e, &generator.Result{Requests: 5})
	if left, err := os.ReadDir(l.options.folder); err != nil || len(left) > 0 || output.Len() > 0 {
		t.Fatalf("without a failure: %v, %v, %q", left, err, &output)
	}

	l.keepFailed(context.Background(), e, &generator.Result{
		Failures: map[string]uint64{"status is not 200": 2, "no answer in time": 10},
		Samples:  []generator.Sample{{Round: 3, Requests: 7}, {Round: 4, Failed: 12}},
	})
	if want := "12 requests: 10 x no answer in time, 2 x status is not 200, 12 of 12 in round 4;"; !strings.Contains(output.String(), want) {
		t.Errorf("the output is %q, want %q in it", &output, want)
	}
	folders, err := filepath.Glob(filepath.Join(l.options.folder, failedFolder, "*-rauta-loop-*"))
	if err != nil || len(folders) != 1 {
		t.Fatalf("folders %v, %v", folders, err)
	}
	for name, want := range map[string]string{"output.log": "a warning", "metrics.txt": "/metrics", "goroutines.txt": "/debug/pprof/goroutine?debug=2"} {
		if text, err := os.ReadFile(filepath.Join(folders[0], name)); err != nil || string(text) != want {
			t.Errorf("%s: %q, %v; want %q", name, text, err, want)
		}
	}
	if _, err := os.Stat(filepath.Join(folders[0], "nginx.conf")); err == nil {
		t.Error("a configuration was kept as a log")
	}
}
