//go:build !amd64

package wire

// indexLineEnd is indexLineEndScalar, faster; name may be smaller than what the scalar says.
func indexLineEnd(b []byte) (name, end int) { return 0, indexValueEndSWAR(b) }
