package blackbox

import (
	"strings"
	"testing"

	"rauta.io/rauta/proxy/server"
)

// onEveryEngine runs f as one subtest per engine; start looks up which one by the subtest's name.
func onEveryEngine(t *testing.T, f func(t *testing.T)) {
	t.Run("loop", f)
	t.Run(referenceName, func(t *testing.T) {
		if why, differs := differences()[strings.TrimSuffix(t.Name(), "/"+referenceName)]; differs {
			t.Skip(why)
		}
		f(t)
	})
}

const referenceName = "reference"

// planeOf returns the engine that a test runs on; nil is the loop, also for tests that have no subtests per engine.
func planeOf(t *testing.T) func(*server.Deps) server.Plane {
	for _, part := range strings.Split(t.Name(), "/")[1:] {
		if part == referenceName {
			return server.Reference
		}
	}
	return nil
}

// differences are the tests that the reference engine can't pass, and why.
func differences() map[string]string {
	return map[string]string{
		"TestASizedBodyOverTheLimitIsRefusedByItsHead": "fasthttp waits for the first byte of a sized body before it runs a handler",
	}
}
