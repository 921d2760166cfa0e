package wire

import "testing"

func TestTheVectorScanCountsTheTokenCharactersOfOneRegister(t *testing.T) {
	if !useAVX2 {
		t.Skip("needs a processor with AVX2")
	}
	b := []byte("abcdefghijklmnopqrstuvwxyzabcdefghijkl")
	for at := range b {
		for c := 0; c < 256; c++ {
			was := b[at]
			b[at] = byte(c)
			want, _ := indexLineEndScalar(b)
			if name, _ := indexLineEndAVX2(b); name != min(want, avx2BytesMin) {
				t.Fatalf("byte %#x at %d: name %d, want %d", c, at, name, want)
			}
			b[at] = was
		}
	}
}
