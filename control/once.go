package control

import (
	"context"
	"fmt"
	"time"

	"rauta.io/rauta/control/translate"
)

// ReadOnce translates what an API server has, as Cluster does before it publishes for the first time, and stops reading.
// It gives up when ctx is done.
func ReadOnce(ctx context.Context, from Source, options translate.Options) (*translate.Objects, *translate.Result, error) {
	ctx, stop := context.WithCancel(ctx)
	reading := make(chan struct{})
	go func() {
		defer close(reading)
		from.Run(ctx)
	}()
	defer func() {
		stop()
		<-reading
	}()
	var t *translation
	for {
		if ok, _ := from.Synced(); ok && (t == nil || from.Refer(t.result.References)) {
			t = &translation{objects: from.Objects()}
			options.Now = time.Now()
			if t.run(options); t.failure != nil {
				return nil, nil, t.failure
			}
			// Complete at once means that nothing was missing while it was translated.
			if from.Refer(t.result.References) {
				return t.objects, t.result, nil
			}
		}
		select {
		case <-ctx.Done():
			if ok, missing := from.Synced(); !ok {
				return nil, nil, fmt.Errorf("%w: %s", errNotSynced, missing)
			}
			return nil, nil, fmt.Errorf("%w: Secrets or ConfigMaps that objects refer to have not been read yet", errNotSynced)
		case <-from.Changed():
		}
	}
}
