// Command rauta is the ingress controller and Gateway API implementation: one binary that serves, checks and explains
// configurations.
//
// It owns the command line and the wiring of the parts. It decides nothing about requests or objects. Users and service
// managers call it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// Exit codes.
const (
	exitFailed = 1 // what was asked for could not be done
	exitUsage  = 2 // the command line is wrong
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// run executes one command line and returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	started := false // errors before a command starts come from parsing the command line
	root := newRoot(func() { started = true })
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	var usage *usageError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errReported):
		return exitFailed
	case !started || errors.As(err, &usage):
		fmt.Fprintf(stderr, "rauta: %v\nSee 'rauta help'.\n", err)
		return exitUsage
	}
	fmt.Fprintf(stderr, "rauta: %v\n", err)
	return exitFailed
}

// errReported ends a command whose errors have been printed already.
var errReported = errors.New("reported")

// usageError is a wrong command line.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }
