// Package control turns Kubernetes objects into the configuration of the data plane: it reads (control/watch),
// translates (control/translate) and publishes.
//
// It owns the loop from a change to its publication. It does not own the data plane, which it only knows as a
// Publisher; cmd/rauta connects the two.
package control

import (
	"context"
	"log/slog"
	"os"
	"runtime"
	"time"

	"rauta.io/rauta/control/pack"
	"rauta.io/rauta/control/translate"
	"rauta.io/rauta/control/watch"
	"rauta.io/rauta/proxy/config"
)

// Publisher is the data plane.
type Publisher interface {
	// Publish makes cfg the current configuration; err says what was left out.
	Publish(cfg *config.Config, eps config.Endpoints) error
	// Failed records that a new configuration could not be read; the last good one stays.
	Failed(err error)
}

// Files is a configuration in files.
type Files struct {
	Paths   []string
	Options translate.Options
	To      Publisher
	Log     *slog.Logger

	stamp    string // of what was read last
	problems problemLog
}

// Load reads, translates and publishes once. A file that can't be read completely changes nothing: the error names
// every problem. Problems of single objects are logged, and the rest is published.
func (f *Files) Load() error {
	f.stamp = watch.Stamp(f.Paths)
	loaded := watch.Load(f.Paths)
	if err := loaded.Err(); err != nil {
		f.To.Failed(err)
		return err
	}
	options := f.Options
	options.Now = time.Now()
	result := translate.Translate(loaded.Objects, options)
	f.logProblems(loaded, result.Problems)
	p := moved(&published{result.Config, result.Endpoints})
	return f.To.Publish(p.Config, p.Endpoints)
}

// published is what is made of files.
type published struct {
	Config    *config.Config
	Endpoints config.Endpoints
}

// moved moves it out of the pages of what was read, which the caller uses no more: it would keep them.
func moved(p *published) *published {
	packed := pack.Pack(p)
	runtime.GC()
	return packed.Unpack()
}

// Follow publishes every change since Load until ctx is done. poke makes it look at once. It must not run together with
// Load.
func (f *Files) Follow(ctx context.Context, poke <-chan os.Signal) error {
	return watch.Changes(ctx, f.Paths, f.stamp, poke, func() {
		if err := f.Load(); err != nil {
			f.Log.Error("the configuration has errors; the last good one stays in force where they are", "error", err)
		}
	})
}

func (f *Files) logProblems(loaded *watch.Loaded, problems []translate.Problem) {
	var lines []problem
	for _, p := range Problems(loaded, problems) {
		lines = append(lines, problem{levelOf(p.Severity), p.Error()})
	}
	f.problems.log = f.Log
	f.problems.report(lines)
}

func levelOf(s translate.Severity) slog.Level {
	if s == translate.Error {
		return slog.LevelError
	}
	return slog.LevelWarn
}

// Problems joins what reading and translating found, each with the place of its object.
func Problems(loaded *watch.Loaded, problems []translate.Problem) []watch.FileProblem {
	all := append([]watch.FileProblem(nil), loaded.Problems...)
	for _, p := range problems {
		all = append(all, watch.FileProblem{
			Position: loaded.Positions[p.Object], Severity: p.Severity, Object: p.Object, Field: p.Field, Reason: p.Message, Hint: p.Hint,
		})
	}
	return all
}
