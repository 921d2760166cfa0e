package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func TestAChangeIsTakenApartByTheLinesOfTheLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	text := `time=2026-01-02T03:04:05.006Z level=INFO msg="configuration published" generation=3
time=2026-01-02T03:04:05.017Z level=DEBUG msg="change served" since=2026-01-02T03:04:05.003Z translated=2026-01-02T03:04:05.006Z published=2026-01-02T03:04:05.007Z served=2026-01-02T03:04:05.017Z
time=2026-01-02T03:04:06.017Z level=DEBUG msg="change served" since=2026-01-02T03:04:06Z translated=2026-01-02T03:04:06Z published=2026-01-02T03:04:06Z served=2026-01-02T03:04:06.01Z
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := publications(path)
	if err != nil || len(list) != 2 {
		t.Fatalf("%d publications, error %v", len(list), err)
	}
	at := func(ms int) time.Time { return time.Date(2026, 1, 2, 3, 4, 5, ms*1e6, time.UTC) }
	p, ok := publicationOf(change{written: at(1), heard: at(5), asked: at(19), seen: at(21)}, list)
	if !ok {
		t.Fatal("no publication brought the change")
	}
	want := []time.Duration{2 * time.Millisecond, 3 * time.Millisecond, time.Millisecond, 10 * time.Millisecond, 4 * time.Millisecond,
		4 * time.Millisecond, 2 * time.Millisecond}
	if got := (change{written: at(1), heard: at(5), asked: at(19), seen: at(21)}).parts(p); !slices.Equal(got, want) {
		t.Errorf("parts %v, want %v", got, want)
	}
	if _, ok := publicationOf(change{written: at(1), seen: at(16)}, list); !ok {
		t.Error("no publication brought a change that a request saw before the publication had ended")
	}
	if _, ok := publicationOf(change{written: at(1), seen: at(6)}, list); ok {
		t.Error("a publication brought a change that was seen before it began")
	}
	if err := printParts([]change{{written: at(1), seen: at(6)}}, list); err == nil {
		t.Error("no error although the log says nothing of the changes")
	}
}
