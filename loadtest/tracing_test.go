package main

import (
	"bufio"
	"context"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"rauta.io/rauta/loadtest/process"
)

func TestSpansAreCountedApartFromRequests(t *testing.T) {
	counts, err := parseCounts(bufio.NewScanner(strings.NewReader(
		"rauta_trace_exported_total 40\nrauta_trace_dropped_total{reason=\"buffer_full\"} 5\nrauta_trace_dropped_total{reason=\"rejected\"} 1\n")))
	if want := (loopCounts{exported: 40, dropped: 6}); err != nil || counts != want {
		t.Errorf("got %+v, %v; want %+v", counts, err, want)
	}
	var sum loopCounts
	sum.add(loopCounts{exported: 10, dropped: 1}, counts)
	if sum.exported != 30 || sum.dropped != 5 {
		t.Errorf("%+v", sum)
	}
}

func TestEveryWayOfTracingHasTheCollectorThatItsNameSays(t *testing.T) {
	for _, way := range tracings(collectorPorts{fast: 1, silent: 2, closed: 3}) {
		at := slices.Index(way.flags, "--trace-endpoint")
		port := ""
		if at >= 0 {
			port = way.flags[at+1][len("http://127.0.0.1:"):]
		}
		want := ""
		switch {
		case strings.HasSuffix(way.name, "exported"):
			want = "1"
		case strings.HasSuffix(way.name, "never answers"):
			want = "2"
		case strings.HasSuffix(way.name, "refuses connections"):
			want = "3"
		}
		if port != want {
			t.Errorf("%s has the collector %q, want %q", way.name, port, want)
		}
	}
}

func TestACollectorTakesAllAtOnceOrNothing(t *testing.T) {
	if _, err := chooseCPUs(); err != nil {
		t.Skip(err)
	}
	l := &lab{launcher: process.NewLauncher(), ended: make(chan struct{}), folder: filepath.Join(t.TempDir(), "lab")}
	l.ctx, l.cancel = context.WithCancel(t.Context())
	go func() {
		defer close(l.ended)
		l.launcher.Run(l.ctx)
	}()
	t.Cleanup(l.close)
	p, err := l.startCollectors()
	if err != nil {
		t.Fatal(err)
	}
	ask := func(port string, patience time.Duration) (status int, err error) {
		client := http.Client{Timeout: patience}
		resp, err := client.Post("http://127.0.0.1:"+port+"/v1/traces", "application/x-protobuf", strings.NewReader("spans"))
		if err != nil {
			return 0, err
		}
		resp.Body.Close()
		return resp.StatusCode, nil
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		if status, err := ask(portText(p.fast), 5*time.Second); err == nil && status == 200 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the fast one does not answer")
		}
		time.Sleep(10 * time.Millisecond)
	}
	if status, err := ask(portText(p.silent), 200*time.Millisecond); err == nil {
		t.Errorf("the silent one answers %d", status)
	}
	if _, err := ask(portText(p.closed), time.Second); err == nil {
		t.Error("somebody listens where nobody should")
	}
}
