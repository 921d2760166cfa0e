package server

import (
	"errors"
	"strings"
	"testing"
)

func TestReloadsAreCountedByResult(t *testing.T) {
	s, port := startServer(t, 1)
	cfg, eps := everythingTo(port)
	for range 2 {
		if err := s.Publish(cfg, eps); err != nil {
			t.Fatal(err)
		}
	}
	var b strings.Builder
	s.opt.Registry.WritePrometheus(&b)
	if !strings.Contains(b.String(), "\nrauta_config_last_error_timestamp_seconds 0\n") {
		t.Error("an error is dated although there was none")
	}
	s.Failed(errors.New("broken"))
	b.Reset()
	s.opt.Registry.WritePrometheus(&b)
	for _, want := range []string{
		`rauta_config_reloads_total{result="applied"} 1`, `rauta_config_reloads_total{result="unchanged"} 1`,
		`rauta_config_reloads_total{result="failed"} 1`, "rauta_config_last_error 1",
	} {
		if !strings.Contains(b.String(), "\n"+want+"\n") {
			t.Errorf("lacks %s", want)
		}
	}
	if strings.Contains(b.String(), "\nrauta_config_last_error_timestamp_seconds 0\n") {
		t.Error("the error is not dated")
	}
}
