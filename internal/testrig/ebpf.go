package testrig

import (
	"os"
	"testing"
)

// What the kernel's programs are to do in tests that leave it open, as RAUTA_TEST_EBPF says.
const (
	EBPFDefault = ""    // what RAUTA does by default, or nothing
	EBPFOff     = "off" // nothing, and tests that are about the programs are skipped
	EBPFAll     = "all" // watch every request
)

// EBPF is the value of RAUTA_TEST_EBPF.
func EBPF(tb testing.TB) string {
	tb.Helper()
	value := os.Getenv("RAUTA_TEST_EBPF")
	switch value {
	case EBPFDefault, EBPFOff, EBPFAll:
		return value
	}
	tb.Fatalf("RAUTA_TEST_EBPF is %q, not %q, %q or empty", value, EBPFOff, EBPFAll)
	return ""
}

// NeedsEBPF skips a test of programs in the kernel where none are wanted.
func NeedsEBPF(tb testing.TB) {
	tb.Helper()
	if EBPF(tb) == EBPFOff {
		tb.Skip("RAUTA_TEST_EBPF=off")
	}
}
