package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDebugProfileWritesWhatTheAdminAddressGives(t *testing.T) {
	var asked []string
	admin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.String())
		w.Write([]byte("profile"))
	}))
	defer admin.Close()

	file := filepath.Join(t.TempDir(), "p.pb.gz")
	var out, errs bytes.Buffer
	profile := func(args ...string) int {
		out.Reset()
		errs.Reset()
		return run(context.Background(), append([]string{"debug", "profile", "--admin", admin.URL, "-f", file}, args...), &out, &errs)
	}
	if code := profile("--seconds", "3"); code != 0 {
		t.Fatalf("exit %d: %s", code, errs.String())
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "profile" {
		t.Errorf("file: %q, %v", got, err)
	}
	if code := profile("--seconds", "3"); code != exitFailed || !strings.Contains(errs.String(), "exists") {
		t.Errorf("a file that is there was overwritten: exit %d, %s", code, errs.String())
	}
	os.Remove(file)
	if code := profile("--type", "heap"); code != 0 {
		t.Errorf("exit %d: %s", code, errs.String())
	}
	if want := "/debug/pprof/profile?seconds=3 /debug/pprof/profile?seconds=3 /debug/pprof/heap"; strings.Join(asked, " ") != want {
		t.Errorf("asked %q", asked)
	}
	for _, args := range [][]string{{"--type", "x"}, {"--seconds", "0"}, {"--seconds", "9999"}, {"--admin", "https://x"}} {
		if code := profile(args...); code != exitUsage {
			t.Errorf("%q: exit %d, %s", args, code, errs.String())
		}
	}
}

func TestDebugProfileSaysWhenTheAddressHasNone(t *testing.T) {
	metrics := httptest.NewServer(http.NotFoundHandler())
	defer metrics.Close()
	file := filepath.Join(t.TempDir(), "p")
	var out, errs bytes.Buffer
	code := run(context.Background(), []string{"debug", "profile", "--admin", metrics.URL, "-f", file}, &out, &errs)
	if code != exitFailed || !strings.Contains(errs.String(), "admin address") {
		t.Errorf("exit %d: %s", code, errs.String())
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("a file was left behind")
	}
}

func TestTopRefusesWhatItCannotDo(t *testing.T) {
	for _, args := range [][]string{{"--admin", "x"}, {"--interval", "1ms"}, {"-o", "yaml"}, {"-o", "screen"}} {
		var out, errs bytes.Buffer
		if code := run(context.Background(), append([]string{"top"}, args...), &out, &errs); code != exitUsage {
			t.Errorf("%q: exit %d, %s", args, code, errs.String())
		}
	}
}

func TestTopPrintsATableWhereThereIsNoTerminal(t *testing.T) {
	node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte("# TYPE rauta_config_generation gauge\nrauta_config_generation 1\n" +
			"# TYPE rauta_requests_in_flight gauge\nrauta_requests_in_flight{route=\"shop\"} 2\n"))
	}))
	defer node.Close()
	var out, errs bytes.Buffer
	if code := run(context.Background(), []string{"top", "--admin", node.URL, "--interval", "200ms"}, &out, &errs); code != 0 {
		t.Fatalf("exit %d: %s", code, errs.String())
	}
	if !strings.Contains(out.String(), "ROUTE") || !strings.Contains(out.String(), "shop") {
		t.Errorf("output:\n%s", out.String())
	}
}
