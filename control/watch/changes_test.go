package watch

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// waitMax is when a test gives up; nothing depends on how long a change takes below that.
const waitMax = 20 * time.Second

// watcher runs Changes over paths and gives out its reports.
type watcher struct {
	t       *testing.T
	reports chan struct{}
	poke    chan os.Signal
}

// watching returns once the watch stands.
func watching(t *testing.T, before string, paths ...string) *watcher {
	t.Helper()
	w := &watcher{t: t, reports: make(chan struct{}, 100), poke: make(chan os.Signal)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- Changes(ctx, paths, before, w.poke, func() { w.reports <- struct{}{} }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case w.poke <- os.Interrupt: // received once the watch stands
	case <-time.After(waitMax):
		t.Fatal("watching does not begin")
	}
	w.expect("a poke")
	return w
}

func (w *watcher) expect(what string) {
	w.t.Helper()
	select {
	case <-w.reports:
	case <-time.After(waitMax):
		w.t.Fatalf("%s was not reported", what)
	}
}

// settle takes further reports of the same change. One that comes even later can only make a step pass too early, never
// fail.
func (w *watcher) settle() {
	w.t.Helper()
	time.Sleep(2 * quietTime)
	for len(w.reports) > 0 {
		<-w.reports
	}
}

func TestChangesOfEveryKindAreReported(t *testing.T) {
	dir := folder(t, map[string]string{"a.yaml": service})
	w := watching(t, Stamp([]string{dir}), dir)
	step := func(what string, change func()) {
		t.Helper()
		w.settle()
		change()
		w.expect(what)
	}
	a := filepath.Join(dir, "a.yaml")
	step("a changed file", func() { write(t, a, service+"\n") })
	step("a replaced file", func() {
		write(t, filepath.Join(dir, ".new"), service)
		os.Rename(filepath.Join(dir, ".new"), a)
	})
	step("a new file", func() { write(t, filepath.Join(dir, "b.yaml"), service) })
	step("a removed file", func() { os.Remove(filepath.Join(dir, "b.yaml")) })
	step("a new folder with a file", func() { write(t, filepath.Join(dir, "sub", "c.yaml"), service) })
	step("a file in a new folder", func() { write(t, filepath.Join(dir, "sub", "d.yaml"), service) })
	step("a removed folder", func() { os.RemoveAll(filepath.Join(dir, "sub")) })
}

// TestWhatOthersDoInTheFolderIsNotReported: reading ten thousand objects anew for each temporary file of somebody else would
// cost a core.
func TestWhatOthersDoInTheFolderIsNotReported(t *testing.T) {
	dir := folder(t, map[string]string{"a.yaml": service})
	for _, path := range []string{dir, filepath.Join(dir, "a.yaml")} {
		w := watching(t, Stamp([]string{path}), path)
		w.settle()
		other := filepath.Join(dir, "other.txt")
		write(t, other, "x")
		os.Rename(other, other+"2")
		os.Remove(other + "2")
		os.Mkdir(filepath.Join(dir, "empty"), 0o755)
		os.Remove(filepath.Join(dir, "empty"))
		time.Sleep(2 * quietTime)
		w.poke <- os.Interrupt // taken after all of the above
		w.expect("the poke")
		if n := len(w.reports); n > 0 {
			t.Errorf("%s: %d reports", path, n)
		}
	}
}

func TestAFolderThatKubernetesSwapsIsFollowed(t *testing.T) {
	dir := t.TempDir()
	version := func(name, text string) {
		write(t, filepath.Join(dir, name, "a.yaml"), text)
		os.Symlink(name, filepath.Join(dir, "..tmp"))
		if err := os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	version("..2026_1", service)
	if err := os.Symlink("..data/a.yaml", filepath.Join(dir, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, filepath.Join(dir, "a.yaml")} {
		w := watching(t, Stamp([]string{path}), path)
		w.settle()
		version("..2026_"+filepath.Base(path), "")
		w.expect("the swap seen from " + path)
		if l := Load([]string{path}); l.Broken() || len(l.Objects.Services) != 0 {
			t.Errorf("%s: read the old state: %v", path, l.Problems)
		}
		version("..2026_1b"+filepath.Base(path), service)
		w.expect("the swap back")
	}
}

func TestAChangeBetweenReadingAndWatchingIsReported(t *testing.T) {
	dir := folder(t, map[string]string{"a.yaml": service})
	before := Stamp([]string{dir})
	write(t, filepath.Join(dir, "b.yaml"), service)
	w := watching(t, before, dir)
	w.expect("the change and the poke")
}

func TestAFolderThatVanishesAndComesBackIsFollowed(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "conf")
	write(t, filepath.Join(dir, "a.yaml"), service)
	w := watching(t, Stamp([]string{dir}), dir)
	w.settle()
	if err := os.Rename(dir, filepath.Join(parent, "away")); err != nil {
		t.Fatal(err)
	}
	w.expect("the folder's end")
	w.settle()
	if err := os.Rename(filepath.Join(parent, "away"), dir); err != nil {
		t.Fatal(err)
	}
	w.expect("the folder's return")
	w.settle()
	write(t, filepath.Join(dir, "a.yaml"), service+"\n\n")
	w.expect("a change after the return")
}

func TestAStampChangesWithContent(t *testing.T) {
	dir := folder(t, map[string]string{"a.yaml": service})
	first := Stamp([]string{dir})
	if Stamp([]string{dir}) != first {
		t.Error("a stamp differs without a change")
	}
	write(t, filepath.Join(dir, "a.yaml"), service+"\n")
	if Stamp([]string{dir}) == first {
		t.Error("a stamp is the same after a change")
	}
}
