package loop

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"rauta.io/rauta/proxy/clock"
)

// httpDateLayout is IMF-fixdate (RFC 9110 section 5.6.7).
const httpDateLayout = "Mon, 02 Jan 2006 15:04:05 GMT"

// timekeeper turns one reading of the monotonic clock per turn into everything that is asked about time.
type timekeeper struct {
	base       time.Time  // a reading of the runtime
	baseMono   clock.Time // CLOCK_MONOTONIC at base: our times compare across workers, and with the kernel's
	wallOffset int64      // wall clock minus monotonic, in nanoseconds; refreshed every second
	second     int64      // the wall-clock second that date shows
	date       []byte
}

func newTimekeeper() (timekeeper, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return timekeeper{}, fmt.Errorf("read the monotonic clock: %w", err)
	}
	k := timekeeper{base: time.Now(), baseMono: clock.Time(ts.Nano()), date: make([]byte, 0, len(httpDateLayout))}
	k.refreshWall(k.read())
	return k, nil
}

// read is CLOCK_MONOTONIC in nanoseconds.
func (k *timekeeper) read() clock.Time { return k.baseMono + clock.Time(time.Since(k.base)) }

// advance keeps the date; now is the turn's reading.
func (k *timekeeper) advance(now clock.Time) {
	if past := int64(now) + k.wallOffset - k.second*1e9; past >= 1e9 || past < 0 {
		k.refreshWall(now)
	}
}

func (k *timekeeper) refreshWall(now clock.Time) {
	wall := time.Now().UnixNano()
	k.wallOffset = wall - int64(now)
	k.second = wall / 1e9
	k.date = time.Unix(k.second, 0).UTC().AppendFormat(k.date[:0], httpDateLayout)
}

// Now is the turn's reading of CLOCK_MONOTONIC in nanoseconds.
func (w *Worker) Now() clock.Time { return w.wheel.Now() }

// Unix is the wall clock of the turn: seconds since 1970 and nanoseconds within.
func (w *Worker) Unix() (sec, nsec int64) {
	wall := int64(w.wheel.Now()) + w.time.wallOffset
	return wall / 1e9, wall % 1e9
}

// HTTPDate is the wall clock as IMF-fixdate (RFC 9110 section 5.6.7). The bytes are valid during the turn.
func (w *Worker) HTTPDate() []byte { return w.time.date }

// Wheel holds the worker's timers. A timer of a connection calls Blame first, so that a panic closes the right one.
func (w *Worker) Wheel() *clock.Wheel { return w.wheel }
