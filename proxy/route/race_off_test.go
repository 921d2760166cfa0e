//go:build !race

package route

// raceEnabled: sync.Pool drops some of what it is given when the race detector is on, so that allocations can't be gated.
const raceEnabled = false
