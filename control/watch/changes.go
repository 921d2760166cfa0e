package watch

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Coalescing of changes: an editor or `git pull` writes many files in a row. A change is reported when nothing more has
// happened for quietTime, and after changeTimeMax at the latest.
const (
	quietTime     = 50 * time.Millisecond
	changeTimeMax = time.Second
)

// retryTime is how often a path that has vanished is looked for.
const retryTime = time.Second

// Stamp tells two states of the files below paths apart, by their names, sizes, times of change, and which files they are.
func Stamp(paths []string) string {
	files, err := List(paths)
	if err != nil {
		return err.Error()
	}
	h := sha256.New()
	for _, f := range files {
		if info, err := os.Stat(f); err == nil {
			fmt.Fprintf(h, "%s %d %d", f, info.Size(), info.ModTime().UnixNano())
			if file, ok := info.Sys().(*syscall.Stat_t); ok {
				fmt.Fprintf(h, " %d", file.Ino)
			}
			fmt.Fprintln(h)
		}
	}
	return string(h.Sum(nil))
}

// Changes reports when files below paths change, and when poke receives, until ctx is done. before is the Stamp of what
// has been read already: a change between that and the start of watching is reported too. It watches folders rather
// than files, because editors and Kubernetes replace files instead of writing into them. What else appears or vanishes in
// these folders is not reported: a configuration may well be in a folder in which others work.
func Changes(ctx context.Context, paths []string, before string, poke <-chan os.Signal, report func()) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch the configuration: %w", err)
	}
	defer w.Close()
	if err := watchFolders(w, paths); err != nil {
		return err
	}
	if now := Stamp(paths); now != before {
		before = now
		report()
	}
	var quiet, latest, retry <-chan time.Time
	sure := false // something has happened to a file of the configuration, and not only somewhere near one
	for {
		select {
		case <-ctx.Done():
			return nil
		case ev := <-w.Events:
			if !relevant(ev, paths) {
				continue
			}
			sure = sure || isConfig(ev.Name, paths)
			quiet = time.After(quietTime)
			if latest == nil {
				latest = time.After(changeTimeMax)
			}
			continue
		case <-retry:
			if watchFolders(w, paths) != nil {
				retry = time.After(retryTime)
				continue
			}
			sure = true
		case <-poke:
			sure = true
		case <-w.Errors: // events were lost: look at everything
			sure = true
		case <-quiet:
		case <-latest:
		}
		quiet, latest, retry = nil, nil, nil
		// Folders may have been added. Should a path be gone, reading it will say so.
		if watchFolders(w, paths) != nil {
			retry = time.After(retryTime)
		}
		if now := Stamp(paths); sure || now != before {
			before, sure = now, false
			report()
		}
	}
}

// relevant leaves out what can't change the configuration, such as a log that is written into the same folder.
// Anything may appear or vanish under any name: folders, and the links that Kubernetes swaps.
func relevant(ev fsnotify.Event, paths []string) bool {
	if ev.Has(fsnotify.Create) || ev.Has(fsnotify.Remove) || ev.Has(fsnotify.Rename) {
		return true
	}
	return ev.Has(fsnotify.Write) && isConfig(ev.Name, paths)
}

// isConfig reports whether a name in a watched folder is one of paths, or looks like a file of a configuration.
func isConfig(name string, paths []string) bool {
	return hasConfigSuffix(name) || slices.ContainsFunc(paths, func(p string) bool { return filepath.Clean(p) == filepath.Clean(name) })
}

// watchFolders watches every folder below paths, and those that single files are in. Watching twice is harmless.
func watchFolders(w *fsnotify.Watcher, paths []string) error {
	for _, p := range paths {
		info, err := os.Stat(p)
		if err != nil {
			return fmt.Errorf("watch the configuration: %w", err)
		}
		if !info.IsDir() {
			p = filepath.Dir(p)
			if err := w.Add(p); err != nil {
				return fmt.Errorf("watch %s: %w", p, err)
			}
			continue
		}
		p = filepath.Clean(p) + string(filepath.Separator) // follows p where it is a symbolic link
		err = filepath.WalkDir(p, func(path string, d os.DirEntry, err error) error {
			if err != nil || !d.IsDir() {
				return nil // gone again, or a file
			}
			if err := w.Add(path); err != nil {
				return fmt.Errorf("watch %s: %w", path, err)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
