//go:build race

package translate

// raceEnabled: a translation is one goroutine, so that long walks over inputs tell the race detector nothing new, and take it
// ten times as long.
const raceEnabled = true
