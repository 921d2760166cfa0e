package exchange

import (
	"encoding/binary"
	"fmt"
	"math/rand"
	"testing"
)

func TestHexDigitsAreThoseOfFmt(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	for i := range 10_000 {
		v := r.Uint32()
		if i < 300 {
			v = uint32(i)
		}
		got := string(binary.BigEndian.AppendUint64(nil, hexDigits(v)))
		if want := fmt.Sprintf("%08x", v); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	}
}
