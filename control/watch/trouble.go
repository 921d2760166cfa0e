package watch

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/klog/v2"

	"rauta.io/rauta/control/translate"
)

// Telling of failures: one that goes on is told again after remindTime, one that comes and goes after newsTime.
const (
	remindTime = time.Minute
	newsTime   = 10 * time.Second
)

// kindOfGroups stands for the question which kinds there are.
const kindOfGroups = "APIGroup"

// trouble tells what keeps RAUTA from reading, once for each state and not once for each attempt and kind.
type trouble struct {
	log *slog.Logger
	// library is where client-go tells every attempt; it is for debugging.
	library klog.Logger
	// look is called when a kind is not there that was, or can't be read any more.
	look func()

	mu      sync.Mutex
	away    map[string]time.Time // by kind: since when it can't be read
	said    time.Time            // when that was told last
	silent  bool                 // nothing has been said about what is the case now
	refused map[string]time.Time // by kind: when it was told that it may not be read
	errors  uint64
}

func newTrouble(log *slog.Logger, look func()) *trouble {
	return &trouble{log: log, library: logr.FromSlogHandler(debugging{log.Handler()}), look: look,
		away: map[string]time.Time{}, refused: map[string]time.Time{}}
}

// told takes the outcome of a request for a kind.
func (t *trouble) told(table *table, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err == nil:
		t.reached(table.kind)
		return
	case errors.Is(err, context.Canceled), apierrors.IsResourceExpired(err), apierrors.IsGone(err), apierrors.IsInvalid(err):
		return // normal ends, and an API server that can't stream lists
	}
	t.errors++
	switch {
	case apierrors.IsNotFound(err):
		t.look()
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		if now := time.Now(); now.Sub(t.refused[table.kind]) >= remindTime {
			t.refused[table.kind] = now
			t.log.Error("the API server does not let RAUTA read a kind; trying again", "kind", table.kind, "resource", table.plural+"."+table.group,
				"error", err, "hint", "allow get, list and watch to its account; deploy/ has the role that is needed")
		}
	default:
		t.lost(table.kind, err)
	}
}

// lost: the API server did not answer, or not sensibly. t.mu is held.
func (t *trouble) lost(kind string, err error) {
	now := time.Now()
	first := len(t.away) == 0
	if t.away[kind].IsZero() {
		t.away[kind] = now
		t.look()
	}
	if quiet := now.Sub(t.said); quiet < newsTime || !first && !t.silent && quiet < remindTime {
		t.silent = t.silent || first
		return
	}
	t.said, t.silent = now, false
	t.log.Warn("the API server can't be read; what has been read last stays in force, trying again",
		"kind", kind, "error", err, "since", t.away[kind].Format(time.RFC3339))
}

// reached: the API server has answered. t.mu is held.
func (t *trouble) reached(kind string) {
	delete(t.refused, kind)
	if since, failed := t.away[kind]; failed {
		delete(t.away, kind)
		if len(t.away) == 0 && !t.silent {
			t.log.Info("the API server can be read again", "after", time.Since(since).Round(time.Millisecond).String())
		}
	}
}

// reachedGroup: it is known which kinds there are.
func (t *trouble) reachedGroup() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reached(kindOfGroups)
}

// tooMany: not everything that is referred to is read.
func (t *trouble) tooMany(table *table, limit int, beyond []translate.ObjectRef) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now := time.Now(); now.Sub(t.refused[table.kind+"s"]) >= remindTime {
		t.refused[table.kind+"s"] = now
		t.log.Error("more objects of a kind are referred to than are read one by one; the others are treated as if they did not exist",
			"kind", table.kind, "limit", limit, "beyond", len(beyond), "first", beyond[0].Namespace+"/"+beyond[0].Name,
			"hint", "let several objects refer to the same one; certificates in Secrets of type kubernetes.io/tls do not count")
	}
}

// misfit: an object could not be decoded, or is too large.
func (t *trouble) misfit(table *table, o object, reason string) {
	hint := "keep in it what RAUTA is to read, and nothing else"
	if isMisfit(o) {
		hint = "write it anew; definitions of the kind with validation would have refused it"
	}
	t.log.Error("an object "+reason+"; it is treated as if it did not exist", "kind", table.kind,
		"namespace", o.GetNamespace(), "name", o.GetName(), "error", o.GetAnnotations()[misfitReason], "hint", hint)
}

// emptied: a list lost everything at once.
func (t *trouble) emptied(table *table, count int) {
	t.log.Warn("the API server lists no object of a kind of which there were some; they stay in force until it has said so again",
		"kind", table.kind, "objects", count)
}

// debugging is a handler that makes debugging records of all records.
type debugging struct{ slog.Handler }

func (d debugging) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo && d.Handler.Enabled(ctx, slog.LevelDebug)
}

func (d debugging) Handle(ctx context.Context, r slog.Record) error {
	if r.Level = slog.LevelDebug; !d.Handler.Enabled(ctx, r.Level) { // errors are handled without being asked
		return nil
	}
	return d.Handler.Handle(ctx, r)
}

func (d debugging) WithAttrs(attrs []slog.Attr) slog.Handler {
	return debugging{d.Handler.WithAttrs(attrs)}
}

func (d debugging) WithGroup(name string) slog.Handler { return debugging{d.Handler.WithGroup(name)} }
