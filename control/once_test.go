package control

import (
	"context"
	"errors"
	"strings"
	"testing"

	"rauta.io/rauta/control/translate"
)

// once runs ReadOnce beside the test.
func once(ctx context.Context, s *source) <-chan error {
	done := make(chan error, 1)
	go func() {
		objects, result, err := ReadOnce(ctx, s, translate.Options{})
		if err == nil && (len(objects.Gateways) != 1 || len(result.Config.Listeners) != 1) {
			err = errors.New("it returned before everything had been read")
		}
		done <- err
	}()
	return done
}

func TestReadingOnceWaitsForAllObjectsAndForWhatTheyReferTo(t *testing.T) {
	s := &source{changed: make(chan struct{}, 1)}
	done := once(t.Context(), s)
	quietly(t, "a result of nothing", done)
	s.set(func(s *source) { s.synced, s.objects = true, served(8080, "10.0.0.1") })
	quietly(t, "a result without what is referred to", done)
	s.set(func(s *source) { s.complete = true })
	if err := receive(t, "a result", done); err != nil {
		t.Error(err)
	}
}

func TestReadingOnceGivesUpAndSaysWhatIsMissing(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	s := &source{changed: make(chan struct{}, 1)}
	done := once(ctx, s)
	stop()
	if err := receive(t, "the end", done); err == nil || !strings.Contains(err.Error(), "not been read completely: objects") {
		t.Errorf("without objects: %v", err)
	}
	ctx, stop = context.WithCancel(t.Context())
	s = &source{changed: make(chan struct{}, 1), synced: true, objects: served(8080, "10.0.0.1")}
	done = once(ctx, s)
	stop()
	if err := receive(t, "the end", done); err == nil || !strings.Contains(err.Error(), "refer to") {
		t.Errorf("without what they refer to: %v", err)
	}
}
