package store

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"rauta.io/rauta/proxy/config"
)

const (
	// quietTime without a change comes before a state is stored, and changesMax is how long changes in a row can put that
	// off: endpoints may change a hundred times a second, and each state is written whole.
	quietTime  = time.Second
	changesMax = 10 * time.Second
	// refreshTime is when a state that did not change is stored again, so that it says when it was served last.
	refreshTime = time.Hour
	// retryTime is when storing is tried again after a failure.
	retryTime = 30 * time.Second
)

// Keeper stores what is served whenever it has changed.
type Keeper struct {
	// Immutable.
	store  *Store
	served func() (*config.Config, config.Endpoints)
	log    *slog.Logger

	changed chan struct{}

	// Owned by Run.
	lastError string

	// Atomic.
	savedAt  atomic.Int64 // Unix nanoseconds
	failures atomic.Uint64
}

// NewKeeper returns a keeper that stores nothing before Changed is called: what was restored is not stored again as if
// it were what the cluster says. served returns what the data plane has; nobody changes it any more.
func NewKeeper(s *Store, served func() (*config.Config, config.Endpoints), log *slog.Logger) *Keeper {
	return &Keeper{store: s, served: served, log: log, changed: make(chan struct{}, 1)}
}

// Changed says that something was published that the cluster says. It never waits.
func (k *Keeper) Changed() {
	select {
	case k.changed <- struct{}{}:
	default: // one is waiting already
	}
}

// SavedAt is when the last state was stored; the zero time for never. Any goroutine may call it.
func (k *Keeper) SavedAt() time.Time {
	if at := k.savedAt.Load(); at != 0 {
		return time.Unix(0, at)
	}
	return time.Time{}
}

// Failures is how often storing failed. Any goroutine may call it.
func (k *Keeper) Failures() uint64 { return k.failures.Load() }

// Run stores until ctx is done, and then what has not been stored yet.
func (k *Keeper) Run(ctx context.Context) {
	var again <-chan time.Time // nothing is stored again before it has been stored once
	for {
		select {
		case <-ctx.Done():
			if len(k.changed) > 0 {
				k.save()
			}
			return
		case <-k.changed:
			k.settle(ctx)
		case <-again:
		}
		if k.save() {
			again = time.After(refreshTime)
		} else {
			again = time.After(retryTime)
		}
	}
}

// settle waits for the end of the changes.
func (k *Keeper) settle(ctx context.Context) {
	longest, quiet := time.After(changesMax), time.After(quietTime)
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.changed:
			quiet = time.After(quietTime)
		case <-quiet:
			return
		case <-longest:
			return
		}
	}
}

func (k *Keeper) save() bool {
	cfg, endpoints := k.served()
	now := time.Now()
	err := k.store.Save(State{Config: cfg, Endpoints: endpoints, At: now})
	if err == nil {
		k.savedAt.Store(now.UnixNano())
		if k.lastError != "" {
			k.log.Info("the configuration is stored again", "file", k.store.Path())
		}
		k.lastError = ""
		return true
	}
	k.failures.Add(1)
	if text := err.Error(); text != k.lastError {
		k.lastError = text
		k.log.Warn("the configuration is not stored, a restart needs the API server", "error", err)
	}
	return false
}
