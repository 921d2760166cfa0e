package testrig

import (
	"os"
	"os/exec"
	"testing"
)

// NeedsSetpriv returns the path of setpriv, which starts programs with other permissions, and skips a test that can't use it.
func NeedsSetpriv(tb testing.TB) string {
	tb.Helper()
	path, err := exec.LookPath("setpriv")
	if err != nil || os.Geteuid() != 0 {
		tb.Skip("needs root and setpriv (Debian: package util-linux), for other permissions")
	}
	return path
}
