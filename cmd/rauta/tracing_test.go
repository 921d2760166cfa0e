package main

import (
	"strings"
	"testing"
)

func TestFlagsAboutTracesThatAreWrongAreExplained(t *testing.T) {
	for flags, want := range map[string]string{
		"--trace-propagate w3c,jaeger":                       `--trace-propagate: "jaeger" is none of w3c, b3, b3multi`,
		"--trace-propagate b3,b3":                            `--trace-propagate: "b3" is there twice`,
		"--trace-propagate=":                                 "--trace-propagate is empty: must be",
		"--trace-sampling 1":                                 "--trace-sampling: has no use without --trace-propagate",
		"--trace-trusted-only":                               "--trace-trusted-only: has no use without --trace-propagate",
		"--trace-propagate b3 --trace-sampling 100.1":        "--trace-sampling 100.1: must be from 0 to 100",
		"--trace-propagate b3 --trace-sampling=-1":           "--trace-sampling -1: must be from 0 to 100",
		"--trace-propagate b3 --trace-sampling NaN":          "--trace-sampling NaN: must be from 0 to 100",
		"--trace-endpoint grpc://x":                          "--trace-endpoint: has no use without --trace-propagate",
		"--trace-propagate b3 --trace-service-name x":        "--trace-service-name: has no use without --trace-endpoint",
		"--trace-propagate b3 --trace-endpoint x:1":          `--trace-endpoint: "x:1": must begin with grpc://, grpcs://, http:// or https://`,
		"--trace-propagate b3 --trace-endpoint grpc://x:1/y": `--trace-endpoint: "grpc://x:1/y": gRPC has no path`,
	} {
		code, out, stderr := command(strings.Fields("serve --config x " + flags)...)
		if code != exitUsage || out != "" || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d, want %d and %q, got: %s", flags, code, exitUsage, want, stderr)
		}
	}
}
