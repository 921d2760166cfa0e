package wire

import "github.com/klauspost/cpuid/v2"

// useAVX2 is chosen once, at start.
var useAVX2 = cpuid.CPU.Supports(cpuid.AVX2)

// indexLineEndAVX2 is indexLineEndScalar for len(b) >= avx2BytesMin, but that it gives up on the name after avx2BytesMin bytes.
//
//go:noescape
func indexLineEndAVX2(b []byte) (name, end int)

// avx2BytesMin is one register.
const avx2BytesMin = 32

// indexLineEnd is indexLineEndScalar, faster (BenchmarkIndexLineEnd); name may be smaller than what the scalar says.
func indexLineEnd(b []byte) (name, end int) {
	if useAVX2 && len(b) >= avx2BytesMin {
		return indexLineEndAVX2(b)
	}
	return 0, indexValueEndSWAR(b)
}
