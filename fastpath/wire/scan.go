package wire

// indexValueEndScalar returns the index of the first byte that cannot be in a field value: a control character other than
// HTAB, or DEL (RFC 9110 section 5.5). CR and LF are among them, so this finds the end of a line too. It returns len(b) if
// there is none. It is the definition of what indexValueEnd does on every machine.
func indexValueEndScalar(b []byte) int {
	for i, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return i
		}
	}
	return len(b)
}
