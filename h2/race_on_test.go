//go:build race

package h2_test

// raceEnabled: the race detector allocates on its own account.
const raceEnabled = true
