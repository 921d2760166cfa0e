package pause

import (
	"context"
	"testing"
	"time"
)

func TestAPauseEndsWithItsTimeOrItsContext(t *testing.T) {
	if !For(t.Context(), time.Nanosecond) {
		t.Error("a pause that nobody ends says that it was ended")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if For(ctx, time.Hour) {
		t.Error("a pause whose context is done says that it lasted")
	}
}
