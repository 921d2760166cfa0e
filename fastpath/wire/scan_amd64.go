package wire

func indexValueEnd(b []byte) int { return indexValueEndScalar(b) }
