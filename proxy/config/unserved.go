package config

import (
	"fmt"
	"strings"
)

// ListenerError says why some listeners, which share a socket, are not served although the configuration is right.
type ListenerError struct {
	Listeners []string // their names
	Err       error
}

func (e *ListenerError) Error() string {
	return fmt.Sprintf("listener %s: %v", strings.Join(e.Listeners, ", "), e.Err)
}

// Unwrap returns what is wrong without the listeners.
func (e *ListenerError) Unwrap() error { return e.Err }

// Unserved returns the listeners of a configuration that are not served, by name, out of what publishing it returned. It is
// nil if all are.
func Unserved(c *Config, err error) map[string]error {
	if err == nil {
		return nil
	}
	out := map[string]error{}
	collectUnserved(c, err, out)
	if len(out) == 0 {
		return nil
	}
	return out
}

func collectUnserved(c *Config, err error, out map[string]error) {
	switch e := err.(type) {
	case *ListenerError:
		for _, name := range e.Listeners {
			out[name] = e.Err
		}
	case *Error:
		if e.Part == PartListener && e.Index < len(c.Listeners) {
			out[c.Listeners[e.Index].Name] = e.Err
		}
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			collectUnserved(c, one, out)
		}
	case interface{ Unwrap() error }:
		collectUnserved(c, e.Unwrap(), out)
	}
}
