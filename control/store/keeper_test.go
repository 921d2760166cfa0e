package store

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rauta.io/rauta/proxy/config"
)

// kept runs f beside a keeper, on simulated time. now returns what is stored.
func kept(t *testing.T, f func(k *Keeper, s *Store, serve func(port uint16), stop func())) (log string) {
	s := newStore(t)
	var text bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		current := &config.Config{}
		k := NewKeeper(s, func() (*config.Config, config.Endpoints) { return current, nil }, slog.New(slog.NewTextHandler(&text, nil)))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			k.Run(ctx)
		}()
		f(k, s, func(port uint16) { current = &config.Config{Listeners: []config.Listener{{Port: port}}} }, func() {
			cancel()
			<-done
		})
		cancel()
		<-done
	})
	return text.String()
}

// port is that of the listener that is stored, 0 if nothing is.
func port(s *Store) uint16 {
	state, err := s.Load(time.Now())
	if err != nil || len(state.Config.Listeners) == 0 {
		return 0
	}
	return state.Config.Listeners[0].Port
}

func TestNothingIsStoredBeforeTheClusterHasSpoken(t *testing.T) {
	kept(t, func(k *Keeper, s *Store, serve func(uint16), stop func()) {
		serve(80)
		time.Sleep(10 * refreshTime)
		stop()
		if _, err := os.Stat(s.Path()); err == nil {
			t.Error("what nobody said to be current was stored")
		}
	})
}

func TestChangesAreStoredOnceTheyRestAndAtTheLatestAfterChangesMax(t *testing.T) {
	kept(t, func(k *Keeper, s *Store, serve func(uint16), stop func()) {
		serve(1)
		k.Changed()
		time.Sleep(quietTime / 2)
		synctest.Wait()
		if port(s) != 0 {
			t.Error("stored in the middle of changes")
		}
		time.Sleep(quietTime)
		synctest.Wait()
		if port(s) != 1 {
			t.Error("not stored after a second of quiet")
		}
		serve(2)
		for range 4 * changesMax / quietTime {
			k.Changed()
			time.Sleep(quietTime / 2)
		}
		synctest.Wait()
		if port(s) != 2 {
			t.Error("not stored while changes never end")
		}
	})
}

func TestAStateThatStaysTheSameIsRefreshed(t *testing.T) {
	kept(t, func(k *Keeper, s *Store, serve func(uint16), stop func()) {
		serve(1)
		k.Changed()
		time.Sleep(3 * ageMax)
		synctest.Wait()
		if port(s) != 1 {
			t.Error("a state that has been served all the time is too old")
		}
		if time.Since(k.SavedAt()) > refreshTime {
			t.Errorf("stored last %s ago", time.Since(k.SavedAt()))
		}
	})
}

func TestWhatIsNotStoredYetIsStoredAtTheEnd(t *testing.T) {
	kept(t, func(k *Keeper, s *Store, serve func(uint16), stop func()) {
		serve(1)
		k.Changed()
		stop()
		if port(s) != 1 {
			t.Error("the last change was lost")
		}
	})
}

func TestStoringIsTriedAgainAndAFailureLoggedOnce(t *testing.T) {
	log := kept(t, func(k *Keeper, s *Store, serve func(uint16), stop func()) {
		must(t, os.Rename(s.keyFile, s.keyFile+".away"))
		serve(1)
		k.Changed()
		time.Sleep(5 * retryTime)
		synctest.Wait()
		if k.Failures() < 3 || !k.SavedAt().IsZero() {
			t.Errorf("%d failures, stored at %s", k.Failures(), k.SavedAt())
		}
		must(t, os.Rename(s.keyFile+".away", s.keyFile))
		time.Sleep(2 * retryTime)
		synctest.Wait()
		if port(s) != 1 {
			t.Error("not stored once it can be")
		}
	})
	if n := strings.Count(log, "is not stored"); n != 1 || !strings.Contains(log, "stored again") {
		t.Errorf("the log says it %d times:\n%s", n, log)
	}
}
