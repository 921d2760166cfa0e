package main

import (
	"fmt"
	"io"
	"os"
	"sync"

	"rauta.io/rauta/proxy/observe"
)

// accessLog is the destination of the access log, or of the error log: nothing, a stream, or a file that can be opened anew after it was
// moved away (log rotation).
type accessLog struct {
	path string // empty unless it is a file
	log  *observe.AccessLog

	mu sync.Mutex // held while writing and while changing the file; the writer is off the request path
	w  io.Writer
}

// openAccessLog opens what the flag --access-log or --error-log says.
func openAccessLog(flag string, stdout io.Writer) (*accessLog, error) {
	a := &accessLog{}
	switch flag {
	case "off":
		return a, nil
	case "stdout":
		a.w = stdout
	default:
		a.path = flag
		if err := a.reopen(); err != nil {
			return nil, err
		}
	}
	a.log = observe.NewAccessLog(a, observe.AccessLogOptions{})
	return a, nil
}

// attach starts logging; set is a method of the registry.
func (a *accessLog) attach(set func(*observe.AccessLog) *observe.AccessLog) {
	if a.log != nil {
		set(a.log)
	}
}

// reopen opens the file under its name again; without a file it does nothing.
func (a *accessLog) reopen() error {
	if a.path == "" {
		return nil
	}
	f, err := os.OpenFile(a.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("open a log of requests: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if old, ok := a.w.(io.Closer); ok {
		old.Close()
	}
	a.w = f
	return nil
}

// Write implements io.Writer.
func (a *accessLog) Write(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.w.Write(p)
}

// close writes out what is pending.
func (a *accessLog) close() {
	if a.log != nil {
		a.log.Close()
	}
	if c, ok := a.w.(io.Closer); ok && a.path != "" {
		c.Close()
	}
}
