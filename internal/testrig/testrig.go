// Package testrig has what the tests of several packages need: free ports, certificates, listeners and goroutines that end
// with the test, and a buffer that a process or a worker writes while the test reads. Only tests and load tests import it.
package testrig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
)

// portTries is how many ports are tried before a machine counts as full.
const portTries = 100

// given are the ports that this process has had from Port. Whoever has one may not have opened it yet.
var given sync.Map

// Port is a port of 127.0.0.1, free for TCP and UDP, that no other call returns and that the kernel gives to no connection
// of its own accord: one of the range for connections might be somebody's by the time it is opened, or opened again.
func Port() (uint16, error) {
	bounds, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return 0, err
	}
	lowest := 0
	if _, err := fmt.Sscan(string(bounds), &lowest); err != nil {
		return 0, fmt.Errorf("parse ip_local_port_range: %w", err)
	}
	const unprivileged = 1024
	for range portTries {
		port := 0 // the kernel's choice, if all ports are for connections
		if lowest > unprivileged {
			port = unprivileged + rand.IntN(lowest-unprivileged)
		}
		p, err := tryPort(port)
		if err != nil {
			continue
		}
		if _, had := given.LoadOrStore(p, nil); !had {
			return p, nil
		}
	}
	return 0, errors.New("found no free port")
}

func tryPort(port int) (uint16, error) {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return 0, err
	}
	defer l.Close()
	u, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		return 0, err
	}
	defer u.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port), nil
}

// FreePort is Port; the test ends if there is none.
func FreePort(tb testing.TB) uint16 {
	tb.Helper()
	port, err := Port()
	if err != nil {
		tb.Fatal(err)
	}
	return port
}

// DeadAddress is an address of 127.0.0.1 where nobody listens.
func DeadAddress(tb testing.TB) string {
	tb.Helper()
	return fmt.Sprintf("127.0.0.1:%d", FreePort(tb))
}

// Listen listens on a port of 127.0.0.1 until the test ends, gives each connection to serve on a goroutine of its own,
// closes it when serve returns, and returns the address.
func Listen(tb testing.TB, serve func(net.Conn)) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
	return l.Addr().String()
}

// Run has run called on a goroutine of its own, whose context ends with the test, which waits for it.
func Run(tb testing.TB, run func(context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		run(ctx)
	}()
	tb.Cleanup(func() {
		cancel()
		<-done
	})
}

// Buffer is written by one goroutine and read by another. The zero value is empty.
type Buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// String is all that was written.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
