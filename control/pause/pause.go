// Package pause waits, as long as it is wanted. It decides nothing. Whoever in control tries again after a while calls it.
package pause

import (
	"context"
	"time"
)

// For waits so long; false if ctx is done before.
func For(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
