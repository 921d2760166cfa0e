package watch

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Coalescing of changes: an editor or `git pull` writes many files in a row. A change is reported when nothing more has
// happened for quietTime, and after changeTimeMax at the latest.
const (
	quietTime     = 50 * time.Millisecond
	changeTimeMax = time.Second
)

// Changes reports when files below paths change, and when poke receives, until ctx is done. It watches folders rather
// than files, because editors and Kubernetes replace files instead of writing into them.
func Changes(ctx context.Context, paths []string, poke <-chan os.Signal, report func()) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch the configuration: %w", err)
	}
	defer w.Close()
	if err := watchFolders(w, paths); err != nil {
		return err
	}
	var quiet, latest <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-poke:
			report()
			continue
		case ev := <-w.Events:
			if ev.Has(fsnotify.Chmod) && ev.Op == fsnotify.Chmod {
				continue
			}
			quiet = time.After(quietTime)
			if latest == nil {
				latest = time.After(changeTimeMax)
			}
			continue
		case <-w.Errors: // events were lost: look at everything
		case <-quiet:
		case <-latest:
		}
		quiet, latest = nil, nil
		// Folders may have been added.
		if err := watchFolders(w, paths); err == nil {
			report()
		}
	}
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
