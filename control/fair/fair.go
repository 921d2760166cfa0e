// Package fair has groups take turns in what there is not enough of for all, such as namespaces in references that are read
// and in Events that are sent. It knows nothing of what that is. Whoever in control has a limit that all share calls it.
package fair

import (
	"cmp"
	"slices"
)

// Turns sorts: the first of each group come first, then the second of each, and so on. Otherwise the order stays, so that
// the same elements always come to the same place.
func Turns[T any](all []T, group func(T) string) {
	type turned struct {
		one  T
		turn int // how many of its group are before it
	}
	order, seen := make([]turned, len(all)), map[string]int{}
	for i, one := range all {
		g := group(one)
		order[i] = turned{one, seen[g]}
		seen[g]++
	}
	slices.SortStableFunc(order, func(a, b turned) int { return cmp.Compare(a.turn, b.turn) })
	for i := range order {
		all[i] = order[i].one
	}
}
